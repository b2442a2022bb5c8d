"""A pack and its converter, just good enough to run charge protocols: not the simulator, and not made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gateway.device_roles import ConverterMode
from gateway.protocols.state import ConverterDemand, Inputs, Reading


@dataclass
class PackModel:
    """Cells in series: voltage = rest voltage + resistance + polarisation that grows towards full (first order, lagging)."""

    cells: int
    capacity_Ah: float
    rest_V: float
    """At half charge."""
    slope_V: float
    """Rise of the rest voltage from empty to full."""
    steep_V: float
    """Polarisation at full at 0.2C."""
    soc: float
    resistance_ohm: float = 0.0035
    high_cell: float = 0.0
    """How much fuller the last cell is, as a fraction."""
    lag_s: float = 60.0
    temperature_degC: float = 25.0
    current_A: float = 0.0
    lagging: list[float] = field(default_factory=list)
    time_s: float = 0.0
    max_V: float = 0.0
    mode: ConverterMode = ConverterMode.OFF
    limited: bool = False

    def __post_init__(self) -> None:
        self.lagging = [0.0] * self.cells

    def _cell_soc(self, cell: int) -> float:
        return self.soc + (self.high_cell if cell == self.cells - 1 else 0.0)

    def _rest(self, cell: int) -> float:
        return self.rest_V + self.slope_V * (self._cell_soc(cell) - 0.5)

    def _polarisation(self, cell: int, current_A: float) -> float:
        full = max(0.0, self._cell_soc(cell))
        return self.steep_V * (-current_A / (0.2 * self.capacity_Ah)) * math.exp((min(full, 1.05) - 1.0) / 0.04)

    def cell_V(self, cell: int) -> float:
        return self._rest(cell) - self.current_A * self.resistance_ohm + self.lagging[cell]

    @property
    def voltages(self) -> list[float]:
        return [self.cell_V(cell) for cell in range(self.cells)]

    @property
    def pack_V(self) -> float:
        return sum(self.voltages)

    def step(self, demand: ConverterDemand, dt_s: float) -> None:
        """Let `dt_s` site seconds pass with the converter doing as it is told."""
        self.mode = demand.mode if demand.enable else ConverterMode.OFF
        self.current_A = self._converter(demand)
        self.soc -= self.current_A * dt_s / 3600.0 / self.capacity_Ah
        follow = 1.0 - math.exp(-dt_s / self.lag_s)
        for cell in range(self.cells):
            self.lagging[cell] += follow * (self._polarisation(cell, self.current_A) - self.lagging[cell])
        self.time_s += dt_s
        self.max_V = max(self.max_V, *self.voltages)

    def _converter(self, demand: ConverterDemand) -> float:
        self.limited = False
        if not demand.enable:
            return 0.0
        if demand.mode is ConverterMode.CURRENT:
            return demand.current_A
        if demand.mode is not ConverterMode.VOLTAGE or demand.voltage_V is None:
            return 0.0
        open_V = sum(self._rest(cell) + self.lagging[cell] for cell in range(self.cells))
        wanted = (open_V - demand.voltage_V) / (self.resistance_ohm * self.cells)
        allowed = min(demand.discharge_limit_A, max(-demand.charge_limit_A, wanted))
        self.limited = allowed != wanted and allowed != 0.0
        return allowed

    def inputs(self) -> Inputs:
        """What BMS and converter report, with the resolution of the real ones."""
        now_ns = round(self.time_s * 1e9) + 1
        cells = [round(value, 4) for value in self.voltages]
        values = {
            "cell_voltage_max": max(cells),
            "cell_voltage_min": min(cells),
            "cell_voltage_mean": sum(cells) / len(cells),
            "cell_voltage_spread": max(cells) - min(cells),
            "pack_voltage": round(self.pack_V, 1),
            "converter_voltage": round(self.pack_V, 2),
            "converter_current": round(self.current_A, 2),
            "battery_current": round(self.current_A, 1),
            "temperature_max": self.temperature_degC,
            "temperature_min": self.temperature_degC,
            "soc": round(self.soc * 200.0) / 2.0,
        }
        readings = {name: Reading(value, now_ns) for name, value in values.items()}
        return Inputs(readings, voltage_mode=self.mode is ConverterMode.VOLTAGE, foreign_limiter=self.limited)


def lfp(soc: float = 0.9) -> PackModel:
    return PackModel(cells=4, capacity_Ah=25.0, rest_V=3.32, slope_V=0.04, steep_V=0.35, soc=soc, high_cell=0.01)


def lead_acid(soc: float = 0.8) -> PackModel:
    return PackModel(cells=6, capacity_Ah=25.0, rest_V=2.07, slope_V=0.19, steep_V=0.5, soc=soc, high_cell=0.03, lag_s=300.0)


def zinc(soc: float = 0.8) -> PackModel:
    return PackModel(cells=8, capacity_Ah=25.0, rest_V=1.70, slope_V=0.1, steep_V=0.3, soc=soc, high_cell=0.01)
