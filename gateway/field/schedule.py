"""When each reading of a line is due. Pure: the present time is an argument.

Readings keep their phase: a late one does not shift those after it, and missed ones are skipped, not made up for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
"""Wait before a lost device is asked again: doubled after each attempt, between these."""
PATIENCE_S = 5.0


@dataclass(slots=True)
class Timing:
    """When one reading is due. `rank` 0 goes before 1 when both are due; `period_s` infinite is a reading that is done once."""

    rank: int
    period_s: float
    phase_s: float = 0.0
    due: float = math.inf

    def start(self, now: float) -> None:
        """Due at once; from then on in phase."""
        self.due = now

    def done(self, now: float) -> None:
        """It was done: the next moment in phase after now."""
        if math.isinf(self.period_s):
            self.due = math.inf
            return
        following = self.due + self.period_s
        if not now < following <= now + self.period_s or (following - self.phase_s) % self.period_s > 1e-6 * self.period_s:
            following = self.phase_s + (math.floor((now - self.phase_s) / self.period_s) + 1) * self.period_s
        self.due = following


T = TypeVar("T", bound=Timing)


def choose(timings: Iterable[T], now: float) -> tuple[T | None, float]:
    """What to do now: of the readings that are due, fast ones first, then the one that waits longest.

    None when none is due, and then the moment when the next one is (infinite when none is planned). A slow one that has
    waited for `PATIENCE_S` counts as fast, so that a line too busy for all still reads them all.
    """
    best: T | None = None
    best_rank, following = 0, math.inf
    for timing in timings:
        due = timing.due
        if due > now:
            following = min(following, due)
            continue
        rank = timing.rank if now - due < PATIENCE_S else 0
        if best is None or rank < best_rank or (rank == best_rank and due < best.due):
            best, best_rank = timing, rank
    return best, following


@dataclass(slots=True)
class Backoff:
    """The growing wait of one lost device."""

    wait_s: float = 0.0

    def fail(self) -> float:
        """The wait after one more failure, seconds."""
        self.wait_s = min(BACKOFF_LAST_S, max(BACKOFF_FIRST_S, 2 * self.wait_s))
        return self.wait_s

    def reset(self) -> None:
        self.wait_s = 0.0
