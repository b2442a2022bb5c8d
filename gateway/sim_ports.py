"""Where the ports of a simulated site really are: `sim:<name>` in a site file, by the file that the simulator writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import TransportClosed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

PREFIX = "sim:"
_PATIENCE_S = 15.0
_LOOK_S = 0.1


class _Announcement(msgspec.Struct):
    """What the simulator's file says, as far as it matters here."""

    ports: dict[str, str]


class SimPorts:
    """Resolves ports by the simulator's file; other ports are what they say.

    `instruments` are the ports that are opened as VISA resources, for which "host:port" is spelt differently.
    `patience_s` is how long (real seconds) a simulator may take to offer a port.
    """

    def __init__(self, file: Path, instruments: Collection[str], *, patience_s: float = _PATIENCE_S) -> None:
        self._file = file
        self._patience_s = patience_s
        self._instruments = frozenset(instruments)

    async def resolve(self, port: str) -> str:
        """The port to open. Waits a while for a simulator that is still starting; TransportClosed when there is none."""
        if not port.startswith(PREFIX):
            return port
        name = port.removeprefix(PREFIX)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            found = self._ports().get(name)
            if found is not None:
                host, _, number = found.rpartition(":")
                return f"TCPIP0::{host}::{number}::SOCKET" if port in self._instruments else found
            if loop.time() > deadline:
                raise TransportClosed(f"the simulator offers no port '{name}' (see {self._file})")
            await asyncio.sleep(_LOOK_S)

    def _ports(self) -> Mapping[str, str]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Announcement).ports
        except (OSError, msgspec.DecodeError):
            return {}
