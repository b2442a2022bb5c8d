"""Checks of a whole device map: what one point alone cannot show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.device_roles import ROLE_POINTS, role_point
from gateway.field.map_model import INTEGER_LIMITS, MAX_ADDRESS, DeviceMap, MapPoint, PointTemplate, Register
from gateway.points import Access, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gateway.errors import Problem
    from gateway.toml_lines import LineIndex


def check(device_map: DeviceMap, index: LineIndex, broken: Collection[int] = ()) -> list[Problem]:
    """Every problem of a map whose tables are well-formed one by one, but for the `broken` [[point]] tables.

    These are left out, and with them what can be judged only when all points are known.
    """
    sound = _Sound(device_map, frozenset(broken))
    found = [*_names(sound, index), *_places(sound, index), *_roles(sound, index), *_written(sound, index)]
    if not broken:
        found += [*_missing(device_map, index), *_readbacks(sound, index), *_blocks(sound, index)]
    return found


@dataclass(frozen=True, slots=True)
class _Sound:
    """A map without those of its [[point]] tables that are not well-formed; the others keep their numbers."""

    map: DeviceMap
    broken: frozenset[int]

    @property
    def templates(self) -> Iterator[tuple[int, PointTemplate]]:
        return ((number, template) for number, template in enumerate(self.map.templates) if number not in self.broken)

    @property
    def points(self) -> Iterator[tuple[int, PointTemplate, MapPoint]]:
        """Each point at its greatest expansion, with the number of its [[point]]."""
        return ((number, template, point) for number, template in self.templates for point in template.expand(template.maximum))


def _names(sound: _Sound, index: LineIndex) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, _, point in sound.points:
        first = seen.setdefault(point.name, number)
        if first != number:
            line = index.line(f"point[{first}].name")
            yield index.problem(f"point[{number}].name", f"'{point.name}' is already the name of the point in line {line}")
            return


def _places(sound: _Sound, index: LineIndex) -> Iterator[Problem]:
    """Overlaps, and values that reach beyond the last register."""
    device_map = sound.map
    taken: dict[tuple[str, int], tuple[int, MapPoint]] = {}
    reported: set[int] = set()
    for number, _, point in sound.points:
        if device_map.language not in {"modbus", "orion"} or number in reported:
            continue
        table = point.register if device_map.language == "modbus" else point.request
        if device_map.language == "modbus" and point.address + point.length - 1 > MAX_ADDRESS:
            reported.add(number)
            yield index.problem(f"point[{number}].address", f"'{point.name}' reaches beyond address {MAX_ADDRESS}")
            continue
        for place in range(point.address, point.address + point.length):
            other_number, other = taken.setdefault((table, place), (number, point))
            if other is not point and not _share(point, other):
                reported.add(number)
                where = f"{table} register {place}" if device_map.language == "modbus" else f"byte {place} of {table}"
                line = index.line(f"point[{other_number}].name")
                yield index.problem(
                    f"point[{number}].address", f"'{point.name}' overlaps '{other.name}' (line {line}) at {where}"
                )
                break


def _share(one: MapPoint, other: MapPoint) -> bool:
    """Different bits of the same word do not overlap."""
    if one.bit is None or other.bit is None or one.bit == other.bit:
        return False
    return (one.address, one.type, one.order) == (other.address, other.type, other.order)


def _roles(sound: _Sound, index: LineIndex) -> Iterator[Problem]:
    """Canonical names must mean what the role says."""
    device_map = sound.map
    for number, template in sound.templates:
        point = template.point
        canonical = role_point(device_map.role, point.name)
        if canonical is None:
            continue
        if point.unit != canonical.unit:
            unit = f"'{canonical.unit}'" if canonical.unit else "no unit"
            yield index.problem(f"point[{number}].unit", f"'{point.name}' of a {device_map.role} has {unit}, not '{point.unit}'")
        if point.access is not canonical.access:
            text = f"'{point.name}' of a {device_map.role} has access \"{canonical.access}\""
            yield index.problem(f"point[{number}].access", text)
        if canonical.kind is not Kind.TEXT and point.type == "string":
            yield index.problem(f"point[{number}].type", f"'{point.name}' of a {device_map.role} is a number")
        if canonical.kind is Kind.ENUM and point.translate and canonical.symbols:
            wrong = sorted({value for value in point.translate.values() if value not in canonical.symbols})
            if wrong:
                names = ", ".join(f"{value} {name}" for value, name in canonical.symbols.items())
                text = f"{', '.join(f'{value:g}' for value in wrong)} is no number of '{point.name}': {names}"
                yield index.problem(f"point[{number}].translate", text)


def _missing(device_map: DeviceMap, index: LineIndex) -> Iterator[Problem]:
    offered = {canonical.name for t in device_map.templates if (canonical := role_point(device_map.role, t.point.name))}
    for canonical in ROLE_POINTS[device_map.role]:
        needless = device_map.read_only and canonical.access is Access.WRITE
        if canonical.required and canonical.name not in offered and not needless:
            text = f"a {device_map.role} must have the point '{canonical.name}' ({canonical.description})"
            yield index.problem("device.role", text)


def _written(sound: _Sound, index: LineIndex) -> Iterator[Problem]:
    """What may be written can be written: writable register, safe value in range, range within the type."""
    for number, template in sound.templates:
        point = template.point
        if not point.writable or point.low is None or point.high is None:
            continue
        at = f"point[{number}]"
        if point.register in {Register.INPUT, Register.DISCRETE}:
            yield index.problem(f"{at}.register", f"{point.register} registers cannot be written")
        if point.type == "string" or point.bit is not None:
            yield index.problem(f"{at}.access", "a text or a single bit of a word cannot be written")
        if point.safe is not None and not point.low <= point.safe <= point.high:
            yield index.problem(f"{at}.safe", f"{point.safe:g} is outside the range {point.low:g} to {point.high:g}")
        if point.type in INTEGER_LIMITS and not point.translate:
            low, high = INTEGER_LIMITS[point.type]
            raw = sorted(round((value - point.offset) / point.scale) for value in (point.low, point.high))
            if raw[0] < low or raw[1] > high:
                text = f"{point.low:g} to {point.high:g} does not fit {point.type} with scale {point.scale:g}"
                yield index.problem(f"{at}.range", text)


def _readbacks(sound: _Sound, index: LineIndex) -> Iterator[Problem]:
    names = {point.name for _, _, point in sound.points} | {template.point.name for _, template in sound.templates}
    for number, template in sound.templates:
        readback = template.point.readback
        if readback is not None and readback not in names:
            yield index.problem(f"point[{number}].readback", f"there is no point '{readback}'")


def _blocks(sound: _Sound, index: LineIndex) -> Iterator[Problem]:
    points = {point.name: point for _, _, point in sound.points}
    device_map, owner = sound.map, dict[str, str]()
    for number, block in enumerate(device_map.write_blocks):
        at = f"write_block[{number}].points"
        known: list[MapPoint] = []
        for name in block.points:
            point = points.get(name)
            if point is None or not point.writable or point.register is not Register.HOLDING:
                yield index.problem(at, f"'{name}' is no write point in a holding register")
            elif name in owner:
                yield index.problem(at, f"'{name}' is already in the block '{owner[name]}'")
            elif point.safe is None:
                yield index.problem(at, f"'{name}' needs a number as its safe value: the whole block is written at once")
            else:
                owner[name] = block.name
                known.append(point)
        yield from _contiguous(device_map, index, number, known)


def _contiguous(device_map: DeviceMap, index: LineIndex, number: int, points: list[MapPoint]) -> Iterator[Problem]:
    block = device_map.write_blocks[number]
    places = [place for point in points for place in range(point.address, point.address + point.length)]
    if block.heartbeat is not None:
        if block.heartbeat in places:
            text = f"register {block.heartbeat} is already a point of the block"
            yield index.problem(f"write_block[{number}].heartbeat", text)
            return
        places.append(block.heartbeat)
    at = f"write_block[{number}].points"
    if not places or len(points) != len(block.points):
        return
    holes = sorted(set(range(min(places), max(places) + 1)) - set(places))
    if holes:
        yield index.problem(at, f"registers {', '.join(map(str, holes))} lie between the points but belong to none")
    if len(places) > device_map.max_write_registers:
        yield index.problem(at, f"{len(places)} registers are more than max_write_registers = {device_map.max_write_registers}")
