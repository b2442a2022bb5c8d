"""From a checked draft to what the rest of the gateway is given: the resolved site, and the field's own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.config.checks import bindings
from gateway.config.grid import settings_of
from gateway.config.limits import resolve
from gateway.config.points import Placed, canonical, contactor, contactor_name, device_points, feedback, feedback_name
from gateway.config.transports import is_simulated
from gateway.device_roles import DeviceRole
from gateway.field.settings import DeviceSettings, FieldConfig, TransportSettings
from gateway.site import DeviceSpec, GridSpec, OpcuaSettings, ScheduleSpec, Site, StringSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.config import model
    from gateway.config.periods import Reading
    from gateway.config.reader import Draft


def build(draft: Draft, found: Iterable[Reading], cells: Mapping[str, int], digest: str) -> tuple[Site, FieldConfig]:
    """The site and its field; the draft must be without problems, so that every table is there."""
    site_table = cast("model.SiteTable", draft.site.table)
    tables = [entry.table for entry in draft.strings if entry.table is not None]
    placed = _place(draft, tables, found, cells)
    mirrors = [canonical(device) for device, _ in placed]
    by_name = {point.name: point for device, _ in placed for point in device_points(device)}
    mirrors += [contactor(table.id, by_name[f"device.{table.contactor}"]) for table in tables if table.contactor is not None]
    wired = [table for table in tables if table.contactor_feedback is not None]
    mirrors += [feedback(table.id, by_name[f"device.{table.contactor_feedback}"]) for table in wired]
    site = Site(
        id=site_table.id,
        title=site_table.title,
        topology=site_table.topology,
        scan_s=site_table.scan,
        simulated=is_simulated(draft),
        file=draft.index.file,
        hash=digest,
        strings=tuple(_string(table) for table in tables),
        grid=_grid(draft.grid.table) if draft.grid is not None and draft.grid.table is not None else None,
        devices=tuple(_device(device, table) for device, table in placed),
        device_points=tuple(by_name.values()),
        canonical_points=tuple(point for points, _ in mirrors for point in points),
        aliases=tuple(alias for _, aliases in mirrors for alias in aliases),
        opcua=_opcua(draft.opcua.table, site_table.id) if draft.opcua is not None and draft.opcua.table is not None else None,
        schedules=tuple(_schedule(entry.table) for entry in draft.schedules if entry.table is not None),
    )
    transports = tuple(_transport(entry.table) for entry in draft.transports if entry.table is not None)
    return site, FieldConfig(transports=transports, devices=tuple(device.settings for device, _ in placed))


def _place(
    draft: Draft, strings: Iterable[model.StringTable], found: Iterable[Reading], cells: Mapping[str, int]
) -> list[tuple[Placed, model.DeviceTable]]:
    targets = {binding.device: binding.target for binding in bindings(draft)}
    ages: dict[str, float] = {}
    for string in strings:
        ages[string.battery] = string.limits.battery_age_max
        if string.converter is not None:
            ages[string.converter] = string.limits.converter_age_max
    if draft.grid is not None and draft.grid.table is not None:
        ages[draft.grid.table.converter] = draft.grid.table.age_max
    by_id = {reading.device.id: reading for reading in found}
    order = [by_id[entry.id] for entry in draft.devices if entry.id in by_id]
    return [(_placed(reading, cells, targets, ages), reading.device) for reading in order]


def _placed(reading: Reading, cells: Mapping[str, int], targets: Mapping[str, str], ages: Mapping[str, float]) -> Placed:
    device = reading.device
    return Placed(
        settings=_settings(reading, cells.get(device.id, 0)),
        target=targets.get(device.id),
        current_factor=1.0 if (device.positive or reading.map.positive) == "discharge" else -1.0,
        age_max_s=ages.get(device.id),
    )


def _transport(table: model.TransportTable) -> TransportSettings:
    options = cast("Mapping[str, object]", table.model_extra or {})
    return TransportSettings(id=table.id, kind=table.kind, port=table.port, options=dict(options))


def _settings(reading: Reading, cells: int) -> DeviceSettings:
    device = reading.device
    return DeviceSettings(
        id=device.id,
        map=reading.map,
        transport=device.transport,
        unit=device.unit,
        cells=cells,
        period_s=reading.period_s,
        timeout_s=device.timeout,
        options={"read_only": True} if device.read_only else {},
    )


def _device(placed: Placed, table: model.DeviceTable) -> DeviceSpec:
    device_map, points = placed.settings.map, placed.points()
    writable = {} if placed.settings.read_only else {point.name: point for point in points if point.writable}
    return DeviceSpec(
        id=table.id,
        role=DeviceRole(device_map.role),
        map_id=device_map.id,
        title=table.title or f"{device_map.vendor} {device_map.model}",
        target=placed.target,
        current_factor=placed.current_factor,
        safe={name: point.safe for name, point in writable.items() if point.safe is not None},
        points=frozenset(point.name for point in points if point.readable),
        writable={name: (point.low or 0.0, point.high or 0.0) for name, point in writable.items()},
        period_s=placed.settings.period_s,
        settings=settings_of(table, device_map)[0],
    )


def _string(table: model.StringTable) -> StringSpec:
    return StringSpec(
        id=table.id,
        title=table.title or f"String {table.id}",
        chemistry=table.chemistry,
        cells=table.cells,
        capacity_Ah=table.capacity,
        battery=table.battery,
        converter=table.converter,
        contactor=contactor_name(table.id) if table.contactor is not None else None,
        limits=resolve(table),
        feedback=feedback_name(table.id) if table.contactor_feedback is not None else None,
    )


def _grid(table: model.GridTable) -> GridSpec:
    return GridSpec(
        converter=table.converter,
        bus_voltage_V=table.bus_voltage,
        bus_voltage_min_V=table.bus_voltage_min,
        bus_voltage_max_V=table.bus_voltage_max,
        overvoltage_protection_V=table.overvoltage_protection,
        source_current_limit_A=table.source_current_limit,
        sink_current_limit_A=table.sink_current_limit,
        watchdog_s=table.watchdog,
        age_max_s=table.age_max,
    )


def _opcua(table: model.OpcuaTable, site_id: str) -> OpcuaSettings:
    return OpcuaSettings(
        endpoint=table.endpoint,
        anonymous=table.anonymous,
        anonymous_role=table.anonymous_role,
        namespace=table.namespace or f"urn:bess-gateway:{site_id}",
    )


def _schedule(table: model.ScheduleTable) -> ScheduleSpec:
    return ScheduleSpec(
        id=table.id,
        protocol=table.protocol,
        strings=table.strings,
        parameters=dict(table.parameters),
        cron=table.cron,
        interval_s=table.interval,
        at=table.at,
        misfire_grace_s=table.misfire_grace,
        timezone=table.timezone,
    )
