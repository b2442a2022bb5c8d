"""Modbus RTU over a serial line: MODBUS over Serial Line V1.02, 2.5.1.

    <unit> <PDU: function, data> <CRC low> <CRC high>      3.5 characters of silence between frames

The frame of the answer is looked for anywhere in what arrives, by unit, function, length and CRC, so that noise before
it, another unit's late answer, or a pause inside it do no harm; a frame that fits but for its CRC is reported as damage.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pymodbus.framer.rtu import FramerRTU

from gateway.errors import TransportClosed
from gateway.field.transports.base import FrameLog, Request, forbid_write
from gateway.field.transports.inbox import Inbox
from gateway.field.transports.serial_port import LineSettings, SerialPort, line_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gateway.field.settings import TransportSettings

READ_FUNCTIONS = frozenset({0x01, 0x02, 0x03, 0x04, 0x2B})
"""Functions that only read: coils, discrete inputs, holding and input registers, device identification."""
EXCEPTION_BIT = 0x80
_EXCEPTION_PDU_BYTES = 2
_FIXED_SILENCE_BAUD, _FIXED_SILENCE_S = 19200, 0.00175
"""Above 19200 baud the silence is 1.75 ms, MODBUS over Serial Line V1.02, 2.5.1.1."""


def open_transport(settings: TransportSettings, port: str, read_only: Collection[int]) -> ModbusRtu:
    """The transport of kind "modbus_rtu". ValueError when an option makes no sense."""
    line = line_settings(settings.options, LineSettings(baud=19200, parity="E"))
    return ModbusRtu(port, line, read_only, echo=settings.options.get("echo") is True)


class ModbusRtu:
    """A serial line with Modbus devices. With `echo` the adapter hands our own request back before the answer."""

    sends_at_once = False

    def __init__(self, path: str, line: LineSettings, read_only: Collection[int] = (), *, echo: bool = False) -> None:
        self.frames = FrameLog()
        self._inbox = Inbox(self.frames)
        self._port = SerialPort(path, line, self._arrived, self._inbox.fail)
        self._read_only = frozenset(read_only)
        self._echo = echo
        self._silence_s = _FIXED_SILENCE_S if line.baud > _FIXED_SILENCE_BAUD else line.seconds(3.5)
        self._quiet_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._port.is_open

    async def open(self) -> None:
        await self._port.open()

    async def close(self) -> None:
        self._port.close()
        self._inbox.fail("the line was closed")

    async def exchange(self, request: Request, timeout_s: float) -> bytes:
        forbid_write(request, self._read_only, changes=request.payload[0] not in READ_FUNCTIONS)
        loop = asyncio.get_running_loop()
        await self._wait_for_silence(loop)
        if not self._port.is_open:
            msg = "the line is closed"
            raise TransportClosed(msg)
        self._inbox.flush()
        frame = rtu_frame(request.unit, request.payload)
        search = AnswerSearch(request, self._inbox.note_damage, frame if self._echo else b"")
        self._inbox.expect(search.find)
        self._port.write(frame)
        self.frames.sent(frame)
        self._quiet_since = loop.time()
        return await self._inbox.wait(timeout_s)

    async def _wait_for_silence(self, loop: asyncio.AbstractEventLoop) -> None:
        rest_s = self._quiet_since + self._silence_s - loop.time()
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    def _arrived(self, data: bytes) -> None:
        self._quiet_since = asyncio.get_running_loop().time()
        self._inbox.feed(data)


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """Unit, PDU and CRC-16 (polynomial 0xA001, start 0xFFFF, low byte first)."""
    body = bytes([unit]) + pdu
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


class AnswerSearch:
    """Finds the answer to one request in what arrives."""

    def __init__(self, request: Request, note_damage: Callable[[str], None], echo: bytes) -> None:
        self._unit, self._function = request.unit, request.payload[0]
        self._normal_bytes = request.answer_bytes
        self._note_damage = note_damage
        self._echo = echo

    def find(self, buffer: bytes) -> tuple[bytes | None, int]:
        """(answer PDU, bytes used up) as soon as a sound frame lies anywhere in the buffer."""
        skipped = 0
        if self._echo and buffer.startswith(self._echo):
            skipped = len(self._echo)
        for at in range(skipped, len(buffer) - 3):
            if buffer[at] != self._unit or buffer[at + 1] & ~EXCEPTION_BIT != self._function:
                continue
            size = self._pdu_bytes(buffer, at + 1)
            end = at + 1 + size + 2
            if size == 0 or end > len(buffer):
                continue
            if FramerRTU.compute_CRC(buffer[at : end - 2]).to_bytes(2, "big") == buffer[end - 2 : end]:
                return buffer[at + 1 : end - 2], end
            self._note_damage(f"damaged frame (CRC): {buffer[at:end][:32].hex(' ')}")
        return None, 0

    def _pdu_bytes(self, buffer: bytes, at: int) -> int:
        """Length of the PDU that seems to begin at `at`; 0 when it cannot be the answer."""
        if buffer[at] & EXCEPTION_BIT:
            return _EXCEPTION_PDU_BYTES
        if self._normal_bytes is not None:
            carries_count = self._function in READ_FUNCTIONS and self._function != 0x2B
            fits = not carries_count or buffer[at + 1] + 2 == self._normal_bytes
            return self._normal_bytes if fits else 0
        return buffer[at + 1] + 2
