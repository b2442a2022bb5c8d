"""The start and stop sequence of the site: a pure state machine.

    SAFE_OUTPUTS -> MONITOR -> PROTECT (-> CONNECT) -> ENERGISE -> SETTLE -> RESET_CONVERTERS -> READY
    any state but STOPPED -> STOPPING -> STOPPED          a trip of the site, or a start that fails -> FAULT

CONNECT is passed where a string has a contactor: it closes before the grid converter is switched on (see bus_connection), and
opens after it has been switched off.

The grid converter takes the site along: where it does not answer, everything waits. A string only takes itself along
(see string_sequence). Starting the grid converter makes a transient on the bus that halts the strings' converters, which
are therefore reset once, after the bus has settled. A trip of the site is never left by itself.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.bus_connection import obstacle
from gateway.sequence_state import BUS_UP, CONFIGURING, Action, Deed, Facts, Phase, SiteState, State, initial
from gateway.string_sequence import RETRY_S, advance_string

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.sequence_state import StringFacts

PATIENCE_S = 5.0
"""Real seconds for which the site waits for a string in each state before it goes on without it."""

MONITOR_PATIENCE_S = 10.0
"""The same for the first good values: opening a line and identifying a device takes longer. Who is silent then is lost."""

SETTLED_S = 0.5
"""Real seconds for which the bus voltage must stay within its settling band."""

SETTLE_WITHIN_S = 10.0
BUS_ARMED_AFTER_S = 1.0
"""The bus window is watched from this long after the bus has settled (real seconds)."""

CONNECT_PATIENCE_S = 10.0
"""The same for a string that cannot be connected yet: 2 mF bleed from 28 V to 5 V within 2 s, a larger bus takes longer."""

ENERGISE_ATTEMPTS = 3
COMMANDED_WITHIN_S = 2.0
CONFIRM_WITHIN_S = 3.0
GRID_OFF_WITHIN_S = 3.0
"""A stop goes on after these real seconds, whether a step is confirmed or not: it must come to its end."""

NO_CURRENT_A = 0.2
"""A converter below this current has stopped (two steps of a 0.1 A sensor)."""

Step = tuple[State, tuple[Action, ...]]


def advance(state: State, facts: Facts, now_s: float) -> Step:
    """One cycle: the state after what is seen now, and what to do about it."""
    if facts.tripped:
        return _tripped(state, facts, now_s)
    state, string_actions = _advance_strings(state, facts, now_s)
    state, actions = _RULES[state.site](state, facts, now_s)
    return state, (*string_actions, *actions)


def bus_armed(state: State, now_s: float) -> bool:
    """True while the bus window is to be watched."""
    return state.site in BUS_UP and now_s - state.settled_s >= BUS_ARMED_AFTER_S


def ready(state: State, string_id: str) -> bool:
    """True when a run may start on the string."""
    return state.site is SiteState.READY and state.strings[string_id].phase is Phase.READY


def start(state: State, now_s: float) -> State:
    """A start asked for by a person, from STOPPED or FAULT."""
    return initial(tuple(state.strings), now_s, by_operator=True)


def unconnected(state: State) -> tuple[str, ...]:
    """Strings that wait, on a site that is up, for a start to connect them."""
    up = state.site is SiteState.READY
    return tuple(name for name, own in state.strings.items() if up and own.phase is Phase.CONNECT and not own.asked)


def connect(state: State) -> State:
    """A start asked for by a person on a site that is up: what was reset may be connected again."""
    return replace(state, strings={name: replace(own, asked=True) for name, own in state.strings.items()})


def stop(state: State, now_s: float) -> State:
    """An ordered stop."""
    stopping = _to(state, SiteState.STOPPING, now_s, "current to zero")
    return replace(stopping, step=Deed.ZERO, stopping_since_s=now_s)


def _to(state: State, site: SiteState, now_s: float, reason: str) -> State:
    return replace(state, site=site, since_s=now_s, reason=reason, entered=False)


def _tripped(state: State, facts: Facts, now_s: float) -> Step:
    state = _note_trips(state, replace(facts, strings=tuple(replace(own, tripped=facts.tripped) for own in facts.strings)), now_s)
    if state.site is not SiteState.FAULT or not state.was_tripped:
        state = _to(state, SiteState.FAULT, now_s, "")
    return replace(state, was_tripped=True, reason=f"the site is tripped: {facts.tripped}"), ()


def _advance_strings(state: State, facts: Facts, now_s: float) -> Step:
    looking = state.site is SiteState.MONITOR or (state.site is SiteState.SAFE_OUTPUTS and state.entered)
    if not looking and state.site not in CONFIGURING:
        return _note_trips(state, facts, now_s), ()
    strings = dict(state.strings)
    actions: list[Action] = []
    for own in facts.strings:
        closing = any(other.phase is Phase.CLOSING for other in strings.values())
        why = "another string is being connected" if closing else obstacle(own, facts) if own.contactor else ""
        strings[own.id], wanted = advance_string(
            strings[own.id], own, facts.outcomes, now_s, state.site, obstacle=why, bus_age_s=facts.voltage_age_s
        )
        actions.extend(wanted)
    return replace(state, strings=strings), tuple(actions)


def _note_trips(state: State, facts: Facts, now_s: float) -> State:
    strings = dict(state.strings)
    for own in facts.strings:
        if own.tripped or strings[own.id].phase is Phase.TRIPPED:
            strings[own.id], _ = advance_string(strings[own.id], own, {}, now_s, state.site)
    return replace(state, strings=strings)


def _waits_for(state: State, now_s: float, *phases: Phase, patience_s: float = PATIENCE_S) -> list[str]:
    """Strings that are still in one of the phases, as long as the site has patience."""
    if now_s - state.since_s >= patience_s:
        return []
    return [f"string {identifier}: {own.reason}" for identifier, own in state.strings.items() if own.phase in phases]


def _safe_outputs(state: State, facts: Facts, now_s: float) -> Step:
    if not state.entered:
        reason = "every output is being driven to its safe value"
        return replace(state, entered=True, reason=reason), (Action(Deed.MAKE_SAFE),)
    if not facts.grid_safe:
        return replace(state, reason="the grid converter has not confirmed its safe values"), ()
    waiting = _waits_for(state, now_s, Phase.SAFE)
    if waiting:
        return replace(state, reason="; ".join(waiting)), ()
    return _to(state, SiteState.MONITOR, now_s, "waiting for good values of every device"), ()


def _monitor(state: State, facts: Facts, now_s: float) -> Step:
    if facts.grid_missing:
        return replace(state, reason=f"no good value of {', '.join(facts.grid_missing)}"), ()
    waiting = _waits_for(state, now_s, Phase.MONITOR, patience_s=MONITOR_PATIENCE_S)
    if waiting:
        return replace(state, reason="; ".join(waiting)), ()
    if facts.held:
        return replace(state, reason=facts.held), ()
    return _to(state, SiteState.PROTECT, now_s, "protective settings are being written"), ()


def _protect(state: State, facts: Facts, now_s: float) -> Step:
    outcome = facts.outcomes.get((Deed.PROTECT, None)) if state.entered else None
    if facts.grid and not state.entered:
        return replace(state, entered=True), (Action(Deed.PROTECT),)
    if facts.grid and outcome is None:
        return state, ()
    if outcome is not None and outcome.problem:
        retry = now_s - outcome.at_s >= RETRY_S
        reason = f"protective settings of the grid converter: {outcome.problem}"
        return replace(state, reason=reason), (Action(Deed.PROTECT),) if retry else ()
    waiting = _waits_for(state, now_s, Phase.PROTECT)
    if waiting:
        return replace(state, reason="; ".join(waiting)), ()
    if any(own.phase in {Phase.CONNECT, Phase.CLOSING} for own in state.strings.values()):
        return _to(state, SiteState.CONNECT, now_s, "batteries are being connected to the bus"), ()
    return _to_energise(state, now_s), ()


def _to_energise(state: State, now_s: float) -> State:
    return replace(_to(state, SiteState.ENERGISE, now_s, "the bus is being switched on"), attempts=0)


def _connect(state: State, facts: Facts, now_s: float) -> Step:
    del facts
    waiting = _waits_for(state, now_s, Phase.CONNECT, patience_s=CONNECT_PATIENCE_S)
    waiting += _waits_for(state, now_s, Phase.CLOSING, patience_s=math.inf)  # never energised under a moving contactor
    if waiting:
        return replace(state, reason="; ".join(waiting)), ()
    return _to_energise(state, now_s), ()


def _energise(state: State, facts: Facts, now_s: float) -> Step:
    if not facts.grid:
        return replace(_to(state, SiteState.RESET_CONVERTERS, now_s, ""), settled_s=now_s), ()
    if not state.entered:
        return _begin_energising(state, facts, now_s)
    outcome = facts.outcomes.get((state.step, None))
    if outcome is None:
        return state, ()
    if outcome.problem:
        return _energising_failed(state, outcome.problem, outcome.at_s, now_s)
    if state.step is Deed.CLEAR_PROTECTION:
        return replace(state, step=Deed.ENERGISE), (Action(Deed.ENERGISE),)
    settling = _to(state, SiteState.SETTLE, now_s, "waiting for the bus voltage")
    return replace(settling, inside_since_s=math.inf, settled_s=math.inf), ()


def _begin_energising(state: State, facts: Facts, now_s: float) -> Step:
    if facts.protection and not state.by_operator:
        reason = f"the grid converter reports {facts.protection}; find the cause, then start the site"
        return _to(state, SiteState.FAULT, now_s, reason), ()
    clear = bool(facts.protection) or facts.watchdog_tripped
    step = Deed.CLEAR_PROTECTION if clear else Deed.ENERGISE
    note = facts.protection or ("its communication watchdog" if clear else "")
    return replace(state, entered=True, step=step), (Action(step, note=note),)


def _energising_failed(state: State, problem: str, at_s: float, now_s: float) -> Step:
    if now_s - at_s < RETRY_S:
        return replace(state, reason=f"the bus cannot be switched on: {problem}"), ()
    if state.attempts + 1 < ENERGISE_ATTEMPTS:
        return replace(state, entered=False, attempts=state.attempts + 1), ()
    return _to(state, SiteState.FAULT, now_s, f"the bus cannot be switched on: {problem}"), (Action(Deed.MAKE_SAFE),)


def _settle(state: State, facts: Facts, now_s: float) -> Step:
    voltage_V = facts.voltage_V
    inside = facts.output and voltage_V is not None and facts.settled_low_V <= voltage_V <= facts.settled_high_V
    since_s = min(state.inside_since_s, now_s) if inside else math.inf
    if now_s - since_s >= SETTLED_S:
        settled = _to(state, SiteState.RESET_CONVERTERS, now_s, "converters that the bus has halted are being reset")
        return replace(settled, settled_s=now_s), ()
    if now_s - state.since_s < SETTLE_WITHIN_S:
        return replace(state, inside_since_s=since_s), ()
    found = "its voltage is not known" if voltage_V is None else f"{voltage_V:.2f} V"
    reason = f"the bus did not settle between {facts.settled_low_V:g} V and {facts.settled_high_V:g} V: {found}"
    return _to(state, SiteState.FAULT, now_s, reason), (Action(Deed.MAKE_SAFE),)


def _reset_converters(state: State, facts: Facts, now_s: float) -> Step:
    waiting = _waits_for(state, now_s, Phase.BUS, Phase.RESET)
    if waiting:
        return replace(state, reason="; ".join(waiting)), ()
    return _ready(_to(state, SiteState.READY, now_s, ""), facts, now_s)


def _ready(state: State, facts: Facts, now_s: float) -> Step:
    del facts, now_s
    late = [f"string {identifier}: {own.reason}" for identifier, own in state.strings.items() if own.phase is not Phase.READY]
    return replace(state, reason="; ".join(late) if late else "every string is ready"), ()


def _stopping(state: State, facts: Facts, now_s: float) -> Step:
    """Current to zero, converters off, current gone, bus off; each step at most for its time."""
    return _STOP_STEPS[state.step](state, facts, now_s)


def _stop_converters(state: State, facts: Facts, now_s: float) -> Step:
    converters = [own.id for own in facts.strings if own.converter]
    if not state.entered:
        return replace(state, entered=True), tuple(Action(state.step, identifier) for identifier in converters)
    answered = all((state.step, identifier) in facts.outcomes for identifier in converters)
    if not answered and now_s - state.stopping_since_s < COMMANDED_WITHIN_S:
        return state, ()
    if state.step is Deed.ZERO:
        return _stop_step(state, Deed.OFF, "converters off", now_s), ()
    return _stop_step(state, Deed.CONFIRM, "waiting until no current flows", now_s), ()


def _stop_confirm(state: State, facts: Facts, now_s: float) -> Step:
    currents = {own.id: own.current_A for own in facts.strings if own.converter}
    flowing = [identifier for identifier, found_A in currents.items() if found_A is None or abs(found_A) >= NO_CURRENT_A]
    if flowing and now_s - state.stopping_since_s < CONFIRM_WITHIN_S:
        return state, ()
    note = f"the current of string {', '.join(flowing)} is not confirmed to be zero" if flowing else ""
    reason = f"bus off; {note}" if note else "bus off"
    return replace(_stop_step(state, Deed.MAKE_SAFE, reason, now_s), entered=True), (Action(Deed.MAKE_SAFE, note=note),)


def _stop_bus(state: State, facts: Facts, now_s: float) -> Step:
    late = [] if facts.grid_safe else ["the grid converter has not confirmed that it is off"]
    late += [f"the contactor of string {own.id} has not confirmed that it is open" for own in facts.strings if _is_closed(own)]
    if late and now_s - state.stopping_since_s < GRID_OFF_WITHIN_S:
        return state, ()
    reason = f"stopped, but {', '.join(late)}" if late else "stopped"
    stopped = _to(state, SiteState.STOPPED, now_s, reason)
    return replace(stopped, strings=initial(tuple(state.strings), now_s).strings), ()


def _is_closed(own: StringFacts) -> bool:
    return own.contactor and not own.safe


def _stop_step(state: State, step: Deed, reason: str, now_s: float) -> State:
    return replace(state, step=step, stopping_since_s=now_s, reason=reason, entered=False)


_STOP_STEPS: Mapping[Deed, Callable[[State, Facts, float], Step]] = {
    Deed.ZERO: _stop_converters,
    Deed.OFF: _stop_converters,
    Deed.CONFIRM: _stop_confirm,
    Deed.MAKE_SAFE: _stop_bus,
}


def _at_rest(state: State, facts: Facts, now_s: float) -> Step:
    del facts
    if state.site is SiteState.FAULT and state.was_tripped:
        stopped = _to(state, SiteState.STOPPED, now_s, "the trip of the site was reset; start the site to go on")
        return replace(stopped, was_tripped=False), ()
    return state, ()


_RULES: Mapping[SiteState, Callable[[State, Facts, float], Step]] = {
    SiteState.SAFE_OUTPUTS: _safe_outputs,
    SiteState.MONITOR: _monitor,
    SiteState.PROTECT: _protect,
    SiteState.CONNECT: _connect,
    SiteState.ENERGISE: _energise,
    SiteState.SETTLE: _settle,
    SiteState.RESET_CONVERTERS: _reset_converters,
    SiteState.READY: _ready,
    SiteState.STOPPING: _stopping,
    SiteState.STOPPED: _at_rest,
    SiteState.FAULT: _at_rest,
}
