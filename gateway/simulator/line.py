"""One wire of the testbed as a process of its own: a serial line on a pty, or a listening TCP port.

It passes bytes between whoever opens the port and the plant process, and paces a serial line at its baud rate. A process per
wire makes SIGSTOP the best imitation of a device that hangs: the port stays open, nothing answers, and the physics goes on.

Frames on the link to the plant: kind (1 byte: 1 opened, 2 data, 3 closed), connection (2), length (4), then the bytes,
big-endian. The first one, connection 0 opened, tells that the wire is served.

Only the standard library, and little of it: there may be many wires.

`line.py serial LINK MASTER SLAVE CHARACTER_S` or `line.py tcp LINK LISTENER`; all but the last are inherited descriptors.
The slave stays open here, so that the port survives being closed and opened again.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import sys
import termios
import time

OPENED, DATA, CLOSED = 1, 2, 3
HEADER = struct.Struct(">BHI")
_PR_SET_PDEATHSIG = 1
_CHUNK_S = 0.006
"""Bytes on a serial line leave in chunks of about this long."""
_CLIENT_STUCK_S = 2.0
_CLIENTS_MAX = 64
_LOOK_EVERY_S = 0.25


def frame(kind: int, connection: int, data: bytes = b"") -> bytes:
    """One message of the link."""
    return HEADER.pack(kind, connection, len(data)) + data


class LinkReader:
    """Cuts the bytes of the link into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """(kind, connection, data) of every message completed by `data`."""
        self._buffer += data
        found: list[tuple[int, int, bytes]] = []
        while len(self._buffer) >= HEADER.size:
            kind, connection, length = HEADER.unpack_from(self._buffer)
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            found.append((kind, connection, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return found


class Pace:
    """Delays bytes as a line of `character_s` per byte would; each direction of a line has its own."""

    def __init__(self, character_s: float) -> None:
        self._character_s = character_s
        self._free_at = 0.0
        self._queue: list[tuple[float, bytes]] = []

    def put(self, data: bytes, now_s: float, *, whole: bool) -> None:
        """Queue bytes; `whole` delivers them together when the last has passed, else in small chunks."""
        size = len(data) if whole else max(1, int(_CHUNK_S / self._character_s))
        start = max(now_s, self._free_at)
        for first in range(0, len(data), size):
            part = data[first : first + size]
            start += len(part) * self._character_s
            self._queue.append((start, part))
        self._free_at = start

    def due(self, now_s: float) -> bytes:
        """What has passed the line by now."""
        ready = 0
        while ready < len(self._queue) and self._queue[ready][0] <= now_s:
            ready += 1
        data = b"".join(part for _, part in self._queue[:ready])
        del self._queue[:ready]
        return data

    def wait_s(self, now_s: float) -> float | None:
        """Until the next bytes are due; None when the line is idle."""
        return max(0.0, self._queue[0][0] - now_s) if self._queue else None


def keep_openable(slave: int) -> None:
    """Undo what a program left in the settings of a pty, so that opening it again changes something.

    A pty ignores the parity bit, and tcsetattr(3) calls a request of which nothing took effect an error: a second opening with
    parity would fail. An odd speed, without meaning on a pty, makes every opening a change.
    """
    settings = termios.tcgetattr(slave)
    if settings[4] != termios.B134 or settings[0] & (termios.INPCK | termios.IGNPAR):
        settings[0] &= ~(termios.INPCK | termios.IGNPAR)
        settings[4] = settings[5] = termios.B134
        termios.tcsetattr(slave, termios.TCSANOW, settings)


def serial_line(link: socket.socket, master: int, slave: int, character_s: float) -> None:
    """Serve a pty until the plant closes the link."""
    reader, to_plant, to_port = LinkReader(), Pace(character_s), Pace(character_s)
    while True:
        now = time.monotonic()
        waits = [wait for wait in (to_plant.wait_s(now), to_port.wait_s(now)) if wait is not None]
        readable, _, _ = select.select([link, master], [], [], min(waits, default=_LOOK_EVERY_S))
        if master in readable or not readable:
            keep_openable(slave)
        now = time.monotonic()
        if master in readable:
            to_plant.put(os.read(master, 4096), now, whole=True)
        if link in readable:
            data = link.recv(65536)
            if not data:
                return
            for _, _, part in reader.feed(data):
                to_port.put(part, now, whole=False)
        now = time.monotonic()
        if arrived := to_plant.due(now):
            link.sendall(frame(DATA, 0, arrived))
        if leaving := to_port.due(now):
            os.write(master, leaving)


class TcpPort:
    """A listening socket and its connections, each with a number on the link."""

    def __init__(self, link: socket.socket, listener: socket.socket) -> None:
        self._link = link
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}
        self._next = 0
        self._reader = LinkReader()

    def serve(self) -> None:
        """Pass bytes until the plant closes the link."""
        while True:
            by_socket: dict[socket.socket, int] = {client: number for number, client in self._clients.items()}
            readable, _, _ = select.select([self._link, self._listener, *by_socket], [], [])
            for ready in readable:
                if ready is self._link:
                    if not self._from_plant():
                        return
                elif ready is self._listener:
                    self._accept()
                elif by_socket[ready] in self._clients:
                    self._from_client(by_socket[ready], ready)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if len(self._clients) >= _CLIENTS_MAX:
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(_CLIENT_STUCK_S)
        self._next = (self._next + 1) & 0xFFFF
        self._clients[self._next] = client
        self._link.sendall(frame(OPENED, self._next))

    def _from_client(self, number: int, client: socket.socket) -> None:
        try:
            data = client.recv(65536)
        except OSError:
            data = b""
        if data:
            self._link.sendall(frame(DATA, number, data))
        else:
            self._drop(number)
            self._link.sendall(frame(CLOSED, number))

    def _from_plant(self) -> bool:
        data = self._link.recv(65536)
        for kind, number, part in self._reader.feed(data):
            client = self._clients.get(number)
            if client is None:
                continue
            if kind == CLOSED:
                self._drop(number)
                continue
            try:
                client.sendall(part)
            except OSError:
                self._drop(number)
                self._link.sendall(frame(CLOSED, number))
        return bool(data)

    def _drop(self, number: int) -> None:
        self._clients.pop(number).close()


def main(arguments: list[str]) -> None:
    """Serve one wire; see the module's text for the arguments."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also ends a line that is stopped by SIGSTOP
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the plant, which ends us
    kind, link = arguments[0], socket.socket(fileno=int(arguments[1]))
    try:
        link.sendall(frame(OPENED, 0))
        if kind == "serial":
            serial_line(link, int(arguments[2]), int(arguments[3]), float(arguments[4]))
        else:
            TcpPort(link, socket.socket(fileno=int(arguments[2]))).serve()
    except (BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
