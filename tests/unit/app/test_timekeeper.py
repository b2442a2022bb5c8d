"""How fast the clock of a simulated site runs, and how the simulator is told."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.timekeeper import NEAR_FACTOR, NEAR_S, TimeKeeper, wanted_factor

if TYPE_CHECKING:
    from pathlib import Path

FAR_S = NEAR_S * 10


@pytest.mark.parametrize(
    ("nearest_end_s", "factor"),
    [(FAR_S, 60.0), (NEAR_S + 0.1, 60.0), (NEAR_S, NEAR_FACTOR), (0.0, NEAR_FACTOR), (-5.0, NEAR_FACTOR)],
)
def test_the_clock_is_fast_far_from_an_end_and_slow_near_one(nearest_end_s: float, factor: float) -> None:
    assert wanted_factor(nearest_end_s, running=True, fastest=60.0) == factor


@pytest.mark.parametrize("unknown", [math.inf, -math.inf, math.nan])
def test_an_end_that_is_not_in_sight_counts_as_near(unknown: float) -> None:
    assert wanted_factor(unknown, running=True, fastest=60.0) == NEAR_FACTOR


@pytest.mark.parametrize("nearest_end_s", [FAR_S, 0.0, math.inf, math.nan])
def test_without_a_run_it_is_real_time(nearest_end_s: float) -> None:
    assert wanted_factor(nearest_end_s, running=False, fastest=60.0) == 1.0


@pytest.mark.parametrize("nearest_end_s", [FAR_S, 0.0, math.nan])
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("fastest", [1.0, 2.0])
def test_it_is_never_faster_than_allowed(nearest_end_s: float, fastest: float, *, running: bool) -> None:
    assert wanted_factor(nearest_end_s, running=running, fastest=fastest) <= fastest


def told(file: Path) -> float:
    """What the simulator reads."""
    (factor,) = struct.unpack("<d", file.read_bytes())
    return factor


def test_the_simulator_is_told_each_change(tmp_path: Path) -> None:
    clock, file = SystemClock(), tmp_path / "time_factor"
    keeper = TimeKeeper(clock, file, 60.0)
    assert told(file) == 1.0
    keeper.update(FAR_S, running=True)
    assert (told(file), clock.time_factor) == (60.0, 60.0)
    keeper.update(1.0, running=True)
    assert (told(file), clock.time_factor) == (NEAR_FACTOR, NEAR_FACTOR)
    keeper.update(math.inf, running=False)
    assert (told(file), clock.time_factor) == (1.0, 1.0)


def test_a_real_site_keeps_real_time(tmp_path: Path) -> None:
    clock, file = SystemClock(), tmp_path / "time_factor"
    keeper = TimeKeeper(clock, file, 1.0)
    keeper.update(FAR_S, running=True)
    assert (told(file), clock.time_factor) == (1.0, 1.0)


def test_at_the_end_the_simulator_is_back_in_real_time(tmp_path: Path) -> None:
    file = tmp_path / "time_factor"
    keeper = TimeKeeper(SystemClock(), file, 60.0)
    keeper.update(FAR_S, running=True)
    keeper.close()
    assert told(file) == 1.0


def test_what_an_earlier_start_left_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "time_factor"
    file.write_bytes(struct.pack("<d", 60.0) + b"and more")
    TimeKeeper(SystemClock(), file, 60.0).close()
    assert told(file) == 1.0
