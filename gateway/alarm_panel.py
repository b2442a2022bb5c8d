"""The alarm list of the running site: fed once per control cycle, journalled, acknowledged by people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import alarms
from gateway.alarms import Alarm, AlarmEvent, Transition
from gateway.commands import Code, Origin, Role, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.causes import Cause
    from gateway.clock import Clock
    from gateway.gate_records import JournalLike
    from gateway.guard_parts import TableLike
    from gateway.interlocks import ScopeState
    from gateway.site import Site

_SEVERITY = {Transition.RAISED: "alarm", Transition.CLEARED: "info", Transition.ACKNOWLEDGED: "info"}


class AlarmPanel:
    """Keeps the alarm list and publishes its counts (see `alarms.points`)."""

    def __init__(self, site: Site, causes: Sequence[Cause], table: TableLike, journal: JournalLike, clock: Clock) -> None:
        self._causes = causes
        self._online = alarms.online_states(site)
        self._view = table.view
        self._journal = journal
        self._clock = clock
        self._definitions = alarms.definitions(site, causes)
        self._alarms: Mapping[str, Alarm] = {}
        self._sink = table.claim([point.name for point in alarms.points()], "alarms")
        self._publish()

    def update(self, states: Mapping[str, ScopeState], unconfirmed: Iterable[str]) -> None:
        """Look at every condition; `unconfirmed` are the tripped scopes that were not read back safe."""
        conditions = {
            **alarms.cause_conditions(self._causes, states),
            **alarms.device_conditions(self._online, self._view()),
            **{f"{scope}.unconfirmed": "" for scope in unconfirmed},
        }
        if self._clock.time_factor != 1.0:
            conditions[alarms.TIME_FACTOR_ALARM] = f"{self._clock.time_factor:g} times as fast"
        self._alarms, events = alarms.advance(
            self._definitions, self._alarms, conditions, self._clock.utc_ns(), self._clock.monotonic()
        )
        for event in events:
            self._record(event, None)
        if events:
            self._publish()

    def rows(self) -> list[Mapping[str, object]]:
        """The alarms to show, most urgent first, as plain data."""
        return [_document(alarm) for alarm in alarms.shown(self._alarms)]

    def acknowledge(self, alarm_id: str, origin: Origin) -> Verdict:
        """Note that a named user (operator or higher) has seen an alarm. It resets nothing."""
        if origin.role < Role.OPERATOR or not origin.user:
            return Verdict(Code.FORBIDDEN, "acknowledging needs a named user who is at least an operator")
        if alarm_id not in self._definitions:
            return Verdict(Code.UNKNOWN, f"there is no alarm {alarm_id}")
        self._alarms, event = alarms.acknowledge(self._alarms, alarm_id)
        if event is None:
            return Verdict(Code.WRONG_STATE, f"{alarm_id} is not waiting for an acknowledgement")
        record = self._record(event, origin)
        self._publish()
        return Verdict(Code.ACCEPTED, event.alarm.text, record)

    def _record(self, event: AlarmEvent, origin: Origin | None) -> int:
        definition = event.alarm.definition
        by = f" by {origin.user}" if origin is not None else ""
        return self._journal.record(
            "alarm",
            f"{event.transition.value}{by}: {event.alarm.text}",
            severity=_SEVERITY[event.transition],
            source=definition.source,
            origin=origin,
            data={"alarm": definition.id, "transition": event.transition.value, "priority": definition.priority},
        )

    def _publish(self) -> None:
        listed = alarms.shown(self._alarms)
        self._sink.put("site.alarms.active", float(sum(alarm.active for alarm in listed)))
        self._sink.put("site.alarms.unacknowledged", float(sum(not alarm.acknowledged for alarm in listed)))


def _document(alarm: Alarm) -> Mapping[str, object]:
    definition = alarm.definition
    return {
        "id": definition.id,
        "source": definition.source,
        "text": alarm.text,
        "consequence": definition.consequence,
        "action": definition.action,
        "priority": definition.priority,
        "active": alarm.active,
        "acknowledged": alarm.acknowledged,
        "since_ns": alarm.since_ns,
    }
