"""What a cause of a trip or interlock is: its rule, delays, effect, and the texts that explain it to people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.cause_rules import Rule
    from gateway.site import Site

SITE = "site"
"""The scope of causes that trip everything."""


class Effect(StrEnum):
    """TRIP latches and makes the scope safe. NO_CHARGE is an interlock: no charging while it lasts, nothing latches."""

    TRIP = "trip"
    NO_CHARGE = "no_charge"


class Escalation(StrEnum):
    """When a string's cause demands the trip of the site as well: never, when it is active (not unknown), or always."""

    NEVER = "never"
    ACTIVE = "active"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a scope's causes must know besides the snapshot.

    `bus_armed`: the bus has settled, its window and the grid converter's protection are watched. `faults_armed`: a
    latched converter fault is a cause; not so while the start sequence may reset it. `telemetry_armed`: a device that
    was never heard counts as lost. `stop`: STOP is pressed. `commanded_off`: the string's converter, or without one its
    contactor, was last told to be off. `contactor_closed`: its contactor was last told to be closed. `stepping`: a command
    changed the converter's current a moment ago. `demands`: ids of the strings whose trip demands that of the site.
    """

    bus_armed: bool = False
    faults_armed: bool = False
    telemetry_armed: bool = False
    stop: bool = False
    commanded_off: bool = False
    contactor_closed: bool = False
    stepping: bool = False
    demands: frozenset[str] = frozenset()


def always(inputs: Inputs) -> bool:
    """True: the cause is watched whatever the site is doing."""
    del inputs
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One cause. Active for `samples` distinct source times and its delay, it has its effect on its scope.

    `delay_s` runs in real time and `site_delay_s` in site time; both must pass. `grace_s` (real) is how long an unknown
    input is tolerated. `rule` None is active whenever it is armed.
    """

    id: str
    scope: str
    title: str
    rule: Rule | None
    grace_s: float
    effect: Effect = Effect.TRIP
    samples: int = 1
    delay_s: float = 0.0
    site_delay_s: float = 0.0
    armed: Callable[[Inputs], bool] = always
    escalation: Escalation = Escalation.NEVER
    consequence: str = ""
    action: str = ""
    priority: int = 2

    @property
    def point(self) -> str:
        """The name of the point that shows its state."""
        return f"interlock.{self.scope}.{self.id}.state"


def offers(site: Site, device_id: str, point: str) -> bool:
    """True when the device can report that point."""
    device = site.device(device_id)
    return device is not None and point in device.points
