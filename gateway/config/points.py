"""The points of a site's devices, and the canonical points that mirror them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.config.periods import AGE_PERIODS
from gateway.device_roles import role_point
from gateway.field.device_points import comm_points, map_point, point_name, slow_period_s
from gateway.field.map_model import ScanClass
from gateway.site import Alias

if TYPE_CHECKING:
    from gateway.device_roles import RolePoint
    from gateway.field.map_model import MapPoint
    from gateway.field.settings import DeviceSettings
    from gateway.points import Point

UNCERTAIN_MIN_S = 0.35
"""Not earlier than this, so that one late answer on a busy machine does not make a value doubtful."""
BAD_FACTOR = 3.0
"""Where no age limit is set, a value is given up after this many times the age at which it is doubted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A device in its place: `target` is its canonical prefix or None, `age_max_s` the age limit of its fast values."""

    settings: DeviceSettings
    target: str | None
    current_factor: float
    age_max_s: float | None

    def points(self) -> tuple[MapPoint, ...]:
        """The map's points for this device's cells."""
        return self.settings.map.points(self.settings.cells)


def device_points(device: Placed) -> tuple[Point, ...]:
    """`device.<id>.<name>` of every value of the map, and of the communication."""
    return (*(_device_point(device, point) for point in device.points()), *comm_points(device.settings.id))


def canonical(device: Placed) -> tuple[tuple[Point, ...], tuple[Alias, ...]]:
    """The canonical points that the device fills in its place, and what they mirror; none where it has no place."""
    points: list[Point] = []
    aliases: list[Alias] = []
    for point in device.points() if device.target is not None else ():
        role = role_point(device.settings.map.role, point.name)
        if role is None:
            continue
        factor = device.current_factor if role.directional else 1.0
        source, target = point_name(device.settings.id, point.name), f"{device.target}.{point.name}"
        points.append(_mirror(_device_point(device, point), role, target, factor))
        aliases.append(Alias(source=source, target=target, factor=factor))
    return tuple(points), tuple(aliases)


def contactor_name(string_id: str) -> str:
    """The canonical point that closes (1) and opens (0) a string's contactor."""
    return f"string.{string_id}.contactor.closed"


def feedback_name(string_id: str) -> str:
    """The canonical point of the contactor's auxiliary contact: 1 closed, 0 open."""
    return f"string.{string_id}.contactor.feedback"


def feedback(string_id: str, digital_input: Point) -> tuple[tuple[Point, ...], tuple[Alias, ...]]:
    """The canonical point of the contactor's auxiliary contact, and the digital input that it mirrors."""
    name = feedback_name(string_id)
    point = replace(digital_input, name=name, source=digital_input.name, description="What the contactor's own contact reports")
    return (point,), (Alias(source=digital_input.name, target=name, factor=1.0),)


def contactor(string_id: str, output: Point) -> tuple[tuple[Point, ...], tuple[Alias, ...]]:
    """The canonical point of a string's contactor, and the digital output that it mirrors."""
    name = contactor_name(string_id)
    point = replace(output, name=name, source=output.name, description="Contactor of the string, closed or open")
    return (point,), (Alias(source=output.name, target=name, factor=1.0),)


def _device_point(device: Placed, point: MapPoint) -> Point:
    """The field's definition, with the ages that follow from the device's place."""
    uncertain_s, bad_s = _ages(device, point)
    plain = map_point(device.settings, point)
    where = f" at {point.register} {point.address}" if point.register else ""
    source = f"{device.settings.map.id}{where}" + (f", {point.source}" if point.source else "")
    return replace(plain, source=source, uncertain_after_s=uncertain_s, bad_after_s=bad_s)


def _ages(device: Placed, point: MapPoint) -> tuple[float | None, float | None]:
    """(doubted, given up) after so many real seconds; None for what is read once, or is a setpoint."""
    if point.scan is ScanClass.ONCE or point.writable:
        return None, None
    fast = point.scan is ScanClass.FAST
    uncertain_s = max(AGE_PERIODS * (device.settings.period_s if fast else slow_period_s(device.settings)), UNCERTAIN_MIN_S)
    if fast and device.age_max_s is not None:
        return min(uncertain_s, device.age_max_s), device.age_max_s
    return uncertain_s, BAD_FACTOR * uncertain_s


def _mirror(point: Point, role: RolePoint, name: str, factor: float) -> Point:
    """The canonical definition: the role's meaning, the device's range in canonical sign."""
    bounds = (point.low, point.high) if factor > 0.0 else (_negative(point.high), _negative(point.low))
    return replace(
        point,
        name=name,
        kind=role.kind,
        unit=role.unit,
        description=role.description,
        source=point.name,
        low=bounds[0],
        high=bounds[1],
        access=role.access,
        symbols=role.symbols or point.symbols,
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
