"""When readings are due, with time as a plain number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.field.schedule import PATIENCE_S, Backoff, Timing, choose


def test_fast_goes_before_slow_and_the_longest_waiting_before_the_others() -> None:
    slow, fast, later = Timing(1, 1.0, due=0.0), Timing(0, 0.1, due=0.5), Timing(0, 0.1, due=0.6)
    assert choose([slow, later, fast], 1.0)[0] is fast
    assert choose([slow, later, fast], 0.55) == (fast, 0.6)
    assert choose([slow], 1.0)[0] is slow
    assert choose([later, slow, fast], -1.0) == (None, 0.0)
    assert choose([], 1.0) == (None, math.inf)


def test_a_line_too_busy_for_all_still_reads_the_slow_ones() -> None:
    slow, fast = Timing(1, 1.0, due=0.0), Timing(0, 0.1, due=1.0)
    assert choose([slow, fast], PATIENCE_S + 1.0)[0] is slow


@given(st.floats(0.01, 10), st.floats(0, 1), st.floats(0, 1000), st.floats(0, 30))
def test_the_next_reading_lies_ahead_within_a_period_and_in_phase(period: float, share: float, start: float, late: float) -> None:
    timing = Timing(0, period, phase_s=share * period)
    timing.start(start)
    timing.done(start + late)
    assert start + late < timing.due <= start + late + period * (1 + 1e-9)
    cycles = (timing.due - timing.phase_s) / period
    assert cycles == pytest.approx(round(cycles), abs=1e-5)


def test_punctual_readings_do_not_drift() -> None:
    timing = Timing(0, 0.1, phase_s=0.03)
    timing.start(5.0)
    timing.done(5.01)
    for _ in range(1000):
        timing.done(timing.due + 0.004)
    assert timing.due == pytest.approx(5.03 + 100.0, abs=1e-6)


def test_once_is_once() -> None:
    timing = Timing(1, math.inf)
    timing.start(3.0)
    timing.done(3.1)
    assert timing.due == math.inf


def test_the_wait_doubles_up_to_half_a_minute_and_starts_anew() -> None:
    backoff = Backoff()
    assert [backoff.fail() for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    backoff.reset()
    assert backoff.fail() == 0.5
