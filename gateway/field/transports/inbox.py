"""Waiting for one complete message out of a stream of bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import FieldError, FrameError, TransportClosed, TransportTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.field.transports.base import FrameLog

MAX_BYTES = 4096
"""More than this without a message is garbage, and dropped."""


class Inbox:
    """Collects bytes until `find` sees a whole message in them.

    `find(buffer)` gives (message, bytes used up); message None means not yet, or garbage when bytes are used up. It may
    raise FrameError, which ends the wait.
    """

    def __init__(self, frames: FrameLog) -> None:
        self._frames = frames
        self._buffer = bytearray()
        self._find: Callable[[bytes], tuple[bytes | None, int]] | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._damaged = ""

    def feed(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._buffer += data
        if self._waiter is not None and not self._waiter.done():
            self._look()
        if len(self._buffer) > MAX_BYTES:
            self._frames.dropped(bytes(self._buffer[:64]))
            self._buffer.clear()

    def flush(self) -> None:
        """Drop what arrived without having been asked for."""
        if self._buffer:
            self._frames.dropped(bytes(self._buffer))
            self._buffer.clear()

    def fail(self, reason: str) -> None:
        """The pipe is gone: whoever waits is told."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TransportClosed(reason))

    def expect(self, find: Callable[[bytes], tuple[bytes | None, int]]) -> None:
        """Get ready for an answer, before the request goes out."""
        self._find, self._damaged = find, ""
        self._waiter = asyncio.get_running_loop().create_future()

    async def wait(self, timeout_s: float) -> bytes:
        """The message. TransportTimeout when none came, FrameError when only damaged ones did."""
        waiter = self._waiter
        if waiter is None:
            msg = "no answer is expected"
            raise FrameError(msg)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError as error:
            raise self._nothing(timeout_s) from error
        finally:
            self._waiter = None

    def note_damage(self, what: str) -> None:
        """Remember why bytes were not taken, for the case that nothing better comes."""
        self._damaged = what

    def _nothing(self, timeout_s: float) -> FieldError:
        rest = bytes(self._buffer)
        self.flush()
        if self._damaged:
            return FrameError(self._damaged)
        if rest:
            return FrameError(f"only {len(rest)} bytes of an answer within {timeout_s:.3g} s: {rest[:32].hex(' ')}")
        return TransportTimeout(f"no answer within {timeout_s:.3g} s")

    def _look(self) -> None:
        if self._find is None or self._waiter is None:
            return
        try:
            message, used = self._find(bytes(self._buffer))
        except FrameError as error:
            self._frames.received(bytes(self._buffer))
            self._buffer.clear()
            self._waiter.set_exception(error)
            return
        if used:
            (self._frames.received if message is not None else self._frames.dropped)(bytes(self._buffer[:used]))
            del self._buffer[:used]
        if message is not None:
            self._waiter.set_result(message)
