"""The exact bytes that make each device safe, with all that is needed to send them without this program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.field.transports.modbus_rtu import rtu_frame
from gateway.field.transports.modbus_tcp import DEFAULT_PORT, tcp_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.field.drivers.base import SafeFrame
    from gateway.field.settings import TransportSettings

_VISA_SOCKET = re.compile(r"TCPIP\d*::(?P<host>[^:]+|\[[^\]]+\])::(?P<port>\d+)::SOCKET", re.IGNORECASE)


def safe_entry(
    settings: TransportSettings, port: str, unit: int, frames: Sequence[SafeFrame], timeout_s: float
) -> dict[str, object] | None:
    """One device's entry, or None when nothing has to be sent or this transport cannot be replayed over serial or TCP.

    `frames` are sent in order; each `expect` is the hexadecimal beginning of the answer, or `reading` the number that the
    answer, a line of text, must be. Where both are None no answer comes.
    """
    if not frames:
        return None
    framed = _framed(settings.kind, unit, frames)
    endpoint = _endpoint(settings, port)
    return None if framed is None or endpoint is None else {**endpoint, "frames": framed, "timeout_s": timeout_s}


def _framed(kind: str, unit: int, frames: Sequence[SafeFrame]) -> list[dict[str, str | float | None]] | None:
    if kind == "modbus_rtu":
        return [_frame(rtu_frame(unit, f.payload), None if f.expect is None else rtu_frame(unit, f.expect)) for f in frames]
    if kind == "modbus_tcp":
        return [
            _frame(tcp_frame(number, unit, f.payload), None if f.expect is None else tcp_frame(number, unit, f.expect))
            for number, f in enumerate(frames, start=1)
        ]
    return [_frame(f.payload, f.expect, f.reading) for f in frames] if kind in {"visa", "serial"} else None


def _frame(send: bytes, expect: bytes | None, reading: float | None = None) -> dict[str, str | float | None]:
    frame: dict[str, str | float | None] = {"send": send.hex(), "expect": None if expect is None else expect.hex()}
    return frame if reading is None else {**frame, "reading": reading}


def _endpoint(settings: TransportSettings, port: str) -> dict[str, object] | None:
    if settings.kind == "modbus_tcp":
        return {"kind": "tcp", "port": port if ":" in port else f"{port}:{DEFAULT_PORT}"}
    if settings.kind == "visa":
        socket = _VISA_SOCKET.fullmatch(port)
        return {"kind": "tcp", "port": f"{socket['host']}:{socket['port']}"} if socket else None
    rtu = settings.kind == "modbus_rtu"
    return {
        "kind": "serial",
        "port": port,
        "baud": settings.options.get("baud", 19200 if rtu else 9600),
        "parity": settings.options.get("parity", "E" if rtu else "N"),
        "stop_bits": settings.options.get("stop_bits", 1),
    }
