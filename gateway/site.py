"""The resolved site: what every part of the control process is told about the plant.

`config.py` makes it from a site file and its device maps; nothing here reads files. Magnitudes are positive, units are
in the names, signs follow device_roles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.device_roles import DeviceRole
    from gateway.points import Point


class Topology(StrEnum):
    """Which strings have a converter of their own: all, some, none."""

    ACTIVE = "active"
    SEMI_ACTIVE = "semi_active"
    PASSIVE = "passive"


class Chemistry(StrEnum):
    """Cell chemistries with built-in limits (see chemistries.py)."""

    LFP = "lfp"
    LEAD_ACID = "lead_acid"
    ZINC = "zinc"


@dataclass(frozen=True, slots=True, kw_only=True)
class StringLimits:
    """Trip limits of a string: beyond one of them the string is tripped. A charge protocol can only be tighter."""

    cell_voltage_max_V: float
    cell_voltage_min_V: float
    charge_current_max_A: float
    discharge_current_max_A: float
    temperature_max_degC: float
    charge_temperature_min_degC: float
    """Below this, charging is interlocked (not tripped)."""
    battery_age_max_s: float
    """Real seconds without a good telemetry of the battery."""
    converter_age_max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StringSpec:
    """One string. `battery` and `converter` are device ids; `contactor` a writable canonical point name or None.

    `feedback` is the canonical point of the contactor's auxiliary contact (1 closed), None where it is not wired.
    """

    id: str
    title: str
    chemistry: Chemistry
    cells: int
    capacity_Ah: float
    battery: str
    converter: str | None
    contactor: str | None
    limits: StringLimits
    feedback: str | None = None

    @property
    def prefix(self) -> str:
        """`string.<id>`, the start of every canonical point name of the string."""
        return f"string.{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """The DC bus and its converter to the grid (device id). The bus window trips when armed."""

    converter: str
    bus_voltage_V: float
    bus_voltage_min_V: float
    bus_voltage_max_V: float
    overvoltage_protection_V: float
    source_current_limit_A: float
    sink_current_limit_A: float
    watchdog_s: float
    age_max_s: float


def _no_settings() -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A device as the law sees it. `target` is its canonical prefix: "string.A.battery", "grid"; None when unbound.

    `safe` maps the device's writable points (device names and device signs) to the values that make it safe, in the
    order in which they are to be written. `points` is the set of the device's readable point names. `atomic` names the
    points that always go out together.
    """

    id: str
    role: DeviceRole
    map_id: str
    title: str
    target: str | None
    current_factor: float
    """Multiply a directional device value by this to get the canonical sign: 1.0 or -1.0."""
    safe: Mapping[str, float]
    points: frozenset[str]
    writable: Mapping[str, tuple[float, float]]
    """Writable point name -> (low, high) in device units and signs."""
    period_s: float
    """Real seconds between two fast reads."""
    settings: Mapping[str, float] = field(default_factory=_no_settings)
    """Protective settings in the device itself, to be written and read back before the site is ready: device names,
    units and signs, within `writable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Canonical point `target` mirrors device point `source`, times `factor`."""

    source: str
    target: str
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaSettings:
    """Where the OPC UA server listens and whom it lets in."""

    endpoint: str
    anonymous: bool
    """Anonymous, unencrypted sessions, with the role below; for the demo on loopback."""
    anonymous_role: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """A run that starts by the clock. Exactly one of `cron`, `interval_s`, `at` is set; `at` is ISO 8601 with zone."""

    id: str
    protocol: str
    strings: tuple[str, ...]
    parameters: Mapping[str, str]
    cron: str | None
    interval_s: float | None
    at: str | None
    misfire_grace_s: float
    timezone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that is fixed while the control process runs.

    `device_points` are the points of the devices themselves (`device.<id>.<name>`); `aliases` the canonical points that
    mirror them, defined in `canonical_points`. `simulated` is True when every port is simulated.
    """

    id: str
    title: str
    topology: Topology
    scan_s: float
    simulated: bool
    file: str
    hash: str
    """SHA-256 of the site file and every map it uses, hexadecimal."""
    strings: tuple[StringSpec, ...]
    grid: GridSpec | None
    devices: tuple[DeviceSpec, ...]
    device_points: tuple[Point, ...]
    canonical_points: tuple[Point, ...]
    aliases: tuple[Alias, ...]
    opcua: OpcuaSettings | None
    schedules: tuple[ScheduleSpec, ...]

    def string(self, string_id: str) -> StringSpec | None:
        """The string of that id, or None."""
        return next((string for string in self.strings if string.id == string_id), None)

    def device(self, device_id: str) -> DeviceSpec | None:
        """The device of that id, or None."""
        return next((device for device in self.devices if device.id == device_id), None)

    def device_at(self, target: str) -> DeviceSpec | None:
        """The device bound to a canonical prefix such as "string.A.converter" or "grid", or None."""
        return next((device for device in self.devices if device.target == target), None)
