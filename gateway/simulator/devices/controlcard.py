"""DAB converter on a ControlCard: register map 1.0 of this project, Modbus RTU or TCP, encoded by hand.

| block | registers |
|---|---|
| identity, input 0-31 | 0 magic 0xDAB1, 1-2 order test, 3 version, 4-27 vendor, model, serial, 28-30 firmware |
| capability, input 40-55 | ratings of the power stage |
| limits and time-outs, holding 100-115 and 140-142 | adjustable; beyond the capability refused (3) |
| set values, holding 200-209 | volatile; 206 is the controller's heartbeat; 208, 209 the current limits of CV |
| commands, holding 220-223 | magic values, self-clearing; result in input 325; not allowed now: refused (6) |
| state and actual values, input 300-329 | one read is one snapshot |
| counters, input 360-368 | |

16-bit registers, u32 with the high word first, positive = discharge (battery to bus).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from gateway.simulator import modbus_wire as wire
from gateway.simulator.converter_data import Fault, Limits, Mode, Setpoints, State, factory_limits

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from gateway.simulator.converter import Converter
    from gateway.simulator.faults import DeviceFaults

_INPUT_BLOCKS = ((0, 31), (40, 55), (300, 329), (360, 368))
_HOLDING_BLOCKS = ((100, 115), (140, 142), (200, 209), (220, 223))
_NOT_FITTED_I16 = 0x8000
_VOLT_NOISE_V = 2e-3
_CURRENT_NOISE_A = 2e-3
_RESET, _STORE, _RESTART, _FACTORY = 0x5253, 0x5356, 0x5242, 0x4644

# Register -> (attribute, units per count) of Limits.
_LIMITS: dict[int, tuple[str, float]] = {
    100: ("battery_V_max", 0.01), 101: ("battery_V_min", 0.01), 102: ("bus_V_max", 0.01), 103: ("bus_V_min", 0.01),
    104: ("charge_A", 0.01), 105: ("discharge_A", 0.01), 106: ("charge_W", 0.1), 107: ("discharge_W", 0.1),
    108: ("trip_battery_OV", 0.01), 109: ("trip_battery_UV", 0.01), 110: ("trip_bus_OV", 0.01), 111: ("trip_bus_UV", 0.01),
    112: ("trip_current_A", 0.01), 113: ("trip_bus_current_A", 0.01), 114: ("trip_temperature_degC", 0.1), 115: ("psi_rad", 1e-4),
    140: ("timeout_s", 0.1), 141: ("timeout_action", 1), 142: ("ramp_down_s", 0.1),
}  # fmt: skip

# Register -> (attribute, units per count, signed) of Setpoints.
_SETPOINTS: dict[int, tuple[str, float, bool]] = {
    200: ("mode", 1, False), 201: ("current_A", 0.01, True), 202: ("voltage_V", 0.01, False), 203: ("current_slew", 0.01, False),
    204: ("voltage_slew", 0.01, False), 205: ("enable", 1, False), 206: ("heartbeat", 1, False), 207: ("cv_side", 1, False),
    208: ("charge_limit_A", 0.01, False), 209: ("discharge_limit_A", 0.01, False),
}  # fmt: skip


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word


def _count(value: float, per_count: float) -> int:
    return max(-0x8000, min(0xFFFF, round(value / per_count))) & 0xFFFF


def _words(number: int) -> tuple[int, int]:
    return (number >> 16) & 0xFFFF, number & 0xFFFF


def _text(text: str) -> tuple[int, ...]:
    return struct.unpack(">8H", text.encode("ascii")[:16].ljust(16, b"\0"))


@dataclass(frozen=True, slots=True)
class Clocks:
    """Real and plant seconds, as the device's own electronics and its physics count them."""

    real_s: Callable[[], float]
    plant_s: Callable[[], float]


