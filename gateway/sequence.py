"""The start and stop sequence against the live plant.

Once per control cycle the rules (see sequence_rules) look at the plant and say what is to be done; every deed is a task of
its own whose outcome is looked at in a later cycle, so that a slow device never delays the cycle. Everything goes out
through the gate, with the sequence's rank.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from gateway import sequence_facts as plant
from gateway import sequence_rules as rules
from gateway.commands import Code, Command, Origin, Rank, Verdict
from gateway.points import Kind, Point
from gateway.sequence_state import Action, Deed, Outcome, Phase, SiteState, initial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from collections.abc import Sequence as SequenceOf

    from gateway.clock import Clock
    from gateway.points import Snapshot
    from gateway.sequence_state import State
    from gateway.site import DeviceSpec, Site

_log = logging.getLogger(__name__)

OWNER = "sequence"
"""Owner of what the sequence commands; it keeps the grid converter while the site is up."""

DEED_WITHIN_S = 6.0
"""Real seconds for one deed, its read-back included; the transports' own time-outs are shorter."""


class Gate(plant.GateView, Protocol):
    """The doors of the gate that the sequence uses."""

    async def submit(self, command: Command, *, confirm: bool = False) -> Verdict:
        """Carry out a request or refuse it; with `confirm`, read back what was written."""
        ...

    def release(self, target: str, owner: str) -> bool:
        """Let go of a target and make it safe."""
        ...

    def make_safe(self, scope: str) -> None:
        """Drive every target of the scope to its safe values."""
        ...


class Journal(Protocol):
    """What the sequence needs of the journal; it never blocks and never raises."""

    def record(
        self, kind: str, text: str, *, severity: str = "info", source: str = "", origin: Origin | str | None = None
    ) -> int:
        """Note an event; its id, 0 when it could not be kept."""
        ...


class Arming(Protocol):
    """What the sequence has made ready to be watched by the guard."""

    telemetry: bool
    converter_faults: bool
    bus: bool


class Sink(Protocol):
    """Where the sequence publishes its points."""

    def put(self, name: str, value: float | str | None) -> None:
        """Publish one value."""
        ...


def points(site: Site) -> tuple[Point, ...]:
    """The state of the site and the readiness of each string."""
    symbols = {state.value: state.name.lower() for state in SiteState}
    own = [
        Point(name="site.state", kind=Kind.ENUM, symbols=symbols, description="State of the start and stop sequence"),
        Point(name="site.state_reason", kind=Kind.TEXT, description="What the sequence waits for, or why it stopped"),
    ]
    for string in site.strings:
        own += [
            Point(name=f"{string.prefix}.ready", kind=Kind.BOOLEAN, description="A run may start on the string"),
            Point(
                name=f"{string.prefix}.ready_reason", kind=Kind.TEXT, description="Why the string is not ready; empty when it is"
            ),
        ]
    return tuple(own)


