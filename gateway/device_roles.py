"""What each device role must and may offer: the canonical points, their units and signs.

A device map gives its points these names; a site binds a device to a string or the grid, and the canonical point
(`string.A.battery.current`) mirrors the device's own (`device.bms_a.current`). `directional` points are positive in
discharge (power from the battery, or from the DC bus to the grid); a device with the opposite convention declares
`positive = "charge"` and is converted once, here at the edge.

Indexed names carry `<n>`, counted from 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.points import Access, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


class DeviceRole(StrEnum):
    """What a device is for."""

    BATTERY = "battery"
    DCDC = "dcdc"
    DCAC = "dcac"
    METER = "meter"
    GENERATION = "generation"
    LOAD = "load"
    DIGITAL_IO = "digital_io"


def _no_symbols() -> Mapping[int, str]:
    return {}


@dataclass(frozen=True, slots=True)
class RolePoint:
    """A canonical point of a role; `required` ones must be in every map of the role."""

    name: str
    unit: str = ""
    kind: Kind = Kind.ANALOG
    access: Access = Access.READ
    required: bool = False
    directional: bool = False
    description: str = ""
    symbols: Mapping[int, str] = field(default_factory=_no_symbols)


class ConverterMode(StrEnum):
    """Canonical operating modes of a converter; `mode` and `mode_setpoint` carry their position in CONVERTER_MODES."""

    OFF = "off"
    STANDBY = "standby"
    CURRENT = "current"
    VOLTAGE = "voltage"


CONVERTER_MODES: Mapping[int, str] = dict(enumerate(mode.value for mode in ConverterMode))
CONVERTER_STATES: Mapping[int, str] = dict(
    enumerate(("init", "off", "standby", "ramp_up", "current", "voltage", "ramp_down", "fault"))
)
"""Canonical converter states: `state` carries the position; maps translate their device's numbers."""

_W = Access.WRITE
_F = Kind.FLAGS
_B = Kind.BOOLEAN

