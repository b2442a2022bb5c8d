"""Bytes to values and back."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.field.block_codec import BitCodec, BlockCodec, Repeated
from gateway.field.codec import decode_text, encode, encode_text, reordered, scaled, text_of
from gateway.field.map_model import INTEGER_LIMITS, ORDERS, TYPE_BYTES, MapPoint, Register
from gateway.points import Access, Kind, Quality

CODES = {"uint16": "H", "int16": "h", "uint32": "I", "int32": "i", "uint64": "Q", "int64": "q", "float32": "f", "float64": "d"}
WIDE = [name for name in TYPE_BYTES if not name.endswith("int8")]


@pytest.mark.parametrize(
    ("order", "wire"), [("ABCD", "AABBCCDD"), ("DCBA", "DDCCBBAA"), ("BADC", "BBAADDCC"), ("CDAB", "CCDDAABB")]
)
def test_byte_orders_by_name(order: str, wire: str) -> None:
    assert reordered(bytes.fromhex(wire), order) == bytes.fromhex("AABBCCDD")


@given(st.sampled_from(WIDE), st.sampled_from(ORDERS), st.data())
def test_what_is_encoded_is_decoded_again(value_type: str, order: str, data: st.DataObject) -> None:
    if value_type in INTEGER_LIMITS:
        low, high = (max(-(2**53), min(2**53, limit)) for limit in INTEGER_LIMITS[value_type])
        value = float(data.draw(st.integers(low, high)))
    else:
        value = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=32))
    point = MapPoint(name="x", type=value_type, order=order, address=7, length=TYPE_BYTES[value_type] // 2)
    raw = encode(point, value)
    decoded = BlockCodec([point], 5).decode(b"\xaa" * 4 + raw + b"\xbb\xbb")
    assert decoded.values.tolist() == [value]
    assert decoded.qualities is Quality.GOOD


@given(
    st.lists(
        st.tuples(st.sampled_from(WIDE), st.sampled_from(ORDERS), st.integers(0, 3), st.floats(0.001, 10), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.binary(min_size=400, max_size=400),
)
def test_a_block_decodes_like_its_points_one_by_one(layout: list[tuple[str, str, int, float, bool]], data: bytes) -> None:
    points: list[MapPoint] = []
    address = 100
    for number, (value_type, order, gap, scale, limited) in enumerate(layout):
        address += gap
        length = TYPE_BYTES[value_type] // 2
        limits = {"low": -1000.0, "high": 1000.0, "not_available": 0.0} if limited else {}
        points.append(
            MapPoint(name=f"p{number}", type=value_type, order=order, address=address, length=length, scale=scale, **limits)
        )
        address += length
    codec = BlockCodec(list(reversed(points)), 100)
    decoded = codec.decode(data)
    assert sorted(point.name for point in codec.points) == sorted(point.name for point in points)
    for at, point in enumerate(codec.points):
        begin = 2 * (point.address - 100)
        piece = reordered(data[begin : begin + 2 * point.length], point.order)
        code = {
            "uint16": "H",
            "int16": "h",
            "uint32": "I",
            "int32": "i",
            "uint64": "Q",
            "int64": "q",
            "float32": "f",
            "float64": "d",
        }
        value, quality = scaled(point, float(struct.unpack(">" + code[point.type], piece)[0]))
        found = decoded.qualities if isinstance(decoded.qualities, Quality) else Quality(int(decoded.qualities[at]))
        if found is Quality.GOOD and not math.isfinite(value):
            assert not math.isfinite(decoded.values[at])  # the table turns what is not finite into a failed sensor
            continue
        assert found is quality
        np.testing.assert_array_equal(decoded.values[at], value)


def test_scale_offset_range_and_sentinel() -> None:
    point = MapPoint(name="t", type="int16", scale=0.1, offset=-40.0, low=-40.0, high=100.0, not_available=-32768)
    codec = BlockCodec([point], 0)
    assert codec.decode(struct.pack(">h", 650)).values.tolist() == [pytest.approx(25.0)]
    for raw, quality in ((-32768, Quality.BAD_SENSOR_FAILURE), (2000, Quality.BAD_OUT_OF_RANGE), (-1, Quality.BAD_OUT_OF_RANGE)):
        decoded = codec.decode(struct.pack(">h", raw))
        assert not isinstance(decoded.qualities, Quality)
        assert Quality(int(decoded.qualities[0])) is quality
        assert math.isnan(decoded.values[0])


def test_equal_bytes_are_not_decoded_again_and_other_bytes_are() -> None:
    codec = Repeated(BlockCodec([MapPoint(name="a")], 0).decode)
    first = codec.decode(b"\x00\x01")
    assert codec.decode(b"\x00\x01") is first
    assert codec.decode(b"\x00\x02").values.tolist() == [2.0]
    assert first.values.tolist() == [1.0]


def test_bits_of_a_word_and_translated_numbers() -> None:
    points = [
        MapPoint(name="b0", kind=Kind.BOOLEAN, bit=0),
        MapPoint(name="b15", kind=Kind.BOOLEAN, bit=15),
        MapPoint(name="state", address=1, translate={99: 7.0}),
    ]
    codec = BlockCodec(points, 0)
    assert codec.decode(bytes.fromhex("8000 0063")).values.tolist() == [0.0, 1.0, 7.0]
    assert codec.decode(bytes.fromhex("0001 0004")).values.tolist() == [1.0, 0.0, 4.0]


def test_too_few_bytes_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 bytes of data, expected 4"):
        BlockCodec([MapPoint(name="a", type="uint32", length=2)], 0).decode(b"abc")


def test_texts() -> None:
    point = MapPoint(name="vendor", kind=Kind.TEXT, type="string", length=4)
    assert BlockCodec([point], 0).decode(b"ACME\0\0\0x").texts == {"vendor": "ACME"}
    assert text_of(b"CAEM", "BADC") == "ACME"
    assert text_of(b"A\xffB ") == "A?B"


def test_coils_lie_in_the_low_bits_first() -> None:
    points = [MapPoint(name=f"c{at}", type="bool", register=Register.COIL, address=10 + at) for at in (0, 3, 9)]
    assert BitCodec(points, 10).decode(bytes([0b00001000, 0b10])).values.tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="1 bytes"):
        BitCodec(points, 10).decode(b"\0")


def setpoint(**more: object) -> MapPoint:
    return MapPoint(name="x", access=Access.WRITE, type="int16", scale=0.01, low=-6.25, high=6.25, unit="A", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [6.26, -7.0, math.nan, math.inf])
def test_nothing_is_clipped(value: float) -> None:
    with pytest.raises(ValueError, match=r"outside|not a number"):
        encode(setpoint(), value)


def test_a_range_wider_than_the_type_does_not_wrap() -> None:
    with pytest.raises(ValueError, match="does not fit int16"):
        encode(MapPoint(name="x", type="int16", unit="A"), 40000)


def test_a_translated_setpoint_is_written_as_the_device_says_it() -> None:
    assert encode(MapPoint(name="reset", low=0, high=1, translate={0x5253: 1.0}), 1.0) == bytes.fromhex("5253")


@pytest.mark.parametrize(
    ("answer", "value", "quality"),
    [
        ("+2.4E+01", 24.0, Quality.GOOD),
        ("1", 1.0, Quality.GOOD),
        ("+9.910000E+37", math.nan, Quality.BAD_SENSOR_FAILURE),
        ("-9.9E37", math.nan, Quality.BAD_SENSOR_FAILURE),
        ("nan", math.nan, Quality.BAD_SENSOR_FAILURE),
        ("overload", math.nan, Quality.BAD_SENSOR_FAILURE),
        ("", math.nan, Quality.BAD_SENSOR_FAILURE),
        ("500", math.nan, Quality.BAD_OUT_OF_RANGE),
        ("VOLT", 3.0, Quality.GOOD),
    ],
)
def test_scpi_answers(answer: str, value: float, quality: Quality) -> None:
    found = decode_text(MapPoint(name="v", type="number", low=0, high=100, translate={"VOLT": 3.0}), answer)
    assert found == (pytest.approx(value, nan_ok=True), quality)


def test_scpi_commands() -> None:
    assert encode_text(MapPoint(name="v", type="number", command="VOLT {value:.6g}"), 24.0) == "VOLT 24"
    assert encode_text(MapPoint(name="v", type="number", command="OUTP {value:d}"), 1.0) == "OUTP 1"
    assert encode_text(MapPoint(name="v", type="number", command="LIM {value:.6g}"), 10.0, sign=-1.0) == "LIM -10"
    assert encode_text(MapPoint(name="v", type="number", command="LIM {value:.6g}"), 0.0, sign=-1.0) == "LIM 0"
    assert encode_text(MapPoint(name="v", type="number", command="FUNC {value}", translate={"VOLT": 3.0}), 3.0) == "FUNC VOLT"
    assert encode_text(MapPoint(name="v", type="number", command="OUTP:PROT:CLE"), 0.0) is None


@pytest.mark.parametrize(
    ("value_type", "data"),
    [("float32", "7FA00001"), ("float32", "FF800000"), ("float64", "7FF0000000000001"), ("float64", "7FEF" + "F" * 12)],
)
def test_what_is_no_finite_number_is_bad_without_a_warning(value_type: str, data: str) -> None:
    point = MapPoint(name="f", type=value_type, length=TYPE_BYTES[value_type] // 2, scale=5.0)
    decoded = BlockCodec([point], 0).decode(bytes.fromhex(data))
    assert not isinstance(decoded.qualities, Quality)
    assert Quality(int(decoded.qualities[0])).is_bad
