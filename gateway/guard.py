"""The guard: applies the interlocks to the live plant.

`check` is called after every fast block of a device and once per control cycle. It evaluates the causes of the scopes
concerned, trips through the gate what must be tripped, and only then publishes, records and stores what it did. A trip
survives a restart; `reset` unlatches it and starts nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from gateway import interlocks
from gateway.causes import SITE, Cause, Inputs
from gateway.commands import Code, Command, Origin, Rank, Role, Verdict
from gateway.interlocks import Latch, ScopeState
from gateway.trip_store import TRIPS, from_document, to_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.gate import CommandGate
    from gateway.points import Point, Quality, Snapshot
    from gateway.site import Site, StringSpec
    from gateway.trip_store import GuardJournal

STEP_SCANS = 2
"""For so many scans of the slowest sensor after a commanded step, two sensors may disagree about the current."""

FAULT_CLEAR_S = 3.0
"""Real seconds that a converter has to clear its latched faults after a reset and to say so, before they trip again."""

CONVERTER_FAULT = "converter_fault"


@dataclass(slots=True)
class Arming:
    """What the site's sequence has made ready to be watched; all off at every start.

    `telemetry`: every device has had its time to answer, so one that never did is lost. `converter_faults`: the
    converters' latched faults have been reset, new ones trip. `bus`: the bus has been settled for 1 s; only while the
    grid converter is commanded on does it count.
    """

    telemetry: bool = False
    converter_faults: bool = False
    bus: bool = False


class _Sink(Protocol):
    def put(self, name: str, value: float | str | None, quality: Quality = ..., time_ns: int | None = None) -> None: ...


class TableLike(Protocol):
    """What the guard needs of the table."""

    def view(self) -> Snapshot:
        """The present samples."""
        ...

    def claim(self, names: Sequence[str], writer: str) -> _Sink:
        """The right to publish."""
        ...


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is fixed about a scope."""

    name: str
    causes: tuple[Cause, ...]
    string: StringSpec | None
    settle_s: float
    """Real seconds for which a commanded step excuses a disagreement about the current."""


