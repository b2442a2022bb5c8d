"""The field against Modbus TCP devices: reading, losing, recovering, writing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.data import maps_dir
from gateway.errors import DeviceRefused, TransportClosed, TransportTimeout
from gateway.field.bus import FieldBus
from gateway.field.device_map import load_map
from gateway.field.drivers.base import BadRequest
from gateway.field.settings import DeviceSettings, FieldConfig, TransportSettings
from gateway.points import Quality
from tests.unit.field.fakes import Board, Registers, TcpDevice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAB = load_map(Path(maps_dir()) / "dab_controlcard.toml")
RACK = load_map(Path(maps_dir()) / "rack_bms_modbus.toml")


def dab_registers() -> Registers:
    return Registers(input={0: 0xDAB1, 1: 0x0102, 2: 0x0304, 3: 0x0100, 300: 4, 311: 1320, 312: 0x10000 - 500, 313: 2401, 314: 2})


def rack_registers(cells: int = 4) -> Registers:
    return Registers(input={0: 0xB355, 1: 0x0100, 10: 250, 11: 1320, **{100 + cell: 33000 + cell for cell in range(cells)}})


@asynccontextmanager
async def running(bus: FieldBus) -> AsyncIterator[None]:
    task = asyncio.create_task(bus.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def as_is(port: str) -> str:
    return port


def one_line(port: int, *devices: DeviceSettings, **options: object) -> FieldConfig:
    transport = TransportSettings(id="line", kind="modbus_tcp", port=f"127.0.0.1:{port}", options=options)
    return FieldConfig(transports=(transport,), devices=devices)


def dab(**changes: object) -> DeviceSettings:
    base = DeviceSettings(id="dab", map=DAB, transport="line", unit=1, period_s=0.02, timeout_s=0.15)
    return replace(base, **changes)


def rack(**changes: object) -> DeviceSettings:
    base = DeviceSettings(id="rack", map=RACK, transport="line", unit=2, cells=4, period_s=0.02, timeout_s=0.15)
    return replace(base, **changes)


def build(config: FieldConfig) -> tuple[FieldBus, Board]:
    board = Board()
    return FieldBus(config, board.claim, SystemClock(), on_block=board.on_block, resolve_port=as_is), board


async def test_values_arrive_scaled_with_sign_quality_and_time() -> None:
    async with TcpDevice({1: dab_registers(), 2: rack_registers()}) as device:
        bus, board = build(one_line(device.port, dab(), rack()))
        async with running(bus):
            wanted = {"device.dab.bus_voltage", "device.rack.cell.4.voltage", "device.dab.vendor"}
            await board.until(lambda: wanted <= board.samples.keys())
            assert board.value("device.dab.battery_current") == pytest.approx(-5.0)
            assert board.value("device.dab.battery_voltage") == pytest.approx(13.2)
            assert board.value("device.rack.cell.4.voltage") == pytest.approx(3.3003)
            value, quality, time_ns = board.samples["device.dab.bus_voltage"]
            assert (value, quality) == (pytest.approx(24.01), Quality.GOOD)
            assert abs(SystemClock().utc_ns() - (time_ns or 0)) < 5e9
            assert board.value("device.dab.comm.state") == 2
            assert board.value("device.dab.vendor") == ""


async def test_a_silent_unit_goes_bad_and_its_neighbour_keeps_its_cadence_and_it_recovers() -> None:
    units = {1: dab_registers(), 2: rack_registers()}
    async with TcpDevice(units) as device:
        bus, board = build(one_line(device.port, dab(), rack()))
        async with running(bus):
            await board.until(lambda: bus.online("dab") and bus.online("rack"))
            silent = units.pop(1)
            await board.until(lambda: not bus.online("dab"))
            assert board.quality("device.dab.battery_current") is Quality.BAD_NO_COMMUNICATION
            assert board.value("device.dab.comm.state") == 3
            assert "no answer" in str(board.value("device.dab.comm.last_error"))
            assert board.value("device.dab.comm.next_retry") != ""
            board.blocks.clear()
            await asyncio.sleep(0.4)
            assert board.blocks.count(("rack", "fast")) > 10
            assert board.quality("device.rack.current") is Quality.GOOD
            units[1] = silent
            await board.until(lambda: bus.online("dab"))
            await board.until(lambda: board.quality("device.dab.battery_current") is Quality.GOOD)
            assert board.value("device.dab.comm.next_retry") == ""


async def test_one_lost_answer_is_repeated_and_nobody_notices() -> None:
    async with TcpDevice({2: rack_registers()}) as device:
        bus, board = build(one_line(device.port, rack()))
        async with running(bus):
            await board.until(lambda: board.blocks.count(("rack", "fast")) > 5)
            drop = iter([None])
            device.mangle = lambda frame: next(drop, frame)
            errors = board.value("device.rack.comm.errors")
            await board.until(lambda: board.value("device.rack.comm.errors") != errors)
            board.blocks.clear()
            await board.until(lambda: board.blocks.count(("rack", "fast")) > 5)
            assert all(quality is Quality.GOOD for name, _, quality in board.history if name == "device.rack.current")


async def test_garbage_instead_of_a_header_makes_a_new_connection() -> None:
    async with TcpDevice({2: rack_registers()}) as device:
        bus, board = build(one_line(device.port, rack()))
        async with running(bus):
            await board.until(lambda: bus.online("rack"))
            garbage = iter([b"GET / HTTP/1.1"] * 2)
            device.mangle = lambda frame: next(garbage, frame)
            await board.until(lambda: not bus.online("rack"))
            await board.until(lambda: bus.online("rack"))
            assert device.connections >= 2


async def test_a_stranger_at_the_address_is_not_polled() -> None:
    stranger = rack_registers()
    stranger.input[0] = 0x1234
    async with TcpDevice({2: stranger}) as device:
        bus, board = build(one_line(device.port, rack()))
        async with running(bus):
            await board.until(lambda: board.value("device.rack.comm.state") == 4)
            assert board.quality("device.rack.current") is Quality.BAD_CONFIGURATION_ERROR
            assert "0x1234" in str(board.value("device.rack.comm.last_error")) or len(stranger.requests) == 1
            assert len(stranger.requests) == 1


async def test_a_refused_block_is_bad_alone() -> None:
    units = {1: dab_registers()}
    units[1].refuse[3] = 2
    async with TcpDevice(units) as device:
        bus, board = build(one_line(device.port, dab()))
        async with running(bus):
            await board.until(lambda: "device.dab.ramp_down_time" in board.samples and ("dab", "fast") in board.blocks)
            assert board.quality("device.dab.ramp_down_time") is Quality.BAD_DEVICE_FAILURE
            assert board.quality("device.dab.battery_voltage") is Quality.GOOD
            assert bus.online("dab")


async def test_setpoints_of_a_block_go_out_together_with_a_new_heartbeat() -> None:
    registers = dab_registers()
    async with TcpDevice({1: registers}) as device:
        bus, board = build(one_line(device.port, dab()))
        async with running(bus):
            await board.until(lambda: bus.online("dab"))
            await bus.write("dab", {"mode_setpoint": 2, "current_setpoint": -2.5, "enable": 1})
            written = [pdu for pdu in registers.requests if pdu[0] == 16]
            assert written == [bytes.fromhex("10 00C8 000A 14 0002 FF06 0000 1388 0064 0001 0001 0000 0000 0000")]
            await bus.refresh("dab")
            assert registers.holding[206] == 2
            assert registers.holding[201] == 0xFF06
            assert await bus.read_back("dab", ["current_setpoint", "enable", "reset"]) == {
                "current_setpoint": -2.5,
                "enable": 1.0,
            }


async def test_after_a_loss_the_heartbeat_carries_safe_values() -> None:
    units = {1: dab_registers()}
    registers = units[1]
    async with TcpDevice(units) as device:
        bus, board = build(one_line(device.port, dab()))
        async with running(bus):
            await board.until(lambda: bus.online("dab"))
            await bus.write("dab", {"mode_setpoint": 2, "current_setpoint": -2.5, "enable": 1})
            units.clear()
            await board.until(lambda: not bus.online("dab"))
            with pytest.raises(TransportClosed, match="not connected"):
                await bus.refresh("dab")
            units[1] = registers
            await board.until(lambda: bus.online("dab"))
            await bus.refresh("dab")
            assert (registers.holding[200], registers.holding[201], registers.holding[205]) == (0, 0, 0)


async def test_a_write_without_an_answer_is_not_undone_by_the_next_heartbeat() -> None:
    registers = dab_registers()
    async with TcpDevice({1: registers}) as device:
        bus, board = build(one_line(device.port, dab()))
        async with running(bus):
            await board.until(lambda: bus.online("dab"))
            await bus.write("dab", {"mode_setpoint": 2, "enable": 1})
            device.mangle = lambda frame: None if frame[7] == 16 else frame
            with pytest.raises(TransportTimeout):
                await bus.write("dab", {"mode_setpoint": 0, "enable": 0})
            device.mangle = lambda frame: frame
            await bus.refresh("dab")
            assert (registers.holding[200], registers.holding[205]) == (0, 0)


async def test_a_refused_write_says_why_and_leaves_the_block_as_it_was() -> None:
    registers = dab_registers()
    async with TcpDevice({1: registers}) as device:
        bus, board = build(one_line(device.port, dab()))
        async with running(bus):
            await board.until(lambda: bus.online("dab"))
            await bus.write("dab", {"current_setpoint": 1.0})
            registers.refuse[16] = 3
            with pytest.raises(DeviceRefused) as caught:
                await bus.write("dab", {"current_setpoint": 2.0})
            assert caught.value.code == 3
            registers.refuse.clear()
            await bus.refresh("dab")
            assert registers.holding[201] == 100


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"current_setpoint": 7.0}, "outside -6.25 to 6.25 A"),
        ({"battery_current": 1.0}, "no setpoint 'battery_current'"),
        ({"current_setpoint": float("nan")}, "not a number"),
    ],
)
async def test_what_the_map_forbids_is_refused_before_anything_is_sent(values: dict[str, float], reason: str) -> None:
    registers = dab_registers()
    async with TcpDevice({1: registers}) as device:
        bus, board = build(one_line(device.port, dab()))
        async with running(bus):
            await board.until(lambda: bus.online("dab"))
            with pytest.raises(BadRequest, match=reason):
                await bus.write("dab", values)
            assert all(pdu[0] in {3, 4} for pdu in registers.requests)


async def test_no_write_leaves_for_a_read_only_device() -> None:
    registers = dab_registers()
    async with TcpDevice({1: registers}) as device:
        bus, board = build(one_line(device.port, dab(options={"read_only": True})))
        async with running(bus):
            await board.until(lambda: bus.online("dab"))
            with pytest.raises(BadRequest, match="read-only"):
                await bus.write("dab", {"current_setpoint": 0.0})
            await bus.refresh("dab")
            assert all(pdu[0] in {3, 4} for pdu in registers.requests)
        assert bus.safe_frames() == {}


async def test_probe_shows_raw_beside_scaled() -> None:
    async with TcpDevice({1: dab_registers()}) as device:
        bus, _ = build(one_line(device.port, dab()))
        async with running(bus):
            rows = {row.name: row for row in await bus.probe("dab")}
            row = rows["battery_current"]
            assert (row.raw, row.value, row.unit, row.quality, row.address) == ("FE0C", -5.0, "A", Quality.GOOD, "input 312")
            assert rows["state"].value == 4
            assert "reset" not in rows


async def test_an_unreachable_port_is_reported_and_tried_again() -> None:
    device = TcpDevice({2: rack_registers()})
    await device.start()
    await device.stop()
    bus, board = build(one_line(device.port, rack()))
    async with running(bus):
        await board.until(lambda: board.value("device.rack.comm.state") == 3)
        assert board.quality("device.rack.current") is Quality.BAD_NO_COMMUNICATION
        with pytest.raises(TransportClosed, match="cannot be reached"):
            await bus.write("rack", {})
        async with device:
            await board.until(lambda: bus.online("rack"))


async def test_safe_frames_are_whole_messages_for_a_program_without_us() -> None:
    bus, _ = build(one_line(5020, dab()))
    entry = bus.safe_frames()["dab"]
    assert entry == {
        "kind": "tcp",
        "port": "127.0.0.1:5020",
        "frames": [
            {
                "send": "00010000001b011000c8000a14" + "00000000000013880064" + "0000" * 5,
                "expect": "000100000006011000c8000a",
            }
        ],
        "timeout_s": 0.15,
    }
