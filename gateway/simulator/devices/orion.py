r"""Orion Jr battery management system on its RS-232 port: OBD2 requests and answers as ASCII hexadecimal.

`:<LEN><MODE><PID><DATA>\n`, LEN counting the bytes after itself; no checksum. Facts: Ewert application note AN2586 as used by
public loggers; the PID numbers and scales are listed beside each row. Numbers are big-endian.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.simulator.devices.sensors import BatterySensors
    from gateway.simulator.faults import DeviceFaults

_LINE_MAX = 64
_CELLS_PER_BLOCK = 12
_NOT_SUPPORTED = bytes((0x7F, 0x22, 0x31))
"""Negative answer "request out of range" of ISO 14229-1."""


def _u16(value: float) -> bytes:
    return max(0, min(0xFFFF, round(value))).to_bytes(2, "big")


def _i16(value: float) -> bytes:
    return max(-0x8000, min(0x7FFF, round(value))).to_bytes(2, "big", signed=True)


def _i8(value: float) -> bytes:
    return max(-128, min(127, round(value))).to_bytes(1, "big", signed=True)


class Orion:
    """One BMS. `feed` takes the bytes of its line and gives the answers."""

    def __init__(self, sensors: BatterySensors, faults: DeviceFaults) -> None:
        self._sensors = sensors
        self._faults = faults
        self._buffer = bytearray()
        s = sensors
        self._pids: dict[int, Callable[[], bytes]] = {
            0xF004: lambda: _u16(self._relays()),
            0xF006: lambda: _u16(self._cell_count()),
            0xF007: lambda: _u16(self._cell_count()),
            0xF009: lambda: _u16(self._status()),
            0xF00A: lambda: _u16(s.current_limits()[0]),  # 1 A
            0xF00B: lambda: _u16(s.current_limits()[1]),  # 1 A
            0xF00C: lambda: _i16(s.current() * 10),  # 0.1 A, signed
            0xF00D: lambda: _u16(s.pack_voltage() * 10),  # 0.1 V
            0xF00F: lambda: _u16(s.soc() * 200),  # 0.5 %
            0xF012: lambda: _u16((1 - s.soc()) * 200),  # 0.5 %
            0xF013: lambda: _u16(100),  # 1 %
            0xF014: lambda: _u16(sum(s.cell_voltages()) * 100),  # 0.01 V
            0xF015: lambda: _u16(abs(s.current()) * 10),  # 0.1 A
            0xF018: lambda: _u16(12),
            0xF028: lambda: _i8(max(s.temperatures())),  # 1 degC
            0xF029: lambda: _i8(min(s.temperatures())),
            0xF02A: lambda: _i8(sum(s.temperatures()) / len(s.temperatures())),
            0xF02D: lambda: _i8(s.temperatures()[0] + 3),
            0xF032: lambda: _u16(min(s.cell_voltages()) * 1e4),  # 0.1 mV
            0xF033: lambda: _u16(max(s.cell_voltages()) * 1e4),
            0xF034: lambda: _u16(sum(s.cell_voltages()) / self._cell_count() * 1e4),
            0xF046: lambda: _u16(124),  # 0.1 V input supply
        }

    def _cell_count(self) -> int:
        return self._sensors.string.count

    def _relays(self) -> int:
        charge, discharge = self._sensors.current_limits()
        word = (0x01 if discharge > 0 else 0) | (0x02 if charge > 0 else 0)
        if self._sensors.trouble_codes():
            word |= 0x08
        return word | (0x80 if self._sensors.sign * self._sensors.current() < -0.2 else 0)

    def _status(self) -> int:
        return 0x1 if self._sensors.trouble_codes() else 0

    def feed(self, data: bytes) -> list[bytes]:
        """Answers to the requests that `data` completes; anything else is passed over in silence."""
        self._buffer += data
        answers: list[bytes] = []
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).strip()
            del self._buffer[: end + 1]
            if (reply := self._line(line)) is not None:
                answers.append(reply)
        if len(self._buffer) > _LINE_MAX:
            self._buffer.clear()
        return answers

    def _line(self, line: bytes) -> bytes | None:
        if not line.startswith(b":"):
            return None
        try:
            body = bytes.fromhex(line[1:].decode("ascii"))
        except ValueError:
            return None
        if len(body) < 2 or body[0] != len(body) - 1:
            return None
        reply = self._faults.keep(body[1:], self._reply(body[1:]))
        if self._faults.wrong_unit and len(reply) > 2:
            reply = reply[:2] + bytes((reply[2] ^ 0x01,)) + reply[3:]
        return b":" + (bytes((len(reply),)) + reply).hex().upper().encode() + b"\n"

    def _reply(self, request: bytes) -> bytes:
        if request == b"\x09\x0b":
            return b"\x49\x0bORIONBMS"
        if request[:1] in {b"\x03", b"\x07", b"\x0a"} and len(request) == 1:
            codes = self._sensors.trouble_codes() if request == b"\x03" else []
            return bytes((request[0] | 0x40, len(codes))) + b"".join(code.to_bytes(2, "big") for code in codes)
        if len(request) != 3 or request[0] != 0x22:
            return bytes((0x7F, request[0], 0x31))
        pid = int.from_bytes(request[1:], "big")
        data = self._cell_block(pid) if 0xF100 <= pid <= 0xF10E else self._scalar(pid)
        return b"\x62" + request[1:] + data if data else _NOT_SUPPORTED

    def _scalar(self, pid: int) -> bytes:
        value = self._pids.get(pid)
        return b"" if value is None else value()

    def _cell_block(self, pid: int) -> bytes:
        """Twelve cells of 0.1 mV per block; cells that are not fitted read 0."""
        first = (pid - 0xF100) * _CELLS_PER_BLOCK
        cells = self._sensors.cell_voltages()[first : first + _CELLS_PER_BLOCK]
        return b"".join(_u16(volts * 1e4) for volts in cells).ljust(2 * _CELLS_PER_BLOCK, b"\0")
