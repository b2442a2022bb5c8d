"""Decoding a whole read at once: from the bytes of an answer to the values of all its points. Pure.

One gather puts the bytes of every integer point, whatever its width, sign and byte order, into the upper bytes of a
signed 64-bit number: a 16-bit value becomes the value times 2 to the 48th, signed or not filled up with zeros. That is
exact in float64, and the factor that undoes it is part of the scale. So a block of sixty mixed points costs a handful of
array operations. Floating-point and unsigned 64-bit points are gathered behind them and unpacked by one struct.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gateway.field.codec import factors, scaled, text_of
from gateway.field.map_model import INTEGER_LIMITS, ORDERS, TYPE_BYTES
from gateway.points import Kind, Quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gateway.field.map_model import MapPoint

_OUT_OF_RANGE = np.uint8(Quality.BAD_OUT_OF_RANGE)
_SENSOR_FAILURE = np.uint8(Quality.BAD_SENSOR_FAILURE)
_WORD = 8
"""Bytes of the numbers into which integers are gathered."""
_LARGEST = sys.float_info.max
_WIDE = {"float32": "f", "float64": "d", "uint64": "Q"}
"""Types that are no part of a signed 64-bit number."""


class Decoded(NamedTuple):
    """Values and qualities of a read, in the order of the codec's `points`, and its texts. Not to be changed."""

    values: NDArray[np.float64]
    qualities: NDArray[np.uint8] | Quality
    texts: Mapping[str, str]


