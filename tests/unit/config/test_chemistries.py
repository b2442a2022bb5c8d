"""The built-in limits per chemistry, and that they are consistent among themselves."""

from __future__ import annotations

import pytest

from gateway.chemistries import CHEMISTRIES
from gateway.site import Chemistry


def test_the_trip_limits_of_the_testbed() -> None:
    lfp, lead = CHEMISTRIES[Chemistry.LFP], CHEMISTRIES[Chemistry.LEAD_ACID]
    assert (lfp.cell_voltage_max_V, lfp.cell_voltage_min_V) == (3.65, 2.50)
    assert (lead.cell_voltage_max_V, lead.cell_voltage_max_clamp_V, lead.cell_voltage_min_V) == (2.60, 2.65, 1.70)
    assert (lfp.target_margin_V, lead.target_margin_V) == (0.030, 0.050)


@pytest.mark.parametrize("chemistry", list(Chemistry))
def test_defaults_lie_inside_the_clamps(chemistry: Chemistry) -> None:
    spec = CHEMISTRIES[chemistry]
    assert spec.cell_voltage_min_clamp_V <= spec.cell_voltage_min_V < spec.nominal_voltage_V
    assert spec.nominal_voltage_V < spec.cell_voltage_max_V - spec.target_margin_V
    assert spec.cell_voltage_max_V <= spec.cell_voltage_max_clamp_V
    assert spec.charge_temperature_min_clamp_degC <= spec.charge_temperature_min_degC < spec.temperature_max_degC
    assert spec.temperature_max_degC <= spec.temperature_max_clamp_degC
    assert spec.source
