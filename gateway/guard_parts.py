"""What the guard is made of: what the sequence arms, what is fixed about a scope, and what it needs of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.causes import Cause
    from gateway.points import Quality, Snapshot
    from gateway.site import StringSpec


@dataclass(slots=True)
class Arming:
    """What the site's sequence has made ready to be watched; all off at every start.

    `telemetry`: every device has had its time to answer, so one that never did is lost. `converter_faults`: the
    converters' latched faults have been reset, new ones trip. `bus`: the bus has been settled for 1 s; only while the
    grid converter is commanded on does it count.
    """

    telemetry: bool = False
    converter_faults: bool = False
    bus: bool = False


class Sink(Protocol):
    """Where points are published (see table.Block)."""

    def put(self, name: str, value: float | str | None, quality: Quality = ..., time_ns: int | None = None) -> None:
        """Set one point."""
        ...


class TableLike(Protocol):
    """What the guard needs of the table."""

    def view(self) -> Snapshot:
        """The present samples."""
        ...

    def claim(self, names: Sequence[str], writer: str) -> Sink:
        """The right to publish."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What is fixed about a scope."""

    name: str
    causes: tuple[Cause, ...]
    string: StringSpec | None
    settle_s: float
    """Real seconds for which a commanded step excuses a disagreement about the current."""
