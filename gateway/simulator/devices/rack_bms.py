"""Rack battery management over Modbus: register list revision 1 of this project, input registers only.

0 magic 0xB355, 1 version, 2 cells, 3 temperature sensors, 10 current i16 0.01 A, 11 pack voltage 0.01 V, 12 state of charge
0.1 %, 13 state of health 0.1 %, 14 and 15 hottest and coldest i16 0.1 degC, 16 and 17 charge and discharge limit 0.1 A,
18-19 fault flags u32, 20 fault count, 21 heartbeat, 100 onwards cell voltages 0.1 mV (0xFFFF = not fitted, at most 64).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.simulator import modbus_wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.simulator.devices.sensors import BatterySensors
    from gateway.simulator.faults import DeviceFaults

CELLS_MAX = 64
_BLOCKS = ((0, 21), (100, 100 + CELLS_MAX - 1))
_CELLS_AT = 100


class RackBms:
    """One rack behind one unit id."""

    def __init__(self, sensors: BatterySensors, faults: DeviceFaults, real_s: Callable[[], float]) -> None:
        self._sensors = sensors
        self._faults = faults
        self._real_s = real_s

    def read_input(self, address: int, count: int) -> Sequence[int]:
        found = wire.registers(self._cells() if address >= _CELLS_AT else self._values(), address, count, _BLOCKS)
        return self._faults.keep((address, count), found)

    def read_holding(self, address: int, count: int) -> Sequence[int]:
        del address, count  # it has none
        raise wire.Refusal(wire.ILLEGAL_ADDRESS)

    def write(self, address: int, values: Sequence[int]) -> None:
        del address, values
        raise wire.Refusal(wire.ILLEGAL_ADDRESS)

    def _cells(self) -> dict[int, int]:
        cells = [round(volts * 1e4) for volts in self._sensors.cell_voltages()[:CELLS_MAX]]
        cells += [0xFFFF] * (CELLS_MAX - len(cells))
        return dict(enumerate(cells, start=_CELLS_AT))

    def _values(self) -> dict[int, int]:
        s = self._sensors
        temperatures = s.temperatures()
        charge, discharge = s.current_limits()
        codes = s.trouble_codes()
        flags = 0
        for code in codes:
            flags |= {0x0A04: 1 << 0, 0x0A0C: 1 << 1, 0x0A0E: 1 << 16}[code]
        return {
            0: 0xB355,
            1: 0x0100,
            2: s.string.count,
            3: len(temperatures),
            10: round(s.current() * 100),
            11: round(s.pack_voltage() * 100),
            12: round(s.soc() * 1000),
            13: 1000,
            14: round(max(temperatures) * 10),
            15: round(min(temperatures) * 10),
            16: round(charge * 10),
            17: round(discharge * 10),
            18: flags >> 16,
            19: flags,
            20: len(codes),
            21: int(self._real_s() * 10),
        }
