"""Runs that start by the clock.

Schedules come from the site file and from users at run time; the latter, and when each was last due, live in the
journal's `schedules` table. APScheduler keeps the jobs in memory only, rebuilt at every start; a job does nothing but ask
for a run. A start that was missed (the gateway was down, the loop was busy, the wall clock was stepped) happens late
within its grace time, and is otherwise an event that says why it did not happen. Wall-clock time, time zones of the IANA
database; several missed starts count as one.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from gateway.commands import Code, Origin, Role, Verdict
from gateway.protocols import jobs
from gateway.protocols.triggers import ScheduleError, first_due, spec_from, trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.protocols.run import RunJournal
    from gateway.site import ScheduleSpec, Site

_log = logging.getLogger(__name__)

WAKE_UP_S = 30.0
"""The wall clock is looked at this often at least, so that a stepped clock is noticed."""
_TABLE = "schedules"


@dataclass(slots=True)
class _Entry:
    """A schedule and its memory. `since` is the moment from which starts are owed."""

    spec: ScheduleSpec
    source: str
    since: datetime
    last_due: datetime | None

    def document(self) -> dict[str, object]:
        return {
            **asdict(self.spec),
            "strings": list(self.spec.strings),
            "parameters": dict(self.spec.parameters),
            "source": self.source,
            "since": self.since.isoformat(),
            "last_due": self.last_due.isoformat() if self.last_due else None,
        }


class Starter(Protocol):
    """Who starts runs: the `Runner`."""

    async def start(
        self, protocol_id: str, strings: Sequence[str], parameters: Mapping[str, str], origin: Origin
    ) -> tuple[Verdict, str]:
        """Start a protocol; the verdict and the run's id."""
        ...


def _none(_: ScheduleSpec) -> str:
    return ""


