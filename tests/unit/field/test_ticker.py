"""Equal moments share one timer."""

from __future__ import annotations

import asyncio

from gateway.clock import SystemClock
from gateway.field.ticker import Ticker


async def test_all_who_wait_for_a_moment_are_called_and_past_moments_at_once() -> None:
    clock = SystemClock()
    ticker = Ticker(clock)
    called: list[tuple[str, float]] = []
    done = asyncio.Event()
    soon = clock.monotonic() + 0.02
    ticker.at(soon, lambda due: called.append(("a", due)))
    ticker.at(soon, lambda due: called.append(("b", due)))
    ticker.at(soon - 100.0, lambda due: called.append(("past", due)))
    ticker.at(soon + 0.02, lambda _: done.set())
    await asyncio.wait_for(done.wait(), 5.0)
    assert called == [("past", soon - 100.0), ("a", soon), ("b", soon)]
