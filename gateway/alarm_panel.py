"""The alarm list of the running site: fed once per control cycle, journalled, acknowledged by people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import alarms
from gateway.alarms import Alarm, AlarmEvent, Transition
from gateway.commands import Code, Origin, Role, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.clock import Clock
    from gateway.gate import CommandGate
    from gateway.gate_records import JournalLike
    from gateway.guard import Guard, TableLike
    from gateway.site import Site

_SEVERITY = {Transition.RAISED: "alarm", Transition.CLEARED: "info", Transition.ACKNOWLEDGED: "info"}


class AlarmPanel:
    """Keeps the alarm list and publishes its counts (see `alarms.points`)."""

    def __init__(self, site: Site, table: TableLike, guard: Guard, gate: CommandGate, journal: JournalLike, clock: Clock) -> None:
        self._online = alarms.online_states(site)
        self._view = table.view
        self._guard = guard
        self._gate = gate
        self._journal = journal
        self._clock = clock
        self._definitions = alarms.definitions(site, guard.causes)
        self._alarms: Mapping[str, Alarm] = {}
        self._sink = table.claim([point.name for point in alarms.points()], "alarms")
        self._publish()

    def update(self) -> None:
        """Look at every condition; call it once per control cycle."""
        conditions = {
            **alarms.cause_conditions(self._guard.causes, self._guard.states()),
            **alarms.device_conditions(self._online, self._view()),
            **{f"{scope}.unconfirmed": "" for scope in self._guard.scopes if self._unconfirmed(scope)},
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

    def _unconfirmed(self, scope: str) -> bool:
        return self._guard.latch(scope) is not None and not self._gate.confirmed_safe(scope)

    def listed(self) -> tuple[Mapping[str, object], ...]:
        """The alarms to show, most urgent first, as plain data."""
        return tuple(_document(alarm) for alarm in alarms.shown(self._alarms))

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
