"""What a protocol file can get wrong by itself, before any string is known.

Numbers are resolved for a stand-in pack, with the default parameters. Its cell count and capacity are not-a-number, so that
what depends on them (C-rates, voltages per cell) compares false with everything, and only what holds on any string is
reported; `checks` asks the same questions again for a real one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway.protocols import conditions
from gateway.protocols.build import Builder, Pack, TrackView, tracks
from gateway.protocols.program import Condition, Program, ProgramStep, StepKind, VoltageTarget
from gateway.units import quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.protocols import model

    Report = Callable[[str, str], None]

STAND_IN = Pack("", math.nan, math.nan)
"""A pack of which nothing is known."""


def mistakes(document: model.ProtocolFile, *, alone: bool = False) -> list[tuple[str, str]]:
    """All mistakes as (key, text); with `alone` only those that each part of the file shows by itself."""
    found: list[tuple[str, str]] = []

    def report(key: str, text: str) -> None:
        found.append((key, text))

    if bool(document.step) == bool(document.track):
        report("step", "a protocol has either steps ([[step]]) or tracks ([[track]]), and at least one")
    defaults = parameter_defaults(document, report)
    _check_track_names(document, report)
    for track in tracks(document):
        program = Builder(STAND_IN, defaults, report).program(document, track)
        if not found and not alone:
            check_program(program, track, report)
    return list(dict.fromkeys(found))


def _check_track_names(document: model.ProtocolFile, report: Report) -> None:
    for name, values in (("id", [t.id for t in document.track]), ("string", [t.string for t in document.track])):
        for index, value in enumerate(values):
            if value in values[:index]:
                report(f"track[{index}].{name}", f"two tracks have the {name} '{value}'")


def parameter_defaults(document: model.ProtocolFile, report: Report) -> dict[str, str]:
    """The default text of each parameter; a default outside its own range is reported."""
    for name, parameter in document.parameters.items():
        fault = out_of_range(name, parameter, parameter.default, capacity_Ah=STAND_IN.capacity_Ah)
        if fault is not None:
            report(f"parameters.{name}.default", fault)
    return {name: parameter.default for name, parameter in document.parameters.items()}


def out_of_range(name: str, parameter: model.Parameter, text: str, *, capacity_Ah: float) -> str | None:
    """Why this value of the parameter is refused; None when it is fine."""
    try:
        value, low, high = (
            quantity(item, parameter.unit, capacity_Ah=capacity_Ah) for item in (text, parameter.min, parameter.max)
        )
    except ValueError as error:
        return f"parameter {name}: {error}"
    if value < low or value > high:
        return f"parameter {name} = {text} is outside {parameter.min} to {parameter.max}"
    return None


def check_program(program: Program, track: TrackView, report: Report) -> None:
    """Mistakes of one track, whatever pack its numbers were resolved for."""
    _check_reachable(program, report)
    for before, step in zip((None, *program.steps[:-1]), program.steps, strict=True):
        _check_ends(step, report)
        _check_limits(program, step, report)
        _check_entry(before, step, report)
        if before is not None:
            _check_cc_to_cv(program, before, step, report)
    if not track.steps:
        report(f"{track.path}step", "there are no steps")


def _check_reachable(program: Program, report: Report) -> None:
    reached = {0}
    for index, step in enumerate(program.steps):
        if index not in reached:
            report(f"{step.path}.id", f"step '{step.id}' can never be reached: no step before it goes on to it")
        else:
            reached |= {end.then for end in step.ends} | ({step.timeout_then} if step.timeout_s is not None else set())
    for step in program.steps:
        if not step.ends and step.timeout_s is None:
            report(f"{step.path}.until", "the step has no end")


def _check_ends(step: ProgramStep, report: Report) -> None:
    for position, end in enumerate(step.ends):
        key = f"{step.path}.until[{position}]"
        for condition in end.conditions:
            fault = condition_fault(step, condition)
            if fault is not None:
                report(key, fault)
    if step.kind is StepKind.REST and step.timeout_s is None and not _ends_by_time(step):
        report(f"{step.path}.until", 'a rest needs an end by time, such as "step_time >= 30 min", or a timeout')
    if step.timeout_s == 0.0:
        report(f"{step.path}.timeout", "the timeout is zero")
    _check_redundant(step, report)


def _ends_by_time(step: ProgramStep) -> bool:
    return any(len(end.conditions) == 1 and end.conditions[0].signal == "step_time" for end in step.ends)


def condition_fault(step: ProgramStep, condition: Condition) -> str | None:
    """Why this condition makes no sense on this step; None when it does."""
    signal, upward = condition.signal, conditions.is_upward(condition.op)
    if signal in conditions.STEP_SIGNALS and (not upward or condition.bound <= 0.0):
        return f"'{condition.text}' already holds when the step starts"
    if signal == "step_time" and step.timeout_s is not None and condition.bound >= step.timeout_s:
        return f"'{condition.text}' is not before the timeout of {step.timeout_text}"
    if step.kind is StepKind.REST:
        moving = signal in {"current", "step_charge", "step_energy"}
        return f"'{condition.text}' means nothing at rest, where no current flows" if moving else None
    if signal == "current":
        return _current_fault(step, condition)
    waits_up = step.kind is not StepKind.DISCHARGE
    if signal.startswith("cell_voltage_m") and upward != waits_up:
        return f"'{condition.text}' waits the wrong way on a {step.kind.value} step"
    return None


def _current_fault(step: ProgramStep, condition: Condition) -> str | None:
    if step.target is None:
        return f"'{condition.text}' cannot end a constant-current step; a taper needs a voltage step (hold or charge_cccv)"
    if not conditions.is_upward(condition.op) and condition.bound >= step.current_A:
        return f"'{condition.text}' already holds at the current ceiling of {step.current_A:g} A"
    return None


def _check_redundant(step: ProgramStep, report: Report) -> None:
    """An end that is already implied by another one of the step, which always fires first."""
    singles = [(position, end.conditions[0]) for position, end in enumerate(step.ends) if len(end.conditions) == 1]
    for position, condition in singles:
        for other_position, other in singles:
            same = (other.signal, conditions.is_upward(other.op)) == (condition.signal, conditions.is_upward(condition.op))
            if position == other_position or not same or other.for_s > condition.for_s:
                continue
            if other.bound == condition.bound and other_position > position:
                continue
            if conditions.holds(other.op, condition.bound, other.bound):
                report(
                    f"{step.path}.until[{position}]", f"'{condition.text}' is never needed: '{other.text}' ends the step first"
                )
                break


def _check_limits(program: Program, step: ProgramStep, report: Report) -> None:
    """An end condition beyond a limit can never be reached: the limit acts first."""
    for position, end in enumerate(step.ends):
        for condition in end.conditions:
            for limit in program.limits:
                if condition.signal != limit.signal or conditions.is_upward(condition.op) != conditions.is_upward(limit.op):
                    continue
                if conditions.holds(limit.op, condition.bound, limit.bound) or condition.bound == limit.bound:
                    report(
                        f"{step.path}.until[{position}]", f"'{condition.text}' is not below the protocol's own limit {limit.text}"
                    )
    for limit in program.limits:
        if limit.key == direction_limit(step) and step.current_A > limit.bound:
            report(f"{step.path}.{current_key(step)}", f"{step.current_A:g} A is above the protocol's own limit {limit.text}")
        voltage_V = target_cell_V(step.target, program.cells)
        if limit.key == "cell_voltage_max" and voltage_V is not None and voltage_V >= limit.bound:
            report(voltage_path(step), f"{voltage_V:g} V per cell is not below the protocol's own limit {limit.text}")


def direction_limit(step: ProgramStep) -> str:
    """The key of the current limit that bounds this step."""
    return "discharge_current_max" if step.direction > 0 else "charge_current_max"


def current_key(step: ProgramStep) -> str:
    """Which key of the step carries its current."""
    return "current_max" if step.kind in {StepKind.HOLD, StepKind.FLOAT} else "at"


def voltage_path(step: ProgramStep) -> str:
    """The key of the step's voltage."""
    return f"{step.path}.{'to' if step.kind is StepKind.CHARGE_CCCV else 'at'}"


