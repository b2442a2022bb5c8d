"""The cell models against the numbers of the testbed: voltages that charging must reach, and where cells rest."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.simulator import ocv
from gateway.simulator.cells import Cells
from gateway.simulator.chemistry import CHEMISTRY, CellSpec


def pack(chemistry: str, count: int, soc: float | None = None, **changes: float) -> Cells:
    common = CHEMISTRY[chemistry]
    mean = common.soc_start if soc is None else soc
    spread = common.soc_spread
    specs = [CellSpec(chemistry, 25.0, mean + spread[i % len(spread)], common.r0_Ohm, **changes) for i in range(count)]
    return Cells(specs)


def run(cells: Cells, current_A: float, seconds: float, step_s: float = 1.0) -> None:
    for _ in range(round(seconds / step_s)):
        cells.advance(step_s, np.full(len(cells.soc), current_A))


def until(cells: Cells, current_A: float, volts: float, step_s: float = 1.0) -> tuple[float, float]:
    """Charge until the highest cell reaches `volts`: seconds, and the slope of that cell at the end in V/s."""
    current = np.full(len(cells.soc), current_A)
    before = cells.voltages_at(current).max()
    for count in range(1, 40_000):
        cells.advance(step_s, current)
        now = cells.voltages_at(current).max()
        if now >= volts:
            return count * step_s, (now - before) / step_s
        before = now
    raise AssertionError(f"{volts} V was not reached")


def rested(cells: Cells) -> np.ndarray:
    return cells.voltages_at(np.zeros(len(cells.soc)))


def test_lfp_reaches_its_end_half_an_hour_after_ninety_percent():
    seconds, slope = until(pack("lfp", 4), -5.0, 3.6, step_s=0.5)
    assert seconds / 60 == pytest.approx(30.0, abs=2.0)
    assert slope * 1000 == pytest.approx(1.3, abs=0.15)


def test_a_full_lfp_cell_rests_low():
    cells = pack("lfp", 4)
    until(cells, -5.0, 3.6)
    run(cells, 0.0, 1800)
    assert rested(cells).min() >= 3.35
    assert rested(cells).max() <= 3.45


def test_lfp_open_circuit_voltage_stays_below_3_40_up_to_full():
    row = ocv.CHEMISTRIES.index("lfp")
    grid = np.linspace(ocv.SOC_MIN, ocv.SOC_MAX, ocv.table().shape[1])
    assert ocv.table()[row][grid <= 1.0].max() <= 3.40


@pytest.mark.parametrize("chemistry", ocv.CHEMISTRIES)
def test_open_circuit_voltage_rises_with_charge(chemistry: str):
    assert (np.diff(ocv.table()[ocv.CHEMISTRIES.index(chemistry)]) > 0).all()


def test_lfp_hysteresis_is_between_10_and_20_mV():
    charged, discharged = pack("lfp", 1, soc=0.40), pack("lfp", 1, soc=0.60)
    run(charged, -5.0, 0.10 * 25 / 5 * 3600)
    run(discharged, 5.0, 0.10 * 25 / 5 * 3600)
    run(charged, 0.0, 1200)
    run(discharged, 0.0, 1200)
    assert charged.soc[0] == pytest.approx(discharged.soc[0], abs=1e-3)
    assert 0.010 <= rested(charged)[0] - rested(discharged)[0] <= 0.020


def test_lead_acid_reaches_2_30_V_at_5_A_between_70_and_92_percent():
    for start in (0.5, 0.65, 0.80):
        cells = pack("lead_acid", 6, soc=start)
        until(cells, -5.0, 2.30)
        assert 0.70 <= cells.soc[3] <= 0.92
        assert cells.voltages_at(np.full(6, -5.0)).argmax() == 3, "cell 4 is the high one"


def test_lead_acid_constant_voltage_tapers_until_cell_4_reaches_2_35_V():
    cells = pack("lead_acid", 6)
    until(cells, -5.0, 2.30)
    held_V = cells.voltages_at(np.full(6, -5.0)).sum()
    below_4_A_at = None
    for second in range(2 * 3600):
        current = max(-5.0, (cells.emf.sum() - held_V) / cells.resistance.sum())
        cells.advance(1.0, np.full(6, current))
        if below_4_A_at is None and current > -4.0:
            below_4_A_at = second
        if cells.voltages_at(np.full(6, current)).max() >= 2.35:
            break
    assert 50 * 60 <= second <= 60 * 60
    assert current == pytest.approx(-1.5, abs=0.3)
    assert below_4_A_at is not None
    assert below_4_A_at < 10 * 60


def test_lead_acid_discharge_reaches_its_end_voltage_below_zero_usable_charge():
    cells = pack("lead_acid", 6, soc=0.05)
    lowest = 2.0
    while lowest >= 1.75 and cells.soc.min() > -0.25:
        run(cells, 5.0, 10)
        lowest = cells.voltages_at(np.full(6, 5.0)).min()
    assert lowest < 1.75
    assert -0.25 < cells.soc.min() < -0.10


def test_lead_acid_resistance_doubles_when_depleted():
    full, empty = pack("lead_acid", 1, soc=0.5), pack("lead_acid", 1, soc=0.05)
    assert empty.resistance[0] == pytest.approx(2 * full.resistance[0])


def test_gassing_takes_charge_at_high_voltage_only():
    low, high = pack("lead_acid", 1, soc=0.5), pack("lead_acid", 1, soc=0.99)
    run(low, -1.0, 3600)
    run(high, -1.0, 3600)
    assert low.soc[0] - 0.5 == pytest.approx(1 / 25, rel=0.01)
    assert high.soc[0] - 0.99 < 0.8 * (1 / 25)


def test_self_discharge_is_two_percent_a_month():
    cells = pack("lead_acid", 1, soc=0.5)
    run(cells, 0.0, 30 * 86400, step_s=600)
    assert cells.soc[0] == pytest.approx(0.48, abs=1e-3)


def test_zinc_cells_stay_plausible():
    cells = pack("zinc", 8)
    run(cells, -5.0, 1.8 * 3600)
    assert (rested(cells) > 1.6).all()
    assert cells.voltages_at(np.full(8, -5.0)).max() < 2.0


def test_long_steps_give_the_same_voltages_as_short_ones():
    coarse, fine = pack("lead_acid", 6), pack("lead_acid", 6)
    run(coarse, -5.0, 600, step_s=0.6)
    run(fine, -5.0, 600, step_s=0.05)
    assert np.abs(coarse.voltages_at(np.full(6, -5.0)) - fine.voltages_at(np.full(6, -5.0))).max() < 2e-4


def test_a_loaded_cell_warms_and_cools_again():
    cells = pack("lead_acid", 1, soc=0.9)
    run(cells, 25.0, 1200)
    warm = cells.temperature[0]
    assert 25.5 < warm < 45.0
    run(cells, 0.0, 6 * 3600, step_s=5)
    assert cells.temperature[0] == pytest.approx(25.0, abs=0.3)


def test_an_internal_short_lowers_the_voltage_drains_and_heats_the_cell():
    cells = pack("lfp", 2, soc=0.5)
    cells.short_S[0] = 1 / 0.02
    run(cells, 0.0, 60)
    volts = rested(cells)
    assert volts[0] < volts[1] - 0.2
    assert cells.soc[0] < cells.soc[1] - 0.05
    assert cells.temperature[0] > cells.temperature[1] + 10
