"""Modbus TCP: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.

    <transaction 2> <protocol 0 2> <length 2> <unit> <PDU>        length counts unit and PDU

A protocol of our own on the event loop: answers are handed on as bytes, so that a block is decoded once, where its map is
known. One request is in flight per connection; an answer of an earlier transaction is dropped.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, cast

from gateway.errors import FrameError, TransportClosed, TransportTimeout
from gateway.field.transports.base import FrameLog, Request, forbid_write
from gateway.field.transports.modbus_rtu import EXCEPTION_BIT, READ_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from gateway.field.settings import TransportSettings

DEFAULT_PORT = 502
_HEADER = struct.Struct(">HHHB")
_MIN_LENGTH, _MAX_LENGTH = 3, 254
"""Unit, function and one byte at least; unit and a PDU of 253 bytes at most (V1.0b, 3.1.3)."""
_CONNECT_TIMEOUT_S = 3.0
_TIMER_STEP_S = 0.002
"""Event loops count in milliseconds: a timer may ring this much early."""


def open_transport(settings: TransportSettings, port: str, read_only: Collection[int]) -> ModbusTcp:
    """The transport of kind "modbus_tcp"; `port` is "host:port", or "host" for port 502."""
    del settings
    host, found, number = port.rpartition(":")
    if not found:
        return ModbusTcp(port, DEFAULT_PORT, read_only)
    return ModbusTcp(host.strip("[]"), int(number) if number.isdecimal() else 0, read_only)


def tcp_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Header and PDU."""
    return _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu


class ModbusTcp(asyncio.Protocol):
    """One connection, with one device or a gateway to several behind it."""

    sends_at_once = True

    def __init__(self, host: str, port: int, read_only: Collection[int] = ()) -> None:
        self.frames = FrameLog()
        self._host, self._port = host, port
        self._read_only = frozenset(read_only)
        self._stream: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._transaction = 0
        self._request: Request | None = None
        self._rest = b""
        self._deadline = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._note = self.frames.note

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    async def open(self) -> None:
        if not 0 < self._port < 0x10000:
            msg = f"no TCP port given for {self._host}: expected host:port"
            raise TransportClosed(msg)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: self, self._host, self._port)
        except (OSError, TimeoutError) as error:
            msg = f"{self._host}:{self._port} cannot be reached: {error or 'no answer'}"
            raise TransportClosed(msg) from error
        self._loop = loop

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._fail(TransportClosed("the connection was closed"))

    def exchange(self, request: Request, timeout_s: float) -> Awaitable[bytes]:
        payload = request.payload
        if self._read_only:
            forbid_write(request, self._read_only, changes=payload[0] not in READ_FUNCTIONS)
        stream, loop = self._stream, self._loop
        if stream is None or loop is None:
            msg = f"{self._host}:{self._port} is not connected"
            raise TransportClosed(msg)
        self._transaction = transaction = (self._transaction + 1) & 0xFFFF
        frame = _HEADER.pack(transaction, 0, len(payload) + 1, request.unit) + payload
        self._request = request
        self._waiter = waiter = loop.create_future()
        now = monotonic()
        self._deadline = deadline = now + timeout_s
        if self._alarm is None or self._alarm_at > deadline:
            self._set_alarm(loop, timeout_s)
        stream.write(frame)
        self._note((now, ">", frame))
        return waiter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # create_connection makes streams; those of uvloop are none of asyncio's classes, so there is nothing to check
        self._stream, self._rest = cast("asyncio.Transport", transport), b""
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream = None
        self._fail(TransportClosed(f"{self._host}:{self._port} closed the connection{f': {exc}' if exc else ''}"))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        while len(data) >= _HEADER.size:
            transaction, protocol, length, unit = _HEADER.unpack_from(data)
            if protocol != 0 or not _MIN_LENGTH <= length <= _MAX_LENGTH:
                self.frames.received(data)
                self._break_off(f"no Modbus TCP header: {data[:16].hex(' ')}")
                return
            end = 6 + length
            if len(data) < end:
                break
            waiter, request = self._waiter, self._request
            if waiter is None or request is None or transaction != self._transaction or waiter.done():
                self.frames.dropped(data[:end])
            else:
                self._note((monotonic(), "<", data[:end]))
                self._answer(waiter, request, unit, data[_HEADER.size : end])
            data = data[end:]
        self._rest = data

    def _answer(self, waiter: asyncio.Future[bytes], request: Request, unit: int, pdu: bytes) -> None:
        if unit != request.unit:
            waiter.set_exception(FrameError(f"unit {unit} answered instead of {request.unit}"))
        elif pdu[0] & ~EXCEPTION_BIT != request.payload[0]:
            waiter.set_exception(FrameError(f"answer to function {pdu[0] & 0x7F}, asked for {request.payload[0]}"))
        else:
            waiter.set_result(pdu)

    def _break_off(self, reason: str) -> None:
        """Where the next frame begins is unknown: only a new connection helps."""
        self._rest = b""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        self._fail(FrameError(reason))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        """One timer watches request after request: when it rings too early it is set anew, not at each request."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = self._deadline
        self._alarm = loop.call_later(max(0.0, self._deadline - monotonic()), self._ring, timeout_s)

    def _ring(self, timeout_s: float) -> None:
        self._alarm = None
        waiter, loop = self._waiter, self._loop
        if waiter is None or waiter.done() or loop is None:
            return
        if monotonic() >= self._deadline - _TIMER_STEP_S:
            waiter.set_exception(TransportTimeout(f"no answer within {timeout_s:.3g} s"))
        else:
            self._set_alarm(loop, timeout_s)