class ControlCard:
    """One converter behind one unit id."""

    def __init__(self, converter: Converter, faults: DeviceFaults, clocks: Clocks, random: random.Random, serial: str) -> None:
        self.converter = converter
        self._faults = faults
        self._clocks = clocks
        self._random = random
        self._serial = serial
        self._stored = replace(converter.limits)
        self._samples = 0
        self._started = clocks.real_s()
        self._static = self._identity() | self._capability()

    # ---- reads

    def read_input(self, address: int, count: int) -> Sequence[int]:
        values = self._static if address < 300 else self._actual() if address < 360 else self._counters()
        found = wire.registers(values, address, count, _INPUT_BLOCKS)
        return found if address < 300 else self._faults.keep((address, count), found)

    def read_holding(self, address: int, count: int) -> Sequence[int]:
        limits, wanted = self.converter.limits, self.converter.setpoints
        values = {register: _count(getattr(limits, name), unit) for register, (name, unit) in _LIMITS.items()}
        values |= {register: _count(getattr(wanted, name), unit) for register, (name, unit, _) in _SETPOINTS.items()}
        return wire.registers(values, address, count, _HOLDING_BLOCKS)

    def _identity(self) -> dict[int, int]:
        values = {0: 0xDAB1, 1: 0x0102, 2: 0x0304, 3: 0x0100, 28: 0x0103, 29: 7, 30: 2}
        for first, text in ((4, "bess-gateway"), (12, "DAB 75 W"), (20, self._serial)):
            values |= {first + index: word for index, word in enumerate(_text(text))}
        return values

    def _capability(self) -> dict[int, int]:
        r = self.converter.rating
        return {
            40: 0b011,
            41: _count(r.battery_V_max, 0.01), 42: _count(r.battery_V_min, 0.01),
            43: _count(r.bus_V_max, 0.01), 44: _count(r.bus_V_min, 0.01),
            45: _count(r.current_A, 0.01), 46: _count(r.current_A, 0.01), 47: _count(r.bus_current_A, 0.01),
            48: _count(r.power_W, 0.1), 49: _count(r.frequency_Hz, 100.0),
            50: _count(r.current_slew_A_per_s, 0.01), 51: _count(r.voltage_slew_V_per_s, 0.01),
            52: 15708, 53: _count(r.turns, 0.001), 54: _count(r.leakage_H, 1e-9),
            55: int(Fault(0xFFFF & sum(Fault))),
        }  # fmt: skip

    def _actual(self) -> dict[int, int]:
        c, m, noise = self.converter, self.converter.measured, self._random.gauss
        self._samples += 1
        battery_V = m.battery_V + noise(0.0, _VOLT_NOISE_V)
        battery_A = c.current_A + self._faults.current_offset + noise(0.0, _CURRENT_NOISE_A)
        bus_V, bus_A = m.bus_V + noise(0.0, _VOLT_NOISE_V), m.bus_A + noise(0.0, _CURRENT_NOISE_A)
        real_s = self._clocks.real_s()
        up_ms = round((real_s - self._started) * 1000)
        mode = c.setpoints.mode if c.armed else min(c.setpoints.mode, Mode.STANDBY)
        error = (c.setpoints.voltage_V - m.battery_V) if mode == Mode.CV else (c.reference_A - c.current_A)
        return {
            300: int(c.state), 301: c.origin, 302: 0 if c.state is State.FAULT else mode,
            303: int(c.limiter), 304: int(c.live), 305: int(c.latched), 306: c.first_fault, 307: 0,
            308: c.setpoints.heartbeat, 309: int(real_s - self._started) & 0xFFFF, 310: _count(c.time_left_s(real_s), 0.1),
            311: _count(max(0.0, battery_V), 0.01), 312: _count(battery_A, 0.01),
            313: _count(max(0.0, bus_V), 0.01), 314: _count(bus_A, 0.01),
            315: _count(battery_V * battery_A, 0.1), 316: _count(m.bus_W, 0.1),
            317: _count(c.heatsink_degC, 0.1), 318: _count(c.heatsink_degC - 2.0, 0.1), 319: _count(33.0, 0.1),
            320: _count(c.psi_rad, 1e-4), 321: 5000 if c.running else 0, 322: _count(error, 0.01),
            323: _count(c.reference_A, 0.01), 324: _count(c.reference_V if mode == Mode.CV else 0.0, 0.01),
            325: c.command_result, 326: 1200, 327: self._samples & 0xFFFF, 328: up_ms >> 16 & 0xFFFF, 329: up_ms & 0xFFFF,
        }  # fmt: skip

    def _counters(self) -> dict[int, int]:
        k = self.converter.counters
        high, low = _words(int(self._clocks.real_s() - self._started))
        return {
            360: high, 361: low, 362: k.trips, 363: k.timeouts, 364: k.crc_errors, 365: k.framing_errors,
            366: k.refused, 367: k.resets, 368: k.restarts,
        }  # fmt: skip

    # ---- writes

    def write(self, address: int, values: Sequence[int]) -> None:
        try:
            self._write(address, values)
        except wire.Refusal:
            self.converter.counters.refused += 1
            raise

    def _write(self, address: int, values: Sequence[int]) -> None:
        last = address + len(values) - 1
        if self._faults.refuse:
            raise wire.Refusal(wire.DEVICE_FAILURE)
        if not any(first <= address and last <= end for first, end in _HOLDING_BLOCKS):
            raise wire.Refusal(wire.ILLEGAL_ADDRESS)
        if address >= 220:
            if len(values) != 1:
                raise wire.Refusal(wire.ILLEGAL_ADDRESS)
            self._command(address, values[0])
        elif address >= 200:
            self._set(dict(enumerate(values, start=address)))
        else:
            self._adjust(dict(enumerate(values, start=address)))

    def _set(self, words: dict[int, int]) -> None:
        c = self.converter
        new = replace(c.setpoints)
        for register, word in words.items():
            name, unit, signed = _SETPOINTS[register]
            value = (_signed(word) if signed else word) * unit
            setattr(new, name, round(value) if unit == 1 else value)
        self._check(new)
        if new.enable and not c.setpoints.enable and c.latched:
            raise wire.Refusal(wire.DEVICE_BUSY)
        c.apply(new, self._clocks.real_s())

    def _check(self, new: Setpoints) -> None:
        """Beyond the capability, or a voltage outside the configured battery window: refused."""
        rating, limits = self.converter.rating, self.converter.limits
        window = limits.battery_V_min - 0.005 <= new.voltage_V <= limits.battery_V_max + 0.005
        allowed = (
            new.mode in set(Mode)
            and new.enable in {0, 1}
            and new.cv_side == 0  # capability bit 2 is not set
            and abs(new.current_A) <= rating.current_A + 0.005
            and max(new.charge_limit_A, new.discharge_limit_A) <= rating.current_A + 0.005
            and new.current_slew <= rating.current_slew_A_per_s + 0.005
            and new.voltage_slew <= rating.voltage_slew_V_per_s + 0.005
            and (window or (new.voltage_V == 0.0 and new.mode != Mode.CV))
        )
        if not allowed:
            raise wire.Refusal(wire.ILLEGAL_VALUE)

    def _adjust(self, words: dict[int, int]) -> None:
        new = replace(self.converter.limits)
        for register, word in words.items():
            name, unit = _LIMITS[register]
            value = (_signed(word) if register == 114 else word) * unit
            setattr(new, name, value)
        rating = self.converter.rating
        highest = Limits(
            rating.battery_V_max, rating.battery_V_max, rating.bus_V_max, rating.bus_V_max, rating.current_A, rating.current_A,
            rating.power_W, rating.power_W, rating.battery_V_max * 1.25, rating.battery_V_max, rating.bus_V_max, rating.bus_V_max,
            rating.current_A * 1.5, rating.bus_current_A * 1.5, 110.0, math.pi / 2, 60.0, 1, 60.0,
        )  # fmt: skip
        beyond = any(getattr(new, f.name) > getattr(highest, f.name) + 1e-4 for f in fields(Limits))
        if beyond or new.timeout_s <= 0.0:
            raise wire.Refusal(wire.ILLEGAL_VALUE)
        new.timeout_action = round(new.timeout_action)
        self.converter.limits = new

    def _command(self, register: int, value: int) -> None:
        c = self.converter
        if value != {220: _RESET, 221: _STORE, 222: _RESTART, 223: _FACTORY}[register]:
            c.command_result = 4
            raise wire.Refusal(wire.ILLEGAL_VALUE)
        if register == 220:
            if c.reset() == 3:
                raise wire.Refusal(wire.DEVICE_BUSY)
            return
        if c.state not in {State.OFF, State.FAULT}:
            c.command_result = 3
            raise wire.Refusal(wire.DEVICE_BUSY)
        c.command_result = 1
        if register == 221:
            self._stored = replace(c.limits)
        elif register == 222:
            self.power_cycle()
        else:
            self._stored = factory_limits(c.rating)
            c.limits = replace(self._stored)

    def power_cycle(self) -> None:
        """Restart: limits as stored, set values zero."""
        self.converter.limits = replace(self._stored)
        self.converter.restart()
        self._started = self._clocks.real_s()
