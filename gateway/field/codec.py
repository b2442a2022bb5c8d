"""One value at a time: registers, bytes and text to values and back. Pure. Whole reads are decoded by block_codec.

Numbers travel most significant byte first unless a point says otherwise (MODBUS Application Protocol V1.1b3, 4.2).
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from gateway.field.map_model import INTEGER_LIMITS, TYPE_BYTES
from gateway.points import Kind, Quality

if TYPE_CHECKING:
    from collections.abc import Mapping

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
