"""What every transport is: a byte pipe to one line, socket or instrument, one request in flight at a time.

A transport knows frames, not devices. It never retries: the scanner decides. Times are real seconds.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from gateway.field.settings import TransportSettings

logger = logging.getLogger(__name__)

FRAMES_KEPT = 20
"""Frames that are kept per transport, to be shown with the first error."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message to one device.

    `payload`: Modbus: the PDU, function code first; serial: the line with its end; VISA: the command without its end.
    `writes` is True for anything that changes the device. `answer_bytes` is the length of a normal Modbus answer PDU, so
    that a late answer of another length is told apart; None when unknown. `mine` does the same for text: an answer for
    which it is False is dropped, and waiting goes on. Without `answers` nothing comes back.
    """

    unit: int
    payload: bytes
    writes: bool = False
    answer_bytes: int | None = None
    mine: Callable[[bytes], bool] | None = None
    answers: bool = True


class Transport(Protocol):
    """A byte pipe. `frames` are the last messages both ways.

    `sends_at_once`: `exchange` sends before it returns, and gives a future; a read then needs no task of its own.
    """

    @property
    def sends_at_once(self) -> bool: ...

    @property
    def frames(self) -> FrameLog: ...

    @property
    def is_open(self) -> bool: ...

    async def open(self) -> None:
        """Open it. TransportClosed when that fails."""
        ...

    async def close(self) -> None:
        """Close it; harmless when closed."""
        ...

    def exchange(self, request: Request, timeout_s: float) -> Awaitable[bytes]:
        """Send a request and give, when awaited, the answer: Modbus: the PDU; serial: the line without its end; VISA: the text.

        Whatever arrived before is dropped first. Raises TransportTimeout, TransportClosed, FrameError; WriteForbidden,
        before anything is sent, for a write to a unit that is read-only.
        """
        ...


class OpenTransport(Protocol):
    """The entry point of a transport kind. `port` is the resolved port; units in `read_only` can never be written."""

    def __call__(self, settings: TransportSettings, port: str, read_only: Collection[int]) -> Transport: ...


class WriteForbidden(FieldError):
    """A write was asked of a device that is read-only: nothing was sent. Waiting does not help."""

    retryable = False


def forbid_write(request: Request, read_only: Collection[int], *, changes: bool) -> None:
    """Raise WriteForbidden when a request to a read-only unit is one that writes.

    `changes` is the transport's own judgement of the bytes; what the caller says about the request is not enough.
    """
    if request.unit in read_only and (changes or request.writes):
        msg = f"unit {request.unit} is read-only: nothing was sent"
        raise WriteForbidden(msg)


class FrameLog:
    """The last messages of a transport, both ways, for the log of a first error."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, str, bytes]] = deque(maxlen=FRAMES_KEPT)
        self.note = self._frames.append
        """Adds (monotonic time, direction, bytes): the short way for transports that are in a hurry."""

    def sent(self, frame: bytes) -> None:
        self._frames.append((time.monotonic(), ">", frame))

    def received(self, frame: bytes) -> None:
        self._frames.append((time.monotonic(), "<", frame))

    def dropped(self, frame: bytes) -> None:
        """Bytes that nobody had asked for."""
        self._frames.append((time.monotonic(), "?", frame))

    def lines(self) -> list[str]:
        """One line per message, oldest first: seconds ago, direction (`?` is unasked for), bytes."""
        now = time.monotonic()
        return [f"{at - now:+.3f} s {direction} {frame.hex(' ')}" for at, direction, frame in self._frames]


def option_int(options: Mapping[str, object], key: str, default: int) -> int:
    """A whole-number option. ValueError when it is something else."""
    value = options.get(key, default)
    if type(value) is not int:
        msg = f"option '{key}' must be a whole number, got {value!r}"
        raise ValueError(msg)
    return value
