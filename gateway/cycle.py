"""The control cycle: age, derive, guard, publish, every `scan`, and the tick that everything slower follows.

One pass is synchronous and touches no device, so nothing can come between what it sees and what it does. Consumers
(sequence, runs, the converters' heartbeats) wait for the tick of a *finished* pass: a hung cycle stops the heartbeats,
and the devices' own watchdogs do the rest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.points import Kind, Point

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.clock import Clock
    from gateway.table import Table

TIME_FACTOR = "site.time_factor"
OVERRUNS = "site.cycle_overruns"
LATENESS = "site.cycle_lateness"

_LATENESS_EVERY = 10
"""Passes over which the largest lateness is shown."""


def points() -> tuple[Point, ...]:
    """How fast site time runs, and how well the cycle keeps its time."""
    return (
        Point(name=TIME_FACTOR, unit="", low=0.0, description="Site seconds per real second; 1 except in simulation"),
        Point(name=OVERRUNS, kind=Kind.INTEGER, description="Control cycles that began more than one period late"),
        Point(name=LATENESS, unit="s", low=0.0, description="Largest lateness of the last ten control cycles"),
    )


class Cycle:
    """Runs `passes` in order every `period_s` of real time, then lets the followers go.

    A pass that begins up to one period late is followed by one at its proper time; a later one moves all that follow.
    """

    def __init__(
        self,
        period_s: float,
        passes: Sequence[Callable[[], None]],
        table: Table,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._period_s = period_s
        self._passes = tuple(passes)
        self._clock = clock
        self._block = table.claim([TIME_FACTOR, OVERRUNS, LATENESS], "cycle")
        self._followers: list[asyncio.Event] = []
        self._overruns = 0
        self._count = 0
        self._worst_s = 0.0
        self.finished_at = -1.0
        """Monotonic time at which the last pass was finished; -1 before the first."""

    async def run(self) -> None:
        """Until cancelled. An error in a pass ends the process: a control cycle that skips work must not go on."""
        due = self._clock.monotonic()
        while True:
            late_s = self._clock.monotonic() - due
            self._observe(late_s)
            if late_s > self._period_s:
                due += late_s  # what was missed is not made up for
            for work in self._passes:
                work()
            self.finished_at = self._clock.monotonic()
            for follower in self._followers:
                follower.set()
            due += self._period_s
            await self._sleep(max(0.0, due - self.finished_at))

    async def follow(self, work: Callable[[], Awaitable[None]], every: int = 1) -> None:
        """Do `work` after every n-th finished pass, until cancelled; passes that end while it works count as one."""
        finished = asyncio.Event()
        self._followers.append(finished)
        try:
            while True:
                for _ in range(every):
                    await finished.wait()
                    finished.clear()
                await work()
        finally:
            self._followers.remove(finished)

    def _observe(self, late_s: float) -> None:
        self._overruns += late_s > self._period_s
        self._worst_s = max(self._worst_s, late_s)
        if self._count % _LATENESS_EVERY == 0:
            self._block.put(TIME_FACTOR, self._clock.time_factor)
            self._block.put(OVERRUNS, float(self._overruns))
            self._block.put(LATENESS, max(0.0, self._worst_s))
            self._worst_s = 0.0
        self._count += 1
