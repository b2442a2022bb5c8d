"""End conditions at work: what is true now, for how long, and what will be true next.

Input that is missing, or not a number, never satisfies a condition and starts its clock anew.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.protocols.conditions import SIGNALS, STEP_SIGNALS, holds, is_upward
from gateway.protocols.program import Condition, End, ProgramStep, VoltageTarget
from gateway.protocols.slope import Slope
from gateway.protocols.state import Inputs, Nearest, Now, Reading, StepState, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTINCT_SAMPLES = 3
"""A delay has passed only when the condition also held in so many samples of distinct source times: one value that stays
in the table while the (accelerated) site clock runs proves nothing."""
TAPER_BLANKING_S = 30.0
"""A taper counts only after so long in voltage mode: the current needs its time to settle on the voltage."""
WRONG_SIGN_A = 0.03
"""A taper may read so much in the wrong direction: three counts of a 0.01 A sensor around zero."""
SETTLE_S = 10.0
"""At the start of a step slopes mean nothing yet, and polarisation moves fast."""
CAUTIOUS_ETA_S = 5.0
"""The time to an end that is reported while nothing better is known."""
ETA_SHARE = 0.8
"""Voltages rise ever more steeply towards full: assume that the end comes in this share of the time a straight line gives."""
SLOPE_TIME_CONSTANT_S = 20.0
DV_DT_TIME_CONSTANT_S = 60.0
"""dv_dt looks back over minutes: -5 mV/min over 20 s would be less than the noise of a cell reading."""


def signal(name: str, step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> Reading | None:
    """The present value of a signal in the unit of SIGNALS; None when it is not known."""
    if name in STEP_SIGNALS:
        counted = {"step_time": state.elapsed_s, "step_charge": state.charge_Ah, "step_energy": state.energy_Wh}
        return Reading(counted[name], round(now.site_s * 1e9))
    if name == "current":
        reading = inputs.get("converter_current")
        return None if reading is None else Reading(reading.value * step.direction, reading.time_ns)
    if name == "temperature_rise":
        reading = inputs.get("temperature_max")
        start = state.temperature_at_entry
        return None if reading is None or start is None else Reading(reading.value - start, reading.time_ns)
    if name == "dv_dt":
        return _dv_dt(state)
    return inputs.get(name)


def _dv_dt(state: StepState) -> Reading | None:
    slope = state.slopes.get("dv_dt")
    if slope is None or slope.span_s < DV_DT_TIME_CONSTANT_S:
        return None
    rate = slope.per_second
    return None if rate is None else Reading(rate * 60.0, slope.last_ns)


def step_on(watch: Watch, *, is_true: bool, time_ns: int, clock_s: float) -> Watch:
    """The watch after one more look; a sample whose source time is not new counts once."""
    if not is_true:
        return Watch()
    if time_ns == watch.last_ns:
        return watch
    return Watch(clock_s if watch.since_s is None else watch.since_s, watch.seen + 1, time_ns)


def has_held(watch: Watch, clock_s: float, for_s: float) -> bool:
    """Whether the condition has held for that long, in enough distinct samples; at once when there is no delay."""
    if watch.since_s is None:
        return False
    return for_s <= 0.0 or (clock_s - watch.since_s >= for_s and watch.seen >= DISTINCT_SAMPLES)


def observe(step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> StepState:
    """Take the inputs of this cycle in: slopes, first values, voltage mode, and every condition's watch."""
    state = _measure(step, state, inputs, now)
    watches = tuple(
        tuple(_look(condition, watch, step, state, inputs, now) for condition, watch in zip(end.conditions, old, strict=True))
        for end, old in zip(step.ends, state.watches, strict=True)
    )
    return replace(state, watches=watches)


