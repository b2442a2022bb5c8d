"""The whole plant: strings of cells, their converters, the bus and the supply, advanced together in plant time.

A step is as long as the physics allows: parts of a second while everything is settled, tens of microseconds while the bus
floats. The cells are advanced with the mean current of the steps in between, at least every `CELL_STEP_S`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gateway.simulator.cells import Cells
from gateway.simulator.chemistry import CHEMISTRY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gateway.simulator.bus import Bus
    from gateway.simulator.chemistry import CellSpec
    from gateway.simulator.converter import Converter

CELL_STEP_S = 0.6
_FINE_STEPS = 600
"""Fine steps per call before the plant gives up resolution to keep up with time."""
_PHASES_KEPT = 64


@dataclass(frozen=True, slots=True)
class StringSpec:
    """One string: its cells, and its converter; None when it sits on the bus directly."""

    id: str
    chemistry: str
    cells: tuple[CellSpec, ...]
    converter: Converter | None
    joint_Ohm: float = 0.0
    """Resistance between the cells (links, tabs), outside the cell voltages."""


@dataclass(slots=True)
class Phase:
    """The true extremes of a string while its converter was in one mode with one direction of current."""

    mode: int
    direction: int
    from_s: float
    cell_max_V: float = -math.inf
    cell_min_V: float = math.inf
    current_min_A: float = math.inf
    current_max_A: float = -math.inf


@dataclass(slots=True)
class StringState:
    """A string as it runs."""

    spec: StringSpec
    first: int
    count: int
    current_A: float = 0.0
    emf_V: float = 0.0
    resistance_Ohm: float = 0.01
    contactor_closed: bool = True
    forced_open: bool = False
    """A fault has disconnected it, whatever its contactor does."""
    bms_enable_forced_off: bool = False
    charge_As: float = 0.0
    phases: list[Phase] = field(default_factory=list[Phase])

    @property
    def connected(self) -> bool:
        """Current can flow to its converter, or to the bus."""
        return self.contactor_closed and not self.forced_open

    @property
    def cells(self) -> slice:
        """Where its cells are in the columns."""
        return slice(self.first, self.first + self.count)


class Plant:
    """Strings on one DC bus. `site_s` is the plant's own time, seconds from its start."""

    def __init__(self, strings: Sequence[StringSpec], bus: Bus) -> None:
        self.bus = bus
        self.site_s = 0.0
        self.strings: list[StringState] = []
        first = 0
        for spec in strings:
            self.strings.append(StringState(spec, first, len(spec.cells)))
            first += len(spec.cells)
        self.cells = Cells([cell for spec in strings for cell in spec.cells])
        self._starts = np.array([string.first for string in self.strings], dtype=np.int64)
        self._owner = np.repeat(np.arange(len(self.strings)), [string.count for string in self.strings])
        self._hard_max = np.array([CHEMISTRY[spec.chemistry].hard_max_V for spec in strings])
        self._hard_min = np.array([CHEMISTRY[spec.chemistry].hard_min_V for spec in strings])
        self._direct = [string for string in self.strings if string.spec.converter is None]
        self._driven = [(string, string.spec.converter) for string in self.strings if string.spec.converter is not None]
        self.voltage: NDArray[np.float64] = self.cells.emf.copy()
        self.cell_max_V = self.voltage.copy()
        self.cell_min_V = self.voltage.copy()
        self._refresh_sources()

    def string(self, string_id: str) -> StringState:
        """The string of that id; KeyError when there is none."""
        for string in self.strings:
            if string.spec.id == string_id:
                return string
        raise KeyError(string_id)

    def watch(self, real_s: float) -> None:
        """Communication time-outs and watchdogs, in real time."""
        for _, converter in self._driven:
            converter.watch(real_s)
        self.bus.supply.watch(real_s)

    def advance(self, plant_s: float) -> None:
        """Let `plant_s` seconds of plant time pass."""
        left, fine = plant_s, 0
        since_cells = 0.0
        while left > 1e-12:
            step = min(left, CELL_STEP_S - since_cells)
            if fine < _FINE_STEPS:
                bound = self.bus.step_limit(self._power_W(), battery=bool(self._conductance()[0]))
                fine += bound < step
                step = min(step, bound)
            self._electrical(step)
            left -= step
            since_cells += step
            if since_cells >= CELL_STEP_S - 1e-9 or left <= 1e-12:
                self._advance_cells(since_cells)
                since_cells = 0.0
        self.site_s += plant_s

    def _power_W(self) -> float:
        return sum(converter.measured.bus_W for _, converter in self._driven)

    def _conductance(self) -> tuple[float, float]:
        """Conductance and short-circuit current of the batteries that sit on the bus."""
        conductance = source = 0.0
        for string in self._direct:
            if string.connected:
                conductance += 1.0 / string.resistance_Ohm
                source += string.emf_V / string.resistance_Ohm
        return conductance, source

    def _electrical(self, step_s: float) -> None:
        bus_V = self.bus.voltage_V
        for string, converter in self._driven:
            if string.connected:
                converter.advance(step_s, string.emf_V, string.resistance_Ohm, bus_V)
            else:
                converter.current_A = 0.0
                converter.advance(step_s, 0.0, 1e3, bus_V)
            string.current_A = converter.current_A
            string.charge_As += converter.mean_A * step_s
        conductance, source = self._conductance()
        self.bus.advance(step_s, self._power_W(), conductance, source)
        for string in self._direct:
            string.current_A = (string.emf_V - self.bus.voltage_V) / string.resistance_Ohm if string.connected else 0.0
            string.charge_As += string.current_A * step_s

    def _advance_cells(self, elapsed_s: float) -> None:
        mean = np.array([string.charge_As / elapsed_s for string in self.strings])
        now = np.array([string.current_A for string in self.strings])
        for string in self.strings:
            string.charge_As = 0.0
        self.cells.advance(elapsed_s, mean[self._owner])
        self.voltage = self.cells.voltages_at(now[self._owner])
        np.maximum(self.cell_max_V, self.voltage, out=self.cell_max_V)
        np.minimum(self.cell_min_V, self.voltage, out=self.cell_min_V)
        self._refresh_sources()
        self._track()

    def _refresh_sources(self) -> None:
        short = 1.0 + self.cells.resistance * self.cells.short_S
        emf = np.add.reduceat(self.cells.emf / short, self._starts).tolist()
        resistance = np.add.reduceat(self.cells.resistance / short, self._starts).tolist()
        for string, volts, ohms in zip(self.strings, emf, resistance, strict=True):
            string.emf_V = volts
            string.resistance_Ohm = ohms + string.spec.joint_Ohm

    def _track(self) -> None:
        highest = np.maximum.reduceat(self.voltage, self._starts)
        lowest = np.minimum.reduceat(self.voltage, self._starts)
        enabled = ((highest < self._hard_max) & (lowest > self._hard_min)).tolist()
        rows = zip(self.strings, highest.tolist(), lowest.tolist(), enabled, strict=True)
        for string, high, low, allowed in rows:
            converter = string.spec.converter
            if converter is not None:
                converter.bms_enable = allowed and not string.bms_enable_forced_off
            self._phase(string, high, low)

    def _phase(self, string: StringState, high: float, low: float) -> None:
        converter = string.spec.converter
        mode = 0 if converter is None else (converter.setpoints.mode if converter.armed else 0)
        direction = 0 if abs(string.current_A) < 0.02 else int(math.copysign(1, string.current_A))
        phases = string.phases
        if not phases or (phases[-1].mode, phases[-1].direction) != (mode, direction):
            phases.append(Phase(mode, direction, self.site_s))
            del phases[:-_PHASES_KEPT]
        last = phases[-1]
        last.cell_max_V = max(last.cell_max_V, high)
        last.cell_min_V = min(last.cell_min_V, low)
        last.current_max_A = max(last.current_max_A, string.current_A)
        last.current_min_A = min(last.current_min_A, string.current_A)

    def reset_extremes(self) -> None:
        """Forget the extremes of the cells; they start again from the present voltages."""
        self.cell_max_V = self.voltage.copy()
        self.cell_min_V = self.voltage.copy()
        for string in self.strings:
            string.phases.clear()
