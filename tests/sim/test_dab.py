"""The power stage: signed phase-shift equation, clamp, losses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator import dab

RATING = dab.DabRating()


@given(st.floats(-120, 120), st.floats(11, 15), st.floats(22, 26))
def test_equation_2_inverts_equation_1_in_both_directions(power: float, battery_V: float, bus_V: float):
    psi = dab.phase_rad(RATING, power, battery_V, bus_V)
    full = RATING.turns * battery_V * bus_V / (8 * RATING.frequency_Hz * RATING.leakage_H)
    assert dab.power_W(RATING, psi, battery_V, bus_V) == pytest.approx(max(-full, min(full, power)), abs=1e-6)
    assert abs(psi) <= math.pi / 2


@pytest.mark.parametrize(("watts", "psi"), [(-72.0, -0.419), (72.0, 0.419)])
def test_reverse_branch_has_the_magnitude_of_the_forward_branch(watts: float, psi: float):
    assert dab.phase_rad(RATING, watts, 13.8, 24.0) == pytest.approx(psi, abs=0.0006)


def test_the_clamp_is_a_quarter_period_and_135_W():
    assert dab.phase_rad(RATING, 1000.0, 12.0, 24.0) == pytest.approx(math.pi / 2)
    assert dab.power_W(RATING, math.pi / 2, 12.0, 24.0) == pytest.approx(135.3, abs=0.2)


def test_nominal_efficiency_is_95_percent_and_losses_stay_in_the_declared_band():
    assert 75.0 / (75.0 + dab.loss_W(RATING, 75.0)) == pytest.approx(0.95, abs=0.005)
    assert all(dab.loss_W(RATING, watts) <= 4.0 + 0.12 * watts for watts in range(0, 76, 5))


def test_a_larger_pack_gets_a_scaled_converter_with_the_same_headroom():
    rating = dab.rating_for(16 * 3.65, 16 * 3.2, 100.0, 400.0)
    full = rating.turns * 51.2 * 400.0 / (8 * rating.frequency_Hz * rating.leakage_H)
    assert rating.battery_V_max > 58
    assert full == pytest.approx(1.8 * rating.power_W, rel=0.01)
