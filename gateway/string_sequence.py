"""A string's own way to ready: safe, seen, protected, connected, the bus is up, converter reset. Pure.

A string never waits for another one, and no other one waits for it for longer than the site's patience.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.sequence_state import BUS_UP, CONFIGURING, CONNECTING, Action, Deed, Phase, StringState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.sequence_state import Outcome, SiteState, StringFacts

RETRY_S = 2.0
"""Real seconds between two attempts to write protective settings."""

RESET_WITHIN_S = 3.0
"""Real seconds in which a converter must show that it is without faults; a reset takes two of its scans."""

Step = tuple[StringState, tuple[Action, ...]]


def advance_string(
    state: StringState,
    facts: StringFacts,
    outcomes: Mapping[tuple[Deed, str | None], Outcome],
    now_s: float,
    site: SiteState,
    *,
    obstacle: str = "",
    bus_age_s: float = 0.0,
) -> Step:
    """One cycle of one string, while the site is in a state.

    `obstacle` is why its contactor must not be closed now, `bus_age_s` the age of the measured bus voltage.
    """
    if facts.tripped:
        if state.phase is Phase.TRIPPED:
            return replace(state, reason=f"tripped: {facts.tripped}"), ()
        return _to(state, Phase.TRIPPED, now_s, f"tripped: {facts.tripped}"), ()
    rule = _RULES.get(state.phase)
    return (state, ()) if rule is None else rule(state, facts, _Context(outcomes, now_s, site, obstacle, bus_age_s))


@dataclass(frozen=True, slots=True)
class _Context:
    """What the rules of all phases look at besides the string."""

    outcomes: Mapping[tuple[Deed, str | None], Outcome]
    now_s: float
    site: SiteState
    obstacle: str
    bus_age_s: float


def _to(state: StringState, phase: Phase, now_s: float, reason: str) -> StringState:
    return replace(state, phase=phase, since_s=now_s, reason=reason)


def _tripped(state: StringState, facts: StringFacts, at: _Context) -> Step:
    del facts  # the trip has been reset
    return replace(_to(state, Phase.SAFE, at.now_s, "the trip was reset"), asked=False), ()


def _safe(state: StringState, facts: StringFacts, at: _Context) -> Step:
    if not facts.safe:
        what = "converter" if facts.converter else "contactor"
        return replace(state, reason=f"the {what} has not confirmed its safe values"), ()
    return _monitor(_to(state, Phase.MONITOR, at.now_s, ""), facts, at)


def _monitor(state: StringState, facts: StringFacts, at: _Context) -> Step:
    if facts.missing:
        return replace(state, reason=f"no good value of {_listed(facts.missing)}"), ()
    if not facts.converter:
        return _to_the_bus(state, facts, at), ()
    if facts.conflict:
        return _to(state, Phase.REFUSED, at.now_s, facts.conflict), ()
    return _seen(_to(state, Phase.SEEN, at.now_s, "waits until every output is safe"), facts, at)


def _seen(state: StringState, facts: StringFacts, at: _Context) -> Step:
    if at.site not in CONFIGURING:
        return state, ()
    protecting = _to(state, Phase.PROTECT, at.now_s, "protective settings are being written")
    return protecting, (Action(Deed.PROTECT, facts.id),)


def _protect(state: StringState, facts: StringFacts, at: _Context) -> Step:
    outcome = at.outcomes.get((Deed.PROTECT, facts.id))
    if outcome is None:
        return state, ()
    if not outcome.problem:
        return _to_the_bus(state, facts, at), (Action(Deed.RELEASE, facts.id),)
    failed = replace(state, reason=f"protective settings: {outcome.problem}")
    if at.now_s - outcome.at_s < RETRY_S:
        return failed, ()
    return failed, (Action(Deed.PROTECT, facts.id),)


def _to_the_bus(state: StringState, facts: StringFacts, at: _Context) -> StringState:
    if facts.contactor:
        return _to(state, Phase.CONNECT, at.now_s, "waits to be connected")
    return _to(state, Phase.BUS, at.now_s, "waits for the bus")


def _connect(state: StringState, facts: StringFacts, at: _Context) -> Step:
    if at.site not in CONNECTING:
        return state, ()
    if not state.asked:
        return replace(state, reason="its trip was reset; start the site to connect it again"), ()
    if at.obstacle:
        return replace(state, reason=f"not connected: {at.obstacle}"), ()
    outcome = at.outcomes.get((Deed.CONNECT, facts.id))
    if outcome is not None and at.now_s - outcome.at_s < RETRY_S:
        return state, ()
    return _to(state, Phase.CLOSING, at.now_s, "the contactor is closing"), (Action(Deed.CONNECT, facts.id),)


def _closing(state: StringState, facts: StringFacts, at: _Context) -> Step:
    """Closed is what the contactor reports; one that does not is tripped by the guard."""
    outcome = at.outcomes.get((Deed.CONNECT, facts.id))
    if outcome is None:
        return state, ()
    if outcome.problem:
        return _to(state, Phase.CONNECT, at.now_s, f"the contactor was not closed: {outcome.problem}"), ()
    if not facts.closed:
        return replace(state, reason="the contactor does not report that it is closed"), ()
    if not facts.converter and at.bus_age_s >= at.now_s - outcome.at_s:
        return state, ()  # the next string is compared with the bus as this one leaves it
    return _to(state, Phase.BUS, at.now_s, "waits for the bus"), ()


def _bus(state: StringState, facts: StringFacts, at: _Context) -> Step:
    if at.site not in BUS_UP:
        return state, ()
    if not facts.converter:
        return _to(state, Phase.READY, at.now_s, ""), ()
    return _to(state, Phase.RESET, at.now_s, "the converter is being looked at"), ()


def _reset(state: StringState, facts: StringFacts, at: _Context) -> Step:
    """The transient of the bus halts converters; what it explains is cleared, once, and nothing else is."""
    patient = at.now_s - state.since_s < RESET_WITHIN_S
    outcome = at.outcomes.get((Deed.RESET, facts.id)) if state.reset_used else None
    looked_s = at.now_s - max(state.since_s, outcome.at_s if outcome is not None else state.since_s)
    fresh = not facts.reports_faults or facts.faults_age_s < looked_s
    if fresh and not facts.faults_latched and not facts.in_fault:
        return _to(state, Phase.READY, at.now_s, ""), (Action(Deed.RELEASE, facts.id),)
    if fresh and not state.reset_used and not _forbidden(facts):
        resetting = replace(_to(state, Phase.RESET, at.now_s, "the converter is being reset"), reset_used=True)
        note = f"latched by the start of the bus: {facts.faults_latched:#06x}"
        return resetting, (Action(Deed.RESET, facts.id, note),)
    if patient:
        return state, ()
    return _to(state, Phase.REFUSED, at.now_s, _why_not(state, facts, outcome, fresh=fresh)), (Action(Deed.RELEASE, facts.id),)


def _refused(state: StringState, facts: StringFacts, at: _Context) -> Step:
    """When somebody has cleared what stood against it, the string begins anew, as after a trip."""
    seen_since = facts.faults_age_s < at.now_s - state.since_s
    clean = not (facts.conflict or facts.missing or facts.faults_latched or facts.in_fault)
    if seen_since and clean:
        anew = (Action(Deed.DISCONNECT, facts.id),) if facts.contactor else ()
        return _to(state, Phase.SAFE, at.now_s, "the converter's faults are cleared"), anew
    return state, ()


def _forbidden(facts: StringFacts) -> str:
    """Why the automatic reset must not be given; empty when it may."""
    if not facts.reports_faults:
        return "the converter is in fault, and cannot be reset from here"
    if facts.faults_live:
        return f"the converter reports faults that are present now: {facts.faults_live:#06x}"
    if facts.faults_latched & ~facts.transient_mask:
        return f"the converter has latched faults that the start of the bus does not explain: {facts.faults_latched:#06x}"
    return ""


def _why_not(state: StringState, facts: StringFacts, outcome: Outcome | None, *, fresh: bool) -> str:
    if outcome is not None and outcome.problem:
        return f"the converter was not reset: {outcome.problem}"
    if not fresh:
        return "the converter does not report its faults"
    forbidden = _forbidden(facts)
    if forbidden:
        return forbidden
    return f"the converter keeps its faults after a reset: {facts.faults_latched:#06x}" if state.reset_used else state.reason


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


_RULES: Mapping[Phase, Callable[[StringState, StringFacts, _Context], Step]] = {
    Phase.TRIPPED: _tripped,
    Phase.SAFE: _safe,
    Phase.MONITOR: _monitor,
    Phase.SEEN: _seen,
    Phase.PROTECT: _protect,
    Phase.CONNECT: _connect,
    Phase.CLOSING: _closing,
    Phase.BUS: _bus,
    Phase.RESET: _reset,
    Phase.REFUSED: _refused,
}
