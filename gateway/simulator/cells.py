"""Battery cells as physics: every cell of the plant in one set of columns, so that a large plant costs little more.

Terminal voltage = open circuit + hysteresis + charge polarisation - RC overvoltage - I x R0, I positive in discharge.

* Charge polarisation grows towards full, `k I s / (Cc - s)` with a lag, the form of J. Schiffer et al., J. Power Sources 168
  (2007) 66-78, eq. 3 to 5 (rho M / Cn = k). It relaxes after the charge, which is why a full cell rests low.
* Gassing (lead-acid): `I0 exp(cu (V - 2.23 V) + cT (T - 20 degC))`, same source, eq. 12 (11 per V, 0.06 per K); it is
  subtracted from the stored charge.
* R0 doubles below 20 % state of charge (lead-acid). Self-discharge is a fraction of the capacity per month.

The time constants and resistances are those of `chemistry.py`. Knows no string, converter or wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gateway.simulator.chemistry import parameter_columns
from gateway.simulator.ocv import CHEMISTRIES, OpenCircuit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gateway.simulator.chemistry import CellSpec

    Column = NDArray[np.float64]

_S_PER_H = 3600.0
_GAS_REFERENCE_V = 2.23
_GAS_REFERENCE_DEGC = 20.0
_EXPONENT_MAX = 20.0
_DEPLETED_FROM = 0.2
_DEPLETED_TO = 0.1


class Cells:
    """The state of all cells. Currents are per cell, A, positive in discharge; times are seconds of plant time."""

    def __init__(self, specs: Sequence[CellSpec]) -> None:
        p = parameter_columns(specs)
        self.capacity_Ah: Column = p["capacity_Ah"]
        self.r0: Column = p["r0_Ohm"]
        self.soc: Column = p["soc"].copy()
        self.temperature: Column = p["temperature_degC"].copy()
        self.ambient: Column = p["ambient_degC"]
        self.short_S: Column = np.zeros(len(specs))
        self.heater_degC: Column = np.full(len(specs), np.nan)
        self._p = p
        self._ocv = OpenCircuit(np.array([CHEMISTRIES.index(spec.chemistry) for spec in specs]))
        self._hysteresis: Column = p["hysteresis_start"].copy()
        self._rc: Column = np.zeros(len(specs))
        self._polarisation: Column = np.zeros(len(specs))
        self.emf: Column = np.zeros(len(specs))
        self.resistance: Column = self.r0.copy()
        self._refresh()
        self.voltage: Column = self.emf.copy()

    def _refresh(self) -> None:
        p = self._p
        self.emf = self._ocv(self.soc) + p["hysteresis_V"] * self._hysteresis + self._polarisation - self._rc
        depleted = np.clip((_DEPLETED_FROM - self.soc) / (_DEPLETED_FROM - _DEPLETED_TO), 0.0, 1.0)
        warm = 1.0 - p["r0_per_K"] * np.clip(self.temperature - 25.0, -40.0, 40.0)
        self.resistance = self.r0 * (1.0 + p["r0_depleted"] * depleted) * warm

    def voltages_at(self, current: Column) -> Column:
        """Terminal voltages now at `current`; the source behind a short inside a cell sees both currents."""
        return (self.emf - current * self.resistance) / (1.0 + self.resistance * self.short_S)

    def advance(self, step_s: float, mean_current: Column) -> None:
        """Let `step_s` pass at a constant current; afterwards `emf` and `resistance` are those of the new state."""
        p = self._p
        voltage = self.voltages_at(mean_current)
        current = mean_current + voltage * self.short_S
        charging = np.maximum(-current, 0.0)
        exponent = np.minimum(
            p["gas_per_V"] * (voltage - _GAS_REFERENCE_V) + p["gas_per_K"] * (self.temperature - _GAS_REFERENCE_DEGC),
            _EXPONENT_MAX,
        )
        gassing = np.minimum(p["gas_A"] * np.exp(exponent), charging)
        stored = current + gassing
        self.soc -= step_s * (stored / (_S_PER_H * self.capacity_Ah) + p["self_discharge_per_s"])
        np.maximum(self.soc, p["soc_floor"], out=self.soc)
        self._rc += (p["r1_Ohm"] * current - self._rc) * -np.expm1(-step_s * p["r1_rate"])
        self._polarise(step_s, charging - gassing)
        moved = -np.expm1(-step_s * np.abs(current) * p["hysteresis_rate"])
        self._hysteresis += (-np.sign(current) - self._hysteresis) * moved
        self._warm(step_s, current, voltage, charging, gassing)
        self._refresh()

    def _polarise(self, step_s: float, charging: Column) -> None:
        p = self._p
        room = np.maximum(p["polarisation_full"] - self.soc, p["polarisation_room"])
        target = p["polarisation_Ohm"] * charging * np.maximum(self.soc, 0.0) / room
        self._polarisation += (target - self._polarisation) * -np.expm1(-step_s * p["polarisation_rate"])

    def _warm(self, step_s: float, current: Column, voltage: Column, charging: Column, gassing: Column) -> None:
        p = self._p
        heat_W = current * current * self.resistance + current * self._rc + charging * self._polarisation
        heat_W += gassing * voltage + voltage * voltage * self.short_S
        loss_W = p["surface_W_per_K"] * (self.temperature - self.ambient)
        self.temperature += step_s * (heat_W - loss_W) / p["heat_capacity_J_per_K"]
        heated = ~np.isnan(self.heater_degC)
        if heated.any():
            gap = np.where(heated, self.heater_degC - self.temperature, 0.0)
            self.temperature += np.clip(gap, -_HEATER_K_PER_S * step_s, _HEATER_K_PER_S * step_s)


_HEATER_K_PER_S = 5.0
"""How fast the heater of a fault test moves a cell's temperature."""
