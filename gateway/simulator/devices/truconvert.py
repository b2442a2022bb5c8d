"""TRUMPF TruConvert DC 1000 on Modbus TCP: the registers that a battery controller needs.

Operator's manual, Modbus register tables (manualslib.de 1245150 p. 78; manualslib.fr 526703 p. 59): set values 4000-4999,
actual values 5000-5999; 1016 is the communication time-out, 10 s unless changed. Addresses that the manual does not name are
refused. The sign of the current and the way an alarm is left are not documented: + = discharge and "set value 0" here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.simulator import modbus_wire as wire
from gateway.simulator.converter_data import Limit, Mode, Setpoints, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.simulator.converter import Converter
    from gateway.simulator.faults import DeviceFaults

_DCDC_STATE = {
    State.INIT: 0, State.OFF: 0, State.STANDBY: 0, State.RAMP_UP: 3, State.RUN_CC: 2, State.RUN_CV: 5, State.RAMP_DOWN: 6,
    State.FAULT: 99,
}  # fmt: skip
_LIMITER = Limit.POWER | Limit.CHARGE_CURRENT | Limit.DISCHARGE_CURRENT | Limit.BATTERY_V_MAX | Limit.BATTERY_V_MIN
"""The limiter bits 1, 2, 4, 8 and 16 of register 5123 are those of the ControlCard."""
_TIMEOUT_S = 10.0


class TruConvert:
    """One converter behind one unit id."""

    def __init__(self, converter: Converter, faults: DeviceFaults, real_s: Callable[[], float]) -> None:
        self.converter = converter
        self._faults = faults
        self._real_s = real_s
        self._writes = 0
        self._other = {4007: 0, 4008: 0, 4010: 0, 4112: 0, 4115: 0, 4118: 0, 4121: 0, 4124: 0, 4127: 0, 4501: 100}
        converter.limits.timeout_s = _TIMEOUT_S

    def read_input(self, address: int, count: int) -> Sequence[int]:
        found = _exactly(self._actual(), address, count)
        return self._faults.keep((address, count), found)

    def read_holding(self, address: int, count: int) -> Sequence[int]:
        limits = self.converter.limits
        values = self._other | {
            1016: round(limits.timeout_s),
            4100: round(limits.battery_V_max * 100),
            4101: round(limits.battery_V_min * 100),
            4106: round(limits.charge_A * 10),
            4109: round(limits.discharge_A * 10),
            4500: round(self.converter.setpoints.current_A),
        }
        return _exactly(values, address, count)

    def _actual(self) -> dict[int, int]:
        c, m = self.converter, self.converter.measured
        fault = c.state is State.FAULT
        power_W = round(m.battery_V * c.current_A)
        current_A = c.current_A + self._faults.current_offset
        return {
            5000: 1 if fault else 3 if c.running else 2,
            5001: 1,
            5036: _DCDC_STATE[c.state],
            5039: 100 if not fault else _DCDC_STATE[State(c.origin)] if c.origin != 100 else 100,
            5100: round(m.battery_V * 10),
            5110: round(current_A),
            5111: round(current_A * 10),
            5113: power_W >> 16,
            5114: power_W,
            5120: 1000,
            5123: int(c.limiter & _LIMITER),
            5126: round(m.bus_V * 10),
            5127: round(m.bus_V * 10),
        }

    def write(self, address: int, values: Sequence[int]) -> None:
        if self._faults.refuse:
            raise wire.Refusal(wire.DEVICE_FAILURE)
        known = self.read_holding(address, len(values))  # refuses unknown addresses
        limits = replace(self.converter.limits)
        for register, word in enumerate(values, start=address):
            if register in self._other:
                self._other[register] = word
            elif register != 4500:
                name, scale = {
                    1016: ("timeout_s", 1.0), 4100: ("battery_V_max", 0.01), 4101: ("battery_V_min", 0.01),
                    4106: ("charge_A", 0.1), 4109: ("discharge_A", 0.1),
                }[register]  # fmt: skip
                setattr(limits, name, word * scale)
        self.converter.limits = limits
        current = values[4500 - address] if address <= 4500 < address + len(known) else None
        self._command(current)

    def _command(self, word: int | None) -> None:
        c = self.converter
        self._writes = (self._writes + 1) & 0xFFFF
        current_A = c.setpoints.current_A if word is None else float(word - 0x10000 if word & 0x8000 else word)
        if abs(current_A) > c.rating.current_A:
            raise wire.Refusal(wire.ILLEGAL_VALUE)
        if c.state is State.FAULT and word == 0:
            c.reset()
        run = current_A != 0.0
        slew = self._other[4501] * 10.0  # 0.01 A/ms
        new = Setpoints(mode=Mode.CC if run else Mode.STANDBY, current_A=current_A, current_slew=slew, enable=int(run))
        new.heartbeat = self._writes
        c.apply(new, self._real_s())


def _exactly(values: dict[int, int], address: int, count: int) -> list[int]:
    places = range(address, address + count)
    if any(place not in values for place in places):
        raise wire.Refusal(wire.ILLEGAL_ADDRESS)
    return [values[place] & 0xFFFF for place in places]
