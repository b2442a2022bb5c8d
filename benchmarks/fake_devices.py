"""Devices for benchmarks, encoded by hand: a rack BMS and a DC-DC converter that answer Modbus TCP or Modbus RTU.

They do no physics. What matters is when things happen: a register can be changed at a known moment, and the moment at
which a safe write has arrived is noted (`time.perf_counter`, seconds). Register numbers are those of the two device maps.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import time
import tty
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READ_HOLDING, READ_INPUT, WRITE_ONE, WRITE_MANY = 3, 4, 6, 16
ILLEGAL_FUNCTION = 1

SET_VALUES, SET_COUNT = 200, 10
MODE, CURRENT, ENABLE, HEARTBEAT = 200, 201, 205, 206
CURRENT_MODE = 2
STATE_OFF, STATE_CURRENT = 1, 4


def word(value: float, scale: float = 1.0) -> int:
    """A number as a register, two's complement."""
    return round(value / scale) & 0xFFFF


@dataclass
class Converter:
    """A converter that does at once what it is told, and calls `on_safe` when it is told to be off while it was on."""

    on_safe: Callable[[float], None] = lambda _: None
    holding: dict[int, int] = field(default_factory=dict)
    enabled = False

    def __post_init__(self) -> None:
        # Limits, trips and time-outs as after power-up: 20 V, 0 V, 75 W, 15 V, 10 V, 27 V, 21 V, 1 s, 0.5 s.
        power_up = {100: 2000, 101: 0, 106: 750, 107: 750, 108: 1500, 109: 1000, 110: 2700, 111: 2100, 140: 10, 142: 5}
        self.holding = power_up | dict.fromkeys(range(SET_VALUES, SET_VALUES + SET_COUNT), 0)

    @property
    def current_A(self) -> float:
        """What flows: the set current while enabled, + = discharge."""
        raw = self.holding[CURRENT]
        return (raw - 0x10000 if raw & 0x8000 else raw) * 0.01 if self.enabled else 0.0

    def input(self, _: float) -> Mapping[int, int]:
        """The input registers, now."""
        amperes = self.current_A
        ratings = {41: 2000, 45: 625, 46: 625, 48: 750, 50: 5000}
        state = {
            300: STATE_CURRENT if self.enabled else STATE_OFF,
            301: 100,
            302: self.holding[MODE],
            308: self.holding[HEARTBEAT],
        }
        actual = {311: 1320, 312: word(amperes, 0.01), 313: 2400, 314: word(amperes * 0.55, 0.01), 317: 250, 318: 250, 319: 250}
        power = {315: word(amperes * 13.2, 0.1), 316: word(amperes * 13.2, 0.1), 323: word(amperes, 0.01)}
        ticks = {309: int(time.monotonic() * 10) & 0xFFFF, 327: int(time.monotonic() * 1000) & 0xFFFF}
        return {0: 0xDAB1, 1: 0x0102, 2: 0x0304, 3: 0x0100, 28: 0x0100} | ratings | state | actual | power | ticks

    def write(self, address: int, values: list[int], arrived: float) -> None:
        """Holding registers are written; `arrived` is when the last byte came."""
        self.holding.update({address + offset: value for offset, value in enumerate(values)})
        was, self.enabled = self.enabled, bool(self.holding[ENABLE]) and self.holding[MODE] == CURRENT_MODE
        if was and not self.enabled:
            self.on_safe(arrived)


@dataclass
class Battery:
    """A BMS whose current follows its converter, unless a test says otherwise."""

    converter: Converter
    override_A: float | None = None
    holding: dict[int, int] = field(default_factory=dict)

    def input(self, _: float) -> Mapping[int, int]:
        """The input registers, now."""
        amperes = self.converter.current_A if self.override_A is None else self.override_A
        head = {0: 0xB355, 1: 0x0100, 2: 4, 3: 2, 10: word(amperes, 0.01), 11: 1320, 12: 500, 13: 1000}
        rest = {14: 250, 15: 240, 16: 100, 17: 100, 18: 0, 19: 0, 20: 0, 21: int(time.monotonic() * 10) & 0xFFFF}
        return head | rest | {100 + cell: 33000 + random.randint(-1, 1) for cell in range(4)}

    def write(self, address: int, values: list[int], arrived: float) -> None:
        """Nothing can be written."""


Device = Converter | Battery


def answer(device: Device, pdu: bytes, arrived: float) -> bytes:
    """The response PDU."""
    function = pdu[0]
    if function in {READ_HOLDING, READ_INPUT}:
        address, count = struct.unpack(">HH", pdu[1:5])
        registers = device.holding if function == READ_HOLDING else device.input(arrived)
        words = [registers.get(number, 0) for number in range(address, address + count)]
        return struct.pack(f">BB{count}H", function, 2 * count, *words)
    if function == WRITE_ONE:
        address, value = struct.unpack(">HH", pdu[1:5])
        device.write(address, [value], arrived)
        return pdu
    if function == WRITE_MANY:
        address, count = struct.unpack(">HH", pdu[1:5])
        device.write(address, list(struct.unpack(f">{count}H", pdu[6 : 6 + 2 * count])), arrived)
        return pdu[:5]
    return bytes([function | 0x80, ILLEGAL_FUNCTION])


class TcpDevice:
    """A device behind a Modbus TCP port of its own."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen on a free port; returns "host:port"."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _, length, unit = struct.unpack(">HHHB", head)
                pdu = await reader.readexactly(length - 1)
                response = answer(self._device, pdu, time.perf_counter())
                writer.write(struct.pack(">HHHB", transaction, 0, len(response) + 1, unit) + response)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class RtuLine:
    """A serial line on a pty with several devices; every byte takes its time (8 data bits, 10 bits with start and stop)."""

    def __init__(self, devices: Mapping[int, Device], baud: int) -> None:
        self._devices = devices
        self._byte_s = 10.0 / baud
        self._received = b""
        self._busy: set[asyncio.Task[None]] = set()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        tty.setraw(self._master)

    def start(self) -> str:
        """Serve the line; returns the path of the port."""
        asyncio.get_running_loop().add_reader(self._master, self._on_bytes)
        return os.ttyname(self._slave)

    def stop(self) -> None:
        """Close the line."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _on_bytes(self) -> None:
        self._received += os.read(self._master, 512)
        while len(self._received) >= 8:
            many = self._received[1] == WRITE_MANY
            length = 9 + self._received[6] if many else 8
            if len(self._received) < length:
                return
            frame, self._received = self._received[:length], self._received[length:]
            if crc16(frame) != 0:
                self._received = b""
                return
            task = asyncio.ensure_future(self._reply(frame))
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)

    async def _reply(self, frame: bytes) -> None:
        """The bytes came at once through the pty; the line would still be carrying them."""
        device = self._devices.get(frame[0])
        if device is None:
            return
        await asyncio.sleep(len(frame) * self._byte_s)
        body = frame[:1] + answer(device, frame[1:-2], time.perf_counter())
        await asyncio.sleep((len(body) + 2) * self._byte_s)
        os.write(self._master, body + struct.pack("<H", crc16(body)))


def crc16(data: bytes) -> int:
    """Modbus CRC (Modbus over serial line V1.02, 6.2.2); zero over a frame with its own CRC."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc
