"""Instruments over VISA (LAN socket, VXI-11, USB, GPIB): the only file that knows pyvisa.

pyvisa blocks, so each instrument has a thread of its own. After an answer that did not come in time the resource is
closed: what still arrives must not be taken for the answer to the next query.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

import pyvisa
from pyvisa.constants import StatusCode

from gateway.errors import FrameError, TransportClosed, TransportTimeout
from gateway.field.transports.base import FrameLog, Request, forbid_write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pyvisa.resources import MessageBasedResource

    from gateway.field.settings import TransportSettings

T = TypeVar("T")
_OPEN_TIMEOUT_MS = 3000
_GRACE_S = 2.0
"""How much longer than asked a call into the library may take before the thread counts as stuck."""


def open_transport(settings: TransportSettings, port: str, read_only: Collection[int]) -> Visa:
    """The transport of kind "visa"; `port` is a resource name. Option `library`: "@py" (default) or a vendor's library."""
    return Visa(port, str(settings.options.get("library", "@py")), read_only)


class Visa:
    """One instrument."""

    sends_at_once = False

    def __init__(self, resource: str, library: str = "@py", read_only: Collection[int] = ()) -> None:
        self.frames = FrameLog()
        self._name, self._library = resource, library
        self._read_only = frozenset(read_only)
        self._instrument: MessageBasedResource | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def is_open(self) -> bool:
        return self._instrument is not None

    async def open(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"visa {self._name}")
        self._instrument = await self._run(self._thread, self._open, _OPEN_TIMEOUT_MS / 1000)

    async def close(self) -> None:
        instrument, self._instrument = self._instrument, None
        thread, self._thread = self._thread, None
        if thread is not None:
            if instrument is not None:
                thread.submit(_close, instrument)
            thread.shutdown(wait=False)

    async def exchange(self, request: Request, timeout_s: float) -> bytes:
        forbid_write(request, self._read_only, changes=not is_query(request.payload))
        instrument, thread = self._instrument, self._thread
        if instrument is None or thread is None:
            msg = f"{self._name} is closed"
            raise TransportClosed(msg)
        self.frames.sent(request.payload)
        try:
            answer = await self._run(thread, lambda: _talk(instrument, request, timeout_s), timeout_s)
        except (TransportTimeout, TransportClosed, FrameError):
            await self.close()
            raise
        self.frames.received(answer)
        return answer

    def _open(self) -> MessageBasedResource:
        manager = pyvisa.ResourceManager(self._library)
        resource = manager.open_resource(
            self._name, open_timeout=_OPEN_TIMEOUT_MS, read_termination="\n", write_termination="\n", timeout=_OPEN_TIMEOUT_MS
        )
        return cast("MessageBasedResource", resource)

    async def _run(self, thread: ThreadPoolExecutor, call: Callable[[], T], timeout_s: float) -> T:
        """Run a library call in the instrument's thread; its errors become ours."""
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                return await asyncio.get_running_loop().run_in_executor(thread, call)
        except pyvisa.VisaIOError as error:
            if error.error_code == StatusCode.error_timeout:
                msg = f"no answer within {timeout_s:.3g} s"
                raise TransportTimeout(msg) from error
            msg = f"{self._name}: {error.description}"
            raise TransportClosed(msg) from error
        except TimeoutError as error:
            msg = f"{self._name} is stuck"
            raise TransportTimeout(msg) from error
        except (OSError, ValueError, pyvisa.Error) as error:
            msg = f"{self._name}: {error}"
            raise TransportClosed(msg) from error


def is_query(payload: bytes) -> bool:
    """True when every command in the message only asks: its header ends with a question mark (IEEE 488.2, 6.4)."""
    return all(part.split()[0].endswith(b"?") for part in payload.split(b";") if part.strip())


def _talk(instrument: MessageBasedResource, request: Request, timeout_s: float) -> bytes:
    instrument.timeout = max(1.0, timeout_s * 1000)
    instrument.write(request.payload.decode("ascii"))
    if not request.answers:
        return b""
    return instrument.read().strip().encode("ascii", "replace")


def _close(instrument: MessageBasedResource) -> None:
    try:
        instrument.close()
    except (pyvisa.Error, OSError):
        return  # it was gone already, which is what closing is for
