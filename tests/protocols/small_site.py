"""The testbed's two strings as a resolved site, built by hand."""

from __future__ import annotations

from dataclasses import replace

from gateway.device_roles import DeviceRole
from gateway.points import Point
from gateway.site import Chemistry, DeviceSpec, Site, StringLimits, StringSpec, Topology

_BATTERY_POINTS = frozenset({"cell.1.voltage", "current", "pack_voltage", "temperature_max", "soc"})
_CONVERTER_POINTS = frozenset({"battery_current", "battery_voltage", "mode", "limiter_flags"})
_WRITABLE = {
    "mode_setpoint": (0.0, 3.0),
    "enable": (0.0, 1.0),
    "current_setpoint": (-6.25, 6.25),
    "voltage_setpoint": (0.0, 20.0),
    "charge_current_limit": (0.0, 6.25),
    "discharge_current_limit": (0.0, 6.25),
}


def limits(cell_max_V: float, cell_min_V: float) -> StringLimits:
    return StringLimits(
        cell_voltage_max_V=cell_max_V,
        cell_voltage_min_V=cell_min_V,
        charge_current_max_A=6.0,
        discharge_current_max_A=6.0,
        temperature_max_degC=55.0,
        charge_temperature_min_degC=0.0,
        battery_age_max_s=2.0,
        converter_age_max_s=1.0,
    )


def string(string_id: str, chemistry: Chemistry, cells: int, cell_max_V: float, cell_min_V: float) -> StringSpec:
    return StringSpec(
        id=string_id,
        title=f"string {string_id}",
        chemistry=chemistry,
        cells=cells,
        capacity_Ah=25.0,
        battery=f"bms_{string_id.lower()}",
        converter=f"dab_{string_id.lower()}",
        contactor=None,
        limits=limits(cell_max_V, cell_min_V),
    )


def devices(spec: StringSpec) -> tuple[DeviceSpec, ...]:
    def device(device_id: str, role: DeviceRole, name: str, points: frozenset[str], writable: dict[str, tuple[float, float]]):
        return DeviceSpec(
            id=device_id,
            role=role,
            map_id="test",
            title=device_id,
            target=f"{spec.prefix}.{name}",
            current_factor=1.0,
            safe={},
            points=points,
            writable=writable,
            period_s=0.1,
        )

    return (
        device(spec.battery, DeviceRole.BATTERY, "battery", _BATTERY_POINTS, {}),
        device(spec.converter or "", DeviceRole.DCDC, "converter", _CONVERTER_POINTS, _WRITABLE),
    )


def site(*strings: StringSpec, **changes: object) -> Site:
    strings = strings or (
        string("A", Chemistry.LFP, 4, 3.65, 2.5),
        string("B", Chemistry.LEAD_ACID, 6, 2.6, 1.7),
        string("Z", Chemistry.ZINC, 8, 2.0, 1.2),
    )
    symbols = {0: "power", 1: "charge current", 3: "battery voltage max", 5: "bus voltage max", 7: "slew"}
    made = Site(
        id="small",
        title="Small site",
        topology=Topology.ACTIVE,
        scan_s=0.1,
        simulated=True,
        file="small.toml",
        hash="",
        strings=strings,
        grid=None,
        devices=tuple(device for spec in strings for device in devices(spec)),
        device_points=tuple(Point(name=f"device.{spec.converter}.limiter_flags", symbols=symbols) for spec in strings),
        canonical_points=(),
        aliases=(),
        opcua=None,
        schedules=(),
    )
    return replace(made, **changes)


def with_device(made: Site, device_id: str, **changes: object) -> Site:
    return replace(
        made, devices=tuple(replace(device, **changes) if device.id == device_id else device for device in made.devices)
    )


def with_string(made: Site, string_id: str, **changes: object) -> Site:
    return replace(made, strings=tuple(replace(s, **changes) if s.id == string_id else s for s in made.strings))
