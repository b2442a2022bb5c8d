"""Modbus slave framing written from the specification, RTU and TCP: no library, so that it can find a wrong frame.

Standards: Modbus Application Protocol V1.1b3; Modbus over Serial Line V1.02 (CRC-16, low byte first); Modbus Messaging on
TCP/IP V1.0b (MBAP header). Addresses are zero-based, registers big-endian. Functions 01 to 06, 15 and 16.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
DEVICE_BUSY = 6
NO_TARGET = 0x0B

_READ_MAX = 125
_WRITE_MAX = 123
_READ_BITS_MAX = 2000
_WRITE_BITS_MAX = 1968
_COIL = {0xFF00: True, 0x0000: False}
_MBAP = struct.Struct(">HHHB")
_FIXED_REQUEST = 8
_STALE_S = 0.05
"""A request that is still incomplete after this silence is forgotten (the standard's 3.5 characters, seen through a pty)."""


def _crc_row(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_CRC_TABLE = tuple(_crc_row(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """CRC-16 of Modbus over Serial Line V1.02, annex B; on the wire the low byte comes first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """Unit, PDU and CRC as they go over the line."""
    body = bytes((unit,)) + pdu
    return body + struct.pack("<H", crc16(body))


def tcp_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """MBAP header and PDU."""
    return _MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu


class Refusal(Exception):
    """The device answers with an exception code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"Modbus exception {code}")


class RegisterDevice(Protocol):
    """What stands behind one unit id. Each method raises Refusal."""

    def read_input(self, address: int, count: int) -> Sequence[int]:
        """Values of input registers, 0 to 65535."""
        ...

    def read_holding(self, address: int, count: int) -> Sequence[int]:
        """Values of holding registers, 0 to 65535."""
        ...

    def write(self, address: int, values: Sequence[int]) -> None:
        """Write holding registers, all or none."""
        ...


@runtime_checkable
class BitDevice(Protocol):
    """What stands behind a unit id that has coils or discrete inputs as well. Each method raises Refusal."""

    def read_coils(self, address: int, count: int) -> Sequence[bool]:
        """States of coils."""
        ...

    def read_discrete(self, address: int, count: int) -> Sequence[bool]:
        """States of discrete inputs."""
        ...

    def write_coils(self, address: int, values: Sequence[bool]) -> None:
        """Write coils, all or none."""
        ...


def answer(device: RegisterDevice, pdu: bytes) -> bytes:
    """The answer of `device` to a request PDU; a refusal becomes an exception PDU."""
    try:
        return _answer(device, pdu)
    except Refusal as refusal:
        return bytes((pdu[0] | 0x80, refusal.code))


def _answer(device: RegisterDevice, pdu: bytes) -> bytes:
    function = pdu[0]
    if function in {3, 4} and len(pdu) == 5:
        address, count = struct.unpack_from(">HH", pdu, 1)
        if not 1 <= count <= _READ_MAX:
            raise Refusal(ILLEGAL_VALUE)
        values = device.read_holding(address, count) if function == 3 else device.read_input(address, count)
        return struct.pack(f">BB{count}H", function, 2 * count, *values)
    if function == 6 and len(pdu) == 5:
        address, value = struct.unpack_from(">HH", pdu, 1)
        device.write(address, (value,))
        return pdu
    if function == 16 and len(pdu) >= 6:
        address, count, size = struct.unpack_from(">HHB", pdu, 1)
        if not 1 <= count <= _WRITE_MAX or size != 2 * count or len(pdu) != 6 + size:
            raise Refusal(ILLEGAL_VALUE)
        device.write(address, struct.unpack_from(f">{count}H", pdu, 6))
        return pdu[:5]
    if isinstance(device, BitDevice):
        return _answer_bits(device, pdu)
    raise Refusal(ILLEGAL_FUNCTION)


def _answer_bits(device: BitDevice, pdu: bytes) -> bytes:
    function = pdu[0]
    if function in {1, 2} and len(pdu) == 5:
        address, count = struct.unpack_from(">HH", pdu, 1)
        if not 1 <= count <= _READ_BITS_MAX:
            raise Refusal(ILLEGAL_VALUE)
        states = device.read_coils(address, count) if function == 1 else device.read_discrete(address, count)
        packed = sum(1 << place for place, on in enumerate(states) if on)  # the first in the lowest bit of the first byte
        data = packed.to_bytes((count + 7) // 8, "little")
        return bytes((function, len(data))) + data
    if function == 5 and len(pdu) == 5:
        address, word = struct.unpack_from(">HH", pdu, 1)
        if word not in _COIL:
            raise Refusal(ILLEGAL_VALUE)
        device.write_coils(address, (_COIL[word],))
        return pdu
    if function == 15 and len(pdu) >= 7:
        address, count, size = struct.unpack_from(">HHB", pdu, 1)
        if not 1 <= count <= _WRITE_BITS_MAX or size != (count + 7) // 8 or len(pdu) != 6 + size:
            raise Refusal(ILLEGAL_VALUE)
        packed = int.from_bytes(pdu[6:], "little")
        device.write_coils(address, tuple(bool(packed >> place & 1) for place in range(count)))
        return pdu[:5]
    raise Refusal(ILLEGAL_FUNCTION)


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request."""

    unit: int
    pdu: bytes
    transaction: int = 0


def _rtu_length(buffer: bytes) -> int | None:
    """Length of the request that `buffer` begins with; None when it cannot be told yet."""
    if len(buffer) < 2:
        return None
    if buffer[1] in {15, 16}:
        return 9 + buffer[6] if len(buffer) >= 7 else None
    return _FIXED_REQUEST if buffer[1] in {1, 2, 3, 4, 5, 6} else len(buffer)


@dataclass(slots=True)
class RtuReceiver:
    """Cuts the bytes of a serial line into requests. `crc_errors` counts what was thrown away."""

    crc_errors: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _last_s: float = 0.0

    def feed(self, data: bytes, now_s: float) -> list[Request]:
        """Requests completed by `data`, received at `now_s` (real seconds)."""
        if self._buffer and now_s - self._last_s > _STALE_S:
            self._buffer.clear()
        self._last_s = now_s
        self._buffer += data
        found: list[Request] = []
        while (size := _rtu_length(bytes(self._buffer))) is not None and len(self._buffer) >= size:
            frame = bytes(self._buffer[:size])
            if size < 4 or crc16(frame[:-2]) != struct.unpack("<H", frame[-2:])[0]:
                self.crc_errors += 1
                self._buffer.clear()
                break
            del self._buffer[:size]
            found.append(Request(frame[0], frame[1:-2]))
        return found


@dataclass(slots=True)
class TcpReceiver:
    """Cuts the bytes of one TCP connection into requests. `broken` tells that the peer does not speak Modbus."""

    broken: bool = False
    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Request]:
        """Requests completed by `data`."""
        self._buffer += data
        found: list[Request] = []
        while len(self._buffer) >= _MBAP.size and not self.broken:
            transaction, protocol, length, unit = _MBAP.unpack_from(self._buffer)
            if protocol != 0 or not 2 <= length <= 254:
                self.broken = True
                break
            if len(self._buffer) < 6 + length:
                break
            found.append(Request(unit, bytes(self._buffer[7 : 6 + length]), transaction))
            del self._buffer[: 6 + length]
        return found


def registers(values: Mapping[int, int], address: int, count: int, blocks: Sequence[tuple[int, int]]) -> list[int]:
    """Registers of a map with first-last `blocks`; reserved ones read 0, outside the blocks the address is refused."""
    if not any(first <= address and address + count - 1 <= last for first, last in blocks):
        raise Refusal(ILLEGAL_ADDRESS)
    return [values.get(place, 0) & 0xFFFF for place in range(address, address + count)]
