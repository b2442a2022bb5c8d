"""Regenerative supply as a source: voltage priority, source and sink limits, protections, watchdog.

Programmed values and the latched protections live here; the wire (SCPI) is in `devices/supply.py`. The output delay and the
slew run in plant time, the watchdog in real time. Current is positive when the supply feeds the bus, as its own meter shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import IntFlag, StrEnum

OUTPUT_DELAY_S = 0.012
"""Time from `OUTP ON` to the output, voltage priority (RP7900 Operating and Service Guide, OUTPut)."""


class Regulation(StrEnum):
    """What the output does at present."""

    OFF = "off"
    STARTING = "starting"
    VOLTAGE = "voltage"
    SOURCE_LIMIT = "source_limit"
    SINK_LIMIT = "sink_limit"


class Protection(IntFlag):
    """QUES1 bits that switch the output off."""

    OVER_VOLTAGE = 1 << 0
    OVER_CURRENT = 1 << 1
    OVER_TEMPERATURE = 1 << 4
    INHIBIT = 1 << 9
    WATCHDOG = 1 << 11


NO_PROTECTION = Protection(0)


@dataclass(slots=True)
class SupplyRating:
    """Full scale; programmable to 102 %, protections to 120 %."""

    voltage_V: float = 80.0
    current_A: float = 250.0


@dataclass(slots=True)
class SupplySettings:
    """Programmed values after `*RST`."""

    voltage_V: float = 0.0
    source_limit_A: float = 2.5
    sink_limit_A: float = -2.5
    slew_V_per_s: float = math.inf
    over_voltage_V: float = 96.0
    under_voltage_V: float = 0.0
    under_voltage_on: bool = False
    over_current_on: bool = False
    output: bool = False
    watchdog: bool = False
    watchdog_s: int = 60

    def reset_to(self, other: SupplySettings) -> None:
        """Take all values of `other`; the object stays the same."""
        for item in fields(self):
            setattr(self, item.name, getattr(other, item.name))


@dataclass(slots=True)
class Supply:
    """The supply. `reference_V` is the slewed set value that the output follows."""

    rating: SupplyRating = field(default_factory=SupplyRating)
    settings: SupplySettings = field(default_factory=SupplySettings)
    protection: Protection = NO_PROTECTION
    under_voltage: bool = False
    regulation: Regulation = Regulation.OFF
    reference_V: float = 0.0
    current_A: float = 0.0
    stuck: bool = False
    _delay_s: float = 0.0
    _fed_at: float = -math.inf

    @property
    def energised(self) -> bool:
        """The output is commanded on and no protection holds it off."""
        return self.settings.output and not self.protection and not self.under_voltage

    def feed(self, real_s: float) -> None:
        """Any remote command or query restarts the watchdog."""
        self._fed_at = real_s

    def watch(self, real_s: float) -> None:
        """The I/O watchdog, in real time; call it once per tick."""
        if self.settings.watchdog and real_s - self._fed_at > self.settings.watchdog_s and not self.stuck:
            self.trip(Protection.WATCHDOG)

    def trip(self, bit: Protection) -> None:
        """Latch a protection: the output goes off, the programmed output state stays."""
        self.protection |= bit
        self.switch_off()

    def switch_off(self) -> None:
        """High impedance."""
        self.regulation = Regulation.OFF
        self.reference_V = self.current_A = self._delay_s = 0.0

    def clear_protection(self) -> None:
        """Clear what is latched: the output returns to its programmed state, so clearing re-energises."""
        self.protection = NO_PROTECTION
        self.under_voltage = False

    def advance(self, step_s: float, bus_V: float) -> bool:
        """Let plant time pass. True in the step in which the output is switched through."""
        if not self.energised:
            if self.regulation is not Regulation.OFF and not self.stuck:
                self.switch_off()
            return False
        started = False
        if self.regulation is Regulation.OFF:
            self._delay_s += step_s
            if self._delay_s < OUTPUT_DELAY_S:
                return False
            self.regulation = Regulation.STARTING
            self.reference_V = bus_V
            started = True
        reach = self.settings.slew_V_per_s * step_s
        gap = self.settings.voltage_V - self.reference_V
        self.reference_V += max(-reach, min(reach, gap))
        return started

    def protect(self, bus_V: float) -> None:
        """Over- and under-voltage protection on the output terminals, always armed while the output is on."""
        if self.stuck or self.regulation is Regulation.OFF:
            return
        if bus_V > self.settings.over_voltage_V:
            self.trip(Protection.OVER_VOLTAGE)
        elif (
            self.settings.under_voltage_on
            and self.regulation is not Regulation.STARTING
            and bus_V < self.settings.under_voltage_V
        ):
            self.under_voltage = True
            self.switch_off()
        elif self.settings.over_current_on and self.regulation in {Regulation.SOURCE_LIMIT, Regulation.SINK_LIMIT}:
            self.trip(Protection.OVER_CURRENT)
