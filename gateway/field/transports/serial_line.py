"""Lines of text over a serial port: a request, then one line that ends with a line feed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import TransportClosed
from gateway.field.transports.base import FrameLog, Request, forbid_write
from gateway.field.transports.inbox import Inbox
from gateway.field.transports.serial_port import LineSettings, SerialPort, line_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gateway.field.settings import TransportSettings

_END = b"\n"


def open_transport(settings: TransportSettings, port: str, read_only: Collection[int]) -> SerialLine:
    """The transport of kind "serial". ValueError when an option makes no sense."""
    return SerialLine(port, line_settings(settings.options, LineSettings(baud=9600)), read_only)


class SerialLine:
    """A serial port on which one device answers each line with one line."""

    sends_at_once = False

    def __init__(self, path: str, line: LineSettings, read_only: Collection[int] = ()) -> None:
        self.frames = FrameLog()
        self._inbox = Inbox(self.frames)
        self._port = SerialPort(path, line, self._inbox.feed, self._inbox.fail)
        self._read_only = frozenset(read_only)

    @property
    def is_open(self) -> bool:
        return self._port.is_open

    async def open(self) -> None:
        await self._port.open()

    async def close(self) -> None:
        self._port.close()
        self._inbox.fail("the line was closed")

    async def exchange(self, request: Request, timeout_s: float) -> bytes:
        forbid_write(request, self._read_only, changes=request.writes)
        if not self._port.is_open:
            msg = "the line is closed"
            raise TransportClosed(msg)
        await asyncio.sleep(0)  # bytes that wait in the driver are read, and dropped, before the request goes out
        self._inbox.flush()
        self._inbox.expect(_line_finder(request.mine, self._inbox.note_damage))
        self._port.write(request.payload)
        self.frames.sent(request.payload)
        return await self._inbox.wait(timeout_s)


def _line_finder(
    mine: Callable[[bytes], bool] | None, note_damage: Callable[[str], None]
) -> Callable[[bytes], tuple[bytes | None, int]]:
    """Finds the first whole line that is the answer; lines that are not are used up."""

    def find(buffer: bytes) -> tuple[bytes | None, int]:
        used = 0
        while (end := buffer.find(_END, used)) >= 0:
            line = buffer[used:end].strip(b"\r\0 ")
            used = end + 1
            if mine is None or mine(line):
                return line, used
            if line:
                note_damage(f"not the answer: {line[:40]!r}")
        return None, used

    return find
