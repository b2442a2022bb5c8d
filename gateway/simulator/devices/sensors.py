"""Measurements of a battery as its BMS takes them: truth, sensor noise, sensor faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.simulator.chemistry import CHEMISTRY

if TYPE_CHECKING:
    import random

    from gateway.simulator.faults import DeviceFaults
    from gateway.simulator.plant import Plant, StringState

_CELL_NOISE_V = 3e-5
_CURRENT_NOISE_A = 0.02


@dataclass(slots=True)
class BatterySensors:
    """What one BMS measures on its string. `sign` is -1 where the current sensor is mounted the other way round."""

    plant: Plant
    string: StringState
    faults: DeviceFaults
    random: random.Random
    sign: float = 1.0

    def cell_voltages(self) -> list[float]:
        """Volts, cell 1 first."""
        true = self.plant.voltage[self.string.cells].tolist()
        noisy = [volts + self.random.gauss(0.0, _CELL_NOISE_V) for volts in true]
        for cell, offset in self.faults.cell_offset_V.items():
            noisy[cell - 1] += offset
        for cell in self.faults.open_wires:
            noisy[cell - 1] = 0.0
        return [max(0.0, volts) for volts in noisy]

    def pack_voltage(self) -> float:
        """Volts at the pack's terminals."""
        return float(self.plant.voltage[self.string.cells].sum()) - self.string.current_A * self.string.spec.joint_Ohm

    def current(self) -> float:
        """Amperes, positive in discharge unless the sensor is mounted the other way round."""
        return self.sign * (self.string.current_A + self.faults.current_offset + self.random.gauss(0.0, _CURRENT_NOISE_A))

    def temperatures(self) -> list[float]:
        """Degrees Celsius, one sensor per cell."""
        return self.plant.cells.temperature[self.string.cells].tolist()

    def soc(self) -> float:
        """State of charge, 0 to 1."""
        return min(1.0, max(0.0, float(self.plant.cells.soc[self.string.cells].mean())))

    def capacity_Ah(self) -> float:
        """Rated capacity."""
        return self.string.spec.cells[0].capacity_Ah

    def current_limits(self) -> tuple[float, float]:
        """Charge and discharge current that the BMS allows, A: 1C, nothing once a cell is beyond its hard limit."""
        chemistry = CHEMISTRY[self.string.spec.chemistry]
        cells = self.cell_voltages()
        rated = self.capacity_Ah()
        return (
            rated if max(cells) < chemistry.hard_max_V else 0.0,
            rated if min(cells) > chemistry.hard_min_V else 0.0,
        )

    def trouble_codes(self) -> list[int]:
        """Active diagnostic trouble codes as two-byte numbers (P0A04 is 0x0A04)."""
        chemistry = CHEMISTRY[self.string.spec.chemistry]
        true = self.plant.voltage[self.string.cells]
        codes: list[int] = []
        if self.faults.open_wires:
            codes.append(0x0A04)
        if float(true.max()) > chemistry.hard_max_V:
            codes.append(0x0A0C)
        if float(true.min()) < chemistry.hard_min_V:
            codes.append(0x0A0E)
        return codes
