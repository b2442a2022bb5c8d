"""What a step wants of the converter: pure functions from the step and the measurements.

Whatever is asked for stays within the step's own current and the BMS's present limit, and the opposite direction gets
none. A voltage phase begins at the measured voltage, so that the change from constant current makes no bump.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.device_roles import ConverterMode
from gateway.protocols.program import ProgramStep, StepKind
from gateway.protocols.state import IDLE, ConverterDemand, Inputs, StepState

if TYPE_CHECKING:
    from collections.abc import Mapping

VOLTAGE_STEP_V = 0.01
"""References are rounded down to this; finer steps would be writes that no converter can follow."""
RAMP_V_PER_S = 0.01
"""How fast the reference of a pack voltage moves to its target, volts per cell and site second."""
CELL_TIME_CONSTANT_S = 8.0
"""Time constant of the loop around the highest cell, site seconds: slow against the converter's own voltage loop."""
CELL_GAIN_MAX = 0.25
"""Largest share of the error corrected per new sample: stable with one sample of delay, however fast the site clock is."""
LIMITED_SHARE = 0.97
"""From this share of the ceiling on, the current and not the voltage is what limits: the reference must not wind up."""
UNDER_V_PER_CELL = 0.02
"""The reference stays this close below the measured voltage, for a quick return."""


def ceiling_A(step: ProgramStep, ceilings: Mapping[str, float]) -> float:
    """The current the step may use now, A: its own, or less when the BMS allows less."""
    allowed = ceilings.get("discharge_limit" if step.direction > 0 else "charge_limit")
    return step.current_A if allowed is None else max(0.0, min(step.current_A, allowed))


def is_constant_current(step: ProgramStep, state: StepState) -> bool:
    """Whether the step is in a constant-current phase."""
    return step.kind in {StepKind.CHARGE, StepKind.DISCHARGE} or (step.kind is StepKind.CHARGE_CCCV and not state.regulating)


def regulate(step: ProgramStep, state: StepState, inputs: Inputs, cells: float, dt_s: float, limit_A: float) -> StepState:
    """Move a voltage step on: begin its voltage phase when it is time, then let the reference follow its target."""
    if step.target is None or (step.kind is StepKind.CHARGE_CCCV and not state.regulating and not _phase_is_over(step, inputs)):
        return state
    state = replace(state, regulating=True)
    measured = inputs.pack
    if state.reference_V is None:
        if measured is None:
            return state
        highest = step.target.pack_max_V if step.target.pack_max_V is not None else math.inf
        return replace(state, reference_V=min(measured.value, highest))
    if step.target.cell_V is not None:
        return _follow_cell(step, state, inputs, cells, dt_s, limit_A)
    target = state.target_V if state.target_V is not None else state.reference_V
    reach = RAMP_V_PER_S * cells * dt_s
    return replace(state, reference_V=state.reference_V + max(-reach, min(reach, target - state.reference_V)))


def _phase_is_over(step: ProgramStep, inputs: Inputs) -> bool:
    target, pack, cell = step.target, inputs.pack, inputs.value("cell_voltage_max")
    if target is None:
        return False
    bound = target.pack_V if target.cell_V is None else target.pack_max_V
    if pack is not None and bound is not None and pack.value >= bound:
        return True
    return target.cell_V is not None and cell is not None and cell >= target.cell_V


def _follow_cell(step: ProgramStep, state: StepState, inputs: Inputs, cells: float, dt_s: float, limit_A: float) -> StepState:
    """Trim the pack reference until the highest cell sits at its target; once per new sample."""
    cell, measured, current = inputs.get("cell_voltage_max"), inputs.pack, inputs.current
    target, reference = step.target, state.reference_V
    if target is None or target.cell_V is None or reference is None or cell is None or cell.time_ns == state.regulated_ns:
        return state
    error = target.cell_V - cell.value
    limited = current is not None and current.value * step.direction >= LIMITED_SHARE * limit_A
    if error < 0.0 or not limited:
        reference += cells * error * min(dt_s / CELL_TIME_CONSTANT_S, CELL_GAIN_MAX)
    if measured is not None:
        reference = max(reference, measured.value - UNDER_V_PER_CELL * cells)
    highest = target.pack_max_V if target.pack_max_V is not None else math.inf
    return replace(state, reference_V=min(reference, highest), regulated_ns=cell.time_ns)


def demand(step: ProgramStep, state: StepState, current_A: float) -> ConverterDemand:
    """What the step wants now, with `current_A` as the ceiling in force."""
    charge_A, discharge_A = (0.0, current_A) if step.direction > 0 else (current_A, 0.0)
    if not step.is_controlled:
        return IDLE
    if is_constant_current(step, state):
        signed = step.direction * current_A
        return ConverterDemand(ConverterMode.CURRENT, True, signed, None, charge_A, discharge_A)
    if state.reference_V is None:
        return IDLE
    reference = math.floor(state.reference_V / VOLTAGE_STEP_V + 1e-6) * VOLTAGE_STEP_V
    return ConverterDemand(ConverterMode.VOLTAGE, True, 0.0, round(reference, 6), charge_A, discharge_A)
