"""Interlocks and trips: pure functions from a snapshot and what was known before to what must be safe now.

For each scope (`string.<id>`, `site`) the causes are read and advance through their delays; a cause that acts trips its
scope, and the trip latches. The causes that were there when the trip came are its first-out; they stay marked until the
reset, and later ones are appended. A reset needs every cause healthy, with margin, for HOLD_S; it only unlatches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.cause_rules import ACTIVE, HEALTHY, CauseState
from gateway.causes import SITE, Cause, Effect, Escalation, Inputs
from gateway.points import Kind, Point
from gateway.site_causes import site_causes
from gateway.string_causes import string_causes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.cause_rules import Reading
    from gateway.points import Snapshot
    from gateway.site import Site

HOLD_S = 2.0
"""Real seconds for which every cause must have been healthy before a reset: twenty scans of 0.1 s."""

REASONS_MAX = 3
"""Causes that a trip's reason spells out; all of them are in its list."""

CAUSE_STATES = {state.value: state.name.lower() for state in CauseState}


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseMemory:
    """What is known of one cause: its state, and since when.

    `unhealthy_s` (real) is when it was last seen to leave healthy; `active_s` and `active_site_s` when it first became
    active since then. `samples` counts distinct source times while active. `acting` is active long enough, or unknown
    too long, and stays until it is healthy. `resettable_s` (real) is since when it has been healthy with margin.
    """

    state: CauseState = CauseState.UNKNOWN
    seen: bool = False
    acting: bool = False
    unhealthy_s: float = math.inf
    active_s: float = math.inf
    active_site_s: float = math.inf
    samples: int = 0
    stamp_ns: int = -1
    resettable_s: float = math.inf
    text: str = ""
    """Why it acts, with value and limit; empty while it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """A trip: ids of its first-out causes, of all its causes in order of appearance, and the first-out in words.

    `escalated` demands the trip of the site as well.
    """

    first_out: tuple[str, ...]
    causes: tuple[str, ...]
    reason: str
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class ScopeState:
    """The state of one scope; `memories` are in the order of its causes."""

    memories: tuple[CauseMemory, ...]
    latch: Latch | None = None

    @classmethod
    def initial(cls, scope_causes: Sequence[Cause]) -> ScopeState:
        """Nothing known yet."""
        return cls((CauseMemory(),) * len(scope_causes))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of one evaluation: the new state, and the causes that were latched by it (none when all was known)."""

    state: ScopeState
    latched: tuple[Cause, ...] = ()


def causes(site: Site) -> tuple[Cause, ...]:
    """Every cause of the site: string by string, then those of the site itself. Ids are unique within a scope."""
    by_string = (cause for string in site.strings for cause in string_causes(site, string))
    return (*by_string, *site_causes(site))


def evaluate(
    scope_causes: Sequence[Cause], state: ScopeState, snapshot: Snapshot, now_s: float, site_s: float, inputs: Inputs
) -> Evaluation:
    """Advance the causes of one scope to `now_s` (real monotonic) and `site_s` (site time).

    The returned state is the given object itself when nothing has changed.
    """
    changed: list[CauseMemory] | None = None
    for place, cause in enumerate(scope_causes):
        known = state.memories[place]
        memory = _advance(cause, known, _read(cause, snapshot, inputs), now_s, site_s, inputs)
        if memory is not known:
            changed = changed if changed is not None else list(state.memories)
            changed[place] = memory
    memories = state.memories if changed is None else tuple(changed)
    latch, latched = _latched(scope_causes, memories, state.latch)
    if changed is None and latch is state.latch:
        return Evaluation(state)
    return Evaluation(ScopeState(memories, latch), latched)


def _read(cause: Cause, snapshot: Snapshot, inputs: Inputs) -> Reading | None:
    if not cause.armed(inputs):
        return HEALTHY
    return ACTIVE if cause.rule is None else cause.rule.read(snapshot)


def _advance(
    cause: Cause, known: CauseMemory, reading: Reading | None, now_s: float, site_s: float, inputs: Inputs
) -> CauseMemory:
    if reading is None:
        return known
    if reading.state is CauseState.HEALTHY:
        return _healthy(known, now_s, resettable=reading.resettable)
    if reading.state is CauseState.ACTIVE:
        return _active(cause, known, reading, now_s, site_s)
    return _unknown(cause, known, now_s, telemetry_armed=inputs.telemetry_armed)


def _healthy(known: CauseMemory, now_s: float, *, resettable: bool) -> CauseMemory:
    settled = known.state is CauseState.HEALTHY
    if settled and resettable == (known.resettable_s < math.inf):
        return known
    return CauseMemory(state=CauseState.HEALTHY, seen=True, resettable_s=now_s if resettable else math.inf)


def _active(cause: Cause, known: CauseMemory, reading: Reading, now_s: float, site_s: float) -> CauseMemory:
    if known.state is CauseState.ACTIVE and known.acting:
        return known
    samples = known.samples + (reading.stamp_ns != known.stamp_ns)
    active_s, active_site_s = min(known.active_s, now_s), min(known.active_site_s, site_s)
    long_enough = now_s - active_s >= cause.delay_s and site_s - active_site_s >= cause.site_delay_s
    acting = known.acting or (samples >= cause.samples and long_enough)
    text = f"{cause.title}: {cause.rule.describe(reading.value)}" if cause.rule is not None else cause.title
    return CauseMemory(
        state=CauseState.ACTIVE,
        seen=True,
        acting=acting,
        unhealthy_s=min(known.unhealthy_s, now_s),
        active_s=active_s,
        active_site_s=active_site_s,
        samples=samples,
        stamp_ns=reading.stamp_ns,
        text=text if acting else "",
    )


