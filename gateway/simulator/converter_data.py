"""Words and settings of the simulated converter: states, modes, fault and limiter bits, adjustable limits, set values.

The numbers are those of the ControlCard register map, version 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from gateway.simulator import dab

if TYPE_CHECKING:
    from gateway.simulator.dab import DabRating


class State(IntEnum):
    """Input register 300."""

    INIT = 0
    OFF = 1
    STANDBY = 2
    RAMP_UP = 3
    RUN_CC = 4
    RUN_CV = 5
    RAMP_DOWN = 6
    FAULT = 99


class Mode(IntEnum):
    """Holding register 200."""

    OFF = 0
    STANDBY = 1
    CC = 2
    CV = 3


class Fault(IntFlag):
    """Input registers 304 (live) and 305 (latched)."""

    BATTERY_OV = 1 << 0
    BATTERY_UV = 1 << 1
    BUS_OV = 1 << 2
    BUS_UV = 1 << 3
    OC_CHARGE = 1 << 4
    OC_DISCHARGE = 1 << 5
    BUS_OC = 1 << 6
    OVER_TEMPERATURE = 1 << 7
    SENSOR = 1 << 9
    COMMUNICATION = 1 << 10
    PHASE_SATURATED = 1 << 11
    EMERGENCY_STOP = 1 << 13
    BMS_ENABLE_MISSING = 1 << 14


class Limit(IntFlag):
    """Input register 303."""

    POWER = 1 << 0
    CHARGE_CURRENT = 1 << 1
    DISCHARGE_CURRENT = 1 << 2
    BATTERY_V_MAX = 1 << 3
    BATTERY_V_MIN = 1 << 4
    BUS_V_MAX = 1 << 5
    BUS_V_MIN = 1 << 6
    SLEW = 1 << 7
    PHASE = 1 << 8
    TEMPERATURE = 1 << 9


NO_FAULT = Fault(0)
NO_LIMIT = Limit(0)


@dataclass(slots=True)
class Limits:
    """Holding registers 100 to 115 and 140 to 142, in volts, amperes, watts, seconds; kept in RAM."""

    battery_V_max: float
    battery_V_min: float
    bus_V_max: float
    bus_V_min: float
    charge_A: float
    discharge_A: float
    charge_W: float
    discharge_W: float
    trip_battery_OV: float
    trip_battery_UV: float
    trip_bus_OV: float
    trip_bus_UV: float
    trip_current_A: float
    trip_bus_current_A: float
    trip_temperature_degC: float = 85.0
    psi_rad: float = dab.PSI_CLAMP_RAD
    timeout_s: float = 2.0
    timeout_action: int = 0
    ramp_down_s: float = 1.0


def factory_limits(rating: DabRating) -> Limits:
    """The limits of a device as delivered: wide, so that a gateway that forgets to set them is seen."""
    return Limits(
        battery_V_max=rating.battery_V_max,
        battery_V_min=rating.battery_V_min,
        bus_V_max=rating.bus_V_max * 0.9375,
        bus_V_min=rating.bus_V_min,
        charge_A=rating.current_A,
        discharge_A=rating.current_A,
        charge_W=rating.power_W,
        discharge_W=rating.power_W,
        trip_battery_OV=rating.battery_V_max + 0.5,
        trip_battery_UV=rating.battery_V_min - 1.0,
        trip_bus_OV=rating.bus_V_max * 0.9375,
        trip_bus_UV=rating.bus_V_min * 1.125,
        trip_current_A=rating.current_A * 1.2,
        trip_bus_current_A=rating.bus_current_A * 1.2,
    )


@dataclass(slots=True)
class Setpoints:
    """Holding registers 200 to 209; zero after power-up, never stored."""

    mode: int = 0
    current_A: float = 0.0
    voltage_V: float = 0.0
    current_slew: float = 0.0
    voltage_slew: float = 0.0
    enable: int = 0
    heartbeat: int = 0
    cv_side: int = 0
    charge_limit_A: float = 0.0
    discharge_limit_A: float = 0.0


@dataclass(slots=True)
class Counters:
    """Input registers 362 to 368."""

    trips: int = 0
    timeouts: int = 0
    crc_errors: int = 0
    framing_errors: int = 0
    refused: int = 0
    resets: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Electrical:
    """What the stage measures at the end of the last step."""

    battery_V: float = 0.0
    bus_V: float = 0.0
    bus_A: float = 0.0
    bus_W: float = 0.0