def _measure(step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> StepState:
    slopes, first = dict(state.slopes), dict(state.first)
    mean = inputs.get("cell_voltage_mean")
    if mean is not None:
        slopes["dv_dt"] = slopes.get("dv_dt", Slope(DV_DT_TIME_CONSTANT_S)).add(now.site_s, mean.value, mean.time_ns)
    temperature, start = inputs.value("temperature_max"), state.temperature_at_entry
    mode_seen = inputs.get("converter_current")
    voltage_watch = step_on(
        state.voltage_watch,
        is_true=inputs.voltage_mode and mode_seen is not None,
        time_ns=mode_seen.time_ns if mode_seen else -1,
        clock_s=state.elapsed_s,
    )
    state = replace(state, temperature_at_entry=temperature if start is None else start, voltage_watch=voltage_watch)
    for name in {condition.signal for condition in watched(step)} - {"step_time", "dv_dt"}:
        reading = signal(name, step, state, inputs, now)
        if reading is not None:
            slopes[name] = slopes.get(name, Slope(SLOPE_TIME_CONSTANT_S)).add(now.site_s, reading.value, reading.time_ns)
            first.setdefault(name, reading.value)
    return replace(state, slopes=slopes, first=first)


def watched(step: ProgramStep) -> list[Condition]:
    """All conditions that the step looks at, its change from constant current to constant voltage among them."""
    found = [condition for end in step.ends for condition in end.conditions]
    return [*found, *_phase_change(step.target)]


def _phase_change(target: VoltageTarget | None) -> list[Condition]:
    if target is None or target.at_entry:
        return []
    if target.cell_V is not None:
        return [Condition("cell_voltage_max", ">=", target.cell_V, "constant voltage")]
    return [Condition("pack_voltage", ">=", target.pack_V or 0.0, "constant voltage")]


def _look(condition: Condition, watch: Watch, step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> Watch:
    reading = signal(condition.signal, step, state, inputs, now)
    if reading is None or not math.isfinite(reading.value):
        return Watch()
    waits = condition.signal != "step_time" and state.elapsed_s < step.min_time_s
    is_true = not waits and holds(condition.op, reading.value, condition.bound)
    if condition.signal == "current" and not is_upward(condition.op):
        is_true = is_true and is_taper(reading.value, state, inputs)
    return step_on(watch, is_true=is_true, time_ns=reading.time_ns, clock_s=state.elapsed_s)


def is_taper(magnitude_A: float, state: StepState, inputs: Inputs) -> bool:
    """Whether a low current comes from the battery being full: voltage mode, settled, and nothing else limits it."""
    return (
        inputs.voltage_mode
        and inputs.foreign_limiter is False
        and magnitude_A >= -WRONG_SIGN_A
        and has_held(state.voltage_watch, state.elapsed_s, TAPER_BLANKING_S)
    )


def ended(step: ProgramStep, state: StepState) -> End | None:
    """The first end whose conditions all have held for long enough."""
    for end, watches in zip(step.ends, state.watches, strict=True):
        pairs = zip(end.conditions, watches, strict=True)
        if all(has_held(watch, state.elapsed_s, condition.for_s) for condition, watch in pairs):
            return end
    return None


def nearest(step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> Nearest:
    """The end that is expected first, told cautiously: rather too early than too late."""
    found = [_end_nearest(end.text, end.conditions, step, state, inputs, now) for end in step.ends]
    if step.target is not None and not state.regulating:
        change = _phase_change(step.target)
        found += [_end_nearest("constant voltage", (condition,), step, state, inputs, now) for condition in change]
    if step.timeout_s is not None:
        left = max(0.0, step.timeout_s - state.elapsed_s)
        found.append(Nearest(f"timeout {step.timeout_text}", left, "s", left))
    best = min(found, key=lambda item: item.eta_s, default=Nearest("", None, "", math.inf))
    if state.elapsed_s < SETTLE_S:
        return replace(best, eta_s=min(best.eta_s, CAUTIOUS_ETA_S))
    return best


def _end_nearest(
    text: str, conditions: Iterable[Condition], step: ProgramStep, state: StepState, inputs: Inputs, now: Now
) -> Nearest:
    """Of conditions that must all hold, the last to come true."""
    items = [_condition_nearest(text, condition, step, state, inputs, now) for condition in conditions]
    return max(items, key=lambda item: item.eta_s)


def _condition_nearest(text: str, condition: Condition, step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> Nearest:
    unit = SIGNALS[condition.signal].unit
    reading = signal(condition.signal, step, state, inputs, now)
    if reading is None:
        return Nearest(text, None, unit, CAUTIOUS_ETA_S)
    distance = condition.bound - reading.value if is_upward(condition.op) else reading.value - condition.bound
    return Nearest(text, max(0.0, distance), unit, max(_eta(condition, distance, state), _least_eta(condition, state)))


def _eta(condition: Condition, distance: float, state: StepState) -> float:
    if distance <= 0.0:
        return 0.0
    if condition.signal == "step_time":
        return distance
    slope = state.slopes.get(condition.signal)
    if condition.signal == "dv_dt" or slope is None or slope.span_s < SETTLE_S:
        return CAUTIOUS_ETA_S if condition.signal != "dv_dt" else math.inf
    rate = slope.per_second
    if rate is None:
        return CAUTIOUS_ETA_S
    towards = rate if is_upward(condition.op) else -rate
    return ETA_SHARE * distance / towards if towards > 0.0 else math.inf


def _least_eta(condition: Condition, state: StepState) -> float:
    """The delays that a condition must sit out even when it is true from now on."""
    if condition.signal != "current" or is_upward(condition.op):
        return 0.0
    since = state.voltage_watch.since_s
    return math.inf if since is None else max(0.0, TAPER_BLANKING_S - (state.elapsed_s - since))


def progress(step: ProgramStep, state: StepState, inputs: Inputs, now: Now) -> float:
    """How much of the step is done, 0 to 1, by its most advanced end; never goes back."""
    shares = [state.progress]
    for condition in (condition for end in step.ends if len(end.conditions) == 1 for condition in end.conditions):
        reading = signal(condition.signal, step, state, inputs, now)
        start = 0.0 if condition.signal == "step_time" else state.first.get(condition.signal)
        if reading is None or start is None or condition.bound == start:
            continue
        if condition.signal != "current" or state.voltage_watch.since_s is not None:
            shares.append((reading.value - start) / (condition.bound - start))
    return min(1.0, max(shares))
