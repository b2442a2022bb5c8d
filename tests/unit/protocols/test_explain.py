"""Protocols read aloud."""

from __future__ import annotations

from gateway.protocols.explain import explain
from tests.protocols.running import shipped


def test_a_charge_step_reads_as_a_sentence() -> None:
    lines = explain(shipped("hybrid_charge"))
    assert "String A, LiFePO4: CC, then rest:" in lines
    assert (
        "  1. Constant current (bulk): Charge at 5 A until the highest cell reaches 3.6 V, for at most 6 h, else abort." in lines
    )
    assert any(
        "Hold the pack at the voltage it had when the step before ended, with at most 5 A of charge until the highest cell "
        "reaches 2.35 V or the current falls to C/50" in line
        for line in lines
    )
    assert "  Throughout: abort when the cell voltage is above 2.45 V." in lines


def test_parameters_in_force_are_the_ones_told() -> None:
    lines = explain(shipped("lfp_cc_rest"), {"charge_current": "3 A"})
    assert "  $charge_current = 3 A  (Charge current: 0.5 A to 25 A)" in lines
    assert any("Charge at 3 A until" in line for line in lines)


def test_every_kind_of_step_has_its_words() -> None:
    floating = "\n".join(explain(shipped("lead_acid_cccv_rest_float")))
    assert "Float the pack at 2.27 V/cell, with at most 0.05C of charge, for at most 30 d." in floating
    assert "for at most 6 h, then go on." in floating
    cccv = "\n".join(explain(shipped("lfp_cccv")))
    assert "Charge at 0.2C to the highest cell at 3.60 V (the pack never above 14.3 V), then hold it until the current" in cccv
    zinc = "\n".join(explain(shipped("zinc_cc_rest_cc_rest")))
    assert "(not looked at in the first 5 min)" in zinc
