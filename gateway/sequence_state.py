"""What the start and stop sequence knows: its states, what it has seen, what it wants done. Data only.

Times are real monotonic seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class SiteState(IntEnum):
    """The state of the site, and the value of `site.state`."""

    SAFE_OUTPUTS = 0
    MONITOR = 1
    PROTECT = 2
    ENERGISE = 3
    SETTLE = 4
    RESET_CONVERTERS = 5
    READY = 6
    STOPPING = 7
    STOPPED = 8
    FAULT = 9
    CONNECT = 10
    """Batteries that sit on the bus are being connected to it, before the grid converter is switched on."""


CONFIGURING = frozenset(
    (
        SiteState.PROTECT,
        SiteState.CONNECT,
        SiteState.ENERGISE,
        SiteState.SETTLE,
        SiteState.RESET_CONVERTERS,
        SiteState.READY,
    )
)
"""States in which the sequence may write to a string's converter."""

CONNECTING = frozenset((SiteState.CONNECT, SiteState.READY))
"""States in which the sequence may close a string's contactor."""

BUS_UP = frozenset((SiteState.RESET_CONVERTERS, SiteState.READY))
"""States in which the bus has settled."""


class Phase(StrEnum):
    """How far a string is on its own way to ready."""

    SAFE = "safe"
    """Its converter and its contactor have not confirmed their safe values yet."""
    MONITOR = "monitor"
    """Its telemetry is not complete yet."""
    SEEN = "seen"
    """It waits until every output of the site is safe."""
    PROTECT = "protect"
    """The protective settings are being written into its converter and read back."""
    CONNECT = "connect"
    """Its contactor may be closed as soon as that makes no surge."""
    CLOSING = "closing"
    """Its contactor has been told to close."""
    BUS = "bus"
    """It waits for the bus."""
    RESET = "reset"
    """Faults that the start of the bus latched in its converter are being cleared."""
    READY = "ready"
    REFUSED = "refused"
    """It cannot become ready until somebody clears the reason."""
    TRIPPED = "tripped"


class Deed(StrEnum):
    """Something to be done to a device; the outcome is looked at in a later cycle."""

    MAKE_SAFE = "make_safe"
    PROTECT = "protect"
    CLEAR_PROTECTION = "clear_protection"
    ENERGISE = "energise"
    CONNECT = "connect"
    """Close a string's contactor."""
    DISCONNECT = "disconnect"
    RESET = "reset"
    RELEASE = "release"
    ZERO = "zero"
    OFF = "off"
    CONFIRM = "confirm"
    """Only looked at, never asked for: that no current flows any more."""


@dataclass(frozen=True, slots=True)
class Action:
    """A deed on a string's converter, or without a string on the grid converter; MAKE_SAFE is for the whole site."""

    deed: Deed
    string: str | None = None
    note: str = ""
    """For the journal: why it is done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended: `problem` is empty when it was confirmed."""

    at_s: float
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StringFacts:
    """What is seen of a string now."""

    id: str
    converter: bool
    """It has a converter of its own."""
    tripped: str = ""
    safe: bool = True
    """Its converter and its contactor have confirmed their safe values (True without both)."""
    contactor: bool = False
    """It has a contactor."""
    closed: bool | None = None
    """What the contactor's feedback says, or without feedback its output; None when not good."""
    cells: int = 0
    pack_V: float | None = None
    """Sum of its cells; None when not good."""
    missing: tuple[str, ...] = ()
    """Points without a good value that it needs."""
    conflict: str = ""
    """Why its protective settings can never be right; empty when they can."""
    faults_age_s: float = math.inf
    """Age of the converter's fault words; infinite when it has none, or they are not good."""
    reports_faults: bool = False
    """Its converter can tell latched faults from present ones, and can be reset."""
    faults_live: int = 0
    faults_latched: int = 0
    transient_mask: int = 0
    """Fault bits that the start of the bus explains: bus over-voltage and bus under-voltage."""
    in_fault: bool = False
    """Its converter's state is "fault"."""
    current_A: float | None = None
    """Battery-side current of its converter; None when not good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is seen of the plant now. Without a grid converter the grid's facts are those of a bus that is always up."""

    strings: tuple[StringFacts, ...]
    grid: bool = True
    tripped: str = ""
    """Why the site is tripped; empty when it is not."""
    grid_safe: bool = True
    grid_missing: tuple[str, ...] = ()
    output: bool = False
    voltage_V: float | None = None
    """Bus voltage as the grid converter measures it; None when not good."""
    voltage_age_s: float = math.inf
    """Real seconds since it was measured."""
    held: str = ""
    """Why the site must not be energised yet, whatever the plant says; empty when nothing holds it."""
    settled_low_V: float = 0.0
    settled_high_V: float = 0.0
    """Between these the bus counts as settled."""
    protection: str = ""
    """Protective faults that the grid converter has latched, in words, its communication watchdog aside."""
    watchdog_tripped: bool = False
    """Its communication watchdog has switched it off."""
    outcomes: Mapping[tuple[Deed, str | None], Outcome] = field(default_factory=dict[tuple[Deed, str | None], Outcome])


@dataclass(frozen=True, slots=True, kw_only=True)
class StringState:
    """Where one string is."""

    phase: Phase = Phase.SAFE
    since_s: float = 0.0
    reason: str = ""
    reset_used: bool = False
    """The one automatic reset of this start has been given."""
    asked: bool = True
    """A start stands behind it; after the reset of its trip the contactor waits for another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where the site is. `step` divides STOPPING; `attempts` counts tries to energise."""

    site: SiteState = SiteState.SAFE_OUTPUTS
    since_s: float = 0.0
    reason: str = ""
    strings: Mapping[str, StringState]
    entered: bool = False
    """The action of this state (or step) has been asked for."""
    step: Deed = Deed.ZERO
    stopping_since_s: float = 0.0
    attempts: int = 0
    inside_since_s: float = math.inf
    """Since when the bus has been settled."""
    settled_s: float = math.inf
    """When it counted as settled."""
    by_operator: bool = False
    """This start was asked for by a person, who has looked at what the grid converter reports."""
    was_tripped: bool = False


def initial(string_ids: tuple[str, ...], now_s: float, *, by_operator: bool = False) -> State:
    """The beginning of a start."""
    strings = {identifier: StringState(since_s=now_s) for identifier in string_ids}
    return State(since_s=now_s, strings=strings, by_operator=by_operator, reason="starting")
