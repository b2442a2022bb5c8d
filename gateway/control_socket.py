"""The door of the control process: a Unix socket where servers and the command line ask for things.

Rights are checked here, before any handler runs: by role, by the carrying process's ceiling, and by the peer's user id as
the kernel tells it (SO_PEERCRED, unix(7)). A handler that was begun is always allowed to finish, whether its asker still
listens or not: half a command is worse than an answer nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from gateway.commands import Code, Origin, Role
from gateway.errors import GatewayError
from gateway.messages import MESSAGE_MAX, BadFrame, Request, Response, pack, receive, request_from
from gateway.rights import CEILINGS, LEAST_ROLE, refusal

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Self

_log = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, object], Origin], Awaitable[object]]
"""Carries out a verb. An AsyncGenerator as result is streamed. ValueError means bad arguments, GatewayError not possible now."""

_CONNECTIONS_MAX = 64
_CONNECTIONS_PER_PEER = 16
"""Connections from one process: a server that leaks them must not keep an operator's STOP out."""
_IN_FLIGHT_MAX = 256
_IN_FLIGHT_PER_CONNECTION = 32
_ALWAYS = frozenset({"stop"})
"""Verbs that are carried out however many requests are in flight."""
_SEND_TIMEOUT_S = 5.0
"""A peer that takes no answer for this long is dropped (real seconds)."""
_CLOSE_TIMEOUT_S = 5.0
_ROLES = {role.name.lower(): role for role in Role}


class ControlServer:
    """Serves `handlers` at `path`; an asynchronous context manager.

    `claims` maps a user id to the processes that its programs may claim to be; by default the user that control runs as
    may be any of them, and root may be the command line. `request_timeout_s` is the real time after which an asker is told
    that its request has not finished.
    """

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        *,
        ceilings: Mapping[str, frozenset[str]] = CEILINGS,
        claims: Mapping[int, frozenset[str]] | None = None,
        request_timeout_s: float = 30.0,
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._ceilings = ceilings
        self._claims = {0: frozenset({"cli"}), os.geteuid(): frozenset(ceilings)} if claims is None else claims
        self._request_timeout_s = request_timeout_s
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], int] = {}
        self._in_flight: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        listener.bind(str(self._path))
        self._path.chmod(0o660)  # nobody can connect before it listens
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=MESSAGE_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse new requests, let those that run finish for a while, close every connection, remove the socket."""
        if self._server is not None:
            self._server.close()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_CLOSE_TIMEOUT_S)
            await _cancel(self._in_flight)
        await _cancel(self._connections)
        await asyncio.sleep(0)  # the transports close in the next turn of the loop
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        pid, uid, _ = struct.unpack(
            "3i", cast("socket.socket", writer.get_extra_info("socket")).getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        peers = list(self._connections.values())
        if len(peers) >= _CONNECTIONS_MAX or peers.count(pid) >= _CONNECTIONS_PER_PEER:
            _log.warning("refused a connection of process %s: too many are open", pid)
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(_Connection(self, reader, writer, pid, uid).serve())
        self._connections[task] = pid

        def ended(task: asyncio.Task[None]) -> None:
            del self._connections[task]
            writer.transport.abort()

        task.add_done_callback(ended)

    def judge(self, request: Request, uid: int) -> tuple[Code, str]:
        """Whether a request may be carried out at all, and why not."""
        if request.verb not in LEAST_ROLE or request.verb not in self._handlers:
            return Code.UNKNOWN, f"no verb {request.verb!r}"
        role = _ROLES.get(request.role)
        if role is None:
            return Code.FORBIDDEN, f"no role {request.role!r}"
        if request.process not in self._claims.get(uid, frozenset()):
            return Code.FORBIDDEN, f"user id {uid} may not speak for the process {request.process!r}"
        reason = refusal(request.verb, role, request.process, self._ceilings)
        if reason:
            return Code.FORBIDDEN, reason
        if len(self._in_flight) >= _IN_FLIGHT_MAX and request.verb not in _ALWAYS:
            return Code.UNAVAILABLE, "too many requests are in flight"
        return Code.ACCEPTED, ""

    async def carry_out(self, request: Request, peer: str) -> Response | AsyncGenerator[object]:
        """Run the handler of a request that was judged to be allowed."""
        origin = Origin(request.process, request.user, _ROLES[request.role], peer)
        task = asyncio.ensure_future(_call(self._handlers[request.verb], request.args, origin))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        await asyncio.wait({task}, timeout=self._request_timeout_s)
        if not task.done():
            reason = f"{request.verb!r} has not finished after {self._request_timeout_s:g} s; it goes on, see the journal"
            return _refused(request, Code.UNAVAILABLE, reason)
        if task.cancelled():
            return _refused(request, Code.UNAVAILABLE, "the gateway is closing")
        if (error := task.exception()) is not None:
            return _failure(request, error)
        result = task.result()
        return (
            cast("AsyncGenerator[object]", result) if isinstance(result, AsyncGenerator) else Response(request.id, True, result)
        )


class _Connection:
    """One peer. Requests are served side by side; a framing error ends this connection and no other."""

    def __init__(self, server: ControlServer, reader: StreamReader, writer: StreamWriter, pid: int, uid: int) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._uid = uid
        self._peer = f"pid {pid}"
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        try:
            while (body := await receive(self._reader)) is not None:
                self._begin(request_from(body))
        except BadFrame as error:
            _log.warning("closed the connection of %s: %s", self._peer, error)
        finally:
            await _cancel(self._open)

    def _begin(self, request: Request) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _answer(self, request: Request) -> None:
        code, reason = self._server.judge(request, self._uid)
        if code is Code.ACCEPTED and len(self._open) > _IN_FLIGHT_PER_CONNECTION and request.verb not in _ALWAYS:
            code, reason = Code.UNAVAILABLE, "too many requests are in flight on this connection"
        if code is not Code.ACCEPTED:
            await self._send(_refused(request, code, reason))
            return
        answer = await self._server.carry_out(request, self._peer)
        if isinstance(answer, Response):
            await self._send(answer)
            return
        async with aclosing(answer) as stream:
            async for item in stream:
                await self._send(Response(request.id, True, item, more=True))
        await self._send(Response(request.id, True))

    async def _send(self, response: Response) -> None:
        try:
            frame = pack(response)
        except ValueError as error:
            _log.exception("an answer to %s was not sent", self._peer)
            frame = pack(Response(response.id, False, code=Code.INVALID.value, reason=str(error)))
        self._writer.write(frame)
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._writer.drain()
        except (TimeoutError, OSError):
            self._writer.transport.abort()  # it may come back and resume by id


async def _call(handler: Handler, args: Mapping[str, object], origin: Origin) -> object:
    return await handler(args, origin)


async def _cancel(tasks: Iterable[asyncio.Task[None]] | Iterable[asyncio.Task[object]]) -> None:
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def _refused(request: Request, code: Code, reason: str) -> Response:
    return Response(request.id, False, code=code.value, reason=reason)


def _failure(request: Request, error: BaseException) -> Response:
    if isinstance(error, ValueError):
        return _refused(request, Code.INVALID, str(error))
    if isinstance(error, KeyError):
        return _refused(request, Code.INVALID, f"no argument {error}")
    if isinstance(error, GatewayError):
        return _refused(request, Code.UNAVAILABLE, str(error))
    _log.error("%r failed", request.verb, exc_info=error)
    return _refused(request, Code.UNAVAILABLE, f"{request.verb!r} failed inside the gateway; see its log")