def points(site: Site) -> tuple[Point, ...]:
    """The points that the guard publishes."""
    return interlocks.points(interlocks.causes(site), site)


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
        self._sink = table.claim([point.name for point in points(site)], "guard")
        names = (*(string.prefix for string in site.strings), SITE)
        self._scopes = {name: self._scope(name) for name in names}
        self._states = {name: ScopeState.initial(scope.causes) for name, scope in self._scopes.items()}
        self._faults_excused_s = dict.fromkeys(names, -math.inf)
        self._demands: frozenset[str] = frozenset()
        for name, scope in self._scopes.items():
            self._publish_latch(name, None)
            for cause, memory in zip(scope.causes, self._states[name].memories, strict=True):
                self._sink.put(cause.point, float(memory.state))

    def _scope(self, name: str) -> _Scope:
        string = next((string for string in self._site.strings if string.prefix == name), None)
        devices = (string.battery, string.converter or "") if string is not None else ()
        periods = [spec.period_s for device in devices if (spec := self._site.device(device)) is not None]
        own = tuple(cause for cause in self.causes if cause.scope == name)
        return _Scope(name, own, string, STEP_SCANS * max((self._site.scan_s, *periods)))

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

    def _check(self, scope: _Scope, snapshot: Snapshot, *, stop: bool) -> None:
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

    def _inputs(self, scope: _Scope, *, stop: bool) -> Inputs:
        # After a trip of the site the bus is switched off on purpose; converters that note its loss are not at fault.
        live = not self._gate.tripped(SITE)
        bus_armed = live and self.arming.bus and self._gate.energised("grid")
        if scope.string is None:
            return Inputs(bus_armed=bus_armed, telemetry_armed=self.arming.telemetry, stop=stop, demands=self._demands)
        now_s, converter = self._clock.monotonic(), f"{scope.name}.converter"
        return Inputs(
            faults_armed=live and self.arming.converter_faults and now_s >= self._faults_excused_s[scope.name],
            telemetry_armed=self.arming.telemetry,
            commanded_off=not self._gate.energised(converter),
            stepping=now_s - self._gate.stepped_s(converter) <= scope.settle_s,
        )

    def _act(self, scope: _Scope, before: Latch | None, latch: Latch, new: Sequence[Cause]) -> None:
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

    def _forbid_charge(self, scope: _Scope, before: ScopeState, after: ScopeState) -> None:
        reason = interlocks.forbids_charge(scope.causes, after)
        was = interlocks.forbids_charge(scope.causes, before)
        if reason == was:
            return
        self._gate.forbid_charge(scope.name, reason)
        text = f"{scope.name} must not charge: {reason}" if reason else f"{scope.name} may charge again"
        self._journal.record("interlock", text, severity="warning" if reason else "info", source=scope.name)

    # Requests

    def stop(self, origin: Origin) -> Verdict:
        """STOP: trip the site, whoever asks. Never refused; the verdict comes when the safe writes are on their way."""
        again = self.latch(SITE)
        self._check(self._scopes[SITE], self._view(), stop=True)
        if again is not None:  # it is tripped already, so nothing new happened; everything is made safe once more
            self._gate.trip(SITE, again.reason)
        record = self._journal.record("stop", f"STOP by {origin}", severity="alarm", source=SITE, origin=origin)
        return Verdict(Code.ACCEPTED, "everything is being switched off", record)

    async def reset(self, scope: str, origin: Origin) -> Verdict:
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
        problem = await self._clear_faults(self._scopes[scope], origin)
        return Verdict(Code.ACCEPTED, problem or f"the trip of {scope} is reset; nothing has been started", record)

    def _refusal_of_reset(self, name: str, origin: Origin) -> Verdict | None:
        scope = self._scopes.get(name)
        if scope is None:
            return Verdict(Code.UNKNOWN, f"there is no scope {name}; there are {', '.join(self._scopes)}")
        if origin.role < Role.OPERATOR or not origin.user:
            return Verdict(Code.FORBIDDEN, "a reset needs a named user who is at least an operator")
        self._check(scope, self._view(), stop=False)
        if self.latch(name) is None:
            return Verdict(Code.WRONG_STATE, f"{name} is not tripped")
        cleared = {CONVERTER_FAULT} if self._faults_are_past(scope) else set[str]()
        pairs = zip(scope.causes, self._states[name].memories, strict=True)
        kept = [(cause, memory) for cause, memory in pairs if cause.id not in cleared]
        state = ScopeState(tuple(memory for _, memory in kept))
        found = interlocks.obstacles([cause for cause, _ in kept], state, self._clock.monotonic())
        return Verdict(Code.NOT_PERMITTED, "; ".join(found)) if found else None

    def _faults_are_past(self, scope: _Scope) -> bool:
        """True when the converter says that nothing is wrong now, so that only its latch is left to be cleared."""
        if scope.string is None:
            return False
        live = self._view().number(f"{scope.name}.converter.faults_live")
        return live == 0.0 and self._can_clear(scope)

    def _can_clear(self, scope: _Scope) -> bool:
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

    async def _clear_faults(self, scope: _Scope, origin: Origin) -> str:
        """Clear the converter's latched faults, which never energises it; why that failed, or nothing."""
        target = f"{scope.name}.converter"
        live = self.arming.converter_faults and not self._gate.tripped(SITE)
        if not (live and self._can_clear(scope) and self._latched_faults(scope)):
            return ""
        self._faults_excused_s[scope.name] = self._clock.monotonic() + FAULT_CLEAR_S
        command = Command(
            target=target,
            values={"reset": 1.0},
            owner=f"reset:{origin.user}",
            rank=Rank.SEQUENCE,
            reason="clear latched faults after a reset",
            origin=origin,
        )
        verdict = await self._gate.submit(command)
        self._gate.release(target, command.owner)
        return "" if verdict.accepted else f"the trip is reset, but the converter keeps its faults: {verdict.reason}"

    def _latched_faults(self, scope: _Scope) -> bool:
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

    def _publish_states(self, scope: _Scope, before: ScopeState, after: ScopeState) -> None:
        for cause, old, new in zip(scope.causes, before.memories, after.memories, strict=True):
            if new.state is not old.state:
                self._sink.put(cause.point, float(new.state))
