"""The field against a SCPI instrument on a socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.data import maps_dir
from gateway.errors import DeviceRefused
from gateway.field.bus import FieldBus
from gateway.field.device_map import load_map
from gateway.field.settings import DeviceSettings, FieldConfig, TransportSettings
from gateway.field.transports.base import Request, WriteForbidden
from gateway.field.transports.visa import Visa, is_query
from gateway.points import Quality
from tests.unit.field.fakes import Board
from tests.unit.field.test_bus_tcp import as_is, running


class Supply:
    """A few SCPI commands, answered by hand. `sink_sign` is the sign in which it takes its sink limit."""

    def __init__(self, sink_sign: int = -1) -> None:
        self.settings = {"VOLT": "24.00000", "OUTP": "0", "CURR:LIM": "10", "CURR:LIM:NEG": "-10", "VOLT:PROT": "28"}
        self.errors: list[str] = []
        self.commands: list[str] = []
        self.sink_sign = sink_sign
        self.identity = "Keysight Technologies,RP7932A,MY00000001,B.03.02"
        self.silent = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Supply:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                answer = self.answer(line.decode().strip())
                if answer is not None and not self.silent:
                    writer.write(answer.encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def answer(self, text: str) -> str | None:
        self.commands.append(text)
        fixed = {
            "*IDN?": self.identity,
            "MEAS:VOLT?": "+2.400100E+01",
            "MEAS:CURR?": "-3.000000E+00",
            "MEAS:POW?": "+9.91E+37",
            "STAT:OPER:COND?": "1",
            "STAT:QUES1:COND?": "2048",
            "STAT:QUES2:COND?": "0",
            "FUNC?": "VOLT",
            "CURR:LIM:NEG? MIN": "-125" if self.sink_sign < 0 else "0",
            "CURR:LIM:NEG? MAX": "0" if self.sink_sign < 0 else "125",
            "OUTP:PROT:WDOG:DEL?": "60",
            "OUTP:PROT:WDOG?": "0",
        }
        if text in fixed:
            return fixed[text]
        if text == "SYST:ERR?":
            return self.errors.pop(0) if self.errors else '+0,"No error"'
        if text.endswith("?"):
            return self.settings.get(text[:-1])
        header, _, value = text.partition(" ")
        if header == "VOLT" and float(value) > 80:
            self.errors.append('-222,"Data out of range"')
        else:
            self.settings[header] = value
        return None


def site(supply: Supply) -> tuple[FieldBus, Board]:
    device_map = load_map(Path(maps_dir()) / "keysight_rp793x.toml")
    transport = TransportSettings(id="rps", kind="visa", port=f"TCPIP0::127.0.0.1::{supply.port}::SOCKET")
    device = DeviceSettings(id="rps", map=device_map, transport="rps", period_s=0.05, timeout_s=0.5)
    board = Board()
    config = FieldConfig(transports=(transport,), devices=(device,))
    return FieldBus(config, board.claim, SystemClock(), on_block=board.on_block, resolve_port=as_is), board


async def test_measurements_conditions_and_identity() -> None:
    async with Supply() as supply:
        bus, board = site(supply)
        async with running(bus):
            wanted = {"device.rps.power", "device.rps.identification", "device.rps.sink_current_limit"}
            await board.until(lambda: wanted <= board.samples.keys())
            assert board.value("device.rps.voltage") == pytest.approx(24.001)
            assert board.value("device.rps.current") == pytest.approx(-3.0)
            assert board.quality("device.rps.power") is Quality.BAD_SENSOR_FAILURE
            assert board.value("device.rps.fault_flags") == 2048
            assert board.value("device.rps.priority_mode") == 0
            assert board.value("device.rps.sink_current_limit") == pytest.approx(10.0)
            assert board.value("device.rps.identification") == supply.identity


@pytest.mark.parametrize(("sign", "sent"), [(-1, "CURR:LIM:NEG -7.5"), (1, "CURR:LIM:NEG 7.5")])
async def test_the_sink_limit_is_written_with_the_instruments_own_sign(sign: int, sent: str) -> None:
    async with Supply(sign) as supply:
        bus, board = site(supply)
        async with running(bus):
            await board.until(lambda: bus.online("rps"))
            await bus.write("rps", {"sink_current_limit": 7.5})
            assert sent in supply.commands
            assert await bus.read_back("rps", ["sink_current_limit"]) == {"sink_current_limit": 7.5}


async def test_commands_are_formatted_and_errors_come_back_with_their_number() -> None:
    async with Supply() as supply:
        supply.errors = ['-113,"Undefined header"', "-222,Data out of range"]
        bus, board = site(supply)
        async with running(bus):
            await board.until(lambda: bus.online("rps"))
            assert supply.errors == []
            await bus.write("rps", {"output_enable": 1, "clear_protection": 1, "watchdog_delay": 5})
            sent = [text for text in supply.commands if "?" not in text]
            assert sent == ["OUTP 1", "OUTP 0;:OUTP:PROT:CLE", "OUTP:PROT:WDOG:DEL 5"]
            with pytest.raises(DeviceRefused, match="Data out of range") as caught:
                await bus.write("rps", {"voltage_setpoint": 81.0})
            assert caught.value.code == -222
            await bus.write("rps", {"clear_protection": 0})
            assert [text for text in supply.commands if "?" not in text][-1] == "VOLT 81"
            await bus.refresh("rps")


async def test_another_instrument_is_not_polled() -> None:
    async with Supply() as supply:
        supply.identity = "ACME,PSU1,0,1"
        bus, board = site(supply)
        async with running(bus):
            await board.until(lambda: board.value("device.rps.comm.state") == 4)
            assert board.quality("device.rps.voltage") is Quality.BAD_CONFIGURATION_ERROR
            assert "MEAS:VOLT?" not in supply.commands


async def test_a_silent_instrument_goes_bad_and_comes_back_on_a_new_connection() -> None:
    async with Supply() as supply:
        bus, board = site(supply)
        async with running(bus):
            await board.until(lambda: "device.rps.voltage" in board.samples)
            supply.silent = True
            await board.until(lambda: not bus.online("rps"))
            assert board.quality("device.rps.voltage").is_bad
            supply.silent = False
            await board.until(lambda: bus.online("rps"))
            await board.until(lambda: board.quality("device.rps.voltage") is Quality.GOOD)


async def test_safe_frames_switch_the_output_off() -> None:
    async with Supply() as supply:
        bus, _ = site(supply)
        entry = bus.safe_frames()["rps"]
        assert isinstance(entry, dict)
        assert (entry["kind"], entry["port"]) == ("tcp", f"127.0.0.1:{supply.port}")
        (frame,) = entry["frames"]
        assert bytes.fromhex(frame["send"]) == b"OUTP 0\nOUTP?\n"  # the command, and what shows that it was obeyed
        assert (frame["expect"], frame["reading"]) == (None, 0.0)


async def test_no_command_leaves_for_a_read_only_instrument() -> None:
    async with Supply() as supply:
        instrument = Visa(f"TCPIP0::127.0.0.1::{supply.port}::SOCKET", read_only={1})
        await instrument.open()
        for text in (b"OUTP 1", b"OUTP?;:OUTP 1", b"*RST"):
            with pytest.raises(WriteForbidden):
                await instrument.exchange(Request(1, text), 0.5)
        assert await instrument.exchange(Request(1, b"OUTP?"), 0.5) == b"0"
        await instrument.close()
        assert supply.commands == ["OUTP?"]


@pytest.mark.parametrize(
    ("text", "asks"), [(b"VOLT? MAX", True), (b"MEAS:VOLT?;CURR?", True), (b"VOLT 1", False), (b"A?;B 1", False)]
)
def test_what_counts_as_a_query(text: bytes, asks: bool) -> None:
    assert is_query(text) is asks
