"""A protocol turned into numbers for one string: what the engine runs.

Magnitudes are positive; `direction` is +1 for discharge and -1 for charge, as everywhere inside. Times are site seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

END = -1
"""A jump target: the track is complete."""
ABORT = -2
"""A jump target: the track is aborted."""


class StepKind(StrEnum):
    """What a step does; `do` in the file."""

    CHARGE = "charge"
    DISCHARGE = "discharge"
    HOLD = "hold"
    FLOAT = "float"
    CHARGE_CCCV = "charge_cccv"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Condition:
    """`signal op bound`, in the signal's unit, to hold for `for_s` site seconds."""

    signal: str
    op: str
    bound: float
    text: str
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """One way for a step to end: all conditions hold at once; then `then`, a step index, END or ABORT."""

    conditions: tuple[Condition, ...]
    then: int
    text: str


@dataclass(frozen=True, slots=True)
class VoltageTarget:
    """What a voltage step holds.

    `pack_V` is None when the voltage is captured at the entry, or when `cell_V`, the highest cell, is regulated; the pack
    never gets more than `pack_max_V`.
    """

    pack_V: float | None
    cell_V: float | None
    pack_max_V: float | None

    @property
    def at_entry(self) -> bool:
        """True when the voltage is the one measured when the step before ended."""
        return self.pack_V is None and self.cell_V is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStep:
    """One step, resolved. `timeout_s` is None where none applies; `current_A` is 0 for a rest."""

    id: str
    label: str
    kind: StepKind
    path: str
    direction: int
    current_A: float
    target: VoltageTarget | None
    ends: tuple[End, ...]
    timeout_s: float | None
    timeout_then: int
    timeout_text: str
    min_time_s: float

    @property
    def is_controlled(self) -> bool:
        """True for every step that moves current."""
        return self.kind is not StepKind.REST


LimitAction = Literal["abort", "pause"]


@dataclass(frozen=True, slots=True)
class ProgramLimit:
    """A safety bound: beyond it for longer than `delay_s`, the track is aborted or paused."""

    key: str
    signal: str
    op: str
    bound: float
    text: str
    delay_s: float
    action: LimitAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The steps of one string."""

    track: str
    string: str
    cells: float
    capacity_Ah: float
    steps: tuple[ProgramStep, ...]
    limits: tuple[ProgramLimit, ...]
    data_age_max_s: float
    finally_rest_s: float
    on_interlock: LimitAction


@dataclass(frozen=True, slots=True)
class LimitRule:
    """What a key of `[limits]` bounds. `beyond` is the comparison that is true when the bound is passed."""

    signal: str
    beyond: str
    unit: str


LIMIT_RULES: dict[str, LimitRule] = {
    "cell_voltage_max": LimitRule("cell_voltage_max", ">", "V"),
    "cell_voltage_min": LimitRule("cell_voltage_min", "<", "V"),
    "cell_voltage_spread_max": LimitRule("cell_voltage_spread", ">", "V"),
    "pack_voltage_max": LimitRule("pack_voltage", ">", "V"),
    "pack_voltage_min": LimitRule("pack_voltage", "<", "V"),
    "charge_current_max": LimitRule("charge_current", ">", "A"),
    "discharge_current_max": LimitRule("discharge_current", ">", "A"),
    "temperature_max": LimitRule("temperature_max", ">", "degC"),
    "temperature_min": LimitRule("temperature_min", "<", "degC"),
    "duration_max": LimitRule("run_time", ">", "s"),
}