def target_cell_V(target: VoltageTarget | None, cells: float) -> float | None:
    """The voltage per cell that a step holds, on average; None where there is none, or it is known only at the entry."""
    if target is None or target.at_entry:
        return None
    return target.cell_V if target.cell_V is not None else (target.pack_V or 0.0) / cells


def _check_entry(before: ProgramStep | None, step: ProgramStep, report: Report) -> None:
    if step.target is None or not step.target.at_entry:
        return
    if before is None or before.kind not in {StepKind.CHARGE, StepKind.CHARGE_CCCV}:
        report(f"{step.path}.at", "pack_voltage_at_entry needs a charge step right before it")


def _check_cc_to_cv(program: Program, before: ProgramStep, step: ProgramStep, report: Report) -> None:
    """A constant-current end above the voltage that is held next would make the pack discharge, or end the step at once."""
    if before.kind is not StepKind.CHARGE or step.target is None:
        return
    for position, end in enumerate(before.ends):
        for condition in end.conditions:
            held_V = _held_V(condition.signal, step.target, program.cells)
            if held_V is not None and conditions.is_upward(condition.op) and condition.bound > held_V + 1e-9:
                text = f"'{condition.text}' is above the {held_V:g} V that step '{step.id}' holds next"
                report(f"{before.path}.until[{position}]", text)


def _held_V(signal: str, target: VoltageTarget, cells: float) -> float | None:
    """What a target means for a voltage signal; None where the two cannot be compared."""
    if target.at_entry:
        return None
    if target.cell_V is not None:
        return target.cell_V if signal == "cell_voltage_max" else target.pack_max_V if signal == "pack_voltage" else None
    if signal == "pack_voltage":
        return target.pack_V
    return (target.pack_V or 0.0) / cells if signal.startswith("cell_voltage_m") else None


def end_targets(step: ProgramStep) -> Iterator[tuple[str, Condition]]:
    """The upward cell-voltage conditions of a step, with their keys."""
    for position, end in enumerate(step.ends):
        for condition in end.conditions:
            if condition.signal.startswith("cell_voltage_m") and conditions.is_upward(condition.op):
                yield f"{step.path}.until[{position}]", condition
