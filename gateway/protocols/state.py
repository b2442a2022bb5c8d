"""What the engine is given and what it remembers: plain frozen data, so that a run is a fold over its inputs.

Two clocks: `site_s` (step clocks, counters, delays; scaled on a simulated site) and `real_s` (age of data). Currents are
signed, + = discharge; charge and energy of a step are magnitudes in the step's direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.device_roles import ConverterMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.protocols.slope import Slope


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of a cycle on both clocks, seconds of arbitrary origin."""

    site_s: float
    real_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of good quality, and when its source was read (UTC nanoseconds)."""

    value: float
    time_ns: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the string looks like now. Only values of good quality are here; a missing name is a value that is not known.

    Names: the signals of `conditions` that are measured, and battery_current, converter_current, converter_voltage,
    temperature_min, charge_limit and discharge_limit (of the BMS, magnitudes). `voltage_mode`: the converter reports that
    it regulates voltage. `foreign_limiter`: a limiter other than the battery voltage acts; None when not known.
    """

    readings: Mapping[str, Reading]
    voltage_mode: bool = False
    foreign_limiter: bool | None = None

    def get(self, name: str) -> Reading | None:
        """The reading, None when it is missing or not a finite number."""
        reading = self.readings.get(name)
        return reading if reading is not None and math.isfinite(reading.value) else None

    def value(self, name: str) -> float | None:
        """The number, None when it is not known."""
        reading = self.get(name)
        return None if reading is None else reading.value

    @property
    def current(self) -> Reading | None:
        """The string current from the best sensor: the converter's (0.01 A), else the BMS's."""
        return self.get("converter_current") or self.get("battery_current")

    @property
    def pack(self) -> Reading | None:
        """The pack voltage at the converter, which regulates it (0.01 V), else the BMS's."""
        return self.get("converter_voltage") or self.get("pack_voltage")


@dataclass(frozen=True, slots=True)
class ConverterDemand:
    """What a track wants of its converter. `current_A` is signed, + = discharge; the limits are magnitudes."""

    mode: ConverterMode
    enable: bool
    current_A: float = 0.0
    voltage_V: float | None = None
    charge_limit_A: float = 0.0
    discharge_limit_A: float = 0.0


IDLE = ConverterDemand(ConverterMode.STANDBY, enable=False)
"""No current, converter in standby: a rest, a pause."""
OFF = ConverterDemand(ConverterMode.OFF, enable=False)
"""No current, converter off: what every track ends with."""


class Status(StrEnum):
    """The life of a track and of a run."""

    IDLE = "idle"
    ARMED = "armed"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAULTED = "faulted"

    @property
    def is_over(self) -> bool:
        """True when nothing more will happen."""
        return self in {Status.COMPLETED, Status.ABORTED, Status.FAULTED}


@dataclass(frozen=True, slots=True)
class Watch:
    """How long, and in how many samples of distinct source times, a condition has held without a break."""

    since_s: float | None = None
    seen: int = 0
    last_ns: int = -1


@dataclass(frozen=True, slots=True)
class Nearest:
    """The end that is expected first. `eta_s` is in site seconds, infinite when the value does not move towards it."""

    text: str
    distance: float | None
    unit: str
    eta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What came of a step. `ended_by` is the condition's text, "timeout ..." or "abort: ..."."""

    id: str
    ended_by: str
    value: float | None
    unit: str
    elapsed_s: float
    charge_Ah: float
    energy_Wh: float


def _no_numbers() -> Mapping[str, float]:
    return {}


def _no_slopes() -> Mapping[str, Slope]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """The step in progress. `elapsed_s` stands still while paused, the counters do not."""

    watches: tuple[tuple[Watch, ...], ...]
    elapsed_s: float = 0.0
    charge_Ah: float = 0.0
    energy_Wh: float = 0.0
    temperature_at_entry: float | None = None
    first: Mapping[str, float] = field(default_factory=_no_numbers)
    """The first good value of each signal in the step: where progress is measured from."""
    slopes: Mapping[str, Slope] = field(default_factory=_no_slopes)
    regulating: bool = False
    """The voltage phase has begun."""
    target_V: float | None = None
    """The pack voltage to hold, once known."""
    reference_V: float | None = None
    """The voltage reference in force; None until the phase begins, and after a pause."""
    regulated_ns: int = -1
    voltage_watch: Watch = Watch()
    """How long the converter has been in voltage mode."""
    nearest: Nearest | None = None
    progress: float = 0.0


def _no_watches() -> Mapping[str, Watch]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackState:
    """A track in progress. `step` is None before the first and after the last one."""

    status: Status = Status.ARMED
    reason: str = ""
    index: int = 0
    step: StepState | None = None
    results: tuple[StepResult, ...] = ()
    now: Now | None = None
    """The moment of the last cycle; None before the first."""
    elapsed_s: float = 0.0
    """Site seconds since the start, pauses included."""
    current_A: float | None = None
    pack_V: float | None = None
    """The pack voltage when last known."""
    known_at: Mapping[str, float] = field(default_factory=_no_numbers)
    """When (real time) each value that is needed was last known."""
    limits: Mapping[str, Watch] = field(default_factory=_no_watches)
    ceilings: Mapping[str, float] = field(default_factory=_no_numbers)
    """The BMS's current limits when last known."""
    reduced_A: float | None = None
    """The current ceiling in force when the BMS allows less than the step asks for."""
    outcome: Status = Status.COMPLETED
    """What STOPPING turns into."""
    stopping_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line in the journal. `kind`: step, pause, resume, reduced, end."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Advance:
    """What a cycle gives: the new state, what is wanted of the converter (None once the track is over), and events."""

    state: TrackState
    demand: ConverterDemand | None
    events: tuple[Event, ...] = ()
