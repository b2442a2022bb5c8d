"""Alarms: pure functions from conditions to what an operator must see, acknowledge and do.

An alarm is raised when its condition has lasted for its delay, stays in the list until it is both over and acknowledged,
and says what follows from it and what to do. Acknowledging resets no trip, and resetting a trip acknowledges nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.cause_rules import CauseState, TelemetryAge
from gateway.causes import SITE, Cause, Effect
from gateway.points import Kind, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.interlocks import ScopeState
    from gateway.points import Snapshot
    from gateway.site import DeviceSpec, Site

COMMUNICATION_DELAY_S = 2.0
"""Real seconds for which a device must be silent before it is an alarm: time for one repeated request, or to connect."""

UNCONFIRMED_DELAY_S = 1.0
"""Real seconds that a tripped scope has to be read back safe."""

NO_CHARGE_DELAY_S = 5.0
"""Real seconds for which charging must be forbidden before it is an alarm; it is refused at once. A temperature changes
slowly, and after a start its first value comes with the slow scan."""

TIME_FACTOR_ALARM = "site.time_factor"


class Transition(StrEnum):
    """What happened to an alarm."""

    RAISED = "raised"
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmDefinition:
    """What is fixed about an alarm. `priority` runs from 1 (act at once) to 4 (to be known); `delay_s` is real."""

    id: str
    source: str
    title: str
    consequence: str
    action: str
    priority: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm in the list: `text` is the title with the present detail, `since_ns` the UTC time at which it was raised.

    `raised` is False while its delay runs, from `pending_s` (real) on; such an alarm is shown to nobody.
    """

    definition: AlarmDefinition
    text: str
    active: bool
    acknowledged: bool
    raised: bool
    since_ns: int
    pending_s: float


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """One transition, for the journal."""

    alarm: Alarm
    transition: Transition


Alarms = dict[str, Alarm]


def definitions(site: Site, all_causes: Iterable[Cause]) -> Mapping[str, AlarmDefinition]:
    """Every alarm that the site can raise, by id."""
    found = [_of_cause(cause) for cause in all_causes]
    for scope in (*(string.prefix for string in site.strings), SITE):
        found += [_of_trip(scope), _of_unconfirmed(scope)]
    found += [_of_device(device) for device in site.devices]
    found.append(
        AlarmDefinition(
            id=TIME_FACTOR_ALARM,
            source=SITE,
            title="Simulated time does not run at the rate of real time",
            consequence="Durations, charge and energy are counted in the time of the simulation.",
            action="None: the site is simulated.",
            priority=4,
        )
    )
    return {definition.id: definition for definition in found}


def _of_cause(cause: Cause) -> AlarmDefinition:
    return AlarmDefinition(
        id=f"{cause.scope}.{cause.id}",
        source=cause.scope,
        title=cause.title,
        consequence=cause.consequence,
        action=cause.action,
        priority=cause.priority,
        delay_s=NO_CHARGE_DELAY_S if cause.effect is Effect.NO_CHARGE else 0.0,
    )


def _of_trip(scope: str) -> AlarmDefinition:
    return AlarmDefinition(
        id=f"{scope}.trip",
        source=scope,
        title=f"{scope} is tripped",
        consequence="It is off, and stays off until its trip is reset.",
        action="Find and clear the first-out cause, then reset the trip; start again when all is well.",
        priority=2,
    )


def _of_unconfirmed(scope: str) -> AlarmDefinition:
    return AlarmDefinition(
        id=f"{scope}.unconfirmed",
        source=scope,
        title=f"{scope} is tripped, but not confirmed safe",
        consequence="A device has not confirmed its safe values; it may still be on.",
        action="Check the current; if there is any, switch off by hand.",
        priority=1,
        delay_s=UNCONFIRMED_DELAY_S,
    )


def _of_device(device: DeviceSpec) -> AlarmDefinition:
    return AlarmDefinition(
        id=f"device.{device.id}.communication",
        source=f"device.{device.id}",
        title=f"No communication with {device.title} ({device.id})",
        consequence="Its values are not known, and what depends on them trips.",
        action="Check its supply, its cable and its address.",
        priority=2,
        delay_s=COMMUNICATION_DELAY_S,
    )


def cause_conditions(all_causes: Sequence[Cause], states: Mapping[str, ScopeState]) -> Mapping[str, str]:
    """Alarm id -> text of every cause that acts, and of every latched trip. Causes come in the order of their scopes.

    What is merely not known because a device is silent is suppressed by design (ISA-18.2): the lost telemetry says it.
    """
    found: dict[str, str] = {}
    remaining = {scope: iter(state.memories) for scope, state in states.items()}
    known = [(cause, next(remaining[cause.scope])) for cause in all_causes]
    silent = {cause.scope for cause, memory in known if memory.acting and isinstance(cause.rule, TelemetryAge)}
    for cause, memory in known:
        lost = memory.state is CauseState.UNKNOWN and cause.scope in silent and not isinstance(cause.rule, TelemetryAge)
        if memory.acting and not lost:
            why = ", charging is not allowed" if cause.effect is Effect.NO_CHARGE else ""
            found[f"{cause.scope}.{cause.id}"] = f"{memory.text}{why}"
    for scope, state in states.items():
        if state.latch is not None:
            found[f"{scope}.trip"] = state.latch.reason
    return found


