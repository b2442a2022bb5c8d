"""Which limit of a converter binds, and to what current; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.simulator import dab
from gateway.simulator.converter_data import NO_LIMIT, Limit

if TYPE_CHECKING:
    from gateway.simulator.converter_data import Limits, Setpoints
    from gateway.simulator.dab import DabRating

    Bound = tuple[float, Limit]

_DERATING_FROM_DEGC = 75.0
_DERATING_SPAN_K = 10.0


@dataclass(frozen=True, slots=True)
class Source:
    """What the stage works between: a battery of `emf_V` behind `resistance_Ohm`, its terminal voltage, the bus."""

    emf_V: float
    resistance_Ohm: float
    battery_V: float
    bus_V: float


def bounded(
    target_A: float, source: Source, rating: DabRating, limits: Limits, cv: Setpoints | None, heatsink_degC: float
) -> tuple[float, Limit]:
    """The current allowed of `target_A` (positive in discharge) and the limit that acts.

    `cv` are the set values in CV, None in CC.
    """
    magnitude = abs(target_A)
    bounds = _charge(source, limits, cv) if target_A < 0.0 else _discharge(source, limits, cv)
    phase_W = abs(dab.power_W(rating, min(limits.psi_rad, dab.PSI_CLAMP_RAD), source.battery_V, source.bus_V))
    bounds.append((phase_W / source.battery_V, Limit.PHASE))
    if heatsink_degC > _DERATING_FROM_DEGC:
        part = max(0.0, 1.0 - (heatsink_degC - _DERATING_FROM_DEGC) / _DERATING_SPAN_K)
        bounds.append((rating.current_A * part, Limit.TEMPERATURE))
    bound_A, name = min(bounds, key=lambda pair: pair[0])
    if magnitude > bound_A:
        return math.copysign(bound_A, target_A), name
    return target_A, NO_LIMIT


def _charge(source: Source, limits: Limits, cv: Setpoints | None) -> list[Bound]:
    bounds = [(limits.charge_A, Limit.CHARGE_CURRENT), (limits.charge_W / source.battery_V, Limit.POWER)]
    if cv is not None:
        bounds.append((cv.charge_limit_A, Limit.CHARGE_CURRENT))
    else:
        room_A = max(0.0, (limits.battery_V_max - source.emf_V) / source.resistance_Ohm)
        bounds.append((room_A, Limit.BATTERY_V_MAX))
    if source.bus_V <= limits.bus_V_min:
        bounds.append((0.0, Limit.BUS_V_MIN))
    return bounds


def _discharge(source: Source, limits: Limits, cv: Setpoints | None) -> list[Bound]:
    bounds = [(limits.discharge_A, Limit.DISCHARGE_CURRENT), (limits.discharge_W / source.battery_V, Limit.POWER)]
    if cv is not None:
        bounds.append((cv.discharge_limit_A, Limit.DISCHARGE_CURRENT))
    else:
        room_A = max(0.0, (source.emf_V - limits.battery_V_min) / source.resistance_Ohm)
        bounds.append((room_A, Limit.BATTERY_V_MIN))
    if source.bus_V >= limits.bus_V_max:
        bounds.append((0.0, Limit.BUS_V_MAX))
    return bounds
