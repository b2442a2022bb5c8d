"""The read plan: which registers are fetched together. Pure.

Points of the same data table and scan class are merged while the gap between them and the whole read stay within the
device's limits, and never across a barrier. Reads are computed from the map, never written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.field.map_model import Register, ScanClass
from gateway.points import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.field.map_model import MapPoint

MAX_BITS = 2000
"""Coils or discrete inputs in one read, MODBUS Application Protocol V1.1b3, 6.1 and 6.2."""


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read: `count` registers (or bits) from `address` of a data table, and the points found there."""

    register: Register
    scan: ScanClass
    address: int
    count: int
    points: tuple[MapPoint, ...]

    @property
    def title(self) -> str:
        """How the read is called in messages, for example "input 300-329"."""
        return f"{self.register} {self.address}-{self.address + self.count - 1}"


def plan(points: Iterable[MapPoint], max_registers: int, gap: int) -> tuple[ReadBlock, ...]:
    """The reads that cover all readable points, fast ones first.

    A read holds at most `max_registers` registers and at most `gap` unmapped ones between two neighbours. A point wider
    than the limit cannot be read at all: ValueError.
    """
    readable = [point for point in points if point.readable]
    return tuple(
        block
        for scan in ScanClass
        for register in (Register.INPUT, Register.HOLDING, Register.DISCRETE, Register.COIL)
        for block in _merge([p for p in readable if p.scan is scan and p.register is register], max_registers, gap)
    )


def _merge(points: Sequence[MapPoint], max_registers: int, gap: int) -> list[ReadBlock]:
    blocks: list[ReadBlock] = []
    pending: list[MapPoint] = []
    end = 0
    for point in sorted(points, key=lambda item: (item.address, item.bit or 0)):
        limit = MAX_BITS if point.register in {Register.COIL, Register.DISCRETE} else max_registers
        if point.length > limit:
            msg = f"{point.name} takes {point.length} registers, more than one read can hold ({limit})"
            raise ValueError(msg)
        reach = max(end, point.address + point.length)
        too_far = pending and (point.address - end > gap or reach - pending[0].address > limit)
        if pending and (too_far or (point.barrier and point.address != pending[-1].address)):
            blocks.append(_block(pending, end))
            pending, reach = [], point.address + point.length
        pending.append(point)
        end = reach
    return [*blocks, _block(pending, end)] if pending else blocks


def _block(points: Sequence[MapPoint], end: int) -> ReadBlock:
    first = points[0]
    return ReadBlock(first.register, first.scan, first.address, end - first.address, tuple(points))


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Points that one text request answers (Orion), or that are asked one after the other (SCPI)."""

    scan: ScanClass
    request: str
    points: tuple[MapPoint, ...]


def by_request(points: Iterable[MapPoint]) -> tuple[RequestGroup, ...]:
    """One group per scan class and request, fast ones first, otherwise in the order of the map."""
    groups: dict[tuple[ScanClass, str], list[MapPoint]] = {}
    for point in points:
        if point.readable:
            groups.setdefault((point.scan, point.request), []).append(point)
    order = list(ScanClass)
    keys = sorted(groups, key=lambda key: order.index(key[0]))
    return tuple(RequestGroup(scan, request, tuple(groups[scan, request])) for scan, request in keys)


def by_scan(points: Iterable[MapPoint]) -> tuple[RequestGroup, ...]:
    """One group per scan class; numbers before texts."""
    groups: dict[ScanClass, list[MapPoint]] = {}
    for point in points:
        if point.readable:
            groups.setdefault(point.scan, []).append(point)
    return tuple(
        RequestGroup(scan, "", tuple(sorted(groups[scan], key=lambda p: p.kind is Kind.TEXT)))
        for scan in ScanClass
        if scan in groups
    )
