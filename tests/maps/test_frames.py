"""Every device map against golden frames: request and answer bytes that were not made by our codec."""

from __future__ import annotations

import struct
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.data import maps_dir
from gateway.errors import DeviceRefused
from gateway.field.block_codec import BitCodec, BlockCodec
from gateway.field.blocks import plan
from gateway.field.codec import decode_text
from gateway.field.device_map import DeviceMap, load_map
from gateway.field.drivers.modbus_pdu import read_data, read_request
from gateway.field.drivers.orion import answer_data, request_line
from gateway.field.map_model import Register
from gateway.field.registry import driver_class
from gateway.field.settings import DeviceSettings
from gateway.field.transports.modbus_rtu import AnswerSearch, rtu_frame
from gateway.field.transports.modbus_tcp import tcp_frame
from gateway.points import Quality

if TYPE_CHECKING:
    from gateway.field.block_codec import Decoded
    from gateway.field.transports.base import Request

MAPS = sorted(Path(maps_dir()).glob("*.toml"))
FRAMES = {path.stem: Path(__file__).with_name(f"{path.stem}.frames.toml") for path in MAPS}


def cases(kind: str) -> list[Any]:
    found = []
    for name, path in FRAMES.items():
        if path.exists():
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            for number, case in enumerate(document.get(kind, ())):
                found.append(pytest.param(name, document, case, id=f"{name} {number} {case.get('title', case['request'])}"))
    return found


def device_of(name: str, document: dict[str, Any]) -> DeviceSettings:
    device_map = load_map(Path(maps_dir()) / f"{name}.toml")
    return DeviceSettings(id=name, map=device_map, transport="x", unit=document.get("unit", 1), cells=document.get("cells", 0))


def framed(wire: str, unit: int, pdu: bytes) -> bytes:
    return rtu_frame(unit, pdu) if wire == "rtu" else tcp_frame(1, unit, pdu)


def pdu_of(wire: str, frame: bytes, request: Request) -> bytes:
    """The PDU of an answer frame; every byte of it is accounted for."""
    if wire == "tcp":
        transaction, protocol, length, unit = struct.unpack(">HHHB", frame[:7])
        assert (transaction, protocol, length, unit) == (1, 0, len(frame) - 6, request.unit)
        return frame[7:]
    pdu, used = AnswerSearch(request, pytest.fail, b"").find(frame)
    assert pdu is not None
    assert used == len(frame)
    return pdu


def check(expected: dict[str, Any], names: list[str], decoded: Decoded) -> None:
    found: dict[str, Any] = dict(decoded.texts)
    for at, name in enumerate(names):
        quality = decoded.qualities if isinstance(decoded.qualities, Quality) else Quality(int(decoded.qualities[at]))
        found[name] = quality.opcua_name if quality.is_bad else float(decoded.values[at])
    assert found.keys() == expected.keys(), "the frame and the map disagree on what is in these registers"
    for name, value in expected.items():
        assert found[name] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-9)), name


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_every_map_loads_and_has_frames(path: Path) -> None:
    device_map = load_map(path)
    assert device_map.points(4)
    assert FRAMES[path.stem].exists()


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_every_point_is_read_exactly_once(path: Path) -> None:
    device_map = load_map(path)
    device = DeviceSettings(id="x", map=device_map, transport="x", cells=4)
    driver = driver_class(device_map.language)(device, _nobody)
    read = [name for part in driver.parts for name in (*part.numbers, *part.texts)]
    assert sorted(read) == sorted(point.name for point in device_map.points(4) if point.readable)


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_golden_frames_touch_every_point_but_the_nameplate(path: Path) -> None:
    """What control acts on is proven by a frame; what is read once, slowly, or only listed may go without."""
    document = tomllib.loads(FRAMES[path.stem].read_text(encoding="utf-8"))
    touched = {name for case in (*document["read"], *document.get("write", ())) for name in case["values"]}
    points = load_map(path).points(document.get("cells", 0))
    assert {point.name for point in points if point.scan == "fast" and point.readable} <= touched


@pytest.mark.parametrize(("name", "document", "case"), cases("read"))
async def test_read(name: str, document: dict[str, Any], case: dict[str, Any]) -> None:
    device = device_of(name, document)
    if document["wire"] == "text":
        await _read_text(device, case)
    else:
        _read_registers(device, document["wire"], case)


@pytest.mark.parametrize(("name", "document", "case"), cases("write"))
async def test_write(name: str, document: dict[str, Any], case: dict[str, Any]) -> None:
    device = device_of(name, document)
    sent: list[bytes] = []

    async def exchange(request: Request) -> bytes:
        if document["wire"] == "text":
            sent.append(request.payload)
            return b'+0,"No error"' if request.payload == device.map.error_query.encode() else b""
        sent.append(framed(document["wire"], request.unit, request.payload))
        return pdu_of(document["wire"], bytes.fromhex(case["answer"]), request)

    driver = driver_class(device.map.language)(device, exchange)
    if "refused" in case:
        with pytest.raises(DeviceRefused) as caught:
            await driver.write(case["values"])
        assert caught.value.code == case["refused"]
    else:
        await driver.write(case["values"])
    assert sent[0] == (case["request"].encode() if document["wire"] == "text" else bytes.fromhex(case["request"]))
    assert sent[1:] in ([], [device.map.error_query.encode()])


def _read_registers(device: DeviceSettings, wire: str, case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["request"])
    pdu = frame[1:-2] if wire == "rtu" else frame[7:]
    function, address, count = struct.unpack(">BHH", pdu)
    register = {1: Register.COIL, 2: Register.DISCRETE, 3: Register.HOLDING, 4: Register.INPUT}[function]
    request = read_request(device.unit, register, address, count)
    assert framed(wire, device.unit, request.payload) == frame
    data = read_data(request, pdu_of(wire, bytes.fromhex(case["answer"]), request))
    points = [
        point
        for point in device.map.points(device.cells)
        if point.register is register and address <= point.address and point.address + point.length <= address + count
    ]
    codec_of = BitCodec if register in {Register.COIL, Register.DISCRETE} else BlockCodec
    codec = codec_of([point for point in points if point.readable], address)
    check(case["values"], [point.name for point in codec.points], codec.decode(data))


async def _read_text(device: DeviceSettings, case: dict[str, Any]) -> None:
    if device.map.language == "scpi":
        points = [point for point in device.map.points(0) if point.request == case["request"]]
        found = {point.name: decode_text(point, case["answer"]) for point in points}
        shown = {name: quality.opcua_name if quality.is_bad else value for name, (value, quality) in found.items()}
        assert shown == {key: value if isinstance(value, str) else pytest.approx(value) for key, value in case["values"].items()}
        return
    wanted = bytes.fromhex(case["request"].strip()[3:])
    assert request_line(wanted) == case["request"].encode()
    points = [point for point in device.map.points(device.cells) if bytes.fromhex(point.request) == wanted]
    codec = BlockCodec(points, 0, width=1)
    check(
        case["values"], [point.name for point in codec.points], codec.decode(answer_data(case["answer"].strip().encode(), wanted))
    )


async def _nobody(request: Request) -> bytes:
    raise AssertionError(request)


def test_the_state_block_of_the_converter_is_one_read() -> None:
    device_map: DeviceMap = load_map(Path(maps_dir()) / "dab_controlcard.toml")
    fast = [block for block in plan(device_map.points(0), device_map.max_registers, device_map.gap) if block.scan == "fast"]
    assert [(block.address, block.count) for block in fast] == [(300, 28)]
