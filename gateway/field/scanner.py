"""One task per line: reads what is due, lets commands through in between, keeps a dead device from delaying the others.

    commands first, between any two requests; then fast readings; then slow ones and attempts to reach lost devices

Where a device does not answer its commands, its neighbours' commands and readings go in between. A failed reading is
repeated once, after its neighbours had their turn. A device from which nothing comes is lost and asked again after a
growing wait, with a single request each time. Whoever waits for a command is told the error at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.errors import DeviceRefused, FieldError, FrameError, TransportClosed, TransportTimeout
from gateway.field.schedule import choose
from gateway.field.transports.base import WriteForbidden

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.clock import Clock
    from gateway.field.block_codec import Decoded
    from gateway.field.drivers.base import Driver, Exchange
    from gateway.field.link import Link, Reading
    from gateway.field.settings import TransportSettings
    from gateway.field.ticker import Ticker
    from gateway.field.transports.base import FrameLog, Request, Transport

logger = logging.getLogger(__name__)

_COUNT_EVERY_S = 1.0


@dataclass(slots=True)
class _Job:
    link: Link
    action: Callable[[Driver], Awaitable[Any]]
    connect: bool
    result: asyncio.Future[Any]


class Line:
    """A transport with the devices on it.

    `make_transport` gives a new, closed transport for a resolved port; `on_block` is told (device id, scan class) after
    each published reading.
    """

    def __init__(
        self,
        settings: TransportSettings,
        make_transport: Callable[[str], Transport],
        resolve_port: Callable[[str], Awaitable[str]],
        clock: Clock,
        on_block: Callable[[str, str], None],
        ticker: Ticker,
    ) -> None:
        self.id = settings.id
        self.port = settings.port
        """The port as resolved last; as written in the site file before that."""
        self._settings = settings
        self._make_transport = make_transport
        self._resolve_port = resolve_port
        self._on_block = on_block
        self._transport: Transport | None = None
        self._now, self._utc_ns = clock.monotonic, clock.utc_ns
        self._links: list[Link] = []
        self._readings: list[Reading] = []
        self._jobs: deque[_Job] = deque()
        self._waker: asyncio.Future[None] | None = None
        self._ticker = ticker
        self._tick_at = math.nan
        self._flying: Reading | None = None
        self._in_job = False
        self._count_at = 0.0

    @property
    def frames(self) -> FrameLog | None:
        return self._transport.frames if self._transport is not None else None

    def add(self, link: Link) -> None:
        """A device on this line, with its readings."""
        self._links.append(link)
        self._readings += [link.retry, *link.readings]

    def exchange_for(self, link: Link) -> Exchange:
        """The way by which a device's driver reaches it."""

        async def exchange(request: Request) -> bytes:
            if self._jobs and not self._in_job:
                await self._do_jobs()
            return await self._exchange(link, request)

        return exchange

    async def _exchange(self, link: Link, request: Request) -> bytes:
        transport = self._transport
        if transport is None or not transport.is_open:
            msg = f"{self.id} is closed"
            raise TransportClosed(msg)
        link.health.requests += 1
        try:
            return await transport.exchange(request, link.timeout_s)
        except WriteForbidden:
            raise
        except FieldError as error:
            link.health.failed_request(error, transport.frames)
            raise

    async def call(self, link: Link, action: Callable[[Driver], Awaitable[Any]], *, connect: bool = False) -> Any:  # noqa: ANN401 -- the action's result
        """Run an action with a device's driver before anything else on this line, and give its result.

        For a device that is not online: TransportClosed, unless `connect` asks for an attempt to reach it first.
        """
        job = _Job(link, action, connect, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._wake()
        return await job.result

    async def run(self) -> None:
        """Serve the line until cancelled."""
        try:
            while True:
                await self._step()
        finally:
            await self._close()
            for job in self._jobs:
                job.result.cancel()

    async def _step(self) -> None:
        silent = await self._do_jobs() if self._jobs else None
        now = self._now()
        reading, following = choose(self._readings if silent is None else self._neighbours(silent), now)
        if reading is None:
            if silent is None:
                await self._park(following)
        elif reading.link is not None and reading is reading.link.retry:
            await self._connect(reading.link)
        else:
            await self._read(reading)

    def _neighbours(self, silent: Link) -> list[Reading]:
        """What may be read between two commands to a device that does not answer: they cost a time-out each."""
        return [reading for link in self._links if link is not silent for reading in link.readings]

    async def _park(self, until: float) -> None:
        """Rest until there is something that callbacks alone cannot do: a command, a connect, a read of several requests."""
        self._waker = asyncio.get_running_loop().create_future()
        self._await_moment(until)
        try:
            await self._waker
        finally:
            self._waker = None

    def _await_moment(self, due: float) -> None:
        if due != self._tick_at:
            self._tick_at = due
            self._ticker.at(due, self._tick)

    def _tick(self, due: float) -> None:
        if due == self._tick_at:  # else something earlier has come up since
            self._tick_at = math.nan
            self._beat()

    def _wake(self) -> None:
        """Let the task go on, once the request that callbacks have in flight is answered."""
        if self._waker is not None and self._flying is None and not self._waker.done():
            self._waker.set_result(None)

    def _beat(self) -> None:
        """While the task rests: send the next plain read, or set the timer for it."""
        if self._waker is None or self._waker.done() or self._flying is not None:
            return
        now = self._now()
        if now >= self._count_at:
            self._count(now)
        reading, following = choose(self._readings, now)
        if reading is None and not self._jobs:
            self._await_moment(following)
            return
        transport = self._transport
        if self._jobs or reading is None or reading.request is None or transport is None or not transport.sends_at_once:
            self._wake()
            return
        if reading.link is None or not transport.is_open:
            self._wake()
            return
        reading.link.health.requests += 1
        self._flying = reading
        asyncio.ensure_future(transport.exchange(reading.request, reading.link.timeout_s)).add_done_callback(self._landed)

    def _landed(self, answer: asyncio.Future[bytes]) -> None:
        """The answer to a read that was sent while the task rests, or its failure."""
        reading, self._flying = self._flying, None
        if reading is None or reading.link is None or answer.cancelled() or self._waker is None:
            return  # the line is being closed
        sound = False
        try:
            self._settle(reading, reading.link, answer)
            self._beat()
            sound = True
        finally:
            if not sound:
                self._break_down()

    def _settle(self, reading: Reading, link: Link, answer: asyncio.Future[bytes]) -> None:
        error = answer.exception()
        if error is None:
            self._take(reading, link, answer.result())
        elif isinstance(error, FieldError):
            link.health.failed_request(error, self.frames)
            self._failed(link, reading, error)
        else:
            raise error

    def _break_down(self) -> None:
        """What fails in a callback for no reason of the field's ends the task, and so the process, as it would in the task."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_exception(RuntimeError(f"line {self.id} failed inside the gateway"))

    def _take(self, reading: Reading, link: Link, answer: bytes) -> None:
        """Decode and publish the answer to a plain read."""
        if link.driver is None or not link.online:
            return
        try:
            decoded = link.driver.decode(reading.part, answer)
        except FieldError as error:
            link.health.failed_request(error, self.frames)
            self._failed(link, reading, error)
        else:
            self._publish(reading, link, decoded)

    def _publish(self, reading: Reading, link: Link, decoded: Decoded) -> None:
        link.succeeded(reading)
        reading.publish(decoded, self._utc_ns())
        self._on_block(link.id, reading.scan)
        reading.done(self._now())

    def _count(self, now: float) -> None:
        self._count_at = now + _COUNT_EVERY_S
        for link in self._links:
            link.health.count()

    async def _read(self, reading: Reading) -> None:
        link = reading.link
        if link is None or link.driver is None:
            reading.due = math.inf
            return
        now = self._now()
        if now >= self._count_at:
            self._count(now)
        try:
            if reading.request is not None:
                self._take(reading, link, await self._exchange(link, reading.request))
                return
            decoded = await link.driver.read(reading.part)
        except FieldError as error:
            if isinstance(error, DeviceRefused):
                link.health.failed_request(error, self.frames)
            self._failed(link, reading, error)
        else:
            if link.online:  # else it was lost while a command went out in between
                self._publish(reading, link, decoded)

    def _failed(self, link: Link, reading: Reading, error: FieldError) -> None:
        if not link.online:
            return  # a command in between has found out already
        if isinstance(error, TransportClosed):
            self._lose_line(error)
        elif isinstance(error, DeviceRefused):
            reading.fail(error.quality, self._utc_ns())
            reading.done(self._now())
        else:
            link.failed(reading, error, self._now(), self._utc_ns())

    def _lose_line(self, error: FieldError) -> None:
        for link in self._links:
            if link.online:
                link.lose(error, self._now(), self._utc_ns())

    async def _connect(self, link: Link) -> None:
        """One attempt to reach a device that is not online."""
        link.health.connecting()
        try:
            await self._open()
            if link.driver is not None:
                await link.driver.identify()
        except FieldError as error:
            if isinstance(error, TransportClosed):
                self._lose_line(error)
            link.lose(error, self._now(), self._utc_ns())
            if not any(other.online for other in self._links):
                await self._close()  # the next attempt looks the port up again
            return
        link.connected(self._now())

    async def _open(self) -> None:
        if self._transport is not None and self._transport.is_open:
            return
        await self._close()
        try:
            self.port = await self._resolve_port(self._settings.port)
        except (OSError, LookupError) as error:
            msg = f"{self._settings.port} is not there: {error}"
            raise TransportClosed(msg) from error
        transport = self._make_transport(self.port)
        await transport.open()
        self._transport = transport

    async def _close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    async def _do_jobs(self) -> Link | None:
        """Carry out commands until there are none; or up to one that is not answered, and then that device."""
        self._in_job = True
        try:
            while self._jobs:
                # Who waits for a device that does not answer lets the others go first.
                job = next((job for job in self._jobs if not job.link.failures), self._jobs[0])
                self._jobs.remove(job)
                if not await self._do(job):
                    return job.link
        finally:
            self._in_job = False
        return None

    async def _do(self, job: _Job) -> bool:
        """One command; False when the device gave no answer, which counts like a reading that did not come."""
        if job.result.done():
            return True  # who asked has gone
        link = job.link
        if job.connect and not link.online:
            await self._connect(link)
        try:
            result = await job.action(_driver_of(link))
        except FieldError as error:
            unanswered = isinstance(error, (TransportTimeout, FrameError))
            if isinstance(error, TransportClosed) and link.online:
                self._lose_line(error)
            elif unanswered:
                link.unanswered(error, self._now(), self._utc_ns())
            if not job.result.done():
                job.result.set_exception(error)
            return not unanswered
        if not job.result.done():
            job.result.set_result(result)
        return True


def _driver_of(link: Link) -> Driver:
    if link.driver is None or not link.online:
        reason = f": {link.error}" if link.error is not None else ""
        msg = f"{link.id} is not connected{reason}"
        raise TransportClosed(msg)
    return link.driver
