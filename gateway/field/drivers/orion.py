r"""Orion BMS over RS-232: OBD2 requests as lines of ASCII hexadecimal.

    request  :<LEN><MODE><PID>\n            :0322F00F
    answer   :<LEN><MODE + 40><PID><DATA>\n  :0562F00F0064      refusal  :<LEN>7F<MODE><CODE>

LEN counts the bytes after itself. There is no checksum, so LEN and the echoed mode and PID are all that tells a sound
answer; every value is held against its range. (Orion application note AN2586; ISO 15031-5 for mode 03.)
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from gateway.errors import DeviceRefused, FieldError, FrameError, WrongDevice
from gateway.field.block_codec import BlockCodec, Decoded, Repeated
from gateway.field.blocks import RequestGroup, by_request
from gateway.field.drivers.base import Part, ProbeRow, SafeFrame, check_writes, failed_rows, readback_points, value_rows
from gateway.field.transports.base import Request

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.field.drivers.base import Exchange
    from gateway.field.map_model import MapPoint
    from gateway.field.settings import DeviceSettings

_ANSWER_OFFSET = 0x40
_NEGATIVE = 0x7F


class OrionDriver:
    """One Orion BMS on a port of its own. It takes no commands."""

    def __init__(self, device: DeviceSettings, exchange: Exchange) -> None:
        self._device, self._exchange = device, exchange
        points = device.map.points(device.cells)
        self._points = {point.name: point for point in points}
        self._groups = tuple(_Group(group, device.unit) for group in by_request(points))
        self.parts = tuple(group.part for group in self._groups)

    async def identify(self) -> None:
        identity = self._device.map.identity
        try:
            data = await self._ask(identity.query)
        except DeviceRefused as error:
            msg = f"does not identify itself: {error}"
            raise WrongDevice(msg) from error
        text = data.decode("ascii", "replace").strip("\0 ")
        if re.search(identity.matches, text) is None:
            msg = f"identifies itself as {text!r}, expected {identity.matches!r}"
            raise WrongDevice(msg)

    async def read(self, part: int) -> Decoded:
        group = self._groups[part]
        return group.decode(await self._ask(group.request))

    def decode(self, part: int, answer: bytes) -> Decoded:
        group = self._groups[part]
        return group.decode(answer_data(answer, bytes.fromhex(group.request)))

    async def write(self, values: Mapping[str, float]) -> None:
        check_writes(self._points, values, self._device)

    async def read_back(self, names: Collection[str]) -> Mapping[str, float]:
        return dict.fromkeys(readback_points(self._points, names), math.nan)

    async def refresh(self) -> None:
        return

    async def probe(self) -> Sequence[ProbeRow]:
        rows: dict[str, ProbeRow] = {}
        for group in self._groups:
            try:
                data = await self._ask(group.request)
                rows.update((row.name, row) for row in group.rows(data))
            except FieldError as error:
                rows.update((row.name, row) for row in failed_rows(group.codec.points, error, _address))
        return [rows[name] for name in self._points if name in rows]

    def safe_frames(self) -> Sequence[SafeFrame]:
        return ()

    async def _ask(self, request: str) -> bytes:
        wanted = bytes.fromhex(request)
        return answer_data(await self._exchange(_request(self._device.unit, wanted)), wanted)


def _request(unit: int, wanted: bytes) -> Request:
    return Request(unit, request_line(wanted), mine=lambda line: _answers(line, wanted))


def request_line(wanted: bytes) -> bytes:
    """The line that asks for mode and PID."""
    return f":{len(wanted):02X}{wanted.hex().upper()}\n".encode("ascii")


def answer_data(line: bytes, wanted: bytes) -> bytes:
    """The data of an answer. DeviceRefused for a refusal, FrameError for anything but the answer to this request."""
    body = _body(line)
    if body is None or not _answers(line, wanted):
        msg = f"not the answer to {wanted.hex().upper()}: {line[:40]!r}"
        raise FrameError(msg)
    if body[0] == _NEGATIVE:
        msg = f"refused with code 0x{body[2]:02X}" if len(body) > 2 else "refused"
        raise DeviceRefused(msg, body[2] if len(body) > 2 else 0)
    return body[len(wanted) :]


def _body(line: bytes) -> bytes | None:
    """The bytes after LEN, when the line is whole: noise before the last colon is passed over."""
    begin = line.rfind(b":")
    try:
        frame = bytes.fromhex(line[begin + 1 :].decode("ascii")) if begin >= 0 else b""
    except ValueError:
        return None
    return frame[1:] if len(frame) > 1 and frame[0] == len(frame) - 1 else None


def _answers(line: bytes, wanted: bytes) -> bool:
    body = _body(line)
    if body is None:
        return False
    positive = bytes([wanted[0] + _ANSWER_OFFSET]) + wanted[1:]
    return body.startswith((positive, bytes([_NEGATIVE, wanted[0]])))


class _Group:
    """The points that one request answers."""

    def __init__(self, group: RequestGroup, unit: int) -> None:
        self.request = group.request
        self.codec = BlockCodec(group.points, 0, width=1)
        self._decode = Repeated(self.codec.decode).decode
        numbers = tuple(point.name for point in self.codec.points)
        self.part = Part(group.request, group.scan, numbers, request=_request(unit, bytes.fromhex(group.request)))

    def decode(self, data: bytes) -> Decoded:
        try:
            return self._decode(data)
        except ValueError as error:
            msg = f"answer to {self.request}: {error}"
            raise FrameError(msg) from error

    def rows(self, data: bytes) -> list[ProbeRow]:
        return value_rows(self.codec.points, self.decode(data), lambda point: self.codec.raw(point, data), _address)


def _address(point: MapPoint) -> str:
    return f"{point.request}+{point.address}"
