"""The model of a device map: what a device model offers and how each value lies on the wire. Plain data.

A *template* is one `[[point]]` of the file; one with a count stands for several points (`cell.<n>.voltage`). Values are
in the device's own sign; `positive` says what that sign means.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.points import Access, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.device_roles import DeviceRole

PLACEHOLDER = "<n>"
MAX_ADDRESS = 0xFFFF
"""Largest register address, MODBUS Application Protocol V1.1b3, 4.4."""


class ScanClass(StrEnum):
    """How often a point is read: each period, about every tenth, or once after each connect."""

    FAST = "fast"
    SLOW = "slow"
    ONCE = "once"


class Register(StrEnum):
    """The four Modbus data tables; NONE for other wire languages."""

    INPUT = "input"
    HOLDING = "holding"
    COIL = "coil"
    DISCRETE = "discrete"
    NONE = ""


TYPE_BYTES: Mapping[str, int] = {
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "float32": 4,
    "float64": 8,
}
"""Numeric types and their widths in bytes. Besides them: "bool" (one coil, or a SCPI 0/1), "number" (SCPI), "string"."""

ORDERS = ("ABCD", "DCBA", "BADC", "CDAB")
"""Byte orders of a 32-bit value whose most significant byte is A; wider and narrower values likewise."""

INTEGER_LIMITS: Mapping[str, tuple[int, int]] = {
    "uint8": (0, 0xFF),
    "int8": (-0x80, 0x7F),
    "uint16": (0, 0xFFFF),
    "int16": (-0x8000, 0x7FFF),
    "uint32": (0, 0xFFFF_FFFF),
    "int32": (-0x8000_0000, 0x7FFF_FFFF),
    "uint64": (0, 0xFFFF_FFFF_FFFF_FFFF),
    "int64": (-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
}


def _no_symbols() -> Mapping[int, str]:
    return {}


def _no_translation() -> Mapping[int | str, float]:
    return {}


def _no_wire() -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """One value of a device: meaning first, then its place on the wire.

    Value = raw number * `scale` + `offset`, in `unit`; a raw number equal to `not_available` is a failed sensor, a value
    outside `low`..`high` is bad. `translate` maps the device's number (SCPI: word) to the canonical number. `safe` is
    what a trip writes; None for a setting that a trip leaves as it is. `bit` picks one bit of an integer.

    Wire: Modbus uses `register`, `address` and `length` (registers); Orion `request` (mode and PID, hexadecimal),
    `address` (byte in the data) and `length` (bytes); SCPI `request` (query) and `command`; any other language finds its
    own keys in `wire`. `readback` names the point that shows a setpoint's effect: itself, another, or None when there is
    none. `sign_from` are two SCPI queries for the smallest and largest number that the device accepts: the larger
    magnitude shows which sign the device uses for what is a magnitude here.
    """

    name: str
    kind: Kind = Kind.ANALOG
    unit: str = ""
    description: str = ""
    source: str = ""
    access: Access = Access.READ
    scan: ScanClass = ScanClass.FAST
    type: str = "uint16"
    order: str = "ABCD"
    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None
    safe: float | None = None
    not_available: float | None = None
    symbols: Mapping[int, str] = field(default_factory=_no_symbols)
    translate: Mapping[int | str, float] = field(default_factory=_no_translation)
    bit: int | None = None
    barrier: bool = False
    readback: str | None = None
    deadband: float = 0.0
    register: Register = Register.NONE
    address: int = 0
    length: int = 1
    request: str = ""
    command: str = ""
    sign_from: tuple[str, ...] = ()
    wire: Mapping[str, object] = field(default_factory=_no_wire)

    @property
    def writable(self) -> bool:
        """True for a setpoint."""
        return self.access is Access.WRITE

    @property
    def readable(self) -> bool:
        """True when the value is read from the device: all but a setpoint that can only be written."""
        return not self.writable or self.readback == self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTemplate:
    """One `[[point]]`. `count` is a number, "cells", or None for a single point.

    The n-th point stands `stride` registers (Orion: bytes) after the one before; `per_request` of them share one Orion
    request, whose PID then rises by one.
    """

    point: MapPoint
    count: int | str | None = None
    maximum: int = 1
    stride: int = 1
    per_request: int = 0

    def size(self, cells: int) -> int:
        """How many points this stands for on a device with so many cells."""
        if self.count is None:
            return 1
        return min(cells, self.maximum) if isinstance(self.count, str) else self.count

    def expand(self, cells: int) -> tuple[MapPoint, ...]:
        """The points, numbered from 1."""
        if self.count is None:
            return (self.point,)
        return tuple(self._numbered(index) for index in range(self.size(cells)))

    def _numbered(self, index: int) -> MapPoint:
        number = str(index + 1)
        point = self.point
        name = point.name.replace(PLACEHOLDER, number)
        readback = point.readback.replace(PLACEHOLDER, number) if point.readback is not None else None
        request, place = point.request.replace(PLACEHOLDER, number), index
        if self.per_request:
            block, place = divmod(index, self.per_request)
            request = f"{int(request, 16) + block:0{len(request)}X}"
        return replace(
            point,
            name=name,
            readback=readback,
            request=request,
            command=point.command.replace(PLACEHOLDER, number),
            description=point.description.replace(PLACEHOLDER, number),
            address=point.address + place * self.stride,
            barrier=point.barrier and index == 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must answer before a device is polled.

    A Modbus register with one of these values, or a query whose answer contains a match of the regular expression.
    """

    register: Register = Register.NONE
    address: int = 0
    type: str = "uint16"
    order: str = "ABCD"
    one_of: tuple[int, ...] = ()
    query: str = ""
    matches: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBlock:
    """Setpoints that go out together in one FC16, with the counter that keeps the device's command time-out away.

    `points` are in the order of their addresses and, with the heartbeat register, without a gap. `heartbeat` is the
    register's address, None when the device has none; it counts up by one in each write and wraps at 65536.
    """

    name: str
    points: tuple[str, ...]
    heartbeat: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMap:
    """Everything known about one device model.

    `positive` is the direction ("discharge" or "charge") in which its directional values are positive. `verified` is
    None, or where and how the map was proven on hardware. `max_registers` and `max_write_registers` bound one request,
    `gap` the unmapped registers that a read may include. `timeout_s` and `slow_period_s`: None follows from the line and
    the period; `period_s`: None leaves the period to the site.
    """

    id: str
    file: str
    vendor: str
    model: str
    role: DeviceRole
    language: str
    source: str
    verified: str | None
    identity: Identity
    templates: tuple[PointTemplate, ...]
    write_blocks: tuple[WriteBlock, ...] = ()
    positive: str = "discharge"
    description: str = ""
    max_registers: int = 125
    max_write_registers: int = 123
    gap: int = 8
    read_only: bool = False
    error_query: str = ""
    period_s: float | None = None
    slow_period_s: float | None = None
    timeout_s: float | None = None

    def points(self, cells: int) -> tuple[MapPoint, ...]:
        """All points of a device with this many cells, in the order of the file."""
        return tuple(point for template in self.templates for point in template.expand(cells))

    @property
    def max_cells(self) -> int | None:
        """The most cells that the map can show; None when it has no points per cell."""
        return min((t.maximum for t in self.templates if t.count == "cells"), default=None)