class Sequence:
    """See the module. It begins to start the site with its first cycle; a trip that is latched then prevents that."""

    def __init__(
        self,
        site: Site,
        view: Callable[[], Snapshot],
        gate: Gate,
        journal: Journal,
        clock: Clock,
        claim: Callable[[SequenceOf[str], str], Sink],
        arming: Arming,
    ) -> None:
        self._site = site
        self._lookout = plant.Lookout(site)
        self._view = view
        self._gate = gate
        self._journal = journal
        self._clock = clock
        self._arming = arming
        self._state = initial(tuple(string.id for string in site.strings), clock.monotonic())
        self._outcomes: dict[tuple[Deed, str | None], Outcome] = {}
        self._tasks: dict[asyncio.Task[str], Action] = {}
        self._sink = claim([point.name for point in points(site)], OWNER)
        self._shown: dict[str, float | str] = {}
        self.hold: Callable[[], str] = str
        """Why the site must not be energised yet, whatever the plant says; an empty text when nothing holds it."""
        self._publish()

    @property
    def state(self) -> SiteState:
        """The state of the site."""
        return self._state.site

    @property
    def reason(self) -> str:
        """What the sequence waits for, or why it stopped."""
        return self._state.reason

    def ready(self, string_id: str) -> bool:
        """True when a run may start on the string."""
        return rules.ready(self._state, string_id)

    def permit(self, command: Command) -> Verdict | None:
        """The permissive for everybody else's commands: the string, or for the grid converter the site, is ready."""
        string = next((s for s in self._site.strings if command.target.startswith(f"{s.prefix}.")), None)
        if string is not None and not self.ready(string.id):
            return Verdict(Code.NOT_PERMITTED, f"string {string.id} is not ready: {self._why_not(string.id)}")
        if string is None and self.state is not SiteState.READY:
            return Verdict(Code.NOT_PERMITTED, f"the site is not ready: {self.reason}")
        return None

    def start(self, origin: Origin) -> Verdict:
        """Start the site, from STOPPED or FAULT; on a site that is up, connect the strings whose trip has been reset."""
        tripped = self._gate.trip_reason(plant.SITE)
        if tripped:
            return self._answer(Code.TRIPPED, f"the site is tripped, reset it first: {tripped}", origin)
        waiting = rules.unconnected(self._state)
        if waiting:
            self._show(rules.connect(self._state))
            return self._answer(Code.ACCEPTED, f"to be connected again: string {', '.join(waiting)}", origin)
        if self.state not in {SiteState.STOPPED, SiteState.FAULT}:
            return self._answer(Code.WRONG_STATE, f"the site cannot be started in state {self.state.name.lower()}", origin)
        self._abandon()
        self._show(rules.start(self._state, self._clock.monotonic()))
        return self._answer(Code.ACCEPTED, "the site is starting", origin)

    def stop(self, origin: Origin) -> Verdict:
        """Stop the site in order: currents to zero, converters off, no current left, bus off."""
        if self._gate.trip_reason(plant.SITE):
            return self._answer(Code.WRONG_STATE, "the site has been switched off by a trip", origin)
        if self.state in {SiteState.STOPPED, SiteState.STOPPING}:
            return self._answer(Code.WRONG_STATE, f"the site is {self.state.name.lower()} already", origin)
        self._abandon()
        self._show(rules.stop(self._state, self._clock.monotonic()))
        return self._answer(Code.ACCEPTED, "the site is stopping", origin)

    async def cycle(self) -> None:
        """Once per control cycle: look, decide, begin what is to be done. Never waits for a device."""
        now_s = self._clock.monotonic()
        facts = self._lookout.look(self._view(), self._gate, self._outcomes, self.hold())
        state, actions = rules.advance(self._state, facts, now_s)
        if state.site is SiteState.FAULT and self._state.site is not SiteState.FAULT:
            self._abandon()
        self._show(state)
        self._arm(now_s)
        for action in actions:
            self._begin(action)

    async def close(self) -> None:
        """Give up what is under way. Switches nothing off."""
        tasks = list(self._tasks)
        self._abandon()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _arm(self, now_s: float) -> None:
        site, state = self.state, self._state
        if site in {SiteState.PROTECT, SiteState.READY}:
            self._arming.telemetry = True  # everybody has had time to answer
        bus_goes = site is SiteState.STOPPING and state.step is Deed.MAKE_SAFE
        self._arming.converter_faults = site is SiteState.READY or (site is SiteState.STOPPING and not bus_goes)
        self._arming.bus = rules.bus_armed(state, now_s)

    # Deeds

    def _begin(self, action: Action) -> None:
        key = (action.deed, action.string)
        self._outcomes.pop(key, None)
        if action.note:
            self._journal.record("sequence", f"{_title(action)}: {action.note}", source=_source(action))
        if action.deed is Deed.MAKE_SAFE:
            self._gate.make_safe(plant.SITE)
        elif action.deed is Deed.RELEASE:
            self._gate.release(f"string.{action.string}.converter", OWNER)
        elif action.deed is Deed.DISCONNECT:
            self._gate.release(f"string.{action.string}.contactor", OWNER)
        else:
            task = asyncio.get_running_loop().create_task(_in_time(self._do(action)))
            self._tasks[task] = action
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[str]) -> None:
        action = self._tasks.pop(task, None)
        if action is None or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("%s failed", _title(action), exc_info=error)
        problem = task.result() if error is None else f"failed inside the gateway: {error!r}"
        self._outcomes[action.deed, action.string] = Outcome(self._clock.monotonic(), problem)

    def _abandon(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._outcomes.clear()

    async def _do(self, action: Action) -> str:
        """Carry out a deed; why it failed, or nothing."""
        if action.deed is Deed.CONNECT:
            return await self._write(f"string.{action.string}.contactor", {"closed": 1.0}, confirm=True)
        target = plant.GRID if action.string is None else f"string.{action.string}.converter"
        device = self._site.device_at(target)
        if device is None:
            return f"{target} has no device"
        if action.deed is Deed.ENERGISE:
            return await self._energise(target)
        return await self._write(target, self._values(action, device), confirm=action.deed in {Deed.PROTECT, Deed.OFF})

    def _values(self, action: Action, device: DeviceSpec) -> Mapping[str, float]:
        match action.deed:
            case Deed.PROTECT:
                return self._protection(action, device)
            case Deed.ZERO:
                return plant.zero(device)
            case Deed.OFF:
                return plant.off(device)
            case Deed.CLEAR_PROTECTION:
                return {"clear_protection": 1.0}
            case _:
                return {"reset": 1.0}

    def _protection(self, action: Action, device: DeviceSpec) -> Mapping[str, float]:
        if action.string is None:
            return plant.grid_protection(device, self._site.grid) if self._site.grid is not None else {}
        lacking = plant.unprotected(device)
        if lacking:
            text = f"{device.id} is not given, or does not offer, {', '.join(lacking)}"
            self._journal.record("sequence", text, severity="warning", source=device.id)
        return plant.protection(device)

    async def _energise(self, target: str) -> str:
        if self._site.grid is None:
            return ""
        problem = await self._write(target, {"voltage_setpoint": self._site.grid.bus_voltage_V}, confirm=True)
        return problem or await self._write(target, {"output_enable": 1.0}, confirm=True)

    async def _write(self, target: str, values: Mapping[str, float], *, confirm: bool) -> str:
        if not values:
            return ""
        command = Command(target=target, values=values, owner=OWNER, rank=Rank.SEQUENCE, reason=self.state.name.lower())
        verdict = await self._gate.submit(command, confirm=confirm)
        return "" if verdict.accepted else verdict.reason or verdict.code.value

    # What is shown

    def _answer(self, code: Code, reason: str, origin: Origin) -> Verdict:
        severity = "info" if code is Code.ACCEPTED else "warning"
        return Verdict(code, reason, self._journal.record("sequence", reason, severity=severity, source="site", origin=origin))

    def _why_not(self, string_id: str) -> str:
        own = self._state.strings[string_id]
        if self.state is SiteState.READY or own.phase in {Phase.TRIPPED, Phase.REFUSED}:
            return own.reason
        return f"the site is in state {self.state.name.lower()}"

    def _show(self, state: State) -> None:
        before, self._state = self._state, state
        if state is before:
            return
        self._publish()
        if state.site is not before.site:
            severity = "alarm" if state.site is SiteState.FAULT else "info"
            text = f"site {state.site.name.lower()}" + (f": {state.reason}" if state.reason else "")
            self._journal.record("sequence", text, severity=severity, source="site")
        for identifier, own in state.strings.items():
            if own.phase is not before.strings[identifier].phase and own.phase is Phase.REFUSED:
                text = f"string {identifier} cannot become ready: {own.reason}"
                self._journal.record("sequence", text, severity="alarm", source=f"string.{identifier}")

    def _publish(self) -> None:
        shown: dict[str, float | str] = {"site.state": float(self.state), "site.state_reason": self.reason}
        for string in self._site.strings:
            ready = self.ready(string.id)
            shown[f"{string.prefix}.ready"] = float(ready)
            shown[f"{string.prefix}.ready_reason"] = "" if ready else self._why_not(string.id)
        for name, value in shown.items():
            if self._shown.get(name) != value:
                self._sink.put(name, value)
        self._shown = shown


async def _in_time(deed: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(DEED_WITHIN_S):
            return await deed
    except TimeoutError:
        return f"not finished within {DEED_WITHIN_S:g} s"


def _title(action: Action) -> str:
    what = {Deed.MAKE_SAFE: "bus off", Deed.RESET: "automatic reset", Deed.CLEAR_PROTECTION: "protection cleared"}
    where = "site" if action.string is None else f"string {action.string}"
    return f"{where}: {what.get(action.deed, action.deed.value)}"


def _source(action: Action) -> str:
    return "site" if action.string is None else f"string.{action.string}"
