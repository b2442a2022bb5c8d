"""Registers, bytes and text to values and back. Pure.

A block of a device is decoded straight from the bytes of the answer by one precompiled `struct` and a few array
operations; nothing is looked up by name in between. Numbers travel most significant byte first unless a point says
otherwise (MODBUS Application Protocol V1.1b3, 4.2).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gateway.field.map_model import INTEGER_LIMITS, TYPE_BYTES
from gateway.points import Kind, Quality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gateway.field.map_model import MapPoint

_FORMATS: Mapping[str, str] = {
    "uint8": "B",
    "int8": "b",
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
_OUT_OF_RANGE = np.uint8(Quality.BAD_OUT_OF_RANGE)
_SENSOR_FAILURE = np.uint8(Quality.BAD_SENSOR_FAILURE)
_CONFIGURATION_ERROR = np.uint8(Quality.BAD_CONFIGURATION_ERROR)


def reordered(data: bytes, order: str) -> bytes:
    """`data` (an even number of bytes) from `order` to most significant byte first; the same call turns it back."""
    if order in {"BADC", "DCBA"}:
        data = b"".join(data[at + 1 : at + 2] + data[at : at + 1] for at in range(0, len(data), 2))
    if order in {"CDAB", "DCBA"}:
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
    return data


def raw_number(data: bytes, value_type: str, order: str = "ABCD") -> float:
    """The number in the bytes of one value, before scale and offset. ValueError when the width is wrong."""
    if len(data) != TYPE_BYTES[value_type]:
        msg = f"{len(data)} bytes cannot be {value_type}"
        raise ValueError(msg)
    return float(struct.unpack(">" + _FORMATS[value_type], reordered(data, order))[0])


def text_of(data: bytes, order: str = "ABCD") -> str:
    """Text from registers: padding (NUL, blanks) removed, what is not ASCII shown as "?"."""
    plain = reordered(data, "BADC") if order in {"BADC", "DCBA"} else data
    text = plain.split(b"\0", 1)[0].decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    return text.strip()


def factors(scale: float) -> tuple[float, float]:
    """(multiplier, divisor) that together are `scale`.

    0.01 is a division by 100: 1337 becomes 13.37, the nearest number there is, and not 13.370000000000001.
    """
    divisor = round(1.0 / scale) if 0.0 < abs(scale) < 1.0 else 1
    return (1.0, float(divisor)) if abs(divisor * scale - 1.0) < 1e-12 else (scale, 1.0)


def scaled(point: MapPoint, raw: float) -> tuple[float, Quality]:
    """The value of a raw number, in the point's unit, and how far it can be trusted; NaN when the quality is bad."""
    if math.isnan(raw) or (point.not_available is not None and raw == point.not_available):
        return math.nan, Quality.BAD_SENSOR_FAILURE
    if point.bit is not None:
        raw = float(int(raw) >> point.bit & 1)
    value = point.translate.get(int(raw)) if point.translate and math.isfinite(raw) else None
    if value is None:
        multiplier, divisor = factors(point.scale)
        value = raw * multiplier / divisor + point.offset
    low, high = point.low, point.high
    if not math.isfinite(value):
        return math.nan, Quality.BAD_SENSOR_FAILURE
    if (low is not None and value < low) or (high is not None and value > high):
        return math.nan, Quality.BAD_OUT_OF_RANGE
    return value, Quality.GOOD


def unscaled(point: MapPoint, value: float) -> float:
    """The raw number that stands for a value: what `scaled` would turn back, before rounding to the type.

    ValueError when the value is not finite or outside the point's range: nothing is clipped.
    """
    if not math.isfinite(value):
        msg = f"{point.name}: {value} is not a number that can be written"
        raise ValueError(msg)
    if (point.low is not None and value < point.low) or (point.high is not None and value > point.high):
        msg = f"{point.name}: {value:g} {point.unit} is outside {point.low:g} to {point.high:g}".replace("  ", " ")
        raise ValueError(msg)
    for device_number, canonical in point.translate.items():
        if canonical == value and isinstance(device_number, int):
            return float(device_number)
    return (value - point.offset) / point.scale


