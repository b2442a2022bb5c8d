"""SCPI instruments, driven by their map: queries, commands, and the error queue after every command (SCPI-1999, 21.8)."""

from __future__ import annotations

import logging
import math
import re
from typing import TYPE_CHECKING

import numpy as np

from gateway.errors import DeviceRefused, FieldError, FrameError, WrongDevice
from gateway.field.block_codec import Decoded
from gateway.field.blocks import RequestGroup, by_scan
from gateway.field.codec import decode_text, encode_text, unscaled
from gateway.field.drivers.base import BadRequest, Part, ProbeRow, SafeFrame, check_writes, failed_rows, readback_points
from gateway.field.transports.base import Request
from gateway.points import Kind, Quality

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.field.drivers.base import Exchange
    from gateway.field.map_model import MapPoint
    from gateway.field.settings import DeviceSettings

logger = logging.getLogger(__name__)

_ERROR = re.compile(r'\s*([+-]?\d+)\s*(?:,\s*"?([^"]*)"?)?')
_QUEUE_LENGTH = 40
"""More entries than an instrument's error queue holds."""


class ScpiDriver:
    """One instrument. A setpoint that is a magnitude is written with the sign that the instrument itself uses."""

    def __init__(self, device: DeviceSettings, exchange: Exchange) -> None:
        self._device, self._exchange = device, exchange
        points = device.map.points(device.cells)
        self._points = {point.name: point for point in points}
        self._groups = by_scan(points)
        self._signs: dict[str, float] = {}
        self.parts = tuple(_part(group) for group in self._groups)

    async def identify(self) -> None:
        identity = self._device.map.identity
        text = await self._ask(identity.query)
        if re.search(identity.matches, text) is None:
            msg = f"identifies itself as {text!r}, expected {identity.matches!r}"
            raise WrongDevice(msg)
        for error in await self._errors():
            logger.info("%s had an error in its queue: %s", self._device.id, error, extra={"device": self._device.id})
        for point in self._points.values():
            if point.sign_from:
                self._signs[point.name] = await self._sign(point)

    async def read(self, part: int) -> Decoded:
        values: list[float] = []
        qualities: list[int] = []
        texts: dict[str, str] = {}
        for point in self._groups[part].points:
            value, quality = self._decode(point, await self._ask(point.request))
            if isinstance(value, str):
                texts[point.name] = value
            else:
                values.append(value)
                qualities.append(quality)
        return Decoded(np.array(values), np.array(qualities, dtype=np.uint8), texts)

    def decode(self, part: int, answer: bytes) -> Decoded:
        msg = f"part {part} takes several queries; {answer[:16]!r} answers one"
        raise FrameError(msg)

    async def write(self, values: Mapping[str, float]) -> None:
        check_writes(self._points, values, self._device)
        for name, value in values.items():
            command = self._command(self._points[name], value)
            if command is not None:
                await self._send(command)

    async def read_back(self, names: Collection[str]) -> Mapping[str, float]:
        result: dict[str, float] = {}
        for name, point in readback_points(self._points, names).items():
            value, _ = self._decode(point, await self._ask(point.request))
            result[name] = math.nan if isinstance(value, str) else value
        return result

    async def refresh(self) -> None:
        return

    async def probe(self) -> Sequence[ProbeRow]:
        rows: list[ProbeRow] = []
        for point in self._points.values():
            if not point.readable:
                continue
            try:
                answer = await self._ask(point.request)
            except FieldError as error:
                rows += failed_rows([point], error, _address)
                continue
            value, quality = self._decode(point, answer)
            rows.append(ProbeRow(point.name, answer, None if quality.is_bad else value, point.unit, quality, _address(point)))
        return rows

    def safe_frames(self) -> Sequence[SafeFrame]:
        if self._device.read_only:
            return ()
        frames: list[SafeFrame] = []
        for point in self._points.values():
            command = self._command(point, point.safe) if point.writable and point.safe is not None else None
            if command is not None and point.safe is not None:
                frames.append(self._safe_frame(command, point, point.safe))
        return frames

    def _safe_frame(self, command: str, point: MapPoint, value: float) -> SafeFrame:
        """The command and, where the setpoint can be read back, the query that shows it: sent together, again together."""
        shown = self._points.get(point.readback or "")
        if shown is None or not shown.request:
            return SafeFrame(f"{command}\n".encode("ascii"))
        both = f"{command}\n{shown.request}\n".encode("ascii")
        word = next((word for word, number in shown.translate.items() if isinstance(word, str) and number == value), None)
        if word is not None:
            return SafeFrame(both, expect=word.encode("ascii"))
        return SafeFrame(both, reading=unscaled(shown, value) * self._signs.get(shown.name, 1.0))

    def _decode(self, point: MapPoint, answer: str) -> tuple[float | str, Quality]:
        value, quality = decode_text(point, answer)
        if point.name in self._signs and not isinstance(value, str):
            value, quality = decode_text(point, str(_number(answer) * self._signs[point.name]))
        return value, quality

    def _command(self, point: MapPoint, value: float) -> str | None:
        try:
            return encode_text(point, value, self._signs.get(point.name, 1.0))
        except ValueError as error:
            raise BadRequest(str(error)) from error

    async def _ask(self, query: str) -> str:
        request = Request(self._device.unit, query.encode("ascii"))
        return (await self._exchange(request)).decode("ascii", "replace")

    async def _send(self, command: str) -> None:
        await self._exchange(Request(self._device.unit, command.encode("ascii"), writes=True, answers=False))
        errors = await self._errors()
        if errors:
            code = int(errors[0].split(",", 1)[0])
            msg = f"{command!r} refused: {'; '.join(errors)}"
            raise DeviceRefused(msg, code)

    async def _errors(self) -> list[str]:
        """Empties the error queue; each entry as `<number>, <text>`. Empty when the map names no error query."""
        query = self._device.map.error_query
        errors: list[str] = []
        for _ in range(_QUEUE_LENGTH if query else 0):
            answer = await self._ask(query)
            entry = _ERROR.match(answer)
            if entry is None:
                msg = f"{query} answered {answer!r}"
                raise FrameError(msg)
            if int(entry.group(1)) == 0:
                break
            errors.append(f"{int(entry.group(1))}, {(entry.group(2) or '').strip()}")
        return errors

    async def _sign(self, point: MapPoint) -> float:
        """-1 when the numbers that the instrument accepts reach further below zero than above."""
        numbers = [_number(await self._ask(query)) for query in point.sign_from]
        farthest = max(numbers, key=abs)
        return -1.0 if farthest < 0.0 else 1.0


def _number(answer: str) -> float:
    try:
        return float(answer)
    except ValueError as error:
        msg = f"expected a number, got {answer!r}"
        raise FrameError(msg) from error


def _part(group: RequestGroup) -> Part:
    numbers = tuple(point.name for point in group.points if point.kind is not Kind.TEXT)
    texts = tuple(point.name for point in group.points if point.kind is Kind.TEXT)
    return Part(f"{group.scan} queries", group.scan, numbers, texts)


def _address(point: MapPoint) -> str:
    return point.request
