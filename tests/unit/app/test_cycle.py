"""The control cycle, on a clock that moves only while the cycle sleeps or a pass takes its time."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from gateway import cycle
from gateway.cycle import LATENESS, OVERRUNS, TIME_FACTOR, Cycle
from gateway.table import Table
from tests.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_S = 0.1


class Enough(Exception):
    """The cycle has slept as often as the test wants."""


class Bench:
    """A cycle whose sleeps move the clock, `late_s` further than asked for."""

    def __init__(self, *passes: Callable[[], None], sleeps: int) -> None:
        self.clock = ManualClock()
        self.table = Table(cycle.points(), (), self.clock)
        self.slept: list[float] = []
        self.late_s = 0.0
        self.sleeps = sleeps
        self.cycle = Cycle(PERIOD_S, passes, self.table, self.clock, sleep=self._sleep)

    async def _sleep(self, real_s: float) -> None:
        self.slept.append(real_s)
        self.clock.advance(real_s + self.late_s)
        for _ in range(5):
            await asyncio.sleep(0)
        if len(self.slept) >= self.sleeps:
            raise Enough

    async def run(self) -> None:
        with pytest.raises(Enough):
            await self.cycle.run()

    def point(self, name: str) -> float | None:
        return self.table.number(name)


async def test_the_passes_run_in_order_every_period() -> None:
    done: list[str] = []
    bench = Bench(lambda: done.append("age"), lambda: done.append("guard"), lambda: done.append("publish"), sleeps=3)
    await bench.run()
    assert done == ["age", "guard", "publish"] * 3
    assert bench.slept == pytest.approx([PERIOD_S] * 3)
    assert bench.cycle.finished_at == pytest.approx(bench.clock.monotonic() - PERIOD_S)


async def test_a_pass_that_takes_time_does_not_delay_the_next() -> None:
    bench = Bench(lambda: bench.clock.advance(0.03), sleeps=4)
    await bench.run()
    assert bench.slept == pytest.approx([0.07] * 4)
    assert bench.point(OVERRUNS) == 0.0


async def test_passes_longer_than_the_period_are_overruns_and_nothing_is_made_up_for() -> None:
    bench = Bench(lambda: bench.clock.advance(0.25), sleeps=11)
    await bench.run()
    assert set(bench.slept) == {0.0}
    # Lateness grows by 0.15 s a pass: each begins more than one period late, and the count starts anew from there.
    assert bench.point(OVERRUNS) == 10.0
    assert bench.point(LATENESS) == pytest.approx(0.15)


async def test_one_long_pause_is_one_overrun() -> None:
    passes: list[float] = []

    def note() -> None:
        passes.append(bench.clock.monotonic())
        bench.late_s = 0.5 if len(passes) == 2 else 0.0

    bench = Bench(note, sleeps=12)
    await bench.run()
    assert bench.point(OVERRUNS) == 1.0
    assert bench.point(LATENESS) == pytest.approx(0.5)
    distances = [after - before for before, after in itertools.pairwise(passes)]
    assert distances == pytest.approx([0.1, 0.6, *[0.1] * 9])


async def test_a_little_late_is_caught_up_and_no_overrun() -> None:
    passes: list[float] = []

    def note() -> None:
        passes.append(bench.clock.monotonic())
        bench.late_s = 0.04 if len(passes) == 1 else 0.0

    bench = Bench(note, sleeps=11)
    start = bench.clock.monotonic()
    await bench.run()
    assert passes[1] - start == pytest.approx(0.14)
    assert passes[2] - start == pytest.approx(0.20)
    assert bench.point(OVERRUNS) == 0.0
    assert bench.point(LATENESS) == pytest.approx(0.04)


async def test_how_fast_site_time_runs_is_a_point() -> None:
    bench = Bench(sleeps=1)
    bench.clock.time_factor = 60.0
    await bench.run()
    assert bench.point(TIME_FACTOR) == 60.0


async def test_a_follower_works_after_finished_passes_only() -> None:
    done: list[str] = []
    bench = Bench(lambda: done.append("first"), lambda: done.append("last"), sleeps=3)

    async def work() -> None:
        done.append("work")

    following = asyncio.create_task(bench.cycle.follow(work))
    await asyncio.sleep(0)
    assert done == []
    await bench.run()
    following.cancel()
    assert done == ["first", "last", "work"] * 3


async def test_a_follower_may_take_every_third_pass() -> None:
    done: list[int] = []
    count = iter(range(100))
    bench = Bench(lambda: done.append(next(count)), sleeps=7)

    async def work() -> None:
        done.append(-1)

    following = asyncio.create_task(bench.cycle.follow(work, every=3))
    await asyncio.sleep(0)
    await bench.run()
    following.cancel()
    assert done == [0, 1, 2, -1, 3, 4, 5, -1, 6]


async def test_passes_that_end_while_a_follower_works_count_as_one() -> None:
    begun = 0
    free = asyncio.Event()
    bench = Bench(sleeps=5)

    async def work() -> None:
        nonlocal begun
        begun += 1
        await free.wait()

    following = asyncio.create_task(bench.cycle.follow(work))
    await asyncio.sleep(0)
    await bench.run()
    assert begun == 1
    free.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert begun == 2
    following.cancel()


async def test_an_error_in_a_pass_ends_the_cycle_and_gives_no_tick() -> None:
    worked: list[bool] = []

    def broken() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        worked.append(True)

    bench = Bench(broken, sleeps=2)
    following = asyncio.create_task(bench.cycle.follow(work))
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        await bench.cycle.run()
    for _ in range(5):
        await asyncio.sleep(0)
    assert worked == []
    assert bench.cycle.finished_at == -1.0
    following.cancel()


async def test_a_follower_that_left_is_forgotten() -> None:
    bench = Bench(sleeps=2)
    worked: list[bool] = []

    async def work() -> None:
        worked.append(True)

    following = asyncio.create_task(bench.cycle.follow(work))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bench.run()
    assert worked == []
