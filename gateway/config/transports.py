"""Checks of transports: kinds and their own keys, ports, and whether the site is simulated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.config.checks import hint
from gateway.config.quantities import toml
from gateway.device_roles import DeviceRole
from gateway.toml_lines import unknown_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from gateway.config import model
    from gateway.config.reader import Draft, Entry
    from gateway.field.map_model import DeviceMap

SIMULATED = "sim:"
OPTIONS: Mapping[str, frozenset[str]] = {
    "modbus_rtu": frozenset({"baud", "parity", "stop_bits", "read_only", "echo"}),
    "modbus_tcp": frozenset({"read_only"}),
    "serial": frozenset({"baud", "parity", "stop_bits", "read_only"}),
    "visa": frozenset({"read_only", "library"}),
}
"""The keys of each built-in kind besides id, kind and port; those of another package's kind are its own affair."""

_EXPECTED: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "baud": ("a baud rate such as 9600", lambda value: type(value) is int and 50 <= value <= 4_000_000),
    "parity": ('"N", "E" or "O"', lambda value: value in {"N", "E", "O"}),
    "stop_bits": ("1 or 2", lambda value: type(value) is int and value in {1, 2}),
    "read_only": ("true or false", lambda value: isinstance(value, bool)),
    "echo": ("true or false", lambda value: isinstance(value, bool)),
    "library": ("a VISA library such as '@py'", lambda value: isinstance(value, str)),
}

_HOST_PORT = re.compile(r"(?:[^\s:/]+|\[[0-9A-Fa-f:]+\])(?::(?P<number>\d{1,5}))?")
_VISA = re.compile(r"(TCPIP|USB|GPIB|ASRL)\d*::?\S+", re.IGNORECASE)
_VISA_SOCKET = re.compile(r"TCPIP\d*::\S+::\d+::SOCKET", re.IGNORECASE)
_PORT_EXAMPLES = {
    "modbus_rtu": "a serial device such as '/dev/serial/by-id/...'",
    "serial": "a serial device such as '/dev/serial/by-id/...'",
    "modbus_tcp": "an address such as '192.168.10.20:502'",
    "visa": "a VISA resource such as 'TCPIP0::192.168.10.20::5025::SOCKET'",
}
_WATCHDOGS = ("communication_timeout", "watchdog_delay")


def is_simulated(draft: Draft) -> bool:
    """True when every port is one of the simulator's."""
    return all((entry.text("port") or "").startswith(SIMULATED) for entry in draft.transports)


def check(draft: Draft, maps: Mapping[str, DeviceMap], kinds: Collection[str]) -> None:
    """Note what is wrong with the transports."""
    ports: dict[str, str] = {}
    for entry in draft.transports:
        kind, port = entry.text("kind"), entry.text("port")
        if kind and kind not in kinds:
            draft.note(entry.path, "kind", f"unknown transport kind '{kind}'; {hint(kind, kinds)}")
        elif kind:
            _options(draft, entry, kind)
        if port:
            _port(draft, entry, kind or "", port)
            if port in ports:
                draft.note(entry.path, "port", f"'{port}' is already the port of '{ports[port]}'")
            ports.setdefault(port, entry.id)
    _mix(draft)
    _reach(draft, maps)


def _options(draft: Draft, entry: Entry[model.TransportTable], kind: str) -> None:
    known = OPTIONS.get(kind)
    if known is None:
        return
    for key in entry.raw:
        if key not in known | {"id", "kind", "port"}:
            draft.note(entry.path, key, unknown_key(key, known | {"id", "kind", "port"}))
    for key in sorted(known & entry.raw.keys()):
        text, fits = _EXPECTED[key]
        if not fits(entry.raw[key]):
            draft.note(entry.path, key, f"expected {text}, got {toml(entry.raw[key])}")


def _port(draft: Draft, entry: Entry[model.TransportTable], kind: str, port: str) -> None:
    if port.startswith(SIMULATED):
        fits = len(port) > len(SIMULATED)
    elif kind == "modbus_tcp":
        match = _HOST_PORT.fullmatch(port)
        fits = match is not None and 0 < int(match["number"] or 502) < 65536
    elif kind == "visa":
        fits = _VISA.fullmatch(port) is not None
    else:
        fits = True
    if not fits:
        draft.note(entry.path, "port", f"'{port}' is not {_PORT_EXAMPLES.get(kind, 'a port')}, nor 'sim:<name>'")


def _mix(draft: Draft) -> None:
    simulated = [entry for entry in draft.transports if (entry.text("port") or SIMULATED).startswith(SIMULATED)]
    real = [entry for entry in draft.transports if entry not in simulated]
    for entry in real if len(real) <= len(simulated) else simulated:
        if simulated and real:
            other = simulated[0] if entry in real else real[0]
            text = f"'{entry.text('port')}' is {'real' if entry in real else 'simulated'}, but '{other.id}' is "
            text += f"{'simulated' if entry in real else 'real'}: a site is one or the other"
            draft.note(entry.path, "port", text)


def _reach(draft: Draft, maps: Mapping[str, DeviceMap]) -> None:
    """A device that cannot be made safe without this program must be able to do it by itself."""
    transports = {entry.id: entry for entry in draft.transports}
    for entry in draft.devices:
        device_map, transport = maps.get(entry.text("map") or ""), transports.get(entry.text("transport") or "")
        if device_map is None or transport is None or device_map.role not in {DeviceRole.DCDC, DeviceRole.DCAC}:
            continue
        kind, port = transport.text("kind"), transport.text("port") or ""
        reachable = kind in {"modbus_rtu", "modbus_tcp", "serial"} or (kind == "visa" and _VISA_SOCKET.fullmatch(port))
        has_watchdog = any(template.point.name in _WATCHDOGS for template in device_map.templates)
        if not (reachable or has_watchdog or port.startswith(SIMULATED)):
            text = f"'{entry.id}' has no watchdog in its map, and safe-state cannot reach it over '{port}'"
            draft.note(entry.path, "transport", f"{text}; use a serial line or a TCP socket")
