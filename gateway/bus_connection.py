"""When a battery may be connected to the DC bus: never so that the difference of two voltages drives a surge. Pure.

A battery and a stiff bus at another voltage are a short circuit through a few milliohms. So a battery without a converter of its
own is connected before the bus is energised: while the grid converter is off and nothing holds the bus, only the bus
capacitance is charged, and the grid converter, which follows, takes the bus from the battery's voltage to its own under its own
current limits. Batteries are connected one after the other, each compared with the bus as the one before has left it. A bus that
is held, by the grid converter or by another battery, admits a battery only at nearly its own voltage; one that differs more
stays off the bus and says so.

A battery behind a converter is connected while the converter is off, whatever the bus does: the converter parts the two. Filling
its input capacitors gently is the hardware's own business (a precharge resistor beside the contactor).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.sequence_state import Facts, StringFacts

MATCHED_V_PER_CELL = 0.01
"""Our choice of a difference that is no surge: with the 2 to 3 milliohms of a 25 Ah cell it drives 3 to 5 A, below C/4."""

DEAD_BUS_V = 5.0
"""Our choice of a voltage below which nothing but left-over charge is on a bus of 24 V."""


def obstacle(own: StringFacts, facts: Facts) -> str:
    """Why the string's contactor must not be closed now; empty when it may."""
    if own.converter:
        return ""
    bus_V, pack_V = facts.voltage_V, own.pack_V
    if not facts.grid:
        return "nothing measures the voltage of the bus"
    if bus_V is None or pack_V is None:
        return f"the voltage of the {'bus' if bus_V is None else 'string'} is not known"
    matched_V = MATCHED_V_PER_CELL * own.cells
    if abs(bus_V - pack_V) <= matched_V or (bus_V < DEAD_BUS_V and not facts.output):
        return ""
    return (
        f"the bus is at {bus_V:.2f} V and the string at {pack_V:.2f} V; it is connected within {matched_V:.2f} V, "
        "or while the bus is dead and the grid converter off"
    )
