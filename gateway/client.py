"""The other side of the control socket: what servers and the command line ask the control process with."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from gateway.commands import Code, Role
from gateway.errors import ControlUnavailable
from gateway.messages import MESSAGE_MAX, BadFrame, Request, Response, pack, receive, response_from

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path
    from typing import Self

_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 2.0
_UNREAD_MAX = 100
"""Answers of one stream that wait for their reader; then nothing more is taken from the socket."""


class ControlClient:
    """Asks the control process at `path`, in the name of a process; an asynchronous context manager.

    It connects when it is first asked, and again after a loss; between two failed attempts it waits longer and longer,
    and requests in that time fail at once. A request that was lost is never repeated.
    """

    def __init__(self, path: Path, process: str, *, timeout_s: float = 35.0) -> None:
        self._path = path
        self._process = process
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._backoff = _Backoff()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """True while the connection stands."""
        return self._connection is not None and self._connection.alive

    async def close(self) -> None:
        """Close the connection; requests that wait fail."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def request(
        self, verb: str, args: Mapping[str, object] | None = None, *, user: str = "", role: Role | str = Role.OBSERVER
    ) -> object:
        """Ask for a verb and wait for the result.

        A refusal is a mapping with "code" and "reason", as is the verdict of a verb that commands. Raises
        ControlUnavailable when there is no answer (the request may or may not have been carried out), ValueError when
        the arguments cannot be sent.
        """
        connection = await self._connected()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await connection.request(self._request(verb, args or {}, user, role))
        except TimeoutError as error:
            raise ControlUnavailable(f"no answer to {verb!r} within {self._timeout_s:g} s") from error
        return response.result if response.ok else {"code": response.code, "reason": response.reason}

    async def follow(
        self, after: int = 0, *, user: str = "", role: Role | str = Role.OBSERVER
    ) -> AsyncGenerator[Mapping[str, object]]:
        """Every event with an id above `after`, then each new one, on a connection of its own; goes on after any loss.

        Raises ControlUnavailable only when following is refused for good.
        """
        backoff = _Backoff()
        while True:
            try:
                connection = await _Connection.open(self._path)
            except ControlUnavailable:
                await asyncio.sleep(backoff.grow())
                continue
            try:
                async with aclosing(connection.stream(self._request("follow", {"after": after}, user, role))) as stream:
                    async for event in stream:
                        after = cast("int", event["id"])
                        yield event
                        backoff.reset()
            except _Lost:
                pass
            finally:
                await connection.close()
            await asyncio.sleep(backoff.grow())

    def _request(self, verb: str, args: Mapping[str, object], user: str, role: Role | str) -> Request:
        name = role.name.lower() if isinstance(role, Role) else role
        return Request(0, verb, dict(args), user, name, self._process)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.alive:
                return self._connection
            await self.close()
            if not self._backoff.due:
                raise ControlUnavailable(f"{self._path} could not be opened a moment ago")
            try:
                self._connection = await _Connection.open(self._path)
            except ControlUnavailable:
                self._backoff.grow()
                raise
            self._backoff.reset()
            return self._connection


class _Lost(ControlUnavailable):
    """The connection ended while something was expected from it."""


class _Backoff:
    """Growing pauses between attempts, in real seconds."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._due_at = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due_at

    def grow(self) -> float:
        self._pause_s = min(max(self._pause_s * 2, _BACKOFF_FIRST_S), _BACKOFF_MAX_S)
        self._due_at = time.monotonic() + self._pause_s
        return self._pause_s

    def reset(self) -> None:
        self._pause_s = self._due_at = 0.0


class _Connection:
    """One connection with any number of requests in flight."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._last_id = 0
        self._waiting: dict[int, asyncio.Queue[Response | None]] = {}
        self.alive = True
        self._receiver = asyncio.get_running_loop().create_task(self._receive())

    @classmethod
    async def open(cls, path: Path) -> Self:
        try:
            return cls(*await asyncio.open_unix_connection(path, limit=MESSAGE_MAX))
        except OSError as error:
            raise ControlUnavailable(f"{path}: {error.strerror or error}") from error

    async def close(self) -> None:
        self._receiver.cancel()
        await asyncio.gather(self._receiver, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def request(self, request: Request) -> Response:
        async with aclosing(self._responses(request)) as responses:
            return await anext(responses)

    async def stream(self, request: Request) -> AsyncGenerator[Mapping[str, object]]:
        """The results of a streaming verb; ends or raises _Lost when the stream does."""
        async with aclosing(self._responses(request)) as responses:
            async for response in responses:
                if not response.ok:
                    error = _Lost if response.code == Code.UNAVAILABLE else ControlUnavailable
                    raise error(response.reason)
                if not response.more:
                    return
                yield cast("Mapping[str, object]", response.result)

    async def _responses(self, request: Request) -> AsyncGenerator[Response]:
        self._last_id += 1
        numbered = Request(self._last_id, request.verb, request.args, request.user, request.role, request.process)
        frame = pack(numbered)
        arrived: asyncio.Queue[Response | None] = asyncio.Queue(_UNREAD_MAX)
        if not self.alive:
            raise _Lost("the control process has closed the connection")
        self._waiting[numbered.id] = arrived
        try:
            self._writer.write(frame)
            await self._writer.drain()
            while self.alive or not arrived.empty():
                response = await arrived.get()
                if response is None:
                    break
                yield response
        except OSError as error:
            raise _Lost(str(error)) from error
        finally:
            del self._waiting[numbered.id]
        raise _Lost("the control process has closed the connection")

    async def _receive(self) -> None:
        try:
            while (body := await receive(self._reader)) is not None:
                response = response_from(body)
                arrived = self._waiting.get(response.id)
                if arrived is not None:
                    await arrived.put(response)
        except BadFrame:
            pass  # a peer that went away in mid-frame, or is not a control process
        finally:
            self.alive = False
            for arrived in self._waiting.values():
                with contextlib.suppress(asyncio.QueueFull):
                    arrived.put_nowait(None)