def online_states(site: Site) -> Mapping[str, float]:
    """Device id -> value of its point `device.<id>.comm.state` while it communicates."""
    states = {point.name: point.symbols for point in site.device_points if point.name.endswith(".comm.state")}
    return {
        device.id: float(number)
        for device in site.devices
        for number, name in states.get(f"device.{device.id}.comm.state", {}).items()
        if name == "online"
    }


def device_conditions(online: Mapping[str, float], snapshot: Snapshot) -> Mapping[str, str]:
    """Alarm id -> why, of every device that does not communicate (see `online_states`)."""
    found: dict[str, str] = {}
    for device_id, state in online.items():
        if snapshot.number(f"device.{device_id}.comm.state") != state:
            error = snapshot.sample(f"device.{device_id}.comm.last_error").value
            found[f"device.{device_id}.communication"] = str(error or "")
    return found


def advance(
    known: Mapping[str, AlarmDefinition], alarms: Mapping[str, Alarm], conditions: Mapping[str, str], now_ns: int, now_s: float
) -> tuple[Alarms, tuple[AlarmEvent, ...]]:
    """The list after these conditions (alarm id -> detail), and what happened to it. Unknown ids are ignored."""
    after: Alarms = {}
    events: list[AlarmEvent] = []
    for alarm_id in sorted(alarms.keys() | (conditions.keys() & known.keys())):
        alarm, event = _step(known[alarm_id], alarms.get(alarm_id), conditions.get(alarm_id), now_ns, now_s)
        if alarm is not None:
            after[alarm_id] = alarm
        if event is not None:
            events.append(event)
    return after, tuple(events)


def _step(
    definition: AlarmDefinition, alarm: Alarm | None, detail: str | None, now_ns: int, now_s: float
) -> tuple[Alarm | None, AlarmEvent | None]:
    if detail is None:
        return _without_condition(alarm)
    text = detail if detail.startswith(definition.title) else f"{definition.title}: {detail}" if detail else definition.title
    if alarm is None:
        alarm = Alarm(
            definition=definition, text=text, active=False, acknowledged=False, raised=False, since_ns=now_ns, pending_s=now_s
        )
    if alarm.active:
        return alarm, None
    if math.isinf(alarm.pending_s):
        alarm = replace(alarm, pending_s=now_s)
    if now_s - alarm.pending_s < definition.delay_s:
        return alarm, None
    raised = replace(alarm, text=text, active=True, acknowledged=False, raised=True, since_ns=now_ns)
    return raised, AlarmEvent(raised, Transition.RAISED)


def _without_condition(alarm: Alarm | None) -> tuple[Alarm | None, AlarmEvent | None]:
    if alarm is None or not alarm.raised:
        return None, None
    if not alarm.active:
        return replace(alarm, pending_s=math.inf), None
    cleared = replace(alarm, active=False, pending_s=math.inf)
    return (None if cleared.acknowledged else cleared), AlarmEvent(cleared, Transition.CLEARED)


def acknowledge(alarms: Mapping[str, Alarm], alarm_id: str) -> tuple[Alarms, AlarmEvent | None]:
    """The list after somebody has seen the alarm; no event when there is nothing to acknowledge."""
    alarm = alarms.get(alarm_id)
    if alarm is None or not alarm.raised or alarm.acknowledged:
        return dict(alarms), None
    seen = replace(alarm, acknowledged=True)
    after = dict(alarms)
    if seen.active:
        after[alarm_id] = seen
    else:
        del after[alarm_id]
    return after, AlarmEvent(seen, Transition.ACKNOWLEDGED)


def shown(alarms: Mapping[str, Alarm]) -> tuple[Alarm, ...]:
    """The alarms to show: most urgent first, then newest first."""
    return tuple(sorted((a for a in alarms.values() if a.raised), key=lambda alarm: (alarm.definition.priority, -alarm.since_ns)))


def points() -> tuple[Point, ...]:
    """The points of the alarm list."""
    return (
        Point(name="site.alarms.active", kind=Kind.INTEGER, low=0.0, description="Number of alarms whose condition lasts"),
        Point(name="site.alarms.unacknowledged", kind=Kind.INTEGER, low=0.0, description="Number of alarms nobody has seen"),
    )
