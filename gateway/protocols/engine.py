"""The protocol engine: a pure function from (program, state, inputs, now) to (state, demand, events).

    ARMED -> RUNNING <-> PAUSED
                |           |
                +-> STOPPING -> COMPLETED | ABORTED      (FAULTED is for the shell: the outputs could not be confirmed)

Step clocks run in site time and stand still while paused; charge and energy are integrated throughout. Every way out
leads through STOPPING, in which the converter is wanted off with zero current, and stays so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.protocols import demand as demands
from gateway.protocols import ends, guards
from gateway.protocols.conditions import SIGNALS
from gateway.protocols.program import ABORT, END
from gateway.protocols.state import IDLE, OFF, Advance, Event, Status, StepResult, StepState, TrackState, Watch

if TYPE_CHECKING:
    from gateway.protocols.program import End, Program, ProgramStep
    from gateway.protocols.state import ConverterDemand, Inputs, Now


def advance(program: Program, state: TrackState, inputs: Inputs, now: Now) -> Advance:
    """One cycle of a track. A track that is over stays as it is and wants nothing."""
    if state.status.is_over:
        return Advance(state, None)
    dt_s = 0.0 if state.now is None else max(0.0, now.site_s - state.now.site_s)
    state = _count(program, state, inputs, now, dt_s)
    if state.status is Status.STOPPING:
        return _stopping(program, state, dt_s)
    cycle = _Cycle(program, inputs, now, dt_s)
    if state.status is Status.ARMED:
        state = cycle.enter(replace(state, status=Status.RUNNING), 0)
    state = cycle.guard(state)
    if state.status is Status.RUNNING:
        state = cycle.run(state)
    wanted = cycle.demand(state)
    return Advance(state, wanted, tuple(cycle.events))


def pause(state: TrackState, reason: str) -> TrackState:
    """Hold a running track: current zero, step clock stopped, until `resume`."""
    if state.status is not Status.RUNNING:
        return state
    return replace(state, status=Status.PAUSED, reason=reason, step=_unsettle(state.step))


def resume(state: TrackState) -> TrackState:
    """Go on after a pause, in the same step."""
    return replace(state, status=Status.RUNNING, reason="") if state.status is Status.PAUSED else state


def abort(program: Program, state: TrackState, reason: str) -> TrackState:
    """End a track before its time; the step in progress gets a result that says why."""
    if state.status.is_over or state.status is Status.STOPPING:
        return state
    if state.step is not None and state.index < len(program.steps):
        state = _record(program.steps[state.index], state, f"abort: {reason}", None, "")
    return replace(state, status=Status.STOPPING, outcome=Status.ABORTED, reason=reason, step=None)


def fault(state: TrackState, reason: str) -> TrackState:
    """A track that is over, but whose outputs could not be confirmed off."""
    return replace(state, status=Status.FAULTED, reason=f"{state.reason}; {reason}" if state.reason else reason)


def time_to_end_s(state: TrackState) -> float:
    """Site seconds, told cautiously, to the next end of a step; infinite while nothing runs."""
    if state.status is Status.ARMED:
        return 0.0
    if state.status is not Status.RUNNING or state.step is None or state.step.nearest is None:
        return math.inf
    return state.step.nearest.eta_s


def _unsettle(step: StepState | None) -> StepState | None:
    """Forget what a break in the current makes worthless: delays, slopes, the voltage reference."""
    if step is None:
        return None
    cleared = tuple(tuple(Watch() for _ in watches) for watches in step.watches)
    return replace(step, watches=cleared, slopes={}, reference_V=None, voltage_watch=Watch(), nearest=None)


def _count(program: Program, state: TrackState, inputs: Inputs, now: Now, dt_s: float) -> TrackState:
    """Advance the clocks that never stop, and integrate charge and energy (trapezoid; nothing where the current is unknown)."""
    current, pack = inputs.current, inputs.pack
    step = state.step
    if step is not None and current is not None and state.current_A is not None and dt_s > 0.0:
        direction = program.steps[state.index].direction or 1
        hours = dt_s / 3600.0
        mean_A = direction * 0.5 * (current.value + state.current_A)
        volts = pack.value if pack is not None else state.pack_V
        energy_Wh = step.energy_Wh + (mean_A * volts * hours if volts is not None else 0.0)
        step = replace(step, charge_Ah=step.charge_Ah + mean_A * hours, energy_Wh=energy_Wh)
    ceilings = dict(state.ceilings)
    for name in ("charge_limit", "discharge_limit"):
        value = inputs.value(name)
        if value is not None:
            ceilings[name] = value
    return replace(
        state,
        now=now,
        elapsed_s=state.elapsed_s + dt_s,
        step=step,
        current_A=None if current is None else current.value,
        pack_V=state.pack_V if pack is None else pack.value,
        ceilings=ceilings,
    )


def _stopping(program: Program, state: TrackState, dt_s: float) -> Advance:
    waited_s = state.stopping_s + dt_s
    state = replace(state, stopping_s=waited_s)
    rest_s = program.finally_rest_s if state.outcome is Status.COMPLETED else 0.0
    if waited_s < rest_s:
        return Advance(state, OFF)
    return Advance(replace(state, status=state.outcome), OFF, (Event("end", _epitaph(state)),))


def _epitaph(state: TrackState) -> str:
    return f"{state.outcome.value}: {state.reason}" if state.reason else state.outcome.value


def _record(step: ProgramStep, state: TrackState, ended_by: str, value: float | None, unit: str) -> TrackState:
    if state.step is None:
        return state
    result = StepResult(
        id=step.id,
        ended_by=ended_by,
        value=value,
        unit=unit,
        elapsed_s=state.step.elapsed_s,
        charge_Ah=state.step.charge_Ah,
        energy_Wh=state.step.energy_Wh,
    )
    return replace(state, results=(*state.results, result), step=None)


class _Cycle:
    """The parts of one cycle that share its inputs and collect its events."""

    def __init__(self, program: Program, inputs: Inputs, now: Now, dt_s: float) -> None:
        self._program = program
        self._inputs = inputs
        self._now = now
        self._dt_s = dt_s
        self.events: list[Event] = []

    def enter(self, state: TrackState, index: int) -> TrackState:
        """Begin a step; its clock starts at zero."""
        step = self._program.steps[index]
        target_V = None
        if step.target is not None:
            target_V = state.pack_V if step.target.at_entry else step.target.pack_V
            if target_V is not None and step.target.pack_max_V is not None:
                target_V = min(target_V, step.target.pack_max_V)
        self.events.append(Event("step", f"step {step.id} started"))
        watches = tuple(tuple(Watch() for _ in end.conditions) for end in step.ends)
        state = replace(state, index=index, step=StepState(watches=watches, target_V=target_V), reduced_A=None)
        if step.target is not None and step.target.at_entry and target_V is None:
            return self._abort(state, "the pack voltage at the entry is not known")
        return state

    def guard(self, state: TrackState) -> TrackState:
        """Apply the protocol's own limits, and abort a controlled step that has gone blind."""
        state, verdict = guards.check(self._program, state, self._inputs, self._now)
        if verdict is None:
            return state
        if verdict.action == "pause" and state.status is Status.RUNNING:
            self.events.append(Event("pause", verdict.text))
            return pause(state, verdict.text)
        return state if verdict.action == "pause" else self._abort(state, verdict.text)

    def run(self, state: TrackState) -> TrackState:
        """The step clock, the end conditions, and as many steps as end in this cycle."""
        dt_s = self._dt_s
        while (current := state.step) is not None:
            step = self._program.steps[state.index]
            limit_A = demands.ceiling_A(step, state.ceilings)
            state = self._tell_ceiling(step, state, limit_A)
            moved = replace(current, elapsed_s=current.elapsed_s + dt_s)
            moved = ends.observe(step, moved, self._inputs, self._now)
            moved = demands.regulate(step, moved, self._inputs, self._program.cells, dt_s, limit_A)
            state = replace(state, step=moved)
            end = ends.ended(step, moved)
            late = step.timeout_s is not None and moved.elapsed_s >= step.timeout_s
            if end is None and not late:
                return self._watch_nearest(step, state, moved)
            state = self._leave(step, state, moved, end)
            dt_s = 0.0
        return state

    def _tell_ceiling(self, step: ProgramStep, state: TrackState, limit_A: float) -> TrackState:
        reduced_A = limit_A if limit_A < step.current_A else None
        if reduced_A != state.reduced_A and reduced_A is not None:
            self.events.append(
                Event("reduced", f"the battery allows {reduced_A:g} A of the {step.current_A:g} A of step {step.id}")
            )
        return replace(state, reduced_A=reduced_A)

    def _watch_nearest(self, step: ProgramStep, state: TrackState, moved: StepState) -> TrackState:
        nearest = ends.nearest(step, moved, self._inputs, self._now)
        share = ends.progress(step, moved, self._inputs, self._now)
        return replace(state, step=replace(moved, nearest=nearest, progress=share))

    def _leave(self, step: ProgramStep, state: TrackState, moved: StepState, end: End | None) -> TrackState:
        if end is None:
            ended_by, then, value, unit = f"timeout {step.timeout_text}", step.timeout_then, moved.elapsed_s, "s"
        else:
            first = end.conditions[0]
            reading = ends.signal(first.signal, step, moved, self._inputs, self._now)
            ended_by, then, unit = end.text, end.then, SIGNALS[first.signal].unit
            value = None if reading is None else reading.value
        state = _record(step, state, ended_by, value, unit)
        self.events.append(Event("step", f"step {step.id} ended by {ended_by}"))
        if then == ABORT:
            return replace(state, status=Status.STOPPING, outcome=Status.ABORTED, reason=f"step {step.id} ended by {ended_by}")
        if then == END:
            return replace(state, status=Status.STOPPING, outcome=Status.COMPLETED)
        return self.enter(state, then)

    def _abort(self, state: TrackState, reason: str) -> TrackState:
        self.events.append(Event("abort", reason))
        return abort(self._program, state, reason)

    def demand(self, state: TrackState) -> ConverterDemand:
        """What the state wants of the converter; a lower ceiling of the BMS is told, never applied in silence."""
        if state.status is Status.PAUSED:
            return IDLE
        if state.step is None or state.status is not Status.RUNNING:
            return OFF
        step = self._program.steps[state.index]
        return demands.demand(step, state.step, demands.ceiling_A(step, state.ceilings))
