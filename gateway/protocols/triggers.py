"""When a schedule is due: its trigger, and the starts it owes from the past. Pure functions of wall-clock time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.errors import GatewayError
from gateway.protocols import jobs
from gateway.site import ScheduleSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_RANGE = re.compile(r"([0-7])-([0-7])")
INTERVAL_MIN_S = 1.0


class ScheduleError(GatewayError):
    """A schedule that makes no sense; the text is for people."""


def spec_from(document: Mapping[str, object]) -> ScheduleSpec:
    """A schedule from plain data, as a user or the journal gives it. Raises ScheduleError for anything else."""
    if not document.get("id") or not document.get("protocol"):
        raise ScheduleError("a schedule needs an id and a protocol")
    interval, parameters = document.get("interval_s"), document.get("parameters")
    strings, cron, at = document.get("strings"), document.get("cron"), document.get("at")
    try:
        spec = ScheduleSpec(
            id=str(document["id"]),
            protocol=str(document["protocol"]),
            strings=tuple(str(item) for item in cast("list[object]", strings or [])),
            parameters={str(key): str(value) for key, value in cast("dict[object, object]", parameters or {}).items()},
            cron=str(cron) if cron else None,
            interval_s=float(str(interval)) if interval is not None else None,
            at=str(at) if at else None,
            misfire_grace_s=float(str(document.get("misfire_grace_s", 60.0))),
            timezone=str(document.get("timezone") or "UTC"),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ScheduleError(f"the schedule cannot be read: {error}") from error
    trigger(spec)
    return spec


def trigger(spec: ScheduleSpec, anchor: datetime | None = None) -> jobs.Trigger:
    """The APScheduler trigger. `anchor` is where an interval is counted from. Raises ScheduleError."""
    if [spec.cron, spec.interval_s, spec.at].count(None) != 2:
        raise ScheduleError("give exactly one of cron, interval and at")
    zone = _zone(spec.timezone)
    if spec.cron is not None:
        return _cron(spec.cron, zone)
    if spec.interval_s is not None:
        if not spec.interval_s >= INTERVAL_MIN_S:
            raise ScheduleError(f"an interval must be at least {INTERVAL_MIN_S:g} s, got {spec.interval_s:g} s")
        return jobs.interval(round(spec.interval_s), anchor or datetime.now(UTC), zone)
    return jobs.once(_date(spec.at or "", zone), zone)


def first_due(spec: ScheduleSpec, after: datetime, now: datetime) -> datetime | None:
    """The first start after a moment; None when there is none.

    An interval's starts before `now` are one: the latest, so that a short interval and a long absence cost nothing.
    """
    found = trigger(spec, anchor=after)
    if spec.at is not None:
        due = _date(spec.at, _zone(spec.timezone))
        return due if due > after else None
    if spec.interval_s is not None:
        period = timedelta(seconds=round(spec.interval_s))
        return after + max(1, (now - after) // period) * period
    return found.get_next_fire_time(None, after + timedelta(microseconds=1))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"'{name}' is not a time zone of the IANA database, such as 'Europe/Berlin'") from error


def _date(text: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ScheduleError(f"'{text}' is not an ISO 8601 date and time, such as 2027-03-01T02:00") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def _cron(text: str, zone: ZoneInfo) -> jobs.Trigger:
    fields = text.split()
    if len(fields) != 5:
        raise ScheduleError(f"'{text}' is not five cron fields: minute, hour, day of month, month, day of week")
    minute, hour, day, month, weekday = fields
    try:
        return jobs.cron(zone, minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday))
    except ValueError as error:
        raise ScheduleError(f"'{text}' is not a cron expression: {error}") from error


def _weekdays(field: str) -> str:
    """Cron's day numbers (0 and 7 are Sunday) as names; APScheduler's own numbers begin with Monday."""

    def spelt(item: str) -> str:
        item, slash, step = item.partition("/")
        found = _DAY_RANGE.fullmatch(item)
        if found or (item == "*" and slash):
            first, last = (int(found[1]), int(found[2])) if found else (0, 6)
            return ",".join(_DAYS[number] for number in range(first, last + 1, int(step or 1)))
        return _DAYS[int(item)] if item in set("01234567") else item + slash + step

    return ",".join(spelt(item) for item in field.lower().split(","))