class Scheduler:
    """All schedules of a site: those of its file, and those that users added."""

    def __init__(
        self, site: Site, runner: Starter, journal: RunJournal, clock: Clock, *, problem: Callable[[ScheduleSpec], str] = _none
    ) -> None:
        self._runner = runner
        self._problem = problem
        self._journal = journal
        self._clock = clock
        self._jobs = jobs.make_jobs()
        self._jobs.add_listener(self._over, jobs.EXECUTED | jobs.FAILED)
        self._jobs.add_listener(self._missed, jobs.MISSED)
        self._jobs.add_listener(self._still_busy, jobs.STILL_BUSY)
        self._wake_up: asyncio.TimerHandle | None = None
        self._entries: dict[str, _Entry] = {}
        self._restore(site.schedules)

    def start(self) -> None:
        """From now on, in the running event loop, start runs when they are due; first those still owed from the past."""
        self._jobs.start()
        for entry in self._entries.values():
            self._plan(entry)
        self._watch_clock()

    def shutdown(self) -> None:
        """Start nothing more. A run that a schedule has started goes on."""
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        if self._jobs.running:
            self._jobs.shutdown(wait=False)

    def _watch_clock(self) -> None:
        # A timer on the loop's own monotonic clock: a wall clock that was set back would let APScheduler sleep on.
        if self._wake_up is not None:
            self._jobs.wakeup()
        self._wake_up = asyncio.get_running_loop().call_later(WAKE_UP_S, self._watch_clock)

    def add(self, document: Mapping[str, object], origin: Origin) -> Verdict:
        """Add a schedule that survives restarts; the keys are the fields of ScheduleSpec.

        Refused when the id is taken or the times make no sense.
        """
        try:
            spec = spec_from(document)
        except ScheduleError as error:
            return Verdict(Code.INVALID, str(error))
        if spec.id in self._entries:
            return Verdict(Code.INVALID, f"there is already a schedule '{spec.id}'")
        problem = self._problem(spec)
        if problem:
            return Verdict(Code.INVALID, f"schedule '{spec.id}' could never run: {problem}")
        entry = _Entry(spec, "user", self._now(), None)
        if first_due(spec, entry.since, entry.since) is None:
            return Verdict(Code.INVALID, f"schedule '{spec.id}' would never start: {spec.at or spec.cron} is past")
        self._entries[spec.id] = entry
        self._save(entry)
        if self._jobs.running:
            self._plan(entry)
        record = self._journal.record("schedule", f"schedule {spec.id} added", source="schedules", origin=origin)
        return Verdict(Code.ACCEPTED, f"next start {self._next_due(spec.id) or 'never'}", record)

    def remove(self, schedule_id: str, origin: Origin) -> Verdict:
        """Remove a schedule that was added at run time; those of the site file are removed there."""
        entry = self._entries.get(schedule_id)
        if entry is None:
            return Verdict(Code.UNKNOWN, f"there is no schedule '{schedule_id}'")
        if entry.source == "site":
            return Verdict(Code.FORBIDDEN, f"schedule '{schedule_id}' is in the site file; remove it there")
        del self._entries[schedule_id]
        self._journal.delete(_TABLE, schedule_id)
        if self._jobs.get_job(schedule_id) is not None:
            self._jobs.remove_job(schedule_id)
        record = self._journal.record("schedule", f"schedule {schedule_id} removed", source="schedules", origin=origin)
        return Verdict(Code.ACCEPTED, "", record)

    def rows(self) -> list[dict[str, object]]:
        """All schedules with their next start (ISO 8601, None when there is none)."""
        return [{**entry.document(), "next_due": self._next_due(key)} for key, entry in sorted(self._entries.items())]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.utc_ns() / 1e9, UTC)

    def _restore(self, schedules: Sequence[ScheduleSpec]) -> None:
        kept = {key: dict(document) for key, document in self._journal.load(_TABLE).items()}
        for spec in schedules:
            known = kept.pop(spec.id, None)
            entry = _Entry(spec, "site", self._now(), None)
            if known is not None and _same(known, entry.document()):
                entry.since, entry.last_due = _times(known, self._now())
            self._entries[spec.id] = entry
            self._save(entry)
        for key, document in kept.items():
            if document.get("source") == "site":
                self._journal.delete(_TABLE, key)
                continue
            try:
                spec = spec_from(document)
            except ScheduleError as error:
                self._journal.record("schedule", f"schedule {key} was dropped: {error}", severity="warning", source="schedules")
                self._journal.delete(_TABLE, key)
                continue
            self._entries[key] = _Entry(spec, "user", *_times(document, self._now()))

    def _plan(self, entry: _Entry) -> None:
        """Hand the schedule to APScheduler, beginning with the first start that is still owed."""
        owed = first_due(entry.spec, entry.last_due or entry.since, self._now())
        if owed is None:
            return
        self._jobs.add_job(
            self._fire,
            trigger(entry.spec, anchor=entry.since),
            args=[entry.spec.id],
            id=entry.spec.id,
            next_run_time=owed,
            misfire_grace_time=max(1, round(entry.spec.misfire_grace_s)),
            coalesce=True,
            max_instances=1,
        )

    async def _fire(self, schedule_id: str) -> None:
        entry = self._entries.get(schedule_id)
        if entry is None:
            return
        spec = entry.spec
        origin = Origin("schedule", user=schedule_id, role=Role.OPERATOR)
        verdict, run_id = await self._runner.start(spec.protocol, spec.strings, spec.parameters, origin)
        text = f"schedule {schedule_id} started run {run_id}"
        if not verdict.accepted:
            text = f"schedule {schedule_id} could not start {spec.protocol}: {verdict.reason}"
        severity = "info" if verdict.accepted else "warning"
        self._journal.record("schedule", text, severity=severity, source="schedules", data={"code": verdict.code.value})

    def _over(self, event: jobs.JobEvent) -> None:
        due = event.scheduled_run_time
        self._was_due(event.job_id, due)
        if event.exception is not None:
            _log.error("schedule %s failed: %s", event.job_id, event.exception)

    def _missed(self, event: jobs.JobEvent) -> None:
        due = event.scheduled_run_time
        self._was_due(event.job_id, due)
        entry = self._entries.get(event.job_id)
        if entry is None:
            return
        late_s = (self._now() - due).total_seconds()
        text = (
            f"schedule {event.job_id} did not start {entry.spec.protocol}: it was due at {due.isoformat(timespec='seconds')}, "
            f"{late_s:.0f} s ago, and its grace is {entry.spec.misfire_grace_s:g} s"
        )
        self._journal.record("schedule", text, severity="warning", source="schedules", data={"due": due.isoformat()})

    def _still_busy(self, event: jobs.JobEvent) -> None:
        text = f"schedule {event.job_id} was skipped: its last start is still being carried out"
        self._journal.record("schedule", text, severity="warning", source="schedules")

    def _was_due(self, schedule_id: str, due: datetime) -> None:
        entry = self._entries.get(schedule_id)
        if entry is not None:
            entry.last_due = due.astimezone(UTC)
            self._save(entry)

    def _save(self, entry: _Entry) -> None:
        self._journal.save(_TABLE, entry.spec.id, entry.document())

    def _next_due(self, schedule_id: str) -> str | None:
        job = self._jobs.get_job(schedule_id)
        due = job.next_run_time if job is not None else None
        if job is None and not self._jobs.running:
            entry = self._entries[schedule_id]
            due = first_due(entry.spec, entry.last_due or entry.since, self._now())
        return due.isoformat(timespec="seconds") if due is not None else None


def _times(document: Mapping[str, object], now: datetime) -> tuple[datetime, datetime | None]:
    since, last_due = document.get("since"), document.get("last_due")
    return (
        datetime.fromisoformat(since) if isinstance(since, str) else now,
        datetime.fromisoformat(last_due) if isinstance(last_due, str) else None,
    )


def _same(known: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether the stored schedule is still the one in the site file; a changed one owes nothing from the past."""
    return all(known.get(key) == wanted[key] for key in ("protocol", "cron", "interval_s", "at", "timezone"))
