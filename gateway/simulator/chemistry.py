"""Cell parameters per chemistry, scaled from a 25 Ah cell, and the columns that the cell model takes.

Resistances scale with 25 Ah / capacity. Sources of the numbers:

* lfp: R0 2.5 mOhm (a big prismatic cell has 2 to 4), R1 1.5 mOhm with 40 s; hysteresis 8 mV each way (10 to 30 mV wide in
  the literature); polarisation fitted so that the highest cell reaches 3.6 V at 0.2C about half an hour after 90 %, rising
  1.3 mV/s there, as measured on the hybrid testbed.
* lead_acid: R0 3 mOhm, R1 1 mOhm with 60 s (PyBaMM Full/Sulzer2019 pulse, scaled 17/25 Ah); polarisation fitted so that
  2.30 V is reached at 0.2C near 90 %; gassing 20 mA per 100 Ah at 2.23 V and 20 degC (Schiffer 2007, table 2);
  self-discharge 2 % a month.
* zinc: illustrative nickel-zinc cell.
* heat: 1001 J/(kg K) and 15 W/(m2 K) (SimSES); masses 0.7 kg (LFP 27x70x180 mm) and 1.6 kg (Cyclon BC).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_REFERENCE_AH = 25.0
_CP_J_PER_KG_K = 1001.0
_H_W_PER_M2_K = 15.0
_MONTH_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Chemistry:
    """Parameters of a 25 Ah cell."""

    nominal_V: float
    full_V: float
    """Highest voltage a charge protocol asks of a cell; converters are rated by it."""
    soc_start: float
    soc_spread: tuple[float, ...]
    """State-of-charge offsets of cells 1, 2 ... (repeated for longer strings)."""
    r0_Ohm: float
    r0_depleted: float
    r1_Ohm: float
    r1_tau_s: float
    polarisation_Ohm: float
    polarisation_full: float
    polarisation_room: float
    polarisation_tau_s: float
    hysteresis_V: float
    hysteresis_span: float
    """Fraction of the capacity over which the hysteresis turns (to 1/e)."""
    gas_A: float
    self_discharge_per_month: float
    mass_kg: float
    area_m2: float
    hard_max_V: float
    hard_min_V: float
    """Where the BMS withdraws its hard-wired enable."""


CHEMISTRY: Mapping[str, Chemistry] = MappingProxyType(
    {
        "lfp": Chemistry(
            nominal_V=3.2, full_V=3.65, soc_start=0.90, soc_spread=(0.0, 0.004, -0.004, -0.008),
            r0_Ohm=2.5e-3, r0_depleted=0.5, r1_Ohm=1.5e-3, r1_tau_s=40.0,
            polarisation_Ohm=0.37e-3, polarisation_full=1.0115, polarisation_room=0.002, polarisation_tau_s=60.0,
            hysteresis_V=8e-3, hysteresis_span=0.03, gas_A=0.0, self_discharge_per_month=0.003,
            mass_kg=0.7, area_m2=0.04, hard_max_V=3.80, hard_min_V=2.20,
        ),
        "lead_acid": Chemistry(
            nominal_V=2.0, full_V=2.50, soc_start=0.80, soc_spread=(0.0, -0.003, 0.003, 0.035, -0.002, 0.002),
            r0_Ohm=3.0e-3, r0_depleted=1.0, r1_Ohm=1.0e-3, r1_tau_s=60.0,
            polarisation_Ohm=4.8e-3, polarisation_full=0.995, polarisation_room=0.004, polarisation_tau_s=300.0,
            hysteresis_V=0.0, hysteresis_span=0.03, gas_A=5e-3, self_discharge_per_month=0.02,
            mass_kg=1.6, area_m2=0.05, hard_max_V=2.75, hard_min_V=1.55,
        ),
        "zinc": Chemistry(
            nominal_V=1.65, full_V=1.95, soc_start=0.50, soc_spread=(0.0, 0.006, -0.004, 0.01, -0.008, 0.003),
            r0_Ohm=3.5e-3, r0_depleted=0.5, r1_Ohm=2.0e-3, r1_tau_s=50.0,
            polarisation_Ohm=2.0e-3, polarisation_full=1.05, polarisation_room=0.01, polarisation_tau_s=120.0,
            hysteresis_V=5e-3, hysteresis_span=0.05, gas_A=0.0, self_discharge_per_month=0.10,
            mass_kg=0.6, area_m2=0.035, hard_max_V=2.05, hard_min_V=1.00,
        ),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CellSpec:
    """One cell of the plant, as the site and plant files describe it."""

    chemistry: str
    capacity_Ah: float
    soc: float
    r0_Ohm: float
    temperature_degC: float = 25.0
    ambient_degC: float = 25.0


@dataclass(frozen=True, slots=True)
class _Column:
    capacity_Ah: float
    soc: float
    temperature_degC: float
    ambient_degC: float
    r0_Ohm: float
    r0_depleted: float
    r0_per_K: float
    r1_Ohm: float
    r1_rate: float
    polarisation_Ohm: float
    polarisation_full: float
    polarisation_room: float
    polarisation_rate: float
    hysteresis_V: float
    hysteresis_rate: float
    hysteresis_start: float
    gas_A: float
    gas_per_V: float
    gas_per_K: float
    self_discharge_per_s: float
    soc_floor: float
    heat_capacity_J_per_K: float
    surface_W_per_K: float


def _column(spec: CellSpec) -> _Column:
    c = CHEMISTRY[spec.chemistry]
    scale = _REFERENCE_AH / spec.capacity_Ah
    return _Column(
        capacity_Ah=spec.capacity_Ah,
        soc=spec.soc,
        temperature_degC=spec.temperature_degC,
        ambient_degC=spec.ambient_degC,
        r0_Ohm=spec.r0_Ohm,
        r0_depleted=c.r0_depleted,
        r0_per_K=0.006,
        r1_Ohm=c.r1_Ohm * scale,
        r1_rate=1.0 / c.r1_tau_s,
        polarisation_Ohm=c.polarisation_Ohm * scale,
        polarisation_full=c.polarisation_full,
        polarisation_room=c.polarisation_room,
        polarisation_rate=1.0 / c.polarisation_tau_s,
        hysteresis_V=c.hysteresis_V,
        hysteresis_rate=1.0 / (spec.capacity_Ah * 3600.0 * c.hysteresis_span),
        hysteresis_start=0.0,
        gas_A=c.gas_A / scale,
        gas_per_V=11.0,
        gas_per_K=0.06,
        self_discharge_per_s=c.self_discharge_per_month / _MONTH_S,
        soc_floor=-0.29,
        heat_capacity_J_per_K=c.mass_kg / scale * _CP_J_PER_KG_K,
        surface_W_per_K=c.area_m2 * _H_W_PER_M2_K,
    )


def parameter_columns(specs: Sequence[CellSpec]) -> dict[str, NDArray[np.float64]]:
    """One array per parameter, one element per cell."""
    rows = [_column(spec) for spec in specs]
    return {f.name: np.array([getattr(row, f.name) for row in rows], dtype=np.float64) for f in fields(_Column)}
