"""How long a device's readings take on its line, and which period follows from that.

A line carries one request at a time. Serial times are counted in characters, as the wire paces them; what a device needs
to think, and what a network adds, are our own assumptions, stated below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.device_roles import DeviceRole
from gateway.field.blocks import by_request, by_scan, plan
from gateway.field.device_points import SLOW_MIN_S, SLOW_PERIODS
from gateway.field.map_model import Register, ScanClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.field.map_model import DeviceMap, MapPoint

SERIAL_KINDS = frozenset({"modbus_rtu", "serial"})
LINE_SHARE = 0.9
"""The part of a line's time that periodic readings and writes may take; the rest is for retries and other commands."""
STEPS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Periods that are chosen for a device whose file names none."""

MODBUS_THINK_S = 0.001
"""Our assumption of a Modbus RTU device's own delay per request."""
ORION_THINK_S = 0.010
"""Our assumption of the BMS's own delay per request; its maker publishes none."""
TCP_REQUEST_S = 0.002
"""Our assumption for one request over a local network."""
QUERY_S = 0.020
"""Our assumption for one SCPI measurement: a power-line cycle at 50 Hz."""

_READ_CHARS, _READ_ANSWER_CHARS = 8, 5
_WRITE_CHARS, _WRITE_ANSWER_CHARS = 9, 8
"""Characters of a read and of a write of several registers without their data (MODBUS over Serial Line V1.02, 2.5.1)."""
_SILENCE_CHARS, _SILENCE_S, _FIXED_SILENCE_ABOVE_BAUD = 3.5, 0.00175, 19200
"""Silence after each frame: 3.5 characters, fixed above 19200 baud (MODBUS over Serial Line V1.02, 2.5.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The properties of a transport that decide its speed."""

    kind: str
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    @property
    def character_s(self) -> float:
        """Time of one character: start bit, eight data bits, parity, stop bits."""
        return (9 + (self.parity != "N") + self.stop_bits) / self.baud

    @property
    def silence_s(self) -> float:
        """Silence that ends a Modbus RTU frame."""
        return _SILENCE_S if self.baud > _FIXED_SILENCE_ABOVE_BAUD else _SILENCE_CHARS * self.character_s


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds on the line for one reading of the fast values, one of the slow values, and one periodic write."""

    fast_s: float
    slow_s: float
    write_s: float

    def share(self, period_s: float, slow_period_s: float | None) -> float:
        """The part of the line's time that the device takes when it is read with this period."""
        return (self.fast_s + self.write_s) / period_s + self.slow_s / slow_every_s(period_s, slow_period_s)


def slow_every_s(period_s: float, slow_period_s: float | None) -> float:
    """Real seconds between two slow readings; `slow_period_s` is the map's wish."""
    return max(slow_period_s, period_s) if slow_period_s is not None else max(SLOW_PERIODS * period_s, SLOW_MIN_S)


def load_of(device_map: DeviceMap, cells: int, line: Line) -> Load:
    """What one device with this many cells asks of its line."""
    points = device_map.points(cells)
    if device_map.language == "orion":
        fast, slow = (_orion_s(points, scan, line) for scan in (ScanClass.FAST, ScanClass.SLOW))
    elif any(point.register is not Register.NONE for point in points):
        fast, slow = (_modbus_s(points, scan, device_map, line) for scan in (ScanClass.FAST, ScanClass.SLOW))
    else:
        fast, slow = (_queries_s(points, scan) for scan in (ScanClass.FAST, ScanClass.SLOW))
    return Load(fast, slow, _write_s(device_map, line))


def shortest_period_s(loads: Iterable[Load], slow_share: float = 0.0) -> float:
    """The shortest common period at which a line can carry these devices; `slow_share` is taken by slow readings."""
    return sum(load.fast_s + load.write_s for load in loads) / max(LINE_SHARE - slow_share, 0.01)


def step_up_s(period_s: float) -> float:
    """The next of the usual periods that is not shorter."""
    return next((step for step in STEPS_S if step >= period_s - 1e-9), period_s)


def _modbus_s(points: Iterable[MapPoint], scan: ScanClass, device_map: DeviceMap, line: Line) -> float:
    blocks = [block for block in plan(points, device_map.max_registers, device_map.gap) if block.scan is scan]
    return sum(_exchange_s(line, _READ_CHARS, _READ_ANSWER_CHARS + 2 * block.count) for block in blocks)


def _exchange_s(line: Line, sent_chars: float, received_chars: float) -> float:
    if line.kind not in SERIAL_KINDS:
        return TCP_REQUEST_S
    return (sent_chars + received_chars) * line.character_s + 2 * line.silence_s + MODBUS_THINK_S


def _write_s(device_map: DeviceMap, line: Line) -> float:
    """One write of the set values per period, for a converter whose command time-out must be fed."""
    if device_map.role is not DeviceRole.DCDC or device_map.language != "modbus":
        return 0.0
    addresses: Mapping[str, MapPoint] = {point.name: point for point in device_map.points(0)}
    total = 0.0
    for block in device_map.write_blocks:
        registers = sum(addresses[name].length for name in block.points) + (block.heartbeat is not None)
        total += _exchange_s(line, _WRITE_CHARS + 2 * registers, _WRITE_ANSWER_CHARS)
    return total


def _orion_s(points: Iterable[MapPoint], scan: ScanClass, line: Line) -> float:
    total = 0.0
    for group in by_request(points):
        if group.scan is scan:
            data_bytes = max(point.address + point.length for point in group.points)
            asked = len(":00\n") + len(group.request)
            total += (2 * asked + 2 * data_bytes) * line.character_s + ORION_THINK_S
    return total


def _queries_s(points: Iterable[MapPoint], scan: ScanClass) -> float:
    return sum(QUERY_S * len(group.points) for group in by_scan(points) if group.scan is scan)
