"""Every shipped protocol runs to its end on a pack, ends its steps as it says, and reaches its fault for each limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.device_roles import ConverterMode
from gateway.protocols.library import library
from gateway.protocols.state import OFF, Inputs, Reading, Status
from tests.protocols.pack_model import PackModel, lead_acid, lfp, zinc
from tests.protocols.running import ROOT, program_of, run, shipped

CASES = {
    ("lfp_cc_rest", 0): (lfp, ["cell_voltage_max >= 3.6 V", "step_time >= 10 min"]),
    ("lfp_cccv", 0): (lfp, ["current <= 0.05C", "step_time >= 30 min"]),
    ("lead_acid_cc_cv", 0): (lead_acid, ["cell_voltage_max >= 2.3 V", None, "step_time >= 30 min"]),
    ("lead_acid_cccv_rest_float", 0): (lead_acid, ["cell_voltage_max >= 2.35 V", None, None, "step_time >= 0.1 d"]),
    ("zinc_cc_rest_cc_rest", 0): (
        zinc,
        ["cell_voltage_max >= 1.90 V", "step_time >= 30 min", "cell_voltage_max >= 1.90 V", "step_time >= 30 min"],
    ),
    ("hybrid_charge", 0): (lfp, ["cell_voltage_max >= 3.6 V", "step_time >= 10 min"]),
    ("hybrid_charge", 1): (lead_acid, ["cell_voltage_max >= 2.3 V", None, "step_time >= 30 min"]),
}
ENDS_MV = 5.0
"""How far the true highest cell may go beyond an end condition."""


def _program(name: str, track: int, model: PackModel):
    protocol = shipped(name)
    short = {"float_age": "0.1 d"} if "float_age" in protocol.parameters else {}
    return program_of(protocol, track, cells=model.cells, capacity_Ah=model.capacity_Ah, **short)


def test_every_shipped_protocol_is_run_here() -> None:
    found = library(ROOT / "protocols")
    assert {(name, track) for name, protocol in found.items() for track in range(len(protocol.tracks))} == set(CASES)


@pytest.mark.parametrize(("name", "track"), CASES)
def test_runs_to_completion_and_ends_its_steps_as_it_says(name: str, track: int) -> None:
    make, ends = CASES[name, track]
    model = make()
    program = _program(name, track, model)

    ran = run(program, model)

    assert ran.state.status is Status.COMPLETED
    assert [result.id for result in ran.state.results] == [step.id for step in program.steps]
    for result, expected in zip(ran.state.results, ends, strict=True):
        assert expected is None or result.ended_by == expected
        assert "timeout" not in result.ended_by
        assert result.value is not None
    assert ran.demands[-1] == OFF
    assert model.current_A == 0.0


@pytest.mark.parametrize(("name", "track"), CASES)
def test_the_true_highest_cell_overshoots_an_end_by_less_than_5_mV(name: str, track: int) -> None:
    make, _ = CASES[name, track]
    model = make()
    ran = run(_program(name, track, model), model)
    for result in ran.state.results:
        if result.ended_by.startswith("cell_voltage_max >= ") and name != "lead_acid_cccv_rest_float":
            bound = float(result.ended_by.split()[2])
            assert bound <= ran.max_V[result.id] < bound + ENDS_MV / 1000.0


@pytest.mark.parametrize(("name", "track"), CASES)
def test_never_discharges_and_never_exceeds_the_current_of_the_step(name: str, track: int) -> None:
    make, _ = CASES[name, track]
    model = make()
    program = _program(name, track, model)
    ran = run(program, model)
    for step in program.steps:
        for current_A in ran.currents[step.id]:
            assert -step.current_A - 1e-9 <= current_A <= 0.0


def _faults() -> list[tuple[str, int, str]]:
    return [(name, track, limit.text) for name, track in CASES for limit in _program(name, track, CASES[name, track][0]()).limits]


@pytest.mark.parametrize(("name", "track", "limit"), _faults())
def test_passing_a_limit_aborts_with_the_limit_as_the_reason(name: str, track: int, limit: str) -> None:
    model = CASES[name, track][0]()
    program = _program(name, track, model)
    bound = next(item for item in program.limits if item.text == limit)
    beyond = bound.bound * (1.05 if bound.op == ">" else 0.95)

    def fault(inputs: Inputs, site_s: float) -> Inputs:
        if site_s < 100.0:
            return inputs
        time_ns = inputs.readings[bound.signal].time_ns
        return replace(inputs, readings={**inputs.readings, bound.signal: Reading(beyond, time_ns)})

    ran = run(program, model, change=fault)

    assert ran.state.status is Status.ABORTED
    assert limit in ran.state.reason
    assert ran.state.results[-1].ended_by.startswith(f"abort: limit {limit} passed")
    assert ran.demands[-1] == OFF
    assert ran.site_s < 300.0


@pytest.mark.parametrize(("name", "track"), CASES)
def test_a_controlled_step_that_never_ends_is_aborted_by_its_timeout(name: str, track: int) -> None:
    model = CASES[name, track][0]()
    program = _program(name, track, model)

    def low_cells(inputs: Inputs, _: float) -> Inputs:
        voltages = {name: Reading(1.0, inputs.readings[name].time_ns) for name in ("cell_voltage_max", "converter_voltage")}
        return replace(inputs, readings={**inputs.readings, **voltages})

    model.steep_V = 0.0
    ran = run(program, model, change=low_cells)

    assert ran.state.status is Status.ABORTED
    assert ran.state.results[-1].ended_by.startswith("timeout ")
    assert ran.state.results[-1].elapsed_s == pytest.approx(program.steps[0].timeout_s, abs=10.0)


def test_hybrid_charge_holds_a_real_constant_voltage_on_lead_acid() -> None:
    model = lead_acid()
    program = _program("hybrid_charge", 1, model)

    ran = run(program, model)

    magnitudes = [-current for current in ran.currents["absorb"]]
    assert ran.modes["absorb"] == {ConverterMode.VOLTAGE.value}
    assert magnitudes[0] == pytest.approx(5.0, abs=0.6), "no bump from constant current to constant voltage"
    assert min(magnitudes) < 4.0, "the current tapers"


def test_lfp_cccv_regulates_the_highest_cell_within_the_pack_ceiling() -> None:
    model = lfp()
    program = _program("lfp_cccv", 0, model)

    ran = run(program, model)

    held = [demand.voltage_V for demand in ran.demands if demand is not None and demand.mode is ConverterMode.VOLTAGE]
    assert held
    assert max(held) <= 14.3
    assert max(model.voltages) < 3.6
    assert ran.max_V["charge"] < 3.62
    assert min(-current for current in ran.currents["charge"]) <= 1.25