def encode(point: MapPoint, value: float) -> bytes:
    """The bytes that set a point to a value, rounded to the nearest step. ValueError when it cannot be expressed."""
    raw = unscaled(point, value)
    if point.type in INTEGER_LIMITS:
        low, high = INTEGER_LIMITS[point.type]
        number = round(raw)
        if not low <= number <= high:
            msg = f"{point.name}: {value:g} {point.unit} does not fit {point.type}".replace("  ", " ")
            raise ValueError(msg)
        return reordered(struct.pack(">" + _FORMATS[point.type], number), point.order)
    return reordered(struct.pack(">" + _FORMATS[point.type], raw), point.order)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Values and qualities of a block, in the order of `BlockCodec.points`, and its texts."""

    values: NDArray[np.float64]
    qualities: NDArray[np.uint8] | Quality
    texts: Mapping[str, str]


class BlockCodec:
    """Decodes the data bytes of one read.

    `points` are the numeric points, `texts` the text points, each sorted by place. `start` is the address of the first
    register (or byte) of the read, `width` the bytes per address: 2 for registers, 1 for bytes.
    """

    def __init__(self, points: Sequence[MapPoint], start: int, width: int = 2) -> None:
        ordered = sorted(points, key=lambda point: (point.address, point.bit or 0))
        self.points = tuple(point for point in ordered if point.kind is not Kind.TEXT)
        self.texts = tuple(point for point in ordered if point.kind is Kind.TEXT)
        self._start, self._width = start, width
        fields, self._pick = self._fields()
        self._struct = struct.Struct(_format(fields))
        self.size = max((end for _, end, _ in self._spans()), default=0)
        """Bytes that an answer must have at least."""
        self._swaps = tuple((begin, end, order) for begin, end, order in self._spans() if order != "ABCD")
        self._offset = np.array([p.offset for p in self.points])
        self._multiplier, self._divisor = (np.array(column) for column in _columns([factors(p.scale) for p in self.points]))
        self._has_offset = bool(self._offset.any())
        self._has_multiplier, self._has_divisor = (bool((c != 1.0).any()) for c in (self._multiplier, self._divisor))
        self._low = np.array([-1e300 if p.low is None else p.low for p in self.points])
        self._high = np.array([1e300 if p.high is None else p.high for p in self.points])
        self._sentinels = np.array([math.nan if p.not_available is None else p.not_available for p in self.points])
        self._has_sentinel = bool((~np.isnan(self._sentinels)).any())
        self._singly = tuple(at for at, p in enumerate(self.points) if p.translate or p.bit is not None)
        self._last: bytes | None = None
        self._result = Decoded(np.empty(0), Quality.GOOD, {})

    def decode(self, data: bytes) -> Decoded:
        """Values of an answer's data bytes. Bytes equal to the last ones give the same result object.

        ValueError when there are too few bytes.
        """
        if data == self._last:
            return self._result
        if len(data) < self.size:
            msg = f"{len(data)} bytes of data, expected {self.size}"
            raise ValueError(msg)
        self._result = Decoded(*self._numbers(data), {p.name: self._text(p, data) for p in self.texts})
        self._last = data
        return self._result

    def raw(self, point: MapPoint, data: bytes) -> str:
        """A point's bytes as hexadecimal, as they came."""
        begin, end = self._span(point)
        return data[begin:end].hex().upper()

    def _numbers(self, data: bytes) -> tuple[NDArray[np.float64], NDArray[np.uint8] | Quality]:
        if self._swaps:
            swapped = bytearray(data)
            for begin, end, order in self._swaps:
                swapped[begin:end] = reordered(data[begin:end], order)
            data = bytes(swapped)
        raw = np.array(self._struct.unpack_from(data), dtype=np.float64)
        if self._pick is not None:
            raw = raw[self._pick]
        values = raw * self._multiplier if self._has_multiplier else raw
        if self._has_divisor:
            values = values / self._divisor
        if self._has_offset:
            values = values + self._offset
        unsure = self._singly or (self._has_sentinel and bool((raw == self._sentinels).any()))
        if not unsure and bool(((values >= self._low) & (values <= self._high)).all()):
            return values, Quality.GOOD
        return self._judged(raw, values)

    def _judged(
        self, raw: NDArray[np.float64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8] | Quality]:
        """The slower way, for blocks with failed sensors, values out of range, single bits or translated numbers."""
        values = values.copy()
        qualities = np.zeros(len(values), dtype=np.uint8)
        qualities[~((values >= self._low) & (values <= self._high))] = _OUT_OF_RANGE
        qualities[(raw == self._sentinels) | ~np.isfinite(raw)] = _SENSOR_FAILURE
        for at in self._singly:
            values[at], qualities[at] = scaled(self.points[at], float(raw[at]))
        bad = qualities != 0
        if not bad.any():
            return values, Quality.GOOD
        values[bad] = np.nan
        return values, qualities

    def _text(self, point: MapPoint, data: bytes) -> str:
        begin, end = self._span(point)
        return text_of(data[begin:end], point.order)

    def _span(self, point: MapPoint) -> tuple[int, int]:
        begin = (point.address - self._start) * self._width
        return begin, begin + (TYPE_BYTES[point.type] if point.type in TYPE_BYTES else point.length * self._width)

    def _spans(self) -> list[tuple[int, int, str]]:
        return sorted({(*self._span(point), point.order) for point in (*self.points, *self.texts)})

    def _fields(self) -> tuple[list[tuple[int, str]], NDArray[np.intp] | None]:
        """Distinct (byte offset, type) of the numeric points; which field each point takes, None when one each."""
        fields: list[tuple[int, str]] = []
        picks: list[int] = []
        for point in self.points:
            field = (self._span(point)[0], point.type)
            if not fields or fields[-1] != field:
                fields.append(field)
            picks.append(len(fields) - 1)
        return fields, None if picks == list(range(len(fields))) else np.array(picks, dtype=np.intp)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def _format(fields: Sequence[tuple[int, str]]) -> str:
    """The struct format of values at byte offsets, with pad bytes between them."""
    parts, at = [">"], 0
    for offset, value_type in fields:
        if offset > at:
            parts.append(f"{offset - at}x")
        parts.append(_FORMATS[value_type])
        at = offset + TYPE_BYTES[value_type]
    return "".join(parts)


