"""The protocol's own limits, and the rule that nobody charges blind.

These are tighter than the site's trips and come before them; they never replace them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.protocols import ends
from gateway.protocols.conditions import holds
from gateway.protocols.state import Reading, Watch

if TYPE_CHECKING:
    from gateway.protocols.program import LimitAction, Program, ProgramLimit
    from gateway.protocols.state import Inputs, Now, TrackState


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limit asks for, and why."""

    action: LimitAction
    text: str


def check(program: Program, state: TrackState, inputs: Inputs, now: Now) -> tuple[TrackState, Verdict | None]:
    """Look at every limit; the state with its delays moved on, and the gravest verdict."""
    verdicts: list[Verdict] = []
    watches = dict(state.limits)
    for limit in program.limits:
        reading = _value(limit, state, inputs, now)
        if reading is None:
            continue  # a gap neither clears a delay nor ends it; a lasting one is for the age rule below
        beyond = holds(limit.op, reading.value, limit.bound)
        watch = ends.step_on(watches.get(limit.text, Watch()), is_true=beyond, time_ns=reading.time_ns, clock_s=state.elapsed_s)
        watches[limit.text] = watch
        if ends.has_held(watch, state.elapsed_s, limit.delay_s):
            verdicts.append(Verdict(limit.action, f"limit {limit.text} passed at {reading.value:.4g}"))
    state, blind = _blind(program, replace(state, limits=watches), inputs, now)
    if blind is not None:
        verdicts.append(blind)
    return state, min(verdicts, key=lambda verdict: verdict.action, default=None)


def _value(limit: ProgramLimit, state: TrackState, inputs: Inputs, now: Now) -> Reading | None:
    if limit.signal == "run_time":
        return Reading(state.elapsed_s, round(now.site_s * 1e9))
    if limit.signal in {"charge_current", "discharge_current"}:
        current = inputs.current
        sign = -1.0 if limit.signal == "charge_current" else 1.0
        return None if current is None else Reading(sign * current.value, current.time_ns)
    return inputs.get(limit.signal)


def _blind(program: Program, state: TrackState, inputs: Inputs, now: Now) -> tuple[TrackState, Verdict | None]:
    """Abort a step that moves current when something it must watch has been unknown for too long (real time)."""
    needed = {"cell_voltage_max", "current"} | {limit.signal for limit in program.limits}
    needed -= {"run_time", "charge_current", "discharge_current"}
    known_at = dict(state.known_at)
    oldest: tuple[float, str] | None = None
    for name in sorted(needed):
        reading = inputs.current if name == "current" else inputs.get(name)
        if reading is not None or name not in known_at:
            known_at[name] = now.real_s
        age_s = now.real_s - known_at[name]
        if oldest is None or age_s > oldest[0]:
            oldest = (age_s, name)
    state = replace(state, known_at=known_at)
    moves = state.step is not None and program.steps[state.index].is_controlled
    if not moves or oldest is None or oldest[0] <= program.data_age_max_s:
        return state, None
    return state, Verdict("abort", f"no good {oldest[1]} for {program.data_age_max_s:g} s")
