"""What every driver is: the behaviour of one wire language, told by a device map what to say.

A driver belongs to one device. It neither schedules nor retries, and it publishes nothing: the scanner does. Values are
in device names and device signs, in the map's units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.errors import FieldError
from gateway.points import Quality

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from gateway.field.block_codec import Decoded
    from gateway.field.map_model import MapPoint, ScanClass
    from gateway.field.settings import DeviceSettings
    from gateway.field.transports.base import Request

    Exchange = Callable[[Request], Awaitable[bytes]]
    """Sends one request to the driver's device and gives the answer, within the device's time-out."""


class BadRequest(FieldError):
    """Something was asked that the device map does not allow. Nothing was sent; waiting does not help."""

    retryable = False


@dataclass(frozen=True, slots=True)
class Part:
    """One read of a device: what is published together.

    `numbers` and `texts` are point names in the order of the values. `request`, where one request is all there is to the
    read, lets the scanner send it and hand the answer to `Driver.decode`; without it `Driver.read` is awaited.
    """

    title: str
    scan: ScanClass
    numbers: tuple[str, ...]
    texts: tuple[str, ...] = ()
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One value as it came and as it is meant. `value` is None exactly when `quality` is bad."""

    name: str
    raw: str
    value: float | str | None
    unit: str
    quality: Quality
    address: str


@dataclass(frozen=True, slots=True)
class SafeFrame:
    """Bytes that help to make a device safe, without any line framing, and what shows that they did.

    Either the answer begins with `expect`, or it is a line of text that is the number `reading`; with neither of them no
    answer comes, and handing the bytes over is all that can be known.
    """

    payload: bytes
    expect: bytes | None = None
    reading: float | None = None


class Driver(Protocol):
    """One device, in its wire language."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The reads of this device, fast ones first."""
        ...

    def __init__(self, device: DeviceSettings, exchange: Exchange) -> None: ...

    async def identify(self) -> None:
        """Make sure that the right device answers; forget what was written before. WrongDevice when another one does."""
        ...

    async def read(self, part: int) -> Decoded:
        """Do one of the `parts`. Raises FieldError."""
        ...

    def decode(self, part: int, answer: bytes) -> Decoded:
        """What the answer to the request of one of the `parts` says. Raises FieldError."""
        ...

    async def write(self, values: Mapping[str, float]) -> None:
        """Write setpoints, together where the device can. Raises FieldError; BadRequest before anything is sent."""
        ...

    async def read_back(self, names: Collection[str]) -> Mapping[str, float]:
        """What the device has for these setpoints now; NaN when bad. A setpoint that cannot be read back is left out."""
        ...

    async def refresh(self) -> None:
        """Write the heartbeat blocks again, with the next heartbeat; nothing for a device that has none."""
        ...

    async def probe(self) -> Sequence[ProbeRow]:
        """Read everything once, raw beside scaled."""
        ...

    def safe_frames(self) -> Sequence[SafeFrame]:
        """What to send to make the device safe; empty when the map has nothing to write."""
        ...


def check_writes(points: Mapping[str, MapPoint], values: Mapping[str, float], device: DeviceSettings) -> None:
    """Raise BadRequest unless every value names a setpoint of a device that may be written, within its range."""
    if device.read_only:
        msg = f"{device.id} is read-only"
        raise BadRequest(msg)
    for name, value in values.items():
        point = points.get(name)
        if point is None or not point.writable:
            msg = f"{device.id} has no setpoint '{name}'"
            raise BadRequest(msg)
        if not math.isfinite(value):
            msg = f"{device.id}.{name}: {value} is not a number that can be written"
            raise BadRequest(msg)
        low, high = point.low, point.high
        if (low is not None and value < low) or (high is not None and value > high):
            msg = f"{device.id}.{name}: {value:g} is outside {low:g} to {high:g} {point.unit}".rstrip()
            raise BadRequest(msg)


def readback_points(points: Mapping[str, MapPoint], names: Collection[str]) -> dict[str, MapPoint]:
    """For each setpoint that can be read back, the point that shows it. BadRequest for a name that is no setpoint."""
    result: dict[str, MapPoint] = {}
    for name in names:
        point = points.get(name)
        if point is None or not point.writable:
            msg = f"there is no setpoint '{name}'"
            raise BadRequest(msg)
        if point.readback is not None:
            result[name] = points[point.readback]
    return result


def value_rows(
    points: Sequence[MapPoint], decoded: Decoded, raw: Callable[[MapPoint], str], address: Callable[[MapPoint], str]
) -> list[ProbeRow]:
    """Probe rows of the numeric points of a read, in their order."""
    rows: list[ProbeRow] = []
    for at, point in enumerate(points):
        quality = decoded.qualities if isinstance(decoded.qualities, Quality) else Quality(int(decoded.qualities[at]))
        value = None if quality.is_bad else float(decoded.values[at])
        rows.append(ProbeRow(point.name, raw(point), value, point.unit, quality, address(point)))
    return rows


def failed_rows(points: Sequence[MapPoint], error: FieldError, address: Callable[[MapPoint], str]) -> list[ProbeRow]:
    """Probe rows of a read that failed: the reason stands where the raw value would."""
    return [ProbeRow(point.name, str(error), None, point.unit, error.quality, address(point)) for point in points]