class BlockCodec:
    """Decodes the data bytes of one read. Equal devices share one: it remembers nothing between two reads.

    `points` are the numeric points in the order of the values, `texts` the text points. `start` is the address of the
    first register (or byte) of the read, `width` the bytes per address: 2 for registers, 1 for bytes.
    """

    def __init__(self, points: Sequence[MapPoint], start: int, width: int = 2) -> None:
        self._start, self._width = start, width
        ordered = sorted(points, key=lambda point: (point.type in _WIDE, point.type, point.address, point.bit or 0))
        if not any(point.type in _WIDE for point in points):
            ordered.sort(key=lambda point: (point.address, point.bit or 0))
        self.points = tuple(point for point in ordered if point.kind is not Kind.TEXT)
        self.texts = tuple(point for point in ordered if point.kind is Kind.TEXT)
        self.size = max((self._span(point)[1] for point in points), default=0)
        """Bytes that an answer must have at least."""
        self._prepare_numbers()
        self._prepare_limits()

    def decode(self, data: bytes) -> Decoded:
        """Values of an answer's data bytes. ValueError when there are too few bytes."""
        if len(data) < self.size:
            msg = f"{len(data)} bytes of data, expected {self.size}"
            raise ValueError(msg)
        if self._careful:
            with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
                values, qualities = self._numbers(data)
        else:
            values, qualities = self._numbers(data)
        texts = {p.name: self._text(p, data) for p in self.texts} if self.texts else {}
        return Decoded(values, qualities, texts)

    def raw(self, point: MapPoint, data: bytes) -> str:
        """A point's bytes as hexadecimal, as they came."""
        begin, end = self._span(point)
        return data[begin:end].hex().upper()

    def _numbers(self, data: bytes) -> tuple[NDArray[np.float64], NDArray[np.uint8] | Quality]:
        np.frombuffer(b"\0" + data, dtype=np.uint8).take(self._gather, out=self._gathered, mode="clip")
        values = np.empty(len(self.points))
        np.divide(self._integers, self._divisors, out=values[: len(self._integers)])
        if self._floats is not None:
            numbers = self._floats.unpack_from(self._octets, self._integers.nbytes)
            np.divide(numbers, self._float_divisors, out=values[len(self._integers) :])
        if self._has_multiplier:
            values *= self._multiplier
        if self._has_offset:
            values += self._offset
        for at in self._singly:
            values[at] = scaled(self.points[at], self._raw().item(at))[0]
        np.greater_equal(values, self._low, out=self._inside)
        np.less_equal(values, self._high, out=self._below)
        self._inside &= self._below
        # Comparing bytes costs a fifth of all() and any() at this size.
        if self._inside.tobytes() != self._all_inside or (self._has_sentinel and bool((self._raw() == self._sentinels).any())):
            return self._judged(values)
        return values, Quality.GOOD

    def _judged(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """The slower way, for reads in which some sensor has failed or some value lies outside its range."""
        raw = self._raw()
        qualities = np.zeros(len(values), dtype=np.uint8)
        qualities[~self._inside] = _OUT_OF_RANGE
        qualities[(raw == self._sentinels) | ~np.isfinite(raw)] = _SENSOR_FAILURE
        for at in self._singly:
            qualities[at] = scaled(self.points[at], raw.item(at))[1]
        values[qualities != 0] = np.nan
        return values, qualities

    def _raw(self) -> NDArray[np.float64]:
        """The numbers as gathered last, before any scale."""
        raw = np.empty(len(self.points))
        raw[: len(self._integers)] = self._integers * self._unshift
        if self._floats is not None:
            raw[len(self._integers) :] = self._floats.unpack_from(self._octets, self._integers.nbytes)
        return raw

    def _prepare_limits(self) -> None:
        points = self.points
        self._low = np.array([-_LARGEST if p.low is None else p.low for p in points])
        self._high = np.array([_LARGEST if p.high is None else p.high for p in points])
        self._sentinels = np.array([math.nan if p.not_available is None else p.not_available for p in points])
        self._has_sentinel = bool((~np.isnan(self._sentinels)).any())
        self._singly = tuple(at for at, p in enumerate(points) if p.translate or p.bit is not None)
        self._inside, self._below = (np.empty(len(points), dtype=np.bool_) for _ in range(2))
        self._all_inside = b"\1" * len(points)

    def _prepare_numbers(self) -> None:
        """Where the bytes come from, the numbers that they form, and what each is divided by."""
        integers = [point for point in self.points if point.type not in _WIDE]
        others = self.points[len(integers) :]
        places = [self._places(point, _WORD) for point in integers]
        places += [self._places(point, TYPE_BYTES[point.type]) for point in others]
        self._gather = np.array([at for place in places for at in place], dtype=np.intp)
        self._gathered = np.empty(len(self._gather), dtype=np.uint8)
        self._octets = self._gathered.data
        self._integers = self._gathered[: _WORD * len(integers)].view("<i8")
        self._floats = struct.Struct("<" + "".join(_WIDE[point.type] for point in others)) if others else None
        self._unshift = np.array([1.0 / _shift(point) for point in integers])
        self._divisors = np.array([_shift(point) * factors(point.scale)[1] for point in integers])
        self._float_divisors = np.array([factors(point.scale)[1] for point in others])
        self._multiplier = np.array([factors(point.scale)[0] for point in self.points])
        self._offset = np.array([point.offset for point in self.points])
        self._careful = any(point.type == "float64" for point in others)
        self._has_multiplier, self._has_offset = bool((self._multiplier != 1.0).any()), bool(self._offset.any())

    def _places(self, point: MapPoint, width: int) -> list[int]:
        """Where each byte of a little-endian number of `width` bytes is taken; 0 is the zero put before the data."""
        begin, end = self._span(point)
        taken = [1 + begin + at for at in reversed(_order_of_bytes(end - begin, point.order))]
        zeros = [0] * (width - len(taken))
        return zeros + taken if _on_top(point) else taken + zeros

    def _text(self, point: MapPoint, data: bytes) -> str:
        begin, end = self._span(point)
        return text_of(data[begin:end], point.order)

    def _span(self, point: MapPoint) -> tuple[int, int]:
        begin = (point.address - self._start) * self._width
        return begin, begin + TYPE_BYTES.get(point.type, point.length * self._width)


class Repeated:
    """Decodes the reads of one device: bytes that are those of the last read give the last result, undecoded."""

    __slots__ = ("_data", "_decode", "_result")

    def __init__(self, decode: Callable[[bytes], Decoded]) -> None:
        self._decode = decode
        self._data: bytes | None = None
        self._result = Decoded(np.empty(0), Quality.GOOD, {})

    def decode(self, data: bytes) -> Decoded:
        """As the codec's. ValueError when there are too few bytes."""
        if data != self._data:
            self._result = self._decode(data)
            self._data = data
        return self._result


def _on_top(point: MapPoint) -> bool:
    """True for a number with a sign: its bytes go to the upper end, so that its sign bit is the sign bit."""
    return point.type in INTEGER_LIMITS and INTEGER_LIMITS[point.type][0] < 0


def _shift(point: MapPoint) -> float:
    """By how much a number is too large after its bytes were put on top: a power of two, so nothing is lost."""
    return 2.0 ** (8 * (_WORD - TYPE_BYTES[point.type])) if _on_top(point) else 1.0


def _order_of_bytes(size: int, order: str) -> list[int]:
    """The bytes of a value of `size` bytes as they stand on the wire, most significant first."""
    places = list(range(size))
    if order in {ORDERS[1], ORDERS[2]}:  # bytes of each register swapped
        places = [at ^ 1 for at in places] if size > 1 else places
    if order in {ORDERS[1], ORDERS[3]}:  # registers reversed
        places = [at for begin in range(size - 2, -1, -2) for at in places[begin : begin + 2]] if size > 1 else places
    return places


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