ROLE_POINTS: Mapping[DeviceRole, tuple[RolePoint, ...]] = {
    DeviceRole.BATTERY: (
        RolePoint("cell.<n>.voltage", "V", required=True, description="Voltage of one cell"),
        RolePoint("current", "A", required=True, directional=True, description="String current, + = discharge"),
        RolePoint("pack_voltage", "V", required=True, description="Pack voltage as measured by the BMS"),
        RolePoint("temperature_max", "degC", required=True, description="Hottest sensor"),
        RolePoint("temperature_min", "degC", description="Coldest sensor"),
        RolePoint("soc", "%", description="State of charge as the BMS counts it"),
        RolePoint("soh", "%", description="State of health as the BMS estimates it"),
        RolePoint("charge_current_limit", "A", description="Largest charge current the BMS allows now"),
        RolePoint("discharge_current_limit", "A", description="Largest discharge current the BMS allows now"),
        RolePoint("fault_count", kind=Kind.INTEGER, description="Number of active diagnostic trouble codes"),
        RolePoint("fault_flags", kind=_F, description="Active faults of the BMS"),
    ),
    DeviceRole.DCDC: (
        RolePoint("battery_current", "A", required=True, directional=True, description="Battery side, + = discharge"),
        RolePoint("battery_voltage", "V", required=True, description="Battery side"),
        RolePoint("bus_current", "A", directional=True, description="Bus side, + = discharge (into the bus)"),
        RolePoint("bus_voltage", "V", description="Bus side"),
        RolePoint("battery_power", "W", directional=True, description="Battery side, + = discharge"),
        RolePoint("bus_power", "W", directional=True, description="Bus side, + = discharge (into the bus)"),
        RolePoint("state", kind=Kind.ENUM, description="Operating state", symbols=CONVERTER_STATES),
        RolePoint("mode", kind=Kind.ENUM, description="Effective mode", symbols=CONVERTER_MODES),
        RolePoint("limiter_flags", kind=_F, description="Limits that act at present"),
        RolePoint("faults_live", kind=_F, description="Faults present now"),
        RolePoint("faults_latched", kind=_F, description="Faults since the last reset"),
        RolePoint("temperature_max", "degC", description="Hottest sensor of the converter"),
        RolePoint("heartbeat", kind=Kind.INTEGER, description="Counter that the device advances"),
        RolePoint("current_reference", "A", directional=True, description="Current reference in effect, + = discharge"),
        RolePoint("voltage_reference", "V", description="Voltage reference in effect"),
        RolePoint("mode_setpoint", kind=Kind.ENUM, access=_W, description="Mode asked for", symbols=CONVERTER_MODES),
        RolePoint("enable", kind=_B, access=_W, description="Power stage enabled"),
        RolePoint(
            "current_setpoint", "A", access=_W, required=True, directional=True, description="Current asked for, + = discharge"
        ),
        RolePoint("voltage_setpoint", "V", access=_W, description="Battery-side voltage asked for in voltage mode"),
        RolePoint("charge_current_limit", "A", access=_W, description="Charge current ceiling in voltage mode, magnitude"),
        RolePoint("discharge_current_limit", "A", access=_W, description="Discharge ceiling in voltage mode, magnitude"),
        RolePoint("current_slew", "A/s", access=_W, description="Largest rate of change of the current"),
        RolePoint("reset", kind=_B, access=_W, description="Clear latched faults; never energises"),
        RolePoint("bus_overvoltage_trip", "V", access=_W, description="Device-side bus over-voltage trip"),
        RolePoint("bus_undervoltage_trip", "V", access=_W, description="Device-side bus under-voltage trip"),
        RolePoint("communication_timeout", "s", access=_W, description="The device stops when commands cease for this long"),
        RolePoint("ramp_down_time", "s", access=_W, description="Time of the device's own ramp to zero"),
    ),
    DeviceRole.DCAC: (
        RolePoint("voltage", "V", required=True, description="DC voltage"),
        RolePoint("current", "A", required=True, directional=True, description="DC current, + = to the grid"),
        RolePoint("power", "W", directional=True, description="DC power, + = to the grid"),
        RolePoint("output", kind=_B, required=True, description="Output is on"),
        RolePoint("operation_flags", kind=_F, description="Operating condition word"),
        RolePoint("fault_flags", kind=_F, description="Conditions that switched the output off, or mar it"),
        RolePoint("voltage_setpoint", "V", access=_W, required=True, description="DC voltage asked for"),
        RolePoint("output_enable", kind=_B, access=_W, required=True, description="Switch the output on or off"),
        RolePoint("source_current_limit", "A", access=_W, description="Ceiling of current into the bus, magnitude"),
        RolePoint("sink_current_limit", "A", access=_W, description="Ceiling of current out of the bus, magnitude"),
        RolePoint("overvoltage_protection", "V", access=_W, description="Device-side over-voltage protection"),
        RolePoint("watchdog_delay", "s", access=_W, description="The output goes off when commands cease for this long"),
        RolePoint("watchdog_enable", kind=_B, access=_W, description="The device's own communication watchdog"),
        RolePoint("clear_protection", kind=_B, access=_W, description="Clear latched protection, output commanded off first"),
    ),
    DeviceRole.METER: (
        RolePoint("power", "W", required=True, directional=True, description="Active power, + = to the grid"),
        RolePoint("frequency", "Hz", description="Grid frequency"),
        RolePoint("voltage", "V", description="Grid voltage"),
    ),
    DeviceRole.GENERATION: (RolePoint("power", "W", required=True, description="Power generated"),),
    DeviceRole.LOAD: (RolePoint("power", "W", required=True, description="Power consumed"),),
    DeviceRole.DIGITAL_IO: (
        RolePoint("input.<n>", kind=_B, required=True, description="One digital input"),
        RolePoint("output.<n>", kind=_B, access=_W, description="One digital output, such as a contactor"),
    ),
}


def role_point(role: DeviceRole, name: str) -> RolePoint | None:
    """The role's definition of a point name such as "cell.3.voltage"; None when the name is not canonical."""
    generic = re.sub(r"(?<=\.)\d+(?=\.|$)", "<n>", name)
    return next((point for point in ROLE_POINTS[role] if point.name == generic), None)
