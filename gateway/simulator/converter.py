"""Firmware of a DAB converter as the plant sees it: modes, ramps, limits, latched faults, communication time-out.

Ramps and the control loop run in plant time; the communication time-out runs in real time, as the device's own clock would.

The loop: a PI controller on the phase shift, over a stage without memory, closes to a first-order approach of the phase
shift to the root of the power equation; it is solved exactly over each step, so that any step length is stable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.simulator import dab
from gateway.simulator.converter_data import (
    NO_FAULT,
    NO_LIMIT,
    Counters,
    Electrical,
    Fault,
    Limit,
    Limits,
    Mode,
    Setpoints,
    State,
)
from gateway.simulator.limiter import Source, bounded

if TYPE_CHECKING:
    from gateway.simulator.dab import DabRating

_CURRENT_LOOP_S = 0.005
_VOLTAGE_LOOP_S = 0.030
_DEAD_BUS_V = 5.0
"""Below this a bus counts as switched off, not as under-voltage."""
_SATURATED_FOR_S = 2.0
_SETTLED_A = 0.005
_HEATSINK_K_PER_W = 3.0
_HEATSINK_TAU_S = 300.0
_BOOT_S = 0.1


@dataclass(slots=True)
class Converter:
    """One converter. `current_A` is the true battery-side current, positive in discharge."""

    rating: DabRating
    limits: Limits
    setpoints: Setpoints = field(default_factory=Setpoints)
    counters: Counters = field(default_factory=Counters)
    measured: Electrical = field(default_factory=Electrical)
    state: State = State.INIT
    live: Fault = NO_FAULT
    latched: Fault = NO_FAULT
    limiter: Limit = NO_LIMIT
    first_fault: int = 0
    origin: int = 100
    current_A: float = 0.0
    mean_A: float = 0.0
    psi_rad: float = 0.0
    reference_A: float = 0.0
    reference_V: float = 0.0
    heatsink_degC: float = 25.0
    bms_enable: bool = True
    emergency_stop: bool = False
    stuck: bool = False
    armed: bool = False
    command_result: int = 0
    _heartbeat_at: float = -math.inf
    _timed_out: bool = False
    _saturated_s: float = 0.0
    _stop_rate: float = 0.0
    _started_s: float = 0.0
    _bus_before_V: float = 0.0

    # ---- commands

    def apply(self, new: Setpoints, real_s: float) -> None:
        """Take new set values (already checked); a new heartbeat value feeds the communication time-out."""
        if new.heartbeat != self.setpoints.heartbeat:
            self._heartbeat_at = real_s
            self._timed_out = False
        if new.enable and not self.setpoints.enable:
            self._heartbeat_at = real_s
            self._timed_out = False
            self.armed = not self.latched
        if not new.enable:
            self.armed = self._timed_out = False
        entering_cv = new.mode == Mode.CV and self.setpoints.mode != Mode.CV
        self.setpoints = new
        if entering_cv:
            self.reference_V = self.measured.battery_V

    def reset(self) -> int:
        """Clear latched faults: 1 done, 2 a fault is still live, 3 not in FAULT. Never energises."""
        if self.state is not State.FAULT:
            self.command_result = 3
        elif self.live:
            self.command_result = 2
        else:
            self.latched = NO_FAULT
            self.first_fault, self.origin = 0, 100
            self.armed = False
            self.state = State.OFF
            self.counters.resets += 1
            self.command_result = 1
        return self.command_result

    def restart(self) -> None:
        """Power-up: set values zero, power stage off."""
        self.setpoints = Setpoints()
        self.armed = self._timed_out = False
        self.current_A = self.reference_A = self.psi_rad = self._started_s = 0.0
        self.live = self.latched = NO_FAULT
        self.first_fault, self.origin = 0, 100
        self.state = State.INIT
        self.counters.restarts += 1

    def time_left_s(self, real_s: float) -> float:
        """Until the communication time-out, real seconds; the whole time-out while it does not run."""
        if not self.armed:
            return self.limits.timeout_s
        return max(0.0, self.limits.timeout_s - (real_s - self._heartbeat_at))

    @property
    def running(self) -> bool:
        """The power stage switches."""
        return self.state in {State.RAMP_UP, State.RUN_CC, State.RUN_CV, State.RAMP_DOWN}

    # ---- time

    def watch(self, real_s: float) -> None:
        """The communication time-out, in real time; call it once per tick."""
        overdue = self.armed and not self._timed_out and real_s - self._heartbeat_at > self.limits.timeout_s
        if overdue and not self.stuck:
            self._timed_out = True
            self.counters.timeouts += 1
            if self.limits.timeout_action == 1 or not self.running:
                self._latch(Fault.COMMUNICATION)

    def advance(self, step_s: float, emf_V: float, resistance_Ohm: float, bus_V: float) -> None:
        """Let plant time pass. The battery is `emf_V` behind `resistance_Ohm`; the bus is held at `bus_V` meanwhile."""
        before_A = self.current_A
        if self.stuck:
            self._stuck(bus_V)
        elif self.state is State.INIT:
            self._started_s += step_s
            self.state = State.OFF if self._started_s >= _BOOT_S else State.INIT
        else:
            self._regulate(step_s, emf_V, resistance_Ohm, bus_V)
        self._measure(step_s, emf_V, resistance_Ohm, bus_V)
        if self.running or before_A:
            self._mean(step_s, before_A)
        else:
            self.mean_A = 0.0
        self._protect(step_s)

    def _mean(self, step_s: float, before_A: float) -> None:
        slew = self._slew() or math.inf
        ramp_s = min(step_s, abs(self.current_A - before_A) / slew)
        self.mean_A = (0.5 * (before_A + self.current_A) * ramp_s + self.current_A * (step_s - ramp_s)) / step_s

    def _slew(self) -> float:
        asked = self.setpoints.current_slew
        return min(asked, self.rating.current_slew_A_per_s) if asked > 0.0 else self.rating.current_slew_A_per_s

    def _stuck(self, bus_V: float) -> None:
        power = self.measured.battery_V * self.current_A
        self.psi_rad = dab.phase_rad(self.rating, power, self.measured.battery_V, bus_V)

    def _regulate(self, step_s: float, emf_V: float, resistance_Ohm: float, bus_V: float) -> None:
        self.limiter = NO_LIMIT
        wanted = self.setpoints
        if self.latched:
            self._switch_off(State.FAULT)
        elif self.armed and not self._timed_out and wanted.enable and wanted.mode in {Mode.CC, Mode.CV}:
            self._run(step_s, emf_V, resistance_Ohm, bus_V)
        elif abs(self.current_A) > _SETTLED_A:
            self._ramp_down(step_s, bus_V)
        elif self._timed_out:
            self._latch(Fault.COMMUNICATION)
        else:
            self._switch_off(State.STANDBY if wanted.mode == Mode.STANDBY else State.OFF)

    def _switch_off(self, state: State) -> None:
        self.state = state
        self.current_A = self.reference_A = self.psi_rad = self._stop_rate = self._saturated_s = 0.0

    def _ramp_down(self, step_s: float, bus_V: float) -> None:
        if self.state is not State.RAMP_DOWN:
            self.state = State.RAMP_DOWN
            self._stop_rate = abs(self.current_A) / max(self.limits.ramp_down_s, 1e-3)
        left = max(0.0, abs(self.current_A) - self._stop_rate * step_s)
        self.reference_A = self.current_A = math.copysign(left, self.current_A) if left > _SETTLED_A else 0.0
        self.psi_rad = dab.phase_rad(self.rating, self.measured.battery_V * self.current_A, self.measured.battery_V, bus_V)

    def _run(self, step_s: float, emf_V: float, resistance_Ohm: float, bus_V: float) -> None:
        cv = self.setpoints.mode == Mode.CV
        if cv:
            rate = self.setpoints.voltage_slew or self.rating.voltage_slew_V_per_s
            gap = self.setpoints.voltage_V - self.reference_V
            self.reference_V += max(-rate * step_s, min(rate * step_s, gap))
            target = (emf_V - self.reference_V) / max(resistance_Ohm, 1e-4)
        else:
            target = self.setpoints.current_A
        source = Source(emf_V, max(resistance_Ohm, 1e-4), max(self.measured.battery_V, 1.0), bus_V)
        target, acting = bounded(target, source, self.rating, self.limits, self.setpoints if cv else None, self.heatsink_degC)
        self.limiter |= acting
        reach = self._slew() * step_s
        gap = target - self.reference_A
        if abs(gap) > reach + _SETTLED_A:
            self.limiter |= Limit.SLEW
        self.reference_A += max(-reach, min(reach, gap))
        self._loop(step_s, bus_V, _VOLTAGE_LOOP_S if cv else _CURRENT_LOOP_S)
        ramping = bool(self.limiter & Limit.SLEW) and self.state not in {State.RUN_CC, State.RUN_CV}
        self.state = State.RAMP_UP if ramping else State.RUN_CV if cv else State.RUN_CC

    def _loop(self, step_s: float, bus_V: float, tau_s: float) -> None:
        battery_V = max(self.measured.battery_V, 0.1)
        root = dab.phase_rad(self.rating, self.reference_A * battery_V, battery_V, bus_V)
        bound = min(self.limits.psi_rad, dab.PSI_CLAMP_RAD)
        root = max(-bound, min(bound, root))
        self.psi_rad += (root - self.psi_rad) * -math.expm1(-step_s / tau_s)
        self.current_A = dab.power_W(self.rating, self.psi_rad, battery_V, bus_V) / battery_V

    def _measure(self, step_s: float, emf_V: float, resistance_Ohm: float, bus_V: float) -> None:
        now = self.measured
        now.battery_V = emf_V - self.current_A * resistance_Ohm
        now.bus_V = bus_V
        power = now.battery_V * self.current_A
        lost = dab.loss_W(self.rating, power) if self.running else 0.0
        now.bus_W = power - lost if bus_V > _DEAD_BUS_V else 0.0
        now.bus_A = now.bus_W / bus_V if bus_V > _DEAD_BUS_V else 0.0
        warmest = 25.0 + _HEATSINK_K_PER_W * lost
        self.heatsink_degC += (warmest - self.heatsink_degC) * -math.expm1(-step_s / _HEATSINK_TAU_S)

    # ---- protection

    def _protect(self, step_s: float) -> None:
        limits, now = self.limits, self.measured
        live = NO_FAULT
        if now.battery_V > limits.trip_battery_OV:
            live |= Fault.BATTERY_OV
        if now.battery_V < limits.trip_battery_UV:
            live |= Fault.BATTERY_UV
        if self.current_A < -limits.trip_current_A:
            live |= Fault.OC_CHARGE
        if self.current_A > limits.trip_current_A:
            live |= Fault.OC_DISCHARGE
        if abs(now.bus_A) > limits.trip_bus_current_A:
            live |= Fault.BUS_OC
        if self.heatsink_degC > limits.trip_temperature_degC:
            live |= Fault.OVER_TEMPERATURE
        live |= self._outside() | self._bus_faults() | self._saturation(step_s)
        self.live = live
        if live and self.state is not State.INIT and not self.stuck:
            self._latch(live)

    def _outside(self) -> Fault:
        live = Fault.COMMUNICATION if self._timed_out and Fault.COMMUNICATION in self.latched else NO_FAULT
        if self.emergency_stop:
            live |= Fault.EMERGENCY_STOP
        if not self.bms_enable:
            live |= Fault.BMS_ENABLE_MISSING
        return live

    def _bus_faults(self) -> Fault:
        """Bus over- and under-voltage.

        A stage that is OFF watches the lower bound on a rising bus only: a bus that is switched off on purpose decays without
        a fault, one that is switched on halts the converter.
        """
        bus_V, before_V = self.measured.bus_V, self._bus_before_V
        self._bus_before_V = bus_V
        if bus_V > self.limits.trip_bus_OV:
            return Fault.BUS_OV
        low = _DEAD_BUS_V < bus_V < self.limits.trip_bus_UV
        dead = bus_V <= _DEAD_BUS_V and self.running
        watched = self.state not in {State.OFF, State.INIT, State.FAULT} or bus_V > before_V + 1e-9
        return Fault.BUS_UV if (low and watched) or dead else NO_FAULT

    def _saturation(self, step_s: float) -> Fault:
        saturated = bool(self.limiter & Limit.PHASE)
        self._saturated_s = self._saturated_s + step_s if saturated else 0.0
        return Fault.PHASE_SATURATED if self._saturated_s > _SATURATED_FOR_S else NO_FAULT

    def _latch(self, faults: Fault) -> None:
        if not self.latched:
            self.origin = int(self.state)
            self.first_fault = (faults & -faults).bit_length()
            self.counters.trips += 1
        self.latched |= faults
        self._switch_off(State.FAULT)
        self.armed = False
        self.measured.bus_W = self.measured.bus_A = 0.0
