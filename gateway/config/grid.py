"""Checks of the DC bus, its converter, and the protective settings inside the devices."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from gateway.device_roles import DeviceRole
from gateway.toml_lines import unknown_key
from gateway.units import quantity, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.config import model
    from gateway.config.periods import Reading
    from gateway.config.reader import Draft
    from gateway.field.map_model import DeviceMap, MapPoint

WATCHDOG_FACTOR = 2.0
"""The grid converter holds the bus at least this many times as long as a DC-DC converter needs to stop by itself."""

_TIMEOUT = "communication_timeout"
_WRITTEN = {
    "bus_voltage": "voltage_setpoint",
    "overvoltage_protection": "overvoltage_protection",
    "source_current_limit": "source_current_limit",
    "sink_current_limit": "sink_current_limit",
    "watchdog": "watchdog_delay",
}
"""Keys of [grid] and the points of the converter that they are written to."""


def settings_of(device: model.DeviceTable, device_map: DeviceMap) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """The device's protective settings in its own units, and what is wrong: (key, text)."""
    writable = {point.name: point for point in device_map.points(0) if point.writable}
    values: dict[str, float] = {}
    wrong: list[tuple[str, str]] = []
    for name, text in device.settings.items():
        point = writable.get(name)
        if point is None:
            wrong.append((name, f"map '{device_map.id}' cannot write this: {unknown_key(name, writable)}"))
            continue
        try:
            value = quantity(text, point.unit)
        except ValueError as error:
            wrong.append((name, str(error)))
            continue
        if fault := _outside(value, point, device_map):
            wrong.append((name, fault))
        else:
            values[name] = value
    return values, wrong


def _outside(value: float, point: MapPoint, device_map: DeviceMap) -> str | None:
    low = point.low if point.low is not None else float("-inf")
    high = point.high if point.high is not None else float("inf")
    if low <= value <= high:
        return None
    return f"{shown(value, point.unit)} is outside what '{device_map.id}' accepts, {low:g} to {shown(high, point.unit)}"


def check_settings(draft: Draft, found: Sequence[Reading]) -> None:
    """Note protective settings that the device does not have or does not accept, and a command time-out that is not set."""
    for reading in found:
        values, wrong = settings_of(reading.device, reading.map)
        for name, text in wrong:
            draft.note(reading.path, f"settings.{name}", text)
        if not wrong and _TIMEOUT not in values and _can_time_out(reading):
            text = f"{_TIMEOUT} is missing: the converter must stop by itself when commands cease, such as '1 s'"
            draft.note(reading.path, "settings", text)
        if draft.grid is not None and draft.grid.table is not None:
            _check_trips(draft, reading.path, values, draft.grid.table.bus_voltage)


def _can_time_out(reading: Reading) -> bool:
    """True for a converter that may be written and has a command time-out of its own."""
    if reading.map.role is not DeviceRole.DCDC or reading.map.read_only or reading.device.read_only:
        return False
    return any(point.name == _TIMEOUT and point.writable for point in reading.map.points(0))


def _check_trips(draft: Draft, path: str, values: Mapping[str, float], bus_V: float) -> None:
    low, high = values.get("bus_undervoltage_trip"), values.get("bus_overvoltage_trip")
    if high is not None and high <= bus_V:
        text = f"{shown(high, 'V')} is not above grid.bus_voltage, {shown(bus_V, 'V')}"
        draft.note(path, "settings.bus_overvoltage_trip", text)
    if low is not None and low >= bus_V:
        text = f"{shown(low, 'V')} is not below grid.bus_voltage, {shown(bus_V, 'V')}"
        draft.note(path, "settings.bus_undervoltage_trip", text)


def check(draft: Draft, found: Sequence[Reading]) -> None:
    """Note what is wrong with the bus window, with what the converter is asked to do, and with its watchdog."""
    grid = draft.grid.table if draft.grid is not None else None
    if grid is None:
        return
    _window(draft, grid)
    by_id = {reading.device.id: reading for reading in found}
    converter = by_id.get(grid.converter)
    if converter is not None and converter.map.role is DeviceRole.DCAC:
        _written(draft, grid, converter.map)
    _watchdog(draft, grid, found)


def _window(draft: Draft, grid: model.GridTable) -> None:
    order = ("bus_voltage_min", "bus_voltage", "bus_voltage_max", "overvoltage_protection")
    values: Mapping[str, float] = {key: getattr(grid, key) for key in order}
    for below, above in pairwise(order):
        if values[below] >= values[above]:
            text = f"{shown(values[above], 'V')} is not above {below}, {shown(values[below], 'V')}"
            draft.note("grid", above, f"{text}; the order is {' < '.join(order)}")


def _written(draft: Draft, grid: model.GridTable, device_map: DeviceMap) -> None:
    writable = {point.name: point for point in device_map.points(0) if point.writable}
    for key, name in _WRITTEN.items():
        point = writable.get(name)
        fault = _outside(getattr(grid, key), point, device_map) if point is not None else None
        if fault:
            draft.note("grid", key, fault)


def _watchdog(draft: Draft, grid: model.GridTable, found: Sequence[Reading]) -> None:
    for reading in found:
        values, _ = settings_of(reading.device, reading.map)
        timeout_s = values.get(_TIMEOUT) if reading.map.role is DeviceRole.DCDC else None
        if timeout_s is None:
            continue
        stop_s = timeout_s + values.get("ramp_down_time", 0.0)
        if grid.watchdog < WATCHDOG_FACTOR * stop_s:
            text = (
                f"{shown(grid.watchdog, 's')} is less than twice what '{reading.device.id}' needs to stop by itself "
                f"({shown(stop_s, 's')}: its command time-out and ramp)"
            )
            draft.note("grid", "watchdog", f"{text}; at least {shown(WATCHDOG_FACTOR * stop_s, 's')}")
            return
