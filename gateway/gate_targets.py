"""What the gate can move: targets, the devices behind them, and their safe values.

A target is a canonical prefix: "string.A.converter", "string.A.contactor", "grid". Commands name its role points in
canonical units and signs; the device gets its own names and signs, converted here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.device_roles import ConverterMode, DeviceRole, role_point
from gateway.points import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.site import DeviceSpec, Site, StringSpec

SITE = "site"
"""The scope of what belongs to no string, and of a trip of everything."""

GRID = "grid"
"""The target of the converter to the grid."""

CLOSED = "closed"
"""The one role point of a contactor target: 1 closed, 0 open."""

_MODES = tuple(ConverterMode)
_RUNNING_MODES = frozenset(float(_MODES.index(mode)) for mode in (ConverterMode.CURRENT, ConverterMode.VOLTAGE))
VOLTAGE_MODE = float(_MODES.index(ConverterMode.VOLTAGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that can be commanded.

    `device_names` maps role point to device point, `factors` role point to the factor from canonical to device value.
    `safe` has device names and signs, in the order of writing; `safe_values` the same with role names and canonical signs.
    """

    name: str
    scope: str
    device: DeviceSpec
    string: StringSpec | None
    device_names: Mapping[str, str]
    factors: Mapping[str, float]
    kinds: Mapping[str, Kind]
    safe: Mapping[str, float]
    safe_values: Mapping[str, float]

    def to_device(self, values: Mapping[str, float]) -> dict[str, float]:
        """Role points in canonical signs -> device points in the device's signs."""
        return {self.device_names[name]: value * self.factors[name] + 0.0 for name, value in values.items()}

    def energised(self, values: Mapping[str, float]) -> bool:
        """True when a target that holds these values lets current flow, or is free to."""
        if "enable" in self.device_names:
            return values.get("enable", 0.0) != 0.0
        if "mode_setpoint" in self.device_names:
            return values.get("mode_setpoint", 0.0) in _RUNNING_MODES
        on = ("output_enable", CLOSED, "current_setpoint")
        return any(values.get(name, 0.0) != 0.0 for name in on)

    def charges(self, values: Mapping[str, float]) -> bool:
        """True when a converter that holds these values may charge its battery."""
        if not self.energised(values):
            return False
        if values.get("mode_setpoint") == VOLTAGE_MODE:
            return values.get("charge_current_limit", 1.0) > 0.0
        return values.get("current_setpoint", 0.0) < 0.0

    def is_safe(self, values: Mapping[str, float]) -> bool:
        """True when each of these values is the safe one."""
        return all(name in self.safe_values and value == self.safe_values[name] for name, value in values.items())

    @property
    def is_contactor(self) -> bool:
        """True for a string's contactor."""
        return CLOSED in self.device_names

    @property
    def telemetry(self) -> tuple[str, ...]:
        """Points that must be good before the target may be energised."""
        if self.string is None:
            return ("grid.voltage", "grid.current") if self.name == GRID else ()
        battery, converter = f"{self.string.prefix}.battery", f"{self.string.prefix}.converter"
        cells = (f"{battery}.cell_voltage_max", f"{battery}.cell_voltage_min", f"{battery}.current")
        if self.device.role is not DeviceRole.DCDC:
            return cells
        return (*cells, f"{converter}.battery_current", f"{converter}.battery_voltage")


def targets(site: Site) -> Mapping[str, Target]:
    """Every target of the site by name. ValueError when a contactor cannot be found."""
    found = [_device_target(site, device) for device in site.devices if device.target is not None and device.writable]
    found.extend(_contactor_target(site, string) for string in site.strings if string.contactor is not None)
    return {target.name: target for target in found}


def targets_of(all_targets: Mapping[str, Target], scope: str) -> tuple[Target, ...]:
    """The targets that a trip of the scope makes safe, in the order of doing so: those of strings, then the others."""
    chosen = [target for target in all_targets.values() if target.safe and scope in {target.scope, SITE}]
    return tuple(sorted(chosen, key=lambda target: target.scope == SITE))


def _device_target(site: Site, device: DeviceSpec) -> Target:
    name = device.target or ""
    string = next((string for string in site.strings if name.startswith(f"{string.prefix}.")), None)
    factors: dict[str, float] = {}
    kinds: dict[str, Kind] = {}
    for point in device.writable:
        role = role_point(device.role, point)
        factors[point] = device.current_factor if role is not None and role.directional else 1.0
        kinds[point] = role.kind if role is not None else Kind.ANALOG
    return Target(
        name=name,
        scope=string.prefix if string is not None else SITE,
        device=device,
        string=string,
        device_names={point: point for point in device.writable},
        factors=factors,
        kinds=kinds,
        safe=device.safe,
        safe_values={point: value * factors.get(point, 1.0) + 0.0 for point, value in device.safe.items()},
    )


def _contactor_target(site: Site, string: StringSpec) -> Target:
    device, point = _behind(site, string.contactor or "")
    open_value = device.safe.get(point, 0.0)
    return Target(
        name=f"{string.prefix}.contactor",
        scope=string.prefix,
        device=device,
        string=string,
        device_names={CLOSED: point},
        factors={CLOSED: 1.0},
        kinds={CLOSED: Kind.BOOLEAN},
        safe={point: open_value},
        safe_values={CLOSED: open_value},
    )


def _behind(site: Site, name: str) -> tuple[DeviceSpec, str]:
    """The device and the device point behind a canonical or raw point name."""
    source = next((alias.source for alias in site.aliases if alias.target == name), name)
    for device in site.devices:
        prefixes = [f"device.{device.id}."] + ([f"{device.target}."] if device.target is not None else [])
        for prefix in prefixes:
            if source.startswith(prefix) and source.removeprefix(prefix) in device.writable:
                return device, source.removeprefix(prefix)
    msg = f"no device has a writable point behind {name}"
    raise ValueError(msg)
