"""The points that a device brings into the table: its map's, and the health of its communication."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from gateway.field.map_model import ScanClass
from gateway.points import Kind, Point

if TYPE_CHECKING:
    from gateway.field.map_model import MapPoint
    from gateway.field.settings import DeviceSettings


class CommState(IntEnum):
    """What the field is doing about a device."""

    OFFLINE = 0
    """Its line is closed, or nobody has tried yet."""
    CONNECTING = 1
    ONLINE = 2
    RETRYING = 3
    """It failed and is asked again at `next_retry`."""
    WRONG_DEVICE = 4
    """Something else answers at its address; asked again at `next_retry`."""


COMM_STATES = {int(state): state.name.lower() for state in CommState}

UNCERTAIN_PERIODS, BAD_PERIODS = 5, 15
"""A value is doubted after this many missed readings, and given up after that many."""
UNCERTAIN_MIN_S, BAD_MIN_S = 1.0, 3.0
"""Not earlier than this, however short the period: one repeated request must not make a value doubtful."""
SLOW_PERIODS, SLOW_MIN_S = 10, 1.0
"""Slow points are read at every tenth fast period, but not more than once a second, unless the map says otherwise."""


def slow_period_s(device: DeviceSettings) -> float:
    """Real seconds between two slow reads of a device."""
    if device.map.slow_period_s is not None:
        return max(device.map.slow_period_s, device.period_s)
    return max(SLOW_PERIODS * device.period_s, SLOW_MIN_S)


def point_name(device_id: str, name: str) -> str:
    """The full name of a device's point."""
    return f"device.{device_id}.{name}"


def comm_name(device_id: str, name: str) -> str:
    """The full name of one of a device's communication points."""
    return f"device.{device_id}.comm.{name}"


def comm_points(device_id: str) -> tuple[Point, ...]:
    """State of the communication, requests and errors since the start, the last error, and when the next attempt is due.

    `next_retry` is UTC in ISO 8601, empty while no attempt is pending.
    """
    return (
        Point(
            name=comm_name(device_id, "state"),
            kind=Kind.ENUM,
            description="Communication with the device",
            symbols=COMM_STATES,
        ),
        Point(name=comm_name(device_id, "requests"), kind=Kind.INTEGER, description="Requests sent since the start"),
        Point(name=comm_name(device_id, "errors"), kind=Kind.INTEGER, description="Requests that failed since the start"),
        Point(name=comm_name(device_id, "last_error"), kind=Kind.TEXT, description="Why the last failed request failed"),
        Point(name=comm_name(device_id, "next_retry"), kind=Kind.TEXT, description="When the device is asked again"),
    )


def map_point(device: DeviceSettings, point: MapPoint) -> Point:
    """The point that shows one value of the device. Values read once do not age."""
    period_s = device.period_s if point.scan is ScanClass.FAST else slow_period_s(device)
    ages = point.scan is not ScanClass.ONCE and point.readable
    return Point(
        name=point_name(device.id, point.name),
        kind=point.kind,
        unit=point.unit,
        description=point.description,
        source=f"{device.map.id} {point.source}".strip(),
        low=point.low,
        high=point.high,
        access=point.access,
        symbols=point.symbols,
        uncertain_after_s=max(UNCERTAIN_MIN_S, UNCERTAIN_PERIODS * period_s) if ages else None,
        bad_after_s=max(BAD_MIN_S, BAD_PERIODS * period_s) if ages else None,
        deadband=point.deadband,
    )


def device_points(device: DeviceSettings) -> tuple[Point, ...]:
    """All points of a device, under their full names."""
    points = tuple(map_point(device, point) for point in device.map.points(device.cells))
    return points + comm_points(device.id)
