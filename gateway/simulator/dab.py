"""Power stage of a dual-active-bridge converter: phase shift, power and losses. Power is positive in discharge.

The signed form of the paper's equations (1) and (2): `P = K psi (pi - |psi|)` with `K = n Vb Vo / (2 pi^2 f L)`, and its smaller
root `psi = sign(P) (pi / 2) (1 - sqrt(1 - 8 f L |P| / (n Vb Vo)))`. The equations as printed hold for P >= 0 only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PSI_CLAMP_RAD = math.pi / 2
_HEADROOM = 1.8
"""Largest transferable power over rated power: 135 W for 75 W at 1.33 uH."""


@dataclass(frozen=True, slots=True)
class DabRating:
    """What one converter can do; volts, amperes, watts. Battery side unless the name says bus."""

    battery_V_max: float = 16.0
    battery_V_min: float = 8.0
    bus_V_max: float = 32.0
    bus_V_min: float = 16.0
    current_A: float = 6.25
    bus_current_A: float = 5.0
    power_W: float = 75.0
    turns: float = 0.5
    leakage_H: float = 1.33e-6
    frequency_Hz: float = 100e3
    idle_loss_W: float = 1.0
    loss_fraction: float = 0.036
    """Idle loss + fraction: 3.7 W at 75 W, an efficiency of 95 %."""
    current_slew_A_per_s: float = 100.0
    voltage_slew_V_per_s: float = 10.0


def rating_for(full_V: float, nominal_V: float, capacity_Ah: float, bus_V: float) -> DabRating:
    """The testbed's converter where it fits the pack, else one of the same design scaled to it."""
    small = DabRating()
    current_A = max(small.current_A, 0.25 * capacity_Ah)
    power_W = max(small.power_W, full_V * 0.2 * capacity_Ah)
    turns = round(0.5 * (nominal_V / 12.0) * (24.0 / bus_V), 3)
    leakage_H = turns * nominal_V * bus_V / (8.0 * small.frequency_Hz * _HEADROOM * power_W)
    fits = (
        full_V <= small.battery_V_max and nominal_V > small.battery_V_min and power_W == small.power_W and 20.0 <= bus_V <= 28.0
    )
    if fits:
        return small
    return DabRating(
        battery_V_max=round(1.1 * full_V, 1),
        battery_V_min=round(0.6 * nominal_V, 1),
        bus_V_max=round(bus_V * 4 / 3, 1),
        bus_V_min=round(bus_V * 2 / 3, 1),
        current_A=current_A,
        bus_current_A=round(1.6 * power_W / bus_V, 2),
        power_W=round(power_W, 1),
        turns=turns,
        leakage_H=leakage_H,
        idle_loss_W=min(4.0, power_W / 75.0),
    )


def _full_power_W(rating: DabRating, battery_V: float, bus_V: float) -> float:
    return rating.turns * battery_V * bus_V / (8.0 * rating.frequency_Hz * rating.leakage_H)


def power_W(rating: DabRating, psi_rad: float, battery_V: float, bus_V: float) -> float:
    """Equation (1): power that a phase shift transfers from the battery to the bus."""
    k = rating.turns * battery_V * bus_V / (2.0 * math.pi**2 * rating.frequency_Hz * rating.leakage_H)
    return k * psi_rad * (math.pi - abs(psi_rad))


def phase_rad(rating: DabRating, power: float, battery_V: float, bus_V: float) -> float:
    """Equation (2), signed: the phase shift that transfers `power`, clamped at a quarter period."""
    full_W = _full_power_W(rating, battery_V, bus_V)
    if full_W <= 0.0:
        return math.copysign(PSI_CLAMP_RAD, power) if power else 0.0
    root = max(0.0, 1.0 - abs(power) / full_W)
    return math.copysign(PSI_CLAMP_RAD * (1.0 - math.sqrt(root)), power)


def loss_W(rating: DabRating, battery_power_W: float) -> float:
    """Losses of a running power stage, booked on the bus side."""
    return rating.idle_loss_W + rating.loss_fraction * abs(battery_power_W)
