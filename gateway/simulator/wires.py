"""Opens the ports of the testbed, starts a relay process for each, and joins the relays to the endpoints."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.simulator import line

if TYPE_CHECKING:
    from gateway.simulator.endpoints import Endpoint, Reply
    from gateway.simulator.site_file import WireSpec

_RELAY = Path(line.__file__)


@dataclass(slots=True)
class Wire:
    """A port that is open: its name for those who connect, and its relay."""

    address: str
    relay: subprocess.Popen[bytes]
    link: socket.socket

    def close(self) -> None:
        """End the relay, also one that was stopped."""
        self.link.close()
        self.relay.kill()
        self.relay.wait()


def open_wire(spec: WireSpec) -> Wire:
    """Open a pty or a listening socket and start its relay."""
    ours, theirs = socket.socketpair()
    if spec.character_s > 0.0:
        master, slave = os.openpty()
        tty.setraw(slave)
        address = os.ttyname(slave)
        inherited, arguments = [master, slave], ["serial", str(theirs.fileno()), str(master), str(slave), repr(spec.character_s)]
    else:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        address = "{}:{}".format(*listener.getsockname())
        inherited, arguments = [listener.detach()], []
        arguments = ["tcp", str(theirs.fileno()), str(inherited[0])]
    # -I -S: the relay needs the standard library only, and there may be many.
    command = [sys.executable, "-I", "-S", str(_RELAY), *arguments]
    relay = subprocess.Popen(command, pass_fds=[theirs.fileno(), *inherited], stdin=subprocess.DEVNULL)
    theirs.close()
    for descriptor in inherited:
        os.close(descriptor)
    ours.setblocking(False)
    return Wire(address, relay, ours)


class Link(asyncio.Protocol):
    """The plant's end of a wire."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._reader = line.LinkReader()
        self._transport: asyncio.WriteTransport | None = None
        self.served: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        for kind, connection, part in self._reader.feed(data):
            if kind == line.DATA:
                for reply in self._endpoint.feed(connection, part, time.monotonic()):
                    self._send(connection, reply)
            elif kind == line.CLOSED:
                self._endpoint.closed(connection)
            elif not self.served.done():
                self.served.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.served.done():
            self.served.set_exception(exc or ConnectionResetError("the relay of a wire ended at its start"))

    def _send(self, connection: int, reply: Reply) -> None:
        if reply.late_s > 0.0:
            self._loop.call_later(reply.late_s, self._write, connection, reply.data)
        else:
            self._write(connection, reply.data)

    def _write(self, connection: int, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(line.frame(line.DATA, connection, data))


async def join(wire: Wire, endpoint: Endpoint) -> None:
    """Let the endpoint answer on the wire; returns when its relay serves. ConnectionError when the relay ended at once."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(endpoint, loop), sock=wire.link)
    await link.served
