"""Modbus devices, driven by their map: RTU and TCP alike, since a transport carries plain PDUs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.errors import DeviceRefused, FieldError, WrongDevice
from gateway.field.block_codec import BitCodec, BlockCodec, Decoded
from gateway.field.blocks import ReadBlock, plan
from gateway.field.codec import encode, raw_number
from gateway.field.drivers.base import (
    BadRequest,
    Part,
    ProbeRow,
    SafeFrame,
    check_writes,
    failed_rows,
    readback_points,
    value_rows,
)
from gateway.field.drivers.modbus_pdu import (
    check_write,
    expected_answer,
    read_data,
    read_request,
    write_coil_request,
    write_registers_request,
)
from gateway.field.map_model import DeviceMap, Identity, MapPoint, Register, WriteBlock
from gateway.points import Quality

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gateway.field.drivers.base import Exchange
    from gateway.field.settings import DeviceSettings
    from gateway.field.transports.base import Request

_Plan = tuple[Mapping[str, MapPoint], tuple[tuple[ReadBlock, BlockCodec | BitCodec], ...]]
_IDENTITY_REGISTERS: Mapping[str, int] = {"uint32": 2, "int32": 2, "uint64": 4, "int64": 4}


class ModbusDriver:
    """One Modbus unit.

    Setpoints of a write block always go out together: `write` merges new values into the block's image. The image holds
    what was last asked for, also when no answer came, so that `refresh` never brings back what a later write replaced;
    it returns to the safe values when the device (re)connects, and to the one before when the device refuses.
    """

    def __init__(self, device: DeviceSettings, exchange: Exchange) -> None:
        self._device, self._exchange = device, exchange
        self._points, codecs = _plan_of(device.map, device.cells)
        self._reads = tuple(_Read(device.unit, block, codec) for block, codec in codecs)
        self._blocks = tuple(_Image(block, self._points) for block in device.map.write_blocks)
        self._block_of = {name: image for image in self._blocks for name in image.block.points}
        self.parts = tuple(read.part for read in self._reads)

    async def identify(self) -> None:
        for image in self._blocks:
            image.reset()
        identity = self._device.map.identity
        registers = _IDENTITY_REGISTERS.get(identity.type, 1)
        request = read_request(self._device.unit, identity.register, identity.address, registers)
        try:
            data = read_data(request, await self._exchange(request))
        except DeviceRefused as error:
            msg = f"{identity.register} register {identity.address} should identify it, but: {error}"
            raise WrongDevice(msg) from error
        _check_identity(identity, data)

    async def read(self, part: int) -> Decoded:
        return self._reads[part].decode(await self._exchange(self._reads[part].request))

    def decode(self, part: int, answer: bytes) -> Decoded:
        return self._reads[part].decode(answer)

    async def write(self, values: Mapping[str, float]) -> None:
        check_writes(self._points, values, self._device)
        done: set[int] = set()
        for name, value in values.items():
            image = self._block_of.get(name)
            if image is None:
                await self._write_one(self._points[name], value)
            elif id(image) not in done:
                done.add(id(image))
                await self._write_block(image, {key: item for key, item in values.items() if key in image.values})

    async def read_back(self, names: Collection[str]) -> Mapping[str, float]:
        shown = readback_points(self._points, names)
        found: dict[str, float] = {}
        for block in plan({point.name: point for point in shown.values()}.values(), self._device.map.max_registers, 0):
            read = _Read(self._device.unit, block, _codec(block))
            decoded = read.codec.decode(read_data(read.request, await self._exchange(read.request)))
            found.update(zip((point.name for point in read.codec.points), decoded.values.tolist(), strict=True))
        return {name: found.get(point.name, math.nan) for name, point in shown.items()}

    async def refresh(self) -> None:
        for image in self._blocks:
            if image.block.heartbeat is not None and not self._device.read_only:
                await self._write_block(image, {})

    async def probe(self) -> Sequence[ProbeRow]:
        rows: dict[str, ProbeRow] = {}
        for at, read in enumerate(self._reads):
            try:
                data = read_data(read.request, await self._exchange(read.request))
                decoded = read.codec.decode(data)
            except FieldError as error:
                rows.update((row.name, row) for row in failed_rows(self._reads[at].block.points, error, _address))
                continue
            rows.update((row.name, row) for row in read.rows(data, decoded))
        return [rows[name] for name in self._points if name in rows]

    def safe_frames(self) -> Sequence[SafeFrame]:
        if self._device.read_only:
            return ()
        requests: list[Request] = []
        done: set[int] = set()
        for point in self._points.values():
            image = self._block_of.get(point.name)
            if point.safe is None or (image is not None and id(image) in done):
                continue
            if image is None:
                requests.append(self._request(point, point.safe))
            else:
                done.add(id(image))
                requests.append(image.safe_request(self._device.unit))
        return [SafeFrame(request.payload, expected_answer(request)) for request in requests]

    async def _write_one(self, point: MapPoint, value: float) -> None:
        request = self._request(point, value)
        check_write(request, await self._exchange(request))

    def _request(self, point: MapPoint, value: float) -> Request:
        if point.register is Register.COIL:
            return write_coil_request(self._device.unit, point.address, on=bool(value))
        try:
            return write_registers_request(self._device.unit, point.address, encode(point, value))
        except ValueError as error:
            raise BadRequest(str(error)) from error

    async def _write_block(self, image: _Image, values: Mapping[str, float]) -> None:
        before = dict(image.values)
        image.values.update(values)
        request = image.request(self._device.unit)
        try:
            check_write(request, await self._exchange(request))
        except DeviceRefused:
            image.values = before
            raise


_plans: dict[tuple[int, int], tuple[DeviceMap, _Plan]] = {}


def _plan_of(device_map: DeviceMap, cells: int) -> _Plan:
    """The points of a device by name, and its reads; made once for all devices of the same map and size.

    What devices share stays in the processor's cache when hundreds of them are decoded in a row.
    """
    key = (id(device_map), cells)
    if key not in _plans:
        points = device_map.points(cells)
        blocks = plan(points, device_map.max_registers, device_map.gap)
        made = ({point.name: point for point in points}, tuple((block, _codec(block)) for block in blocks))
        _plans[key] = (device_map, made)  # holding the map keeps its id from being given to another one
    return _plans[key][1]


def _codec(block: ReadBlock) -> BlockCodec | BitCodec:
    bits = block.register in {Register.COIL, Register.DISCRETE}
    return BitCodec(block.points, block.address) if bits else BlockCodec(block.points, block.address)


class _Read:
    """One planned read with its request and its codec, both made once."""

    def __init__(self, unit: int, block: ReadBlock, codec: BlockCodec | BitCodec) -> None:
        self.block = block
        self.request = read_request(unit, block.register, block.address, block.count)
        self.codec = codec
        self._answer: bytes | None = None
        self._decoded: Decoded | None = None
        numbers, texts = (tuple(point.name for point in group) for group in (self.codec.points, self.codec.texts))
        self.part = Part(block.title, block.scan, numbers, texts, self.request)

    def decode(self, answer: bytes) -> Decoded:
        """The values in an answer PDU; those of the last one, undecoded, when it is the same. Raises FieldError."""
        if self._decoded is None or answer != self._answer:
            self._decoded = self.codec.decode(read_data(self.request, answer))
            self._answer = answer
        return self._decoded

    def rows(self, data: bytes, decoded: Decoded) -> list[ProbeRow]:
        rows = value_rows(self.codec.points, decoded, lambda point: self.codec.raw(point, data), _address)
        rows += [
            ProbeRow(point.name, self.codec.raw(point, data), decoded.texts[point.name], "", Quality.GOOD, _address(point))
            for point in self.codec.texts
        ]
        return rows


class _Image:
    """The values of a write block as they were last asked for."""

    def __init__(self, block: WriteBlock, points: Mapping[str, MapPoint]) -> None:
        self.block = block
        self._points = tuple(points[name] for name in block.points)
        self._safe = {point.name: point.safe or 0.0 for point in self._points}
        self.values = dict(self._safe)
        starts = [point.address for point in self._points] + ([block.heartbeat] if block.heartbeat is not None else [])
        self._start = min(starts)
        self._heartbeat = 0

    def reset(self) -> None:
        """Back to the safe values: after a loss nothing is re-sent that was asked for before it."""
        self.values = dict(self._safe)

    def request(self, unit: int) -> Request:
        """The write of the present values, with the next heartbeat."""
        self._heartbeat = (self._heartbeat + 1) & 0xFFFF
        return self._request(unit, self.values, self._heartbeat)

    def safe_request(self, unit: int) -> Request:
        """The write of the safe values; always the same bytes."""
        return self._request(unit, self._safe, 0)

    def _request(self, unit: int, values: Mapping[str, float], heartbeat: int) -> Request:
        pieces = {point.address: encode(point, values[point.name]) for point in self._points}
        if self.block.heartbeat is not None:
            pieces[self.block.heartbeat] = heartbeat.to_bytes(2, "big")
        return write_registers_request(unit, self._start, b"".join(pieces[address] for address in sorted(pieces)))


def _check_identity(identity: Identity, data: bytes) -> None:
    found = int(raw_number(data, identity.type, identity.order))
    if found not in identity.one_of:
        wanted = " or ".join(f"0x{number:04X}" for number in identity.one_of)
        msg = f"{identity.register} register {identity.address} holds 0x{found:04X}, expected {wanted}"
        raise WrongDevice(msg)


def _address(point: MapPoint) -> str:
    return f"{point.register} {point.address}" + (f".{point.bit}" if point.bit is not None else "")
