"""The vocabulary of data: points, samples, qualities, snapshots.

A *point* is a static definition; a *sample* is (value, quality, source time). A value exists only while the quality is
not bad. Quality names are those of OPC UA Part 8; the numbers here are our own, ordered so that a larger number is
worse, and never leave the gateway (servers translate by name).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXT_BYTES = 256
"""Fixed width of a text point in shared memory, bytes of UTF-8."""


class Quality(IntEnum):
    """How far a value can be trusted; a larger number is worse, 64 and above uncertain, 128 and above bad."""

    GOOD = 0
    GOOD_LOCAL_OVERRIDE = 1
    UNCERTAIN_LAST_USABLE_VALUE = 64
    UNCERTAIN_SUBSTITUTE_VALUE = 65
    BAD_WAITING_FOR_INITIAL_DATA = 128
    BAD_NO_COMMUNICATION = 129
    BAD_COMMUNICATION_ERROR = 130
    BAD_OUT_OF_RANGE = 131
    BAD_SENSOR_FAILURE = 132
    BAD_DEVICE_FAILURE = 133
    BAD_OUT_OF_SERVICE = 134
    BAD_CONFIGURATION_ERROR = 135

    @property
    def opcua_name(self) -> str:
        """The OPC UA Part 8 name, for example "UncertainLastUsableValue"."""
        return "".join(part.title() for part in self.name.split("_"))

    @property
    def is_good(self) -> bool:
        """True for the good qualities: the only ones that control logic trusts."""
        return self < Quality.UNCERTAIN_LAST_USABLE_VALUE

    @property
    def is_bad(self) -> bool:
        """True when there is no value at all."""
        return self >= Quality.BAD_WAITING_FOR_INITIAL_DATA


def worst(qualities: Iterable[Quality]) -> Quality:
    """The worst of the given qualities; GOOD when there are none."""
    return max(qualities, default=Quality.GOOD)


class Kind(StrEnum):
    """What a point's value is. All but TEXT are carried as float64."""

    ANALOG = "analog"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    ENUM = "enum"
    FLAGS = "flags"
    TEXT = "text"


class Access(StrEnum):
    """READ: a measurement or state. WRITE: a setpoint that may be requested through the gate."""

    READ = "read"
    WRITE = "write"


def _no_symbols() -> Mapping[int, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The static definition of one value.

    `low` and `high` bound what the value can mean, in `unit`; None is unbounded. `symbols` names the numbers of an
    ENUM, or the bits of FLAGS. A value older than `uncertain_after_s` is UncertainLastUsableValue, older than
    `bad_after_s` BadNoCommunication (real monotonic seconds); None never ages. `deadband` is the smallest change in
    `unit` that the change ring reports.
    """

    name: str
    kind: Kind = Kind.ANALOG
    unit: str = ""
    description: str = ""
    source: str = ""
    low: float | None = None
    high: float | None = None
    access: Access = Access.READ
    symbols: Mapping[int, str] = field(default_factory=_no_symbols)
    uncertain_after_s: float | None = None
    bad_after_s: float | None = None
    deadband: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One value with its quality and source time.

    `value` is None exactly when `quality` is bad. `time_ns` is the UTC time at which the source was read, in
    nanoseconds since 1970; 0 when never read.
    """

    value: float | str | None
    quality: Quality
    time_ns: int

    @property
    def number(self) -> float | None:
        """The value when it is a number of good quality, else None."""
        return self.value if self.quality.is_good and isinstance(self.value, float) else None


NEVER = Sample(None, Quality.BAD_WAITING_FOR_INITIAL_DATA, 0)


class Snapshot(Protocol):
    """One coherent picture of all points; what rules are given to look at."""

    def sample(self, name: str) -> Sample:
        """The sample of a point; NEVER for a name that does not exist."""
        ...

    def number(self, name: str) -> float | None:
        """The value of a numeric point when its quality is good, else None."""
        ...

    def age_s(self, name: str) -> float:
        """Real seconds since the source was read; infinite when never."""
        ...
