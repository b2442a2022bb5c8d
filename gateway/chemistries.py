"""What is built in about each cell chemistry: default trip limits, and the engineering clamps that no site may exceed.

All voltages are per cell at 25 degC. The defaults apply where a site file is silent; a site may set its own limit anywhere
inside the clamps, a charge protocol can only be tighter than its site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.site import Chemistry

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ChemistrySpec:
    """Numbers of one chemistry.

    `*_clamp_*` bound what a site may set as its trip limit. `target_margin_V` is the smallest distance that a charge
    target keeps below the over-voltage trip. Currents are per hour of rated capacity (1.0 is 1C).
    """

    title: str
    nominal_voltage_V: float
    cell_voltage_max_V: float
    cell_voltage_max_clamp_V: float
    cell_voltage_min_V: float
    cell_voltage_min_clamp_V: float
    target_margin_V: float
    temperature_max_degC: float
    temperature_max_clamp_degC: float
    charge_temperature_min_degC: float
    charge_temperature_min_clamp_degC: float
    charge_current_max_C: float
    discharge_current_max_C: float
    source: str


CHEMISTRIES: Mapping[Chemistry, ChemistrySpec] = {
    Chemistry.LFP: ChemistrySpec(
        title="lithium iron phosphate",
        nominal_voltage_V=3.2,
        cell_voltage_max_V=3.65,
        cell_voltage_max_clamp_V=3.70,
        cell_voltage_min_V=2.50,
        cell_voltage_min_clamp_V=2.00,
        target_margin_V=0.030,
        temperature_max_degC=55.0,
        temperature_max_clamp_degC=60.0,
        charge_temperature_min_degC=0.0,
        charge_temperature_min_clamp_degC=0.0,
        charge_current_max_C=1.0,
        discharge_current_max_C=3.0,
        source="Power Sonic 25 Ah cell: 1C to 3.65 V, 3C discharge, cut-off 2.0 to 2.5 V, charge 0 to 45 degC, discharge "
        "to 60 degC; upper clamp our own choice, 50 mV above the maker's charge voltage",
    ),
    Chemistry.LEAD_ACID: ChemistrySpec(
        title="lead-acid, valve regulated",
        nominal_voltage_V=2.0,
        cell_voltage_max_V=2.60,
        cell_voltage_max_clamp_V=2.65,
        cell_voltage_min_V=1.70,
        cell_voltage_min_clamp_V=1.60,
        target_margin_V=0.050,
        temperature_max_degC=50.0,
        temperature_max_clamp_degC=60.0,
        charge_temperature_min_degC=-10.0,
        charge_temperature_min_clamp_degC=-20.0,
        charge_current_max_C=1.0,
        discharge_current_max_C=3.0,
        source="EnerSys Cyclon 25 Ah cell: fast charge 2.45 to 2.50 V, float 2.27 to 2.35 V; clamps, temperatures and "
        "currents our own choice, inside the maker's -65 to +80 degC",
    ),
    Chemistry.ZINC: ChemistrySpec(
        title="nickel-zinc",
        nominal_voltage_V=1.65,
        cell_voltage_max_V=2.00,
        cell_voltage_max_clamp_V=2.05,
        cell_voltage_min_V=1.20,
        cell_voltage_min_clamp_V=1.00,
        target_margin_V=0.030,
        temperature_max_degC=50.0,
        temperature_max_clamp_degC=60.0,
        charge_temperature_min_degC=0.0,
        charge_temperature_min_clamp_degC=-10.0,
        charge_current_max_C=1.0,
        discharge_current_max_C=2.0,
        source="our own choice after the usual NiZn practice of charging to 1.9 V and discharging to 1.3 V per cell; to be "
        "replaced by the maker's figures in the site file",
    ),
}
"""The built-in numbers. A maker's data sheet, entered in the site file, goes before them within the clamps."""
