"""Trip limits of a string: what the file gives, else the chemistry's own, and never beyond the engineering clamps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.chemistries import CHEMISTRIES
from gateway.site import StringLimits
from gateway.units import quantity, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config import model
    from gateway.config.reader import Draft
    from gateway.field.map_model import DeviceMap


@dataclass(frozen=True, slots=True)
class _Clamp:
    """One limit against its clamp: `sign` is 1 where the limit may not be above it, -1 where not below."""

    key: str
    value: float
    clamp: float
    unit: str
    sign: int = 1


def resolve(string: model.StringTable) -> StringLimits:
    """The limits in force, in SI units."""
    chemistry, limits = CHEMISTRIES[string.chemistry], string.limits

    def current(text: str | None, rate: float) -> float:
        return rate * string.capacity if text is None else quantity(text, "A", capacity_Ah=string.capacity)

    def given(value: float | None, default: float) -> float:
        return default if value is None else value

    return StringLimits(
        cell_voltage_max_V=given(limits.cell_voltage_max, chemistry.cell_voltage_max_V),
        cell_voltage_min_V=given(limits.cell_voltage_min, chemistry.cell_voltage_min_V),
        charge_current_max_A=current(limits.charge_current_max, chemistry.charge_current_max_C),
        discharge_current_max_A=current(limits.discharge_current_max, chemistry.discharge_current_max_C),
        temperature_max_degC=given(limits.temperature_max, chemistry.temperature_max_degC),
        charge_temperature_min_degC=given(limits.charge_temperature_min, chemistry.charge_temperature_min_degC),
        battery_age_max_s=limits.battery_age_max,
        converter_age_max_s=limits.converter_age_max,
    )


def check(draft: Draft, path: str, string: model.StringTable, battery_map: DeviceMap | None) -> None:
    """Note what is wrong with the limits of one string, and cells that its battery's map cannot show."""
    limits, chemistry = resolve(string), CHEMISTRIES[string.chemistry]
    for clamp in _clamps(string, limits):
        if clamp.sign * (clamp.value - clamp.clamp) > 1e-9:
            word = "above" if clamp.sign > 0 else "below"
            text = f"{shown(clamp.value, clamp.unit)} is {word} the engineering clamp of {chemistry.title},"
            draft.note(path, f"limits.{clamp.key}", f"{text} {shown(clamp.clamp, clamp.unit)}")
    if limits.cell_voltage_min_V >= limits.cell_voltage_max_V:
        text = f"{shown(limits.cell_voltage_min_V, 'V')} is not below cell_voltage_max, {shown(limits.cell_voltage_max_V, 'V')}"
        draft.note(path, "limits.cell_voltage_min", text)
    if limits.charge_temperature_min_degC >= limits.temperature_max_degC:
        low, high = shown(limits.charge_temperature_min_degC, "degC"), shown(limits.temperature_max_degC, "degC")
        draft.note(path, "limits.charge_temperature_min", f"{low} is not below temperature_max, {high}")
    if battery_map is not None and battery_map.max_cells is not None and string.cells > battery_map.max_cells:
        text = f"{string.cells} cells, but map '{battery_map.id}' of '{string.battery}' shows at most {battery_map.max_cells}"
        draft.note(path, "cells", text)


def _clamps(string: model.StringTable, limits: StringLimits) -> Iterator[_Clamp]:
    chemistry = CHEMISTRIES[string.chemistry]
    yield _Clamp("cell_voltage_max", limits.cell_voltage_max_V, chemistry.cell_voltage_max_clamp_V, "V")
    yield _Clamp("cell_voltage_min", limits.cell_voltage_min_V, chemistry.cell_voltage_min_clamp_V, "V", -1)
    yield _Clamp("temperature_max", limits.temperature_max_degC, chemistry.temperature_max_clamp_degC, "degC")
    low = chemistry.charge_temperature_min_clamp_degC
    yield _Clamp("charge_temperature_min", limits.charge_temperature_min_degC, low, "degC", -1)
    charge, discharge = chemistry.charge_current_max_C, chemistry.discharge_current_max_C
    yield _Clamp("charge_current_max", limits.charge_current_max_A, charge * string.capacity, "A")
    yield _Clamp("discharge_current_max", limits.discharge_current_max_A, discharge * string.capacity, "A")
