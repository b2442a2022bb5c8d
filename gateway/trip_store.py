"""How a latched trip is kept over a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from gateway.gate_records import JournalLike
from gateway.interlocks import Latch

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIPS = "trips"
"""The journal's table of latched trips: scope -> document."""


class GuardJournal(JournalLike, Protocol):
    """What the guard needs of the journal; nothing here blocks or raises."""

    def save(self, table: str, key: str, document: Mapping[str, object]) -> None:
        """Keep a document over a restart."""
        ...

    def delete(self, table: str, key: str) -> None:
        """Forget a document."""
        ...


def to_document(latch: Latch) -> Mapping[str, object]:
    """The latch as the journal keeps it."""
    return {
        "first_out": list(latch.first_out),
        "causes": list(latch.causes),
        "reason": latch.reason,
        "escalated": latch.escalated,
    }


def from_document(document: Mapping[str, object]) -> Latch:
    """The latch of a document. What is damaged or missing in it still makes a latch: a trip is never lost."""

    def texts(key: str) -> tuple[str, ...]:
        found = document.get(key)
        return tuple(str(item) for item in cast("list[object]", found)) if isinstance(found, list) else ()

    reason = str(document.get("reason") or "tripped before the last restart")
    return Latch(first_out=texts("first_out"), causes=texts("causes"), reason=reason, escalated=bool(document.get("escalated")))
