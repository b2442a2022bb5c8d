"""The guard: applies the interlocks to the live plant.

`check` is called after every fast block of a device and once per control cycle. It evaluates the causes of the scopes
concerned, trips through the gate what must be tripped, and only then publishes, records and stores what it did. A trip
survives a restart; `reset` unlatches it and starts nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway import alarms, interlocks
from gateway.alarm_panel import AlarmPanel
from gateway.causes import SITE, Cause, Inputs
from gateway.commands import Code, Command, Origin, Rank, Role, Verdict
from gateway.guard_parts import Arming, Scope
from gateway.interlocks import Latch, ScopeState
from gateway.trip_store import TRIPS, from_document, to_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.gate import CommandGate
    from gateway.guard_parts import TableLike
    from gateway.points import Point, Snapshot
    from gateway.site import Site
    from gateway.trip_store import GuardJournal

STEP_SCANS = 2
"""For so many scans of the slowest sensor after a commanded step, two sensors may disagree about the current."""

FAULT_CLEAR_S = 3.0
"""Real seconds that a converter has to clear its latched faults after a reset and to say so, before they trip again."""

STOP_CONFIRM_S = 3.0
"""Real seconds for which the answer to STOP waits for the devices: a few writes with their read-back on a slow line."""

CONVERTER_FAULT = "converter_fault"


def points(site: Site) -> tuple[Point, ...]:
    """The points that the guard publishes: trips, causes, and the counts of alarms."""
    return (*interlocks.points(interlocks.causes(site), site), *alarms.points())


class Guard:
    """See the module. `arming` belongs to the sequence, which switches its fields."""

    def __init__(self, site: Site, table: TableLike, gate: CommandGate, journal: GuardJournal, clock: Clock) -> None:
        self.arming = Arming()
        self.causes = interlocks.causes(site)
        self._site = site
        self._gate = gate
        self._journal = journal
        self._clock = clock
        self._view = table.view
        self._sink = table.claim([point.name for point in interlocks.points(self.causes, site)], "guard")
        self._panel = AlarmPanel(site, self.causes, table, journal, clock)
        names = (*(string.prefix for string in site.strings), SITE)
        self._scopes = {name: self._scope(name) for name in names}
        self._states = {name: ScopeState.initial(scope.causes) for name, scope in self._scopes.items()}
        self._faults_excused_s = dict.fromkeys(names, -math.inf)
        self._demands: frozenset[str] = frozenset()
        for name, scope in self._scopes.items():
            self._publish_latch(name, None)
            for cause, memory in zip(scope.causes, self._states[name].memories, strict=True):
                self._sink.put(cause.point, float(memory.state))

    def _scope(self, name: str) -> Scope:
        string = next((string for string in self._site.strings if string.prefix == name), None)
        devices = (string.battery, string.converter or "") if string is not None else ()
        periods = [spec.period_s for device in devices if (spec := self._site.device(device)) is not None]
        own = tuple(cause for cause in self.causes if cause.scope == name)
        return Scope(name, own, string, STEP_SCANS * max((self._site.scan_s, *periods)))

    def scopes_of(self, device_id: str) -> tuple[str, ...]:
        """The scopes to check after a block of that device."""
        found = [s.prefix for s in self._site.strings if device_id in {s.battery, s.converter}]
        grid = self._site.grid
        return (*found, SITE) if grid is not None and grid.converter == device_id else tuple(found)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope."""
        return tuple(self._scopes)

    def latch(self, scope: str) -> Latch | None:
        """The scope's own latched trip, or None."""
        state = self._states.get(scope)
        return state.latch if state is not None else None

    def states(self) -> Mapping[str, ScopeState]:
        """The present state of every scope; memories are in the order of `causes` within the scope."""
        return self._states

    # Every scan

    def check(self, scopes: Iterable[str]) -> None:
        """Evaluate the causes of some scopes against the live table, and act on what they say."""
        snapshot = self._view()
        for name in scopes:
            self._check(self._scopes[name], snapshot, stop=False)

    def cycle(self) -> None:
        """Once per control cycle: every scope, then the alarms."""
        self.check(self._scopes)
        latched = [name for name, state in self._states.items() if state.latch is not None]
        self._panel.update(self._states, [name for name in latched if not self._gate.confirmed_safe(name)])

    def _check(self, scope: Scope, snapshot: Snapshot, *, stop: bool) -> None:
        before = self._states[scope.name]
        evaluation = interlocks.evaluate(
            scope.causes, before, snapshot, self._clock.monotonic(), self._clock.site(), self._inputs(scope, stop=stop)
        )
        after = evaluation.state
        if after is before:
            return
        self._states[scope.name] = after
        if after.latch is not None and after.latch is not before.latch:
            self._act(scope, before.latch, after.latch, evaluation.latched)
        if scope.string is not None:
            self._forbid_charge(scope, before, after)
        self._publish_states(scope, before, after)

    def _inputs(self, scope: Scope, *, stop: bool) -> Inputs:
        # After a trip of the site the bus is switched off on purpose; converters that note its loss are not at fault.
        live = not self._gate.tripped(SITE)
        bus_armed = live and self.arming.bus and self._gate.energised("grid")
        if scope.string is None:
            return Inputs(bus_armed=bus_armed, telemetry_armed=self.arming.telemetry, stop=stop, demands=self._demands)
        now_s, converter, contactor = self._clock.monotonic(), f"{scope.name}.converter", f"{scope.name}.contactor"
        moved_by = converter if scope.string.converter is not None else contactor
        return Inputs(
            faults_armed=live and self.arming.converter_faults and now_s >= self._faults_excused_s[scope.name],
            telemetry_armed=self.arming.telemetry,
            commanded_off=not self._gate.energised(moved_by),
            contactor_closed=self._gate.energised(contactor),
            stepping=now_s - self._gate.stepped_s(converter) <= scope.settle_s,
        )

    def _act(self, scope: Scope, before: Latch | None, latch: Latch, new: Sequence[Cause]) -> None:
        if before is None:
            self._gate.trip(scope.name, latch.reason)
        if latch.escalated and scope.string is not None and scope.string.id not in self._demands:
            self._demands |= {scope.string.id}
            self._check(self._scopes[SITE], self._view(), stop=False)
        self._publish_latch(scope.name, latch)
        if new:
            titles = ", ".join(cause.title for cause in new)
            text = f"{scope.name} tripped: {latch.reason}" if before is None else f"{scope.name}, tripped, has now also: {titles}"
            self._journal.record(
                "trip",
                text,
                severity="alarm",
                source=scope.name,
                data={"causes": [cause.id for cause in new], "first": before is None},
            )
        self._journal.save(TRIPS, scope.name, to_document(latch))

    def _forbid_charge(self, scope: Scope, before: ScopeState, after: ScopeState) -> None:
        reason = interlocks.forbids_charge(scope.causes, after)
        was = interlocks.forbids_charge(scope.causes, before)
        if reason == was:
            return
        self._gate.forbid_charge(scope.name, reason)
        text = f"{scope.name} must not charge: {reason}" if reason else f"{scope.name} may charge again"
        self._journal.record("interlock", text, severity="warning" if reason else "info", source=scope.name)

    # Alarms and trips, for people

    def alarm_rows(self) -> list[Mapping[str, object]]:
        """The alarms that are active or not acknowledged, most urgent first, as plain data."""
        return self._panel.rows()

    def acknowledge(self, alarm_id: str, origin: Origin) -> Verdict:
        """Note that a named user (operator or higher) has seen an alarm. It resets nothing."""
        return self._panel.acknowledge(alarm_id, origin)

    def trip_rows(self) -> list[Mapping[str, object]]:
        """The latched trips as plain data, with what still stands against their reset."""
        return [
            {
                "scope": name,
                **to_document(state.latch),
                "confirmed_safe": self._gate.confirmed_safe(name),
                "obstacles": list(self._obstacles(self._scopes[name])),
            }
            for name, state in self._states.items()
            if state.latch is not None
        ]

    # Requests

    def stop(self, origin: Origin) -> Verdict:
        """STOP: trip the site, whoever asks. Never refused; the verdict comes when the safe writes are on their way."""
        again = self.latch(SITE)
        self._check(self._scopes[SITE], self._view(), stop=True)
        if again is not None:  # it is tripped already, so nothing new happened; everything is made safe once more
            self._gate.trip(SITE, again.reason)
        record = self._journal.record("stop", f"STOP by {origin}", severity="alarm", source=SITE, origin=origin)
        return Verdict(Code.ACCEPTED, "everything is being switched off", record)

    async def stop_and_confirm(self, origin: Origin) -> Verdict:
        """STOP, and wait for the devices to confirm; NOT_CONFIRMED after STOP_CONFIRM_S, when they go on being told."""
        verdict = self.stop(origin)
        if await self._gate.wait_safe(SITE, STOP_CONFIRM_S):
            return replace(verdict, reason="everything is off, and was read back")
        return Verdict(
            Code.NOT_CONFIRMED, "not every device has confirmed to be off; they are told again and again", verdict.record
        )

    def reset(self, scope: str, origin: Origin) -> Verdict:
        """Unlatch the trip of a scope for a named user (operator or higher); refused while a cause is not healthy.

        Latched faults of a converter, whose cause is gone, are cleared with it. Nothing is started.
        """
        verdict = self._refusal_of_reset(scope, origin)
        if verdict is not None:
            record = self._journal.record(
                "reset", f"reset of {scope} refused: {verdict.reason}", severity="warning", source=scope, origin=origin
            )
            return replace(verdict, record=record)
        self._unlatch(scope)
        record = self._journal.record("reset", f"trip of {scope} reset by {origin.user}", source=scope, origin=origin)
        clearing = self._clear_faults(self._scopes[scope], origin)
        also = "; the converter's latched faults are being cleared" if clearing else ""
        return Verdict(Code.ACCEPTED, f"the trip of {scope} is reset{also}; nothing has been started", record)

    def _refusal_of_reset(self, name: str, origin: Origin) -> Verdict | None:
        scope = self._scopes.get(name)
        if scope is None:
            return Verdict(Code.UNKNOWN, f"there is no scope {name}; there are {', '.join(self._scopes)}")
        if origin.role < Role.OPERATOR or not origin.user:
            return Verdict(Code.FORBIDDEN, "a reset needs a named user who is at least an operator")
        self._check(scope, self._view(), stop=False)
        if self.latch(name) is None:
            return Verdict(Code.WRONG_STATE, f"{name} is not tripped")
        found = self._obstacles(scope)
        return Verdict(Code.NOT_PERMITTED, "; ".join(found)) if found else None

    def _obstacles(self, scope: Scope) -> tuple[str, ...]:
        """What stands against a reset now."""
        cleared = {CONVERTER_FAULT} if self._faults_are_past(scope) else set[str]()
        pairs = zip(scope.causes, self._states[scope.name].memories, strict=True)
        kept = [(cause, memory) for cause, memory in pairs if cause.id not in cleared]
        state = ScopeState(tuple(memory for _, memory in kept))
        return interlocks.obstacles([cause for cause, _ in kept], state, self._clock.monotonic())

    def _faults_are_past(self, scope: Scope) -> bool:
        """True when the converter says that nothing is wrong now, so that only its latch is left to be cleared."""
        if scope.string is None:
            return False
        live = self._view().number(f"{scope.name}.converter.faults_live")
        return live == 0.0 and self._can_clear(scope)

    def _can_clear(self, scope: Scope) -> bool:
        converter = self._site.device_at(f"{scope.name}.converter")
        return converter is not None and "reset" in converter.writable

    def _unlatch(self, name: str) -> None:
        state = self._states[name]
        self._states[name] = ScopeState(state.memories)
        string = self._scopes[name].string
        if string is not None:
            self._demands -= {string.id}
        self._gate.clear_trip(name)
        self._journal.delete(TRIPS, name)
        self._publish_latch(name, None)

    def _clear_faults(self, scope: Scope, origin: Origin) -> bool:
        """Have the converter's latched faults cleared, which never energises it; False when there is nothing to clear."""
        live = self.arming.converter_faults and not self._gate.tripped(SITE)
        if not (live and self._can_clear(scope) and self._latched_faults(scope)):
            return False
        self._faults_excused_s[scope.name] = self._clock.monotonic() + FAULT_CLEAR_S
        self._gate.post(
            Command(
                target=f"{scope.name}.converter",
                values={"reset": 1.0},
                owner=f"reset:{origin.user}",
                rank=Rank.SEQUENCE,
                reason="clear latched faults after a reset",
                origin=origin,
            )
        )
        return True

    def _latched_faults(self, scope: Scope) -> bool:
        return any(
            cause.id == CONVERTER_FAULT and memory.state is not interlocks.CauseState.HEALTHY
            for cause, memory in zip(scope.causes, self._states[scope.name].memories, strict=True)
        )

    # Restart

    def load(self, trips: Mapping[str, Mapping[str, object]]) -> None:
        """Latch again what was latched when the process ended, and make it safe. A damaged document latches as well."""
        for name, document in trips.items():
            if name not in self._scopes:
                self._journal.record("trip", f"forgot the trip of {name}, which is no longer part of the site", source=name)
                self._journal.delete(TRIPS, name)
                continue
            latch = from_document(document)
            self._states[name] = replace(self._states[name], latch=latch)
            string = self._scopes[name].string
            if latch.escalated and string is not None:
                self._demands |= {string.id}
            self._gate.trip(name, latch.reason)
            self._publish_latch(name, latch)

    # Points

    def _publish_latch(self, name: str, latch: Latch | None) -> None:
        self._sink.put(f"{name}.trip.latched", float(latch is not None))
        self._sink.put(f"{name}.trip.first_out", ", ".join(latch.first_out) if latch is not None else "")
        self._sink.put(f"{name}.trip.reason", latch.reason if latch is not None else "")
        self._sink.put(f"{name}.trip.causes", float(len(latch.causes)) if latch is not None else 0.0)

    def _publish_states(self, scope: Scope, before: ScopeState, after: ScopeState) -> None:
        for cause, old, new in zip(scope.causes, before.memories, after.memories, strict=True):
            if new.state is not old.state:
                self._sink.put(cause.point, float(new.state))
