"""APScheduler, as far as we use it, with types: the package itself has none."""

from __future__ import annotations

from datetime import UTC
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from zoneinfo import ZoneInfo


class Trigger(Protocol):
    """Says when a job is due next."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after the previous one that is not before `now`; None when there is none."""
        ...


class Job(Protocol):
    """A job in the store."""

    @property
    def next_run_time(self) -> datetime | None:
        """When it is due next."""
        ...


class JobEvent(Protocol):
    """What a listener is told. `exception` is None unless the job failed."""

    @property
    def job_id(self) -> str:
        """The job."""
        ...

    @property
    def scheduled_run_time(self) -> datetime:
        """When it was due."""
        ...

    @property
    def exception(self) -> BaseException | None:
        """Why it failed."""
        ...


class Jobs(Protocol):
    """A scheduler with a memory job store."""

    @property
    def running(self) -> bool:
        """Whether it has been started."""
        ...

    def start(self) -> None:
        """Begin, in the running event loop."""
        ...

    def shutdown(self, wait: bool) -> None:
        """End."""
        ...

    def wakeup(self) -> None:
        """Look at the wall clock now."""
        ...

    def add_listener(self, callback: Callable[[JobEvent], None], mask: int) -> None:
        """Be told of events."""
        ...

    def add_job(self, func: Callable[[str], Awaitable[None]], trigger: Trigger, **options: object) -> Job:
        """Add a job; the options are those of APScheduler's `add_job`."""
        ...

    def get_job(self, job_id: str) -> Job | None:
        """A job by id."""
        ...

    def remove_job(self, job_id: str) -> None:
        """Remove a job."""
        ...


_events = import_module("apscheduler.events")
EXECUTED = cast("int", _events.EVENT_JOB_EXECUTED)
FAILED = cast("int", _events.EVENT_JOB_ERROR)
MISSED = cast("int", _events.EVENT_JOB_MISSED)
STILL_BUSY = cast("int", _events.EVENT_JOB_MAX_INSTANCES)


def make_jobs() -> Jobs:
    """A scheduler that keeps its jobs in memory."""
    return cast("Jobs", import_module("apscheduler.schedulers.asyncio").AsyncIOScheduler(timezone=UTC))


def cron(zone: ZoneInfo, *, minute: str, hour: str, day: str, month: str, day_of_week: str) -> Trigger:
    """Due at the times of a cron expression. ValueError for fields that make no sense."""
    make = import_module("apscheduler.triggers.cron").CronTrigger
    return cast("Trigger", make(minute=minute, hour=hour, day=day, month=month, day_of_week=day_of_week, timezone=zone))


def interval(seconds: int, anchor: datetime, zone: ZoneInfo) -> Trigger:
    """Due every so many seconds, counted from the anchor."""
    make = import_module("apscheduler.triggers.interval").IntervalTrigger
    return cast("Trigger", make(seconds=seconds, start_date=anchor, timezone=zone))


def once(due: datetime, zone: ZoneInfo) -> Trigger:
    """Due once."""
    return cast("Trigger", import_module("apscheduler.triggers.date").DateTrigger(due, timezone=zone))