class BitCodec:
    """Decodes coils and discrete inputs: one bit each, the first in the lowest bit of the first byte.

    (MODBUS Application Protocol V1.1b3, 6.1.)
    """

    def __init__(self, points: Sequence[MapPoint], start: int) -> None:
        self.points = tuple(sorted(points, key=lambda point: point.address))
        self.texts: tuple[MapPoint, ...] = ()
        self._start = start
        self._at = np.array([point.address - start for point in self.points], dtype=np.intp)
        self.size = max((point.address - start) // 8 + 1 for point in self.points)

    def decode(self, data: bytes) -> Decoded:
        """0.0 or 1.0 per point. ValueError when there are too few bytes."""
        if len(data) < self.size:
            msg = f"{len(data)} bytes of data, expected {self.size}"
            raise ValueError(msg)
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
        return Decoded(bits[self._at].astype(np.float64), Quality.GOOD, {})

    def raw(self, point: MapPoint, data: bytes) -> str:
        """A point's bit, "0" or "1"."""
        at = point.address - self._start
        return str(data[at // 8] >> at % 8 & 1)


def decode_text(point: MapPoint, answer: str) -> tuple[float | str, Quality]:
    """The value in a SCPI answer: a number (NR1, NR2, NR3), a translated word, or text.

    BAD_SENSOR_FAILURE for what is no number, is SCPI's not-a-number 9.91E37 or infinity 9.9E37 (SCPI-1999, 7.2.1.4 and
    7.2.1.5), or equals `not_available`.
    """
    answer = answer.strip()
    if point.kind is Kind.TEXT:
        return answer.strip('"'), Quality.GOOD
    word = answer.strip('"')
    if word in point.translate:
        return point.translate[word], Quality.GOOD
    try:
        raw = float(answer)
    except ValueError:
        return math.nan, Quality.BAD_SENSOR_FAILURE
    return scaled(point, raw) if abs(raw) < 9.9e37 else (math.nan, Quality.BAD_SENSOR_FAILURE)


def encode_text(point: MapPoint, value: float, sign: float = 1.0) -> str | None:
    """The SCPI command that sets a point; None when nothing is to be sent.

    `{value}` in the map's command is replaced, with a Python format such as `{value:.6g}` or `{value:d}`. A command
    without it is an action: sent for a value other than 0. ValueError when the value is outside the range.
    """
    raw = unscaled(point, value) * sign
    words = [word for word, number in point.translate.items() if isinstance(word, str) and number == value]
    if "{value" not in point.command:
        return point.command if value else None
    if words:
        return point.command.replace("{value}", words[0])
    number = round(raw) if "{value:d}" in point.command else raw + 0.0
    return point.command.format(value=number)
