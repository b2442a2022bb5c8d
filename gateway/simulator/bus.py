"""The DC bus: capacitance, supply, converters and batteries that sit on it directly.

Held by a supply in voltage regulation or by a battery, its voltage is algebraic. Floating (supply off or in current limit,
no battery), the energy in the capacitance integrates the net power, in steps short enough for the converters' own bus trips:
2 mF with 130 W rise from 24 V to 28 V in 1.6 ms. Switching the supply on makes a damped oscillation with an overshoot of
about 15 %, the transient that halts converters. Time is plant time, seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gateway.simulator.supply import Regulation, Supply

CAPACITANCE_F = 2e-3
BLEEDER_OHM = 470.0
_START_RAD_PER_S = 2.0 * math.pi * 100.0
_START_DAMPING = 0.52
_START_STEP_S = 2e-4
_START_SETTLED_V = 0.005
_FLOAT_STEP_V = 0.1
_FLOAT_STEP_MIN_S = 2e-5
_FLOAT_STEP_MAX_S = 5e-3
_NEGLIGIBLE_W = 1e-6


@dataclass(slots=True)
class Bus:
    """Voltage of the bus, and the supply that feeds it."""

    supply: Supply = field(default_factory=Supply)
    voltage_V: float = 0.0
    _rate_V_per_s: float = 0.0

    def step_limit(self, power_W: float, *, battery: bool) -> float:
        """Longest step that follows the bus faithfully when `power_W` flows into it; inf when nothing moves."""
        if self.supply.regulation is Regulation.STARTING:
            return _START_STEP_S
        if self.supply.energised and self.supply.regulation is Regulation.OFF:
            return _FLOAT_STEP_MAX_S
        if battery or self._held(power_W):
            return math.inf
        net_W = abs(power_W + self.supply.current_A * self.voltage_V)
        if net_W < _NEGLIGIBLE_W:
            return math.inf
        fast = _FLOAT_STEP_V * CAPACITANCE_F * max(self.voltage_V, 2.0) / net_W
        return min(_FLOAT_STEP_MAX_S, max(_FLOAT_STEP_MIN_S, fast))

    def _held(self, power_W: float) -> bool:
        supply = self.supply
        if supply.regulation is not Regulation.VOLTAGE or not supply.energised or self.voltage_V < 1.0:
            return False
        needed_A = -power_W / self.voltage_V
        return supply.settings.sink_limit_A <= needed_A <= supply.settings.source_limit_A

    def advance(self, step_s: float, power_W: float, conductance_S: float, source_A: float) -> None:
        """Let time pass with `power_W` from the converters and batteries of `conductance_S` (short-circuit `source_A`)."""
        supply = self.supply
        started = supply.advance(step_s, self.voltage_V)
        if started:  # this step may be long; the transient begins with the next, which is short
            self._rate_V_per_s = 0.0
            return
        if conductance_S > 0.0:
            self._with_battery(power_W, conductance_S, source_A)
        elif supply.regulation is Regulation.OFF:
            self._float(step_s, power_W, 0.0)
        elif supply.regulation is Regulation.STARTING:
            self._start(step_s, power_W)
        else:
            self._regulated(step_s, power_W)
        supply.protect(self.voltage_V)

    def _float(self, step_s: float, power_W: float, current_A: float) -> None:
        decay = math.exp(-2.0 * step_s / (BLEEDER_OHM * CAPACITANCE_F))
        energy_J = 0.5 * CAPACITANCE_F * self.voltage_V**2 * decay
        energy_J += (power_W + current_A * max(self.voltage_V, 0.5)) * step_s
        self.voltage_V = math.sqrt(max(0.0, 2.0 * energy_J / CAPACITANCE_F))

    def _start(self, step_s: float, power_W: float) -> None:
        supply = self.supply
        if step_s > 2 * _START_STEP_S:  # the plant gave up resolution
            self.voltage_V, self._rate_V_per_s = supply.settings.voltage_V, 0.0
            supply.reference_V, supply.regulation = self.voltage_V, Regulation.VOLTAGE
            return
        gap_V = supply.reference_V - self.voltage_V
        acceleration = _START_RAD_PER_S**2 * gap_V - 2.0 * _START_DAMPING * _START_RAD_PER_S * self._rate_V_per_s
        self._rate_V_per_s += acceleration * step_s
        self.voltage_V = max(0.0, self.voltage_V + self._rate_V_per_s * step_s)
        supply.current_A = CAPACITANCE_F * self._rate_V_per_s - power_W / max(self.voltage_V, 1.0)
        at_target = abs(supply.reference_V - supply.settings.voltage_V) < _START_SETTLED_V
        slow = abs(self._rate_V_per_s) < _START_SETTLED_V * _START_RAD_PER_S
        if at_target and abs(gap_V) < _START_SETTLED_V and slow:
            supply.regulation = Regulation.VOLTAGE

    def _regulated(self, step_s: float, power_W: float) -> None:
        supply, settings = self.supply, self.supply.settings
        at_V = max(supply.reference_V, 0.5)
        needed_A = -power_W / at_V + at_V / BLEEDER_OHM
        if settings.sink_limit_A <= needed_A <= settings.source_limit_A:
            limited = self._recover(step_s, power_W)
            if not limited:
                self.voltage_V, supply.current_A = supply.reference_V, needed_A
                supply.regulation = Regulation.VOLTAGE
            return
        source = needed_A > settings.source_limit_A
        supply.regulation = Regulation.SOURCE_LIMIT if source else Regulation.SINK_LIMIT
        supply.current_A = settings.source_limit_A if source else settings.sink_limit_A
        self._float(step_s, power_W, supply.current_A)

    def _recover(self, step_s: float, power_W: float) -> bool:
        """After a current limit the bus is away from its set value: go back at the limit. True while still away."""
        supply, settings = self.supply, self.supply.settings
        gap_V = supply.reference_V - self.voltage_V
        if supply.regulation is Regulation.VOLTAGE or abs(gap_V) < 2 * _FLOAT_STEP_V:
            return False
        supply.current_A = settings.source_limit_A if gap_V > 0.0 else settings.sink_limit_A
        self._float(step_s, power_W, supply.current_A)
        return (supply.reference_V - self.voltage_V) * gap_V > 0.0

    def _with_battery(self, power_W: float, conductance_S: float, source_A: float) -> None:
        supply, settings = self.supply, self.supply.settings
        if supply.regulation is Regulation.OFF:
            supply.current_A = 0.0
            self.voltage_V = _battery_bus_V(power_W, conductance_S, source_A)
            return
        at_V = max(supply.reference_V, 0.5)
        needed_A = conductance_S * at_V - source_A - power_W / at_V
        supply.current_A = max(settings.sink_limit_A, min(settings.source_limit_A, needed_A))
        if supply.current_A == needed_A:
            self.voltage_V = at_V
            supply.regulation = Regulation.VOLTAGE
            return
        supply.regulation = Regulation.SOURCE_LIMIT if needed_A > 0.0 else Regulation.SINK_LIMIT
        self.voltage_V = _battery_bus_V(power_W, conductance_S, source_A + supply.current_A)


def _battery_bus_V(power_W: float, conductance_S: float, source_A: float) -> float:
    """Bus voltage at which G V^2 - J V - P = 0: batteries, a current and a constant power in balance."""
    root = max(0.0, source_A**2 + 4.0 * conductance_S * power_W)
    return max(0.0, (source_A + math.sqrt(root)) / (2.0 * conductance_S))
