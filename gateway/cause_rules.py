"""What a cause looks at: small pure rules from a snapshot to healthy, active or unknown.

Every rule is data. A reading is ACTIVE when the plant is beyond the limit, UNKNOWN when an input is bad, stale, missing
or not a number. Healthy is what must be shown; whatever is not a number can never show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from gateway.points import Snapshot


class CauseState(IntEnum):
    """The state of a cause, and the value of its point `interlock.<scope>.<cause>.state`."""

    HEALTHY = 0
    ACTIVE = 1
    UNKNOWN = 2


class Reading(NamedTuple):
    """What a rule found. `resettable` is healthy with the reset margin to spare.

    `value` and its UTC source time `stamp_ns` matter while active only; NaN and 0 otherwise.
    """

    state: CauseState
    resettable: bool
    value: float
    stamp_ns: int


HEALTHY = Reading(CauseState.HEALTHY, True, math.nan, 0)
ACTIVE = Reading(CauseState.ACTIVE, False, math.nan, 0)
UNKNOWN = Reading(CauseState.UNKNOWN, False, math.nan, 0)
_NOT_RESETTABLE = Reading(CauseState.HEALTHY, False, math.nan, 0)

MAX_SKEW_S = 1.0
"""Two measurements taken further apart than this are not compared (real seconds)."""


class Rule(Protocol):
    """The condition of one cause."""

    def read(self, snapshot: Snapshot) -> Reading | None:
        """The condition now; None when there is no new evidence either way."""
        ...

    def describe(self, value: float) -> str:
        """The value of a reading beside its limit, for reasons."""
        ...


def finite(snapshot: Snapshot, name: str) -> float | None:
    """The good, finite value of a point, else None."""
    value = snapshot.number(name)
    return value if value is not None and math.isfinite(value) else None


def _judged(snapshot: Snapshot, point: str, value: float, *, healthy: bool, resettable: bool) -> Reading:
    if not healthy:
        return Reading(CauseState.ACTIVE, False, value, snapshot.sample(point).time_ns)
    return HEALTHY if resettable else _NOT_RESETTABLE


@dataclass(frozen=True, slots=True)
class High:
    """A point at or above its limit; resettable below `reset`."""

    point: str
    limit: float
    reset: float
    unit: str

    def read(self, snapshot: Snapshot) -> Reading:
        value = finite(snapshot, self.point)
        if value is None:
            return UNKNOWN
        return _judged(snapshot, self.point, value, healthy=value < self.limit, resettable=value < self.reset)

    def describe(self, value: float) -> str:
        return f"{value:.3f} {self.unit}, limit {self.limit:.3f} {self.unit}"


@dataclass(frozen=True, slots=True)
class Low:
    """A point at or below its limit; resettable above `reset`."""

    point: str
    limit: float
    reset: float
    unit: str

    def read(self, snapshot: Snapshot) -> Reading:
        value = finite(snapshot, self.point)
        if value is None:
            return UNKNOWN
        return _judged(snapshot, self.point, value, healthy=value > self.limit, resettable=value > self.reset)

    def describe(self, value: float) -> str:
        return f"{value:.3f} {self.unit}, limit {self.limit:.3f} {self.unit}"


@dataclass(frozen=True, slots=True)
class Overcurrent:
    """Any of the points beyond a limit in one direction: `sign` +1 is discharge, -1 charge.

    At the limit itself is healthy, because the limit is also the largest setpoint that the gate lets through.
    """

    points: tuple[str, ...]
    limit_A: float
    sign: float

    def read(self, snapshot: Snapshot) -> Reading:
        return _worst_of(snapshot, self.points, self.limit_A, self.sign)

    def describe(self, value: float) -> str:
        return f"{value:.2f} A, limit {self.limit_A:.2f} A"


@dataclass(frozen=True, slots=True)
class UncommandedCurrent:
    """Any of the currents beyond a small magnitude, either way. A sample older than its limit proves nothing."""

    points: tuple[str, ...]
    limit_A: float
    age_max_s: float

    def read(self, snapshot: Snapshot) -> Reading:
        if not all(snapshot.age_s(point) <= self.age_max_s for point in self.points):
            return UNKNOWN
        return _worst_of(snapshot, self.points, self.limit_A, 0.0)

    def describe(self, value: float) -> str:
        return f"{value:.2f} A while commanded off, limit {self.limit_A:.2f} A"


def _worst_of(snapshot: Snapshot, points: tuple[str, ...], limit: float, sign: float) -> Reading:
    """The largest of several points, times `sign`, or in magnitude when that is 0. Active wins over unknown."""
    largest, at, known = -math.inf, "", True
    for point in points:
        value = finite(snapshot, point)
        if value is None:
            known = False
            continue
        size = value * sign if sign else abs(value)
        if size > largest:
            largest, at = size, point
    if not known and not largest > limit:
        return UNKNOWN
    healthy = largest <= limit
    return _judged(snapshot, at, largest, healthy=healthy, resettable=healthy)


@dataclass(frozen=True, slots=True)
class TelemetryAge:
    """Any of the points older than the limit in real seconds. Never read, and bad although fresh, is UNKNOWN."""

    points: tuple[str, ...]
    limit_s: float

    def read(self, snapshot: Snapshot) -> Reading:
        oldest, good = 0.0, True
        for point in self.points:
            age_s = snapshot.age_s(point)
            if not age_s <= oldest:
                oldest = age_s
            good = good and finite(snapshot, point) is not None
        if math.isinf(oldest):
            return UNKNOWN
        if not oldest <= self.limit_s:
            return Reading(CauseState.ACTIVE, False, oldest, 0)
        return HEALTHY if good else UNKNOWN

    def describe(self, value: float) -> str:
        return f"no good telemetry for {value:.1f} s, limit {self.limit_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Outside:
    """A point outside its window; resettable inside it by `margin`."""

    point: str
    low: float
    high: float
    margin: float
    unit: str

    def read(self, snapshot: Snapshot) -> Reading:
        value = finite(snapshot, self.point)
        if value is None:
            return UNKNOWN
        healthy = self.low < value < self.high
        resettable = self.low + self.margin < value < self.high - self.margin
        return _judged(snapshot, self.point, value, healthy=healthy, resettable=resettable)

    def describe(self, value: float) -> str:
        return f"{value:.2f} {self.unit}, window {self.low:.2f} to {self.high:.2f} {self.unit}"


@dataclass(frozen=True, slots=True)
class Faulted:
    """Any of the points carries a value among `values`; or, without those, any bit that `ignore` does not cover."""

    points: tuple[str, ...]
    values: frozenset[float] = frozenset()
    ignore: int = 0

    def _is_fault(self, value: float) -> bool:
        if self.values:
            return value in self.values
        return bool(int(value) & ~self.ignore) if value.is_integer() else True

    def read(self, snapshot: Snapshot) -> Reading:
        known = True
        for point in self.points:
            value = finite(snapshot, point)
            if value is None:
                known = False
            elif self._is_fault(value):
                return Reading(CauseState.ACTIVE, False, value, snapshot.sample(point).time_ns)
        return HEALTHY if known else UNKNOWN

    def describe(self, value: float) -> str:
        return f"reported value {value:.0f}"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Active when any of the rules is; otherwise unknown when any is."""

    rules: tuple[Faulted, ...]

    def read(self, snapshot: Snapshot) -> Reading:
        readings = [rule.read(snapshot) for rule in self.rules]
        active = next((reading for reading in readings if reading.state is CauseState.ACTIVE), None)
        if active is not None:
            return active
        return UNKNOWN if any(reading.state is CauseState.UNKNOWN for reading in readings) else HEALTHY

    def describe(self, value: float) -> str:
        return f"reported value {value:.0f}"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two measurements of one quantity further apart than a share of the larger, or an absolute amount if that is more.

    `first` is multiplied by `factor`. Samples taken too far apart are no evidence.
    """

    first: str
    second: str
    factor: float
    share: float
    absolute: float
    unit: str

    def read(self, snapshot: Snapshot) -> Reading | None:
        first, second = finite(snapshot, self.first), finite(snapshot, self.second)
        if first is None or second is None:
            return UNKNOWN
        first_age_s, second_age_s = snapshot.age_s(self.first), snapshot.age_s(self.second)
        if not abs(first_age_s - second_age_s) <= MAX_SKEW_S:
            return None
        first *= self.factor
        allowed = max(self.share * max(abs(first), abs(second)), self.absolute)
        difference = abs(first - second)
        healthy = difference <= allowed
        # The older of the two dates the reading: beside a frozen input, no new sample of the other counts as new.
        older = self.first if first_age_s > second_age_s else self.second
        return _judged(snapshot, older, difference, healthy=healthy, resettable=healthy)

    def describe(self, value: float) -> str:
        return f"difference {value:.2f} {self.unit}, allowed {self.share:.0%} or {self.absolute:.2f} {self.unit}"
