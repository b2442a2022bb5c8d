"""The slope of a noisy signal."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.slope import Slope


@given(st.floats(-1.0, 1.0), st.floats(-100.0, 100.0), st.lists(st.floats(0.01, 30.0), min_size=3, max_size=40))
def test_a_straight_line_has_its_slope_however_it_is_sampled(rate: float, start: float, steps: list[float]) -> None:
    slope, time_s = Slope(20.0), 1000.0
    for number, step_s in enumerate(steps):
        time_s += step_s
        slope = slope.add(time_s, start + rate * time_s, number)
    found = slope.per_second
    assert found is not None
    assert math.isclose(found, rate, rel_tol=1e-4, abs_tol=1e-6)


def test_noise_is_averaged_out() -> None:
    noise = random.Random(1)
    slope = Slope(20.0)
    for number in range(400):
        slope = slope.add(number * 0.5, 3.3 + 1e-5 * number * 0.5 + noise.gauss(0.0, 2e-4), number)
    assert slope.per_second == pytest.approx(1e-5, abs=1e-5)


def test_a_sample_that_is_not_new_changes_nothing() -> None:
    slope = Slope(20.0).add(0.0, 1.0, 1).add(1.0, 2.0, 2)
    assert slope.add(2.0, 5.0, 2) is slope
    assert slope.per_second is None, "two samples are not a trend"
