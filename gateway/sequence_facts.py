"""What the sequence sees of the plant, and what its deeds write: the bridge from points to facts and back. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.device_roles import CONVERTER_STATES, role_point
from gateway.sequence_state import Deed, Facts, Outcome, StringFacts
from gateway.site_causes import INFORMING_FLAGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.points import Snapshot
    from gateway.site import DeviceSpec, GridSpec, Site, StringSpec

SITE = "site"
GRID = "grid"

SETTLING_BAND_V = 0.2
"""The bus has settled this close to its nominal voltage."""

COMMUNICATION_TIMEOUT_S = 1.0
RAMP_DOWN_S = 0.5
"""A converter that hears no command for the time-out ramps its current to zero in this time, unless the site says otherwise."""

WATCHDOG_FACTOR = 2.0
"""The grid converter must outlast the converters' time-out and ramp by this factor, so that it does not drop the bus first."""

TRANSIENT_FAULTS = frozenset(("bus over-voltage", "bus under-voltage"))
"""Names of the fault bits that the start of the bus explains."""

_WATCHDOG_FLAG = "watchdog"
_FAULT_STATE = next(number for number, name in CONVERTER_STATES.items() if name == "fault")
_OFF = ("current_setpoint", "mode_setpoint", "enable")


class GateView(Protocol):
    """What the sequence must know of the gate."""

    def trip_reason(self, scope: str) -> str:
        """Why the scope is tripped; empty when it is not."""
        ...

    def confirmed_safe(self, scope: str) -> bool:
        """True when every target of the scope was read back safe."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """What is looked at of one string; fixed while the process runs. `reported` are the converter's fault words."""

    id: str
    prefix: str
    converter: str
    needed: tuple[str, ...]
    conflict: str = ""
    reported: tuple[str, ...] = ()
    reports_faults: bool = False
    transient_mask: int = 0
    contactor: str = ""
    """The point that shows whether the string's contactor is closed; empty without a contactor."""
    cells: int = 0


class Lookout:
    """Looks at the plant for the rules."""

    def __init__(self, site: Site) -> None:
        self._strings = tuple(_watched(site, string) for string in site.strings)
        self._grid = site.grid is not None and site.device_at(GRID) is not None
        self._low_V, self._high_V = settled_window_V(site, site.grid) if site.grid is not None else (0.0, 0.0)
        device = site.device_at(GRID)
        names = ["voltage", "current", "output"]
        self._flags: Mapping[int, str] = {}
        if device is not None and "fault_flags" in device.points:
            names.append("fault_flags")
            self._flags = _symbols(site, device, "fault_flags")
        self._grid_needed = tuple(f"{GRID}.{name}" for name in names)

    def look(
        self, snapshot: Snapshot, gate: GateView, outcomes: Mapping[tuple[Deed, str | None], Outcome], held: str = ""
    ) -> Facts:
        """Everything that the rules look at, from one snapshot."""
        strings = tuple(_string_facts(watched, snapshot, gate) for watched in self._strings)
        if not self._grid:
            return Facts(strings=strings, grid=False, tripped=gate.trip_reason(SITE), held=held, outcomes=outcomes)
        faults = self._faults(_word(snapshot, f"{GRID}.fault_flags"))
        return Facts(
            strings=strings,
            tripped=gate.trip_reason(SITE),
            # The gate tells for a scope; asked here is the grid converter alone.
            grid_safe=snapshot.number(f"{GRID}.safe_confirmed") == 1.0,
            grid_missing=_missing(snapshot, self._grid_needed),
            output=snapshot.number(f"{GRID}.output") == 1.0,
            voltage_V=snapshot.number(f"{GRID}.voltage"),
            voltage_age_s=snapshot.age_s(f"{GRID}.voltage"),
            held=held,
            settled_low_V=self._low_V,
            settled_high_V=self._high_V,
            protection=", ".join(name for name in faults if name not in INFORMING_FLAGS and name != _WATCHDOG_FLAG),
            watchdog_tripped=_WATCHDOG_FLAG in faults,
            outcomes=outcomes,
        )

    def _faults(self, word: int) -> list[str]:
        """Names of the bits that are set; a bit without a name is called by its number."""
        return [self._flags.get(bit, f"bit {bit}") for bit in range(word.bit_length()) if word >> bit & 1]


def settled_window_V(site: Site, grid: GridSpec) -> tuple[float, float]:
    """Where the bus counts as settled. A battery on the bus holds the voltage: then its whole window does."""
    if any(string.converter is None for string in site.strings):
        return grid.bus_voltage_min_V, grid.bus_voltage_max_V
    return grid.bus_voltage_V - SETTLING_BAND_V, grid.bus_voltage_V + SETTLING_BAND_V


