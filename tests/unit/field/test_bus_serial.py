"""The field on serial lines, with every fault that a line can have."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.data import maps_dir
from gateway.errors import FrameError, TransportClosed, TransportTimeout
from gateway.field.bus import FieldBus
from gateway.field.device_map import load_map
from gateway.field.settings import DeviceSettings, FieldConfig, TransportSettings
from gateway.field.transports.base import Request, WriteForbidden
from gateway.field.transports.modbus_rtu import ModbusRtu
from gateway.field.transports.serial_line import SerialLine
from gateway.field.transports.serial_port import LineSettings
from gateway.points import Quality
from tests.unit.field.fakes import Board, Pty, Registers, RtuDevice, crc16
from tests.unit.field.test_bus_tcp import as_is, dab_registers, running

if TYPE_CHECKING:
    from collections.abc import Callable

LINE = LineSettings(115200)
READ = Request(1, bytes.fromhex("04 0137 0002"), answer_bytes=6)
ANSWER = bytes.fromhex("04 04 0528 FE0C")


def reply(unit: int = 1, pdu: bytes = ANSWER) -> bytes:
    body = bytes([unit]) + pdu
    return body + crc16(body)


async def exchange(answer: Callable[[Pty], None], request: Request = READ, *, echo: bool = False) -> bytes:
    with Pty() as pty:
        pty.on_bytes = lambda _: answer(pty)
        line = ModbusRtu(pty.path, LINE, echo=echo)
        await line.open()
        try:
            return await line.exchange(request, 0.1)
        finally:
            await line.close()


async def test_request_bytes_are_those_of_the_standard() -> None:
    with Pty() as pty:
        pty.on_bytes = lambda _: pty.send(reply(pdu=bytes.fromhex("04 3C") + bytes(60)))
        line = ModbusRtu(pty.path, LINE)
        await line.open()
        await line.exchange(Request(1, bytes.fromhex("04 012C 001E"), answer_bytes=62), 0.1)
        await line.close()
        assert pty.received == bytes.fromhex("01 04 01 2C 00 1E B0 37")


@pytest.mark.parametrize(
    "answer",
    [
        lambda pty: pty.send(reply()),
        lambda pty: pty.send(b"\x00\xff\x13" + reply()),
        lambda pty: pty.send(reply(unit=2) + reply()),
        lambda pty: pty.send(reply(pdu=bytes.fromhex("04 02 0001")) + reply()),
        lambda pty: pty.send(reply() + reply()),
    ],
    ids=["clean", "noise before", "other unit before", "late answer of another length before", "two frames glued"],
)
async def test_the_answer_is_found_among_noise(answer: Callable[[Pty], None]) -> None:
    assert await exchange(answer) == ANSWER


async def test_a_pause_inside_a_frame_is_waited_out() -> None:
    def split(pty: Pty) -> None:
        pty.send(reply()[:4])
        asyncio.get_running_loop().call_later(0.02, pty.send, reply()[4:])

    assert await exchange(split) == ANSWER


async def test_the_echo_of_the_own_request_is_passed_over() -> None:
    write = Request(1, bytes.fromhex("06 00DC 5253"), writes=True, answer_bytes=5)
    refusal = bytes.fromhex("86 06")
    with Pty() as pty:
        pty.on_bytes = lambda data: pty.send(data + reply(pdu=refusal))
        line = ModbusRtu(pty.path, LINE, echo=True)
        await line.open()
        assert await line.exchange(write, 0.1) == refusal
        await line.close()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (lambda pty: None, TransportTimeout, "no answer within 0.1 s"),
        (lambda pty: pty.send(reply()[:-1]), FrameError, "only 8 bytes"),
        (lambda pty: pty.send(reply()[:5] + b"\x29" + reply()[6:]), FrameError, "CRC"),
        (lambda pty: pty.send(reply()[:4] + reply()[3:]), FrameError, "CRC"),
        (lambda pty: pty.send(reply(unit=2)), FrameError, "only 9 bytes"),
    ],
    ids=["silence", "byte lost", "bit flipped", "byte doubled", "wrong unit"],
)
async def test_damage_is_told_from_silence(answer: Callable[[Pty], None], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await exchange(answer)


async def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    with Pty() as pty:
        line = ModbusRtu(pty.path, LINE)
        await line.open()
        with pytest.raises(TransportTimeout):
            await line.exchange(READ, 0.02)
        pty.send(reply(pdu=bytes.fromhex("04 04 1111 1111")))
        await asyncio.sleep(0.01)
        pty.on_bytes = lambda _: pty.send(reply())
        assert await line.exchange(READ, 0.1) == ANSWER
        assert any("? 01 04 04 11 11" in text.replace(" s ?", " ?") for text in line.frames.lines())
        await line.close()


async def test_an_unplugged_port_is_closed() -> None:
    with Pty() as pty:
        line = ModbusRtu(pty.path, LINE)
        await line.open()
        pty.on_bytes = lambda _: pty.unplug()
        with pytest.raises((TransportClosed, TransportTimeout)):
            await line.exchange(READ, 0.2)
        assert not line.is_open
        with pytest.raises(TransportClosed):
            await line.exchange(READ, 0.2)


async def test_no_write_can_leave_for_a_read_only_unit() -> None:
    with Pty() as pty:
        line = ModbusRtu(pty.path, LINE, read_only={1})
        await line.open()
        for pdu in (
            "05 0001 FF00",
            "06 0001 0001",
            "0F 0000 0001 01 01",
            "10 0000 0001 02 0000",
            "16 0000 0000 0000",
            "17",
            "08",
        ):
            with pytest.raises(WriteForbidden):
                await line.exchange(Request(1, bytes.fromhex(pdu)), 0.05)
        await line.close()
        await asyncio.sleep(0)
        assert pty.received == b""


async def test_text_lines_with_garbage_before_and_an_old_answer() -> None:
    with Pty() as pty:
        line = SerialLine(pty.path, LineSettings(9600, "E"))
        await line.open()
        pty.on_bytes = lambda _: pty.send(b"\x00xx\r\n:old\n:new\r\n")
        request = Request(1, b":ask\n", mine=lambda text: text.endswith(b":new"))
        assert await line.exchange(request, 0.2) == b":new"
        with pytest.raises(FrameError, match="not the answer"):
            await line.exchange(Request(1, b":ask\n", mine=lambda text: False), 0.05)
        await line.close()


def dab_line(pty: Pty) -> FieldConfig:
    device_map = load_map(Path(maps_dir()) / "dab_controlcard.toml")
    transport = TransportSettings(
        id="rs485", kind="modbus_rtu", port=pty.path, options={"baud": 115200, "parity": "N", "stop_bits": 1}
    )
    devices = tuple(
        DeviceSettings(id=f"dab_{unit}", map=device_map, transport="rs485", unit=unit, period_s=0.05, timeout_s=0.1)
        for unit in (1, 2)
    )
    return FieldConfig(transports=(transport,), devices=devices)


async def test_two_units_on_one_line_and_a_corrupted_one_does_not_harm_the_other() -> None:
    with Pty() as pty:
        units: dict[int, Registers] = {1: dab_registers(), 2: dab_registers()}
        units[2].input[311] = 1400
        device = RtuDevice(pty, units)
        board = Board()
        bus = FieldBus(dab_line(pty), board.claim, SystemClock(), on_block=board.on_block, resolve_port=as_is)
        async with running(bus):
            await board.until(lambda: "device.dab_1.battery_voltage" in board.samples and bus.online("dab_2"))
            await board.until(lambda: "device.dab_2.battery_voltage" in board.samples)
            assert board.value("device.dab_1.battery_voltage") == pytest.approx(13.2)
            assert board.value("device.dab_2.battery_voltage") == pytest.approx(14.0)
            device.mangle = lambda unit, frame: frame if unit == 2 else frame[:-1] + bytes([frame[-1] ^ 1])
            await board.until(lambda: not bus.online("dab_1"))
            assert board.quality("device.dab_1.battery_voltage") is Quality.BAD_COMMUNICATION_ERROR
            assert bus.online("dab_2")
            await bus.write("dab_2", {"current_setpoint": 1.5})
            assert units[2].holding[201] == 150
            device.mangle = lambda unit, frame: frame
            await board.until(lambda: bus.online("dab_1"))
        entry = bus.safe_frames()["dab_2"]
        assert isinstance(entry, dict)
        assert (entry["kind"], entry["port"], entry["baud"], entry["parity"]) == ("serial", pty.path, 115200, "N")


class OrionOnPty:
    """An Orion that encodes by hand. `answers` maps a request line to the line sent back."""

    def __init__(self, pty: Pty, answers: dict[bytes, bytes]) -> None:
        self.pty, self.answers = pty, answers
        self._buffer = b""
        pty.on_bytes = self._bytes

    def _bytes(self, data: bytes) -> None:
        self._buffer += data
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            if line in self.answers:
                self.pty.send(self.answers[line] + b"\n")


ORION = {
    b":02090B": b":0A490B4F52494F4E424D53",
    b":0322F100": b":1B62F100" + b"".join(b"%04X" % (33000 + cell) for cell in range(4)) + b"0000" * 8,
    b":0322F00C": b":0562F00CFFCE",
    b":0322F00D": b":0562F00D0084",
    b":0322F014": b":0562F0140528",
    b":0322F028": b":0462F02819",
    b":0322F029": b":0462F029FB",
    b":0322F00F": b":0562F00F0064",
    b":0322F013": b":0562F0130062",
    b":0322F00A": b":0562F00A0019",
    b":0322F00B": b":0562F00B004B",
    b":0103": b":064302" + b"0A0D0AFA",
    b":0322F009": b":037F2231",
    b":0322F004": b":0562F0040003",
    b":0322F007": b":0562F0070004",
}


async def test_orion_cells_current_and_trouble_codes() -> None:
    device_map = load_map(Path(maps_dir()) / "orion_jr.toml")
    with Pty() as pty:
        orion = OrionOnPty(pty, dict(ORION))
        transport = TransportSettings(
            id="bms", kind="serial", port=pty.path, options={"baud": 9600, "parity": "E", "stop_bits": 1}
        )
        device = DeviceSettings(id="bms", map=device_map, transport="bms", cells=4, period_s=0.05, timeout_s=0.1)
        config = FieldConfig(transports=(transport,), devices=(device,))
        board = Board()
        bus = FieldBus(config, board.claim, SystemClock(), on_block=board.on_block, resolve_port=as_is)
        async with running(bus):
            await board.until(lambda: {"device.bms.fault_count", "device.bms.relay_state"} <= board.samples.keys())
            assert board.value("device.bms.cell.4.voltage") == pytest.approx(3.3003)
            assert board.value("device.bms.current") == pytest.approx(-5.0)
            assert board.value("device.bms.soc") == pytest.approx(50.0)
            assert board.value("device.bms.temperature_min") == pytest.approx(-5.0)
            assert board.value("device.bms.fault_count") == 2
            assert board.value("device.bms.relay_state") == 3
            assert board.quality("device.bms.fault_flags") is Quality.BAD_DEVICE_FAILURE
            assert bus.safe_frames() == {}
            rows = {row.name: row for row in await bus.probe("bms")}
            assert (rows["current"].raw, rows["current"].value, rows["current"].address) == ("FFCE", -5.0, "22F00C+0")
            assert rows["fault_flags"].quality is Quality.BAD_DEVICE_FAILURE
            orion.answers[b":0322F100"] = b":1B62F10080E8"
            await board.until(lambda: board.samples["device.bms.cell.1.voltage"][1].is_bad)
            assert board.quality("device.bms.cell.1.voltage") is Quality.BAD_COMMUNICATION_ERROR


async def test_a_cell_outside_its_range_is_bad_alone() -> None:
    device_map = load_map(Path(maps_dir()) / "orion_jr.toml")
    with Pty() as pty:
        OrionOnPty(pty, {**ORION, b":0322F100": b":1B62F10080E8FFFF80E880E8" + b"0000" * 8})
        transport = TransportSettings(id="bms", kind="serial", port=pty.path)
        device = DeviceSettings(id="bms", map=device_map, transport="bms", cells=4, period_s=0.05, timeout_s=0.1)
        board = Board()
        config = FieldConfig(transports=(transport,), devices=(device,))
        bus = FieldBus(config, board.claim, SystemClock(), on_block=board.on_block, resolve_port=as_is)
        async with running(bus):
            await board.until(lambda: "device.bms.cell.2.voltage" in board.samples)
            assert board.quality("device.bms.cell.2.voltage") is Quality.BAD_OUT_OF_RANGE
            assert board.quality("device.bms.cell.1.voltage") is Quality.GOOD