def _unknown(cause: Cause, known: CauseMemory, now_s: float, *, telemetry_armed: bool) -> CauseMemory:
    unhealthy_s = min(known.unhealthy_s, now_s)
    # An input that was never there has not been lost. Until telemetry is armed it forbids (no charge), but trips nothing.
    never = not known.seen
    patient = now_s - unhealthy_s < cause.grace_s if not never else not (telemetry_armed or cause.effect is Effect.NO_CHARGE)
    acting = known.acting or not patient
    if known.state is CauseState.UNKNOWN and acting == known.acting and unhealthy_s == known.unhealthy_s:
        return known
    text = known.text or f"{cause.title}: not known, its input is bad or stale"
    return replace(
        known,
        state=CauseState.UNKNOWN,
        acting=acting,
        unhealthy_s=unhealthy_s,
        resettable_s=math.inf,
        text=text if acting else "",
    )


def _latched(
    scope_causes: Sequence[Cause], memories: Sequence[CauseMemory], latch: Latch | None
) -> tuple[Latch | None, tuple[Cause, ...]]:
    """The latch after these memories, and the causes that are new in it."""
    acting = [
        (cause, memory)
        for cause, memory in zip(scope_causes, memories, strict=True)
        if memory.acting and cause.effect is Effect.TRIP
    ]
    if not acting:
        return latch, ()
    held = latch.causes if latch is not None else ()
    new = tuple(cause for cause, _ in acting if cause.id not in held)
    escalated = any(_escalates(cause, memory) for cause, memory in acting)
    if latch is None:
        ids = tuple(cause.id for cause in new)
        return Latch(first_out=ids, causes=ids, reason=_reason(acting), escalated=escalated), new
    if not new and (latch.escalated or not escalated):
        return latch, ()
    ids = (*latch.causes, *(cause.id for cause in new))
    return replace(latch, causes=ids, escalated=latch.escalated or escalated), new


def _reason(acting: Sequence[tuple[Cause, CauseMemory]]) -> str:
    """The causes in words, those that are known to be active first; no longer than people read."""
    texts = [memory.text for _, memory in sorted(acting, key=lambda pair: pair[1].state is not CauseState.ACTIVE)]
    more = len(texts) - REASONS_MAX
    return "; ".join(texts[:REASONS_MAX]) + (f"; and {more} more" if more > 0 else "")


def _escalates(cause: Cause, memory: CauseMemory) -> bool:
    if cause.escalation is Escalation.ACTIVE:
        return memory.state is CauseState.ACTIVE
    return cause.escalation is Escalation.ALWAYS


def obstacles(scope_causes: Iterable[Cause], state: ScopeState, now_s: float) -> tuple[str, ...]:
    """Why the scope's trip may not be reset now, a sentence for each cause; none when it may."""
    found: list[str] = []
    for cause, memory in zip(scope_causes, state.memories, strict=True):
        if cause.effect is not Effect.TRIP:
            continue
        if memory.state is not CauseState.HEALTHY:
            found.append(memory.text or f"{cause.title} is {memory.state.name.lower()}")
        elif math.isinf(memory.resettable_s):
            found.append(f"{cause.title} is still too close to its limit")
        elif not now_s - memory.resettable_s >= HOLD_S:
            found.append(f"{cause.title} has been healthy for less than {HOLD_S:g} s")
    return tuple(found)


def forbids_charge(scope_causes: Iterable[Cause], state: ScopeState) -> str:
    """Why the string must not be charged now; empty when it may."""
    pairs = zip(scope_causes, state.memories, strict=True)
    return "; ".join(memory.text for cause, memory in pairs if memory.acting and cause.effect is Effect.NO_CHARGE)


def points(all_causes: Iterable[Cause], site: Site) -> tuple[Point, ...]:
    """The points of the interlocks: the trip of each scope, and the state of each cause."""
    scopes = (*(string.prefix for string in site.strings), SITE)
    trips = tuple(point for scope in scopes for point in _trip_points(scope))
    states = tuple(
        Point(name=cause.point, kind=Kind.ENUM, symbols=CAUSE_STATES, description=f"{cause.title}. {cause.consequence}")
        for cause in all_causes
    )
    return trips + states


def _trip_points(scope: str) -> tuple[Point, ...]:
    return (
        Point(name=f"{scope}.trip.latched", kind=Kind.BOOLEAN, description="Tripped: safe, and held so until a reset"),
        Point(name=f"{scope}.trip.first_out", kind=Kind.TEXT, description="Ids of the causes that came first"),
        Point(name=f"{scope}.trip.reason", kind=Kind.TEXT, description="The first causes with their values and limits"),
        Point(name=f"{scope}.trip.causes", kind=Kind.INTEGER, low=0.0, description="Number of causes since the trip"),
    )