def _watched(site: Site, string: StringSpec) -> _Watched:
    battery, converter = f"{string.prefix}.battery", f"{string.prefix}.converter"
    needed = [f"{battery}.{name}" for name in ("cell_voltage_max", "cell_voltage_min", "current", "temperature_max")]
    # What is read seldom comes late after a start; the guard trips on what it does not know.
    bms = site.device(string.battery)
    needed += [f"{battery}.{name}" for name in ("fault_count", "fault_flags") if bms is not None and name in bms.points]
    contactor = string.feedback or string.contactor or ""
    needed += [contactor] if contactor else []
    device = site.device(string.converter) if string.converter is not None else None
    if device is None:
        own = tuple(needed)
        return _Watched(id=string.id, prefix=string.prefix, converter="", needed=own, contactor=contactor, cells=string.cells)
    reported = tuple(f"{converter}.{name}" for name in ("faults_live", "faults_latched", "state") if name in device.points)
    symbols = _symbols(site, device, "faults_latched")
    return _Watched(
        id=string.id,
        prefix=string.prefix,
        converter=converter,
        needed=(*needed, f"{converter}.battery_current", f"{converter}.battery_voltage", *reported),
        conflict=_conflict(site, device),
        reported=reported,
        reports_faults={"faults_live", "faults_latched"} <= device.points and "reset" in device.writable,
        transient_mask=sum(1 << bit for bit, name in symbols.items() if name in TRANSIENT_FAULTS),
        contactor=contactor,
        cells=string.cells,
    )


def _string_facts(watched: _Watched, snapshot: Snapshot, gate: GateView) -> StringFacts:
    converter = watched.converter
    closed = snapshot.number(watched.contactor) if watched.contactor else None
    cell_V = snapshot.number(f"{watched.prefix}.battery.cell_voltage_mean") if watched.contactor else None
    return StringFacts(
        id=watched.id,
        converter=bool(converter),
        tripped=gate.trip_reason(watched.prefix),
        safe=gate.confirmed_safe(watched.prefix),
        contactor=bool(watched.contactor),
        closed=None if closed is None else closed != 0.0,
        cells=watched.cells,
        pack_V=None if cell_V is None else cell_V * watched.cells,
        missing=_missing(snapshot, watched.needed),
        conflict=watched.conflict,
        faults_age_s=max((snapshot.age_s(name) for name in watched.reported), default=math.inf),
        reports_faults=watched.reports_faults,
        faults_live=_word(snapshot, f"{converter}.faults_live"),
        faults_latched=_word(snapshot, f"{converter}.faults_latched"),
        transient_mask=watched.transient_mask,
        in_fault=snapshot.number(f"{converter}.state") == _FAULT_STATE,
        current_A=snapshot.number(f"{converter}.battery_current"),
    )


def _missing(snapshot: Snapshot, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if snapshot.number(name) is None)


def _word(snapshot: Snapshot, name: str) -> int:
    return int(snapshot.number(name) or 0.0)


def _symbols(site: Site, device: DeviceSpec, point: str) -> Mapping[int, str]:
    name = f"device.{device.id}.{point}"
    found = next((defined for defined in site.device_points if defined.name == name), None)
    return found.symbols if found is not None else {}


def _conflict(site: Site, device: DeviceSpec) -> str:
    values = protection(device)
    if site.grid is None or "communication_timeout" not in values:
        return ""
    needed_s = WATCHDOG_FACTOR * (values["communication_timeout"] + values.get("ramp_down_time", 0.0))
    if site.grid.watchdog_s >= needed_s:
        return ""
    return f"the watchdog of the grid converter ({site.grid.watchdog_s:g} s) must be at least {needed_s:g} s for {device.id}"


def protection(device: DeviceSpec) -> dict[str, float]:
    """The protective settings to be written into a strings' converter: role names, canonical units and signs."""
    wanted = {"communication_timeout": COMMUNICATION_TIMEOUT_S, "ramp_down_time": RAMP_DOWN_S}
    values = {
        name: value
        for name, value in wanted.items()
        if name in device.writable and device.writable[name][0] <= value <= device.writable[name][1]
    }
    return values | _settings(device)


def grid_protection(device: DeviceSpec, grid: GridSpec) -> dict[str, float]:
    """The same for the grid converter; the watchdog's delay goes out before the watchdog is switched on."""
    wanted = {
        "overvoltage_protection": grid.overvoltage_protection_V,
        "source_current_limit": grid.source_current_limit_A,
        "sink_current_limit": grid.sink_current_limit_A,
        "watchdog_delay": grid.watchdog_s,
        "watchdog_enable": 1.0,
    }
    return {name: value for name, value in wanted.items() if name in device.writable} | _settings(device)


def _settings(device: DeviceSpec) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in device.settings.items():
        role = role_point(device.role, name)
        found[name] = value * device.current_factor if role is not None and role.directional else value
    return found


def unprotected(device: DeviceSpec) -> list[str]:
    """Protective settings of its role that a device does not offer, or that nobody gave a value for."""
    wanted = ("bus_overvoltage_trip", "bus_undervoltage_trip", "communication_timeout", "ramp_down_time")
    return [name for name in wanted if name not in protection(device)]


def zero(device: DeviceSpec) -> dict[str, float]:
    """What takes a converter's current to zero, in whatever mode it is."""
    names = ["current_setpoint"]
    if "mode_setpoint" in device.writable:  # elsewhere the limits are stored settings, not set values
        names += ["charge_current_limit", "discharge_current_limit"]
    return {name: 0.0 for name in names if name in device.writable}


def off(device: DeviceSpec) -> dict[str, float]:
    """What switches a converter off."""
    return {name: 0.0 for name in _OFF if name in device.writable}
