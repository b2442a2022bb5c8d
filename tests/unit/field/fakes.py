"""Small devices for the field's own tests. They encode by hand and know nothing of our codec."""

from __future__ import annotations

import asyncio
import os
import struct
import tty
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway.points import Quality

if TYPE_CHECKING:
    from collections.abc import Callable


def crc16(data: bytes) -> bytes:
    """CRC-16/MODBUS, low byte first, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


@dataclass
class Registers:
    """A Modbus device's memory: answers PDUs. `refuse` maps a function code to an exception code."""

    input: dict[int, int] = field(default_factory=dict)
    holding: dict[int, int] = field(default_factory=dict)
    refuse: dict[int, int] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)

    def answer(self, pdu: bytes) -> bytes:
        self.requests.append(pdu)
        function = pdu[0]
        if function in self.refuse:
            return bytes([function | 0x80, self.refuse[function]])
        address, count = struct.unpack(">HH", pdu[1:5])
        if function in {3, 4}:
            table = self.holding if function == 3 else self.input
            data = b"".join(struct.pack(">H", table.get(at, 0)) for at in range(address, address + count))
            return bytes([function, len(data)]) + data
        if function == 6:
            self.holding[address] = count
            return pdu
        if function == 16:
            for at in range(count):
                self.holding[address + at] = struct.unpack_from(">H", pdu, 6 + 2 * at)[0]
            return pdu[:5]
        return bytes([function | 0x80, 1])


class TcpDevice:
    """A Modbus TCP device. `mangle(frame)` may change an answer, or give None for silence."""

    def __init__(self, units: dict[int, Registers]) -> None:
        self.units = units
        self.mangle: Callable[[bytes], bytes | None] = lambda frame: frame
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> TcpDevice:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
        for _ in range(3):
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                header = await reader.readexactly(7)
                transaction, protocol, length, unit = struct.unpack(">HHHB", header)
                pdu = await reader.readexactly(length - 1)
                if unit not in self.units:
                    continue
                answer = self.units[unit].answer(pdu)
                frame = self.mangle(struct.pack(">HHHB", transaction, protocol, len(answer) + 1, unit) + answer)
                if frame is not None:
                    writer.write(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Pty:
    """A pseudo-terminal whose far end is served by `on_bytes(data)`, which answers with `send`."""

    def __init__(self) -> None:
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        self.path = os.ttyname(self._near)
        self.received = bytearray()
        self.on_bytes: Callable[[bytes], None] = lambda data: None

    def __enter__(self) -> Pty:
        asyncio.get_running_loop().add_reader(self._far, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def unplug(self) -> None:
        if self._far >= 0:
            asyncio.get_running_loop().remove_reader(self._far)
            os.close(self._far)
            os.close(self._near)
            self._far = -1

    def send(self, data: bytes) -> None:
        os.write(self._far, data)

    def _read(self) -> None:
        data = os.read(self._far, 4096)
        self.received += data
        self.on_bytes(data)


class RtuDevice:
    """Modbus RTU units behind a pty; `mangle(unit, frame)` gives the pieces to be sent instead of the answer."""

    def __init__(self, pty: Pty, units: dict[int, Registers]) -> None:
        self.pty, self.units = pty, units
        self.mangle: Callable[[int, bytes], bytes] = lambda unit, frame: frame
        self._buffer = b""
        pty.on_bytes = self._bytes

    def _bytes(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 8:
            size = 9 + self._buffer[6] if self._buffer[1] == 16 else 8
            if len(self._buffer) < size:
                return
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            assert crc16(frame[:-2]) == frame[-2:]
            device = self.units.get(frame[0])
            if device is not None:
                body = frame[:1] + device.answer(frame[1:-2])
                answer = self.mangle(frame[0], body + crc16(body))
                if answer:
                    self.pty.send(answer)


@dataclass
class FakeSink:
    """Remembers what was published for its names."""

    names: tuple[str, ...]
    board: Board

    def publish(self, values: Any, qualities: Any, time_ns: int) -> None:
        assert len(values) == len(self.names)
        shared = [qualities] * len(values) if isinstance(qualities, Quality) else qualities
        for name, value, quality in zip(self.names, np.asarray(values).tolist(), shared, strict=True):
            self.put(name, value if quality < 128 else None, Quality(int(quality)), time_ns)

    def put(self, name: str, value: float | str | None, quality: Quality = Quality.GOOD, time_ns: int | None = None) -> None:
        assert name in self.names
        self.board.samples[name] = (value, quality, time_ns)
        self.board.history.append((name, value, quality))
        self.board.news.set()


class Board:
    """Stands for the table: the last sample of each point, and all of them in order."""

    def __init__(self) -> None:
        self.samples: dict[str, tuple[float | str | None, Quality, int | None]] = {}
        self.history: list[tuple[str, float | str | None, Quality]] = []
        self.blocks: list[tuple[str, str]] = []
        self._owner: dict[str, str] = {}
        self.news = asyncio.Event()

    def claim(self, names: Any, writer: str) -> FakeSink:
        for name in names:
            assert self._owner.setdefault(name, writer) == writer, f"{name} is claimed twice"
        return FakeSink(tuple(names), self)

    def on_block(self, device: str, scan: str) -> None:
        self.blocks.append((device, scan))
        self.news.set()

    def value(self, name: str) -> float | str | None:
        return self.samples[name][0]

    def quality(self, name: str) -> Quality:
        return self.samples[name][1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; the test's own time-out ends it otherwise."""
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()
