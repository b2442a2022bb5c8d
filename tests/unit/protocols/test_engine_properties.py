"""What must hold for any input: bad data ends nothing, outputs stay in bounds, clocks never run backwards."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.device_roles import ConverterMode
from gateway.protocols import engine
from gateway.protocols.program import StepKind
from gateway.protocols.state import OFF, Inputs, Now, Reading, Status, TrackState
from tests.protocols.running import program_of, shipped

PROGRAMS = {
    "lfp": program_of(shipped("lfp_cccv"), cells=4),
    "lead": program_of(shipped("hybrid_charge"), track=1, cells=6),
    "float": program_of(shipped("lead_acid_cccv_rest_float"), cells=6, float_age="0.1 d"),
    "zinc": program_of(shipped("zinc_cc_rest_cc_rest"), cells=8),
}
NAMES = (
    "cell_voltage_max",
    "cell_voltage_min",
    "cell_voltage_mean",
    "cell_voltage_spread",
    "pack_voltage",
    "converter_voltage",
    "converter_current",
    "battery_current",
    "temperature_max",
    "soc",
    "charge_limit",
    "discharge_limit",
)
values = st.one_of(
    st.floats(min_value=-10.0, max_value=20.0),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 2.3, 2.35, 3.6, 13.8]),
)
readings = st.dictionaries(st.sampled_from(NAMES), st.builds(Reading, values, st.integers(0, 50)), max_size=len(NAMES))
inputs = st.builds(Inputs, readings, st.booleans(), st.sampled_from([None, True, False]))
bad = st.builds(Reading, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 50))
bad_inputs = st.builds(Inputs, st.dictionaries(st.sampled_from(NAMES), bad), st.booleans(), st.sampled_from([None, True, False]))
actions = st.sampled_from(["advance"] * 8 + ["pause", "resume", "abort"])
cycles = st.lists(st.tuples(actions, inputs, st.floats(min_value=0.0, max_value=4000.0)), max_size=25)
names = st.sampled_from(sorted(PROGRAMS))


def fold(name: str, given_cycles):
    """Every (state before, action, inputs, result) of a run."""
    program, state, site_s, real_s = PROGRAMS[name], TrackState(), 0.0, 0.0
    for action, given_inputs, dt_s in given_cycles:
        site_s, real_s = site_s + dt_s, real_s + dt_s / 60.0
        if action == "pause":
            state = engine.pause(state, "held")
        elif action == "resume":
            state = engine.resume(state)
        elif action == "abort":
            state = engine.abort(program, state, "stopped")
        before = state
        result = engine.advance(program, state, given_inputs, Now(site_s, real_s))
        state = result.state
        yield before, given_inputs, result


@given(names, cycles)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_demand_never_exceeds_the_step_nor_goes_the_wrong_way(name: str, given_cycles) -> None:
    program = PROGRAMS[name]
    largest_A = max(step.current_A for step in program.steps)
    for _, _, result in fold(name, given_cycles):
        demand = result.demand
        if demand is None:
            continue
        assert -largest_A <= demand.current_A <= 0.0
        assert demand.discharge_limit_A == 0.0
        assert 0.0 <= demand.charge_limit_A <= largest_A
        if result.state.step is None or result.state.status is not Status.RUNNING:
            assert not demand.enable
            assert demand.current_A == 0.0
            continue
        step = program.steps[result.state.index]
        assert demand.charge_limit_A <= step.current_A
        assert demand.enable <= step.is_controlled
        if demand.mode is ConverterMode.VOLTAGE:
            assert demand.voltage_V is not None
            assert math.isfinite(demand.voltage_V)


@given(names, cycles)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_bms_ceiling_is_never_exceeded(name: str, given_cycles) -> None:
    for _, given_inputs, result in fold(name, given_cycles):
        ceiling = given_inputs.value("charge_limit")
        if ceiling is not None and result.demand is not None:
            assert result.demand.charge_limit_A <= max(0.0, ceiling)
            assert -result.demand.current_A <= max(0.0, ceiling)


@given(names, cycles)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_clocks_never_run_backwards_and_pauses_stop_only_the_step_clock(name: str, given_cycles) -> None:
    for before, _, result in fold(name, given_cycles):
        state = result.state
        assert state.elapsed_s >= before.elapsed_s
        assert all(item.elapsed_s >= 0.0 for item in state.results)
        assert len(state.results) >= len(before.results)
        if state.step is not None:
            assert state.step.elapsed_s >= 0.0
            assert 0.0 <= state.step.progress <= 1.0
            if before.status is Status.PAUSED and state.status is Status.PAUSED and before.step is not None:
                assert state.step.elapsed_s == before.step.elapsed_s
        assert engine.time_to_end_s(state) >= 0.0


@given(names, cycles)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_once_stopping_the_converter_stays_off(name: str, given_cycles) -> None:
    stopping = False
    for _, _, result in fold(name, given_cycles):
        if stopping:
            assert result.demand in {None, OFF}
            assert result.state.status in {Status.STOPPING, Status.COMPLETED, Status.ABORTED}
        stopping = stopping or result.state.status is Status.STOPPING


@given(names, st.lists(st.tuples(st.just("advance"), bad_inputs, st.floats(min_value=0.0, max_value=600.0)), max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_without_good_data_a_charge_ends_by_nothing_but_abort_or_timeout(name: str, given_cycles) -> None:
    for _, _, result in fold(name, given_cycles):
        for item in result.state.results:
            assert item.ended_by.startswith(("abort: ", "timeout "))


@given(st.floats(min_value=1.0, max_value=600.0), st.integers(min_value=1, max_value=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_low_current_that_is_not_renewed_is_no_taper(dt_s: float, count: int) -> None:
    """A frozen sample under a running site clock: the blanking time waits for new samples."""
    program = PROGRAMS["lead"]
    program = replace(program, steps=program.steps[1:2])
    frozen = {"converter_current": -0.1, "cell_voltage_max": 2.2, "temperature_max": 25.0, "converter_voltage": 13.0}
    given_inputs = Inputs({key: Reading(value, 7) for key, value in frozen.items()}, True, foreign_limiter=False)
    state = replace(TrackState(), pack_V=13.0)
    for number in range(count):
        state = engine.advance(program, state, given_inputs, Now(number * dt_s, 0.0)).state
    assert all(not item.ended_by.startswith("current") for item in state.results)


@given(st.lists(st.booleans(), max_size=30), st.floats(min_value=0.01, max_value=120.0))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pausing_and_resuming_in_any_order_keeps_the_step_clock_exact(pauses: list[bool], dt_s: float) -> None:
    program = PROGRAMS["lfp"]
    good = {
        "cell_voltage_max": 3.3,
        "cell_voltage_mean": 3.3,
        "cell_voltage_spread": 0.0,
        "temperature_max": 25.0,
        "converter_current": -5.0,
        "converter_voltage": 13.2,
    }
    state, site_s, running_s = TrackState(), 0.0, 0.0
    for number, paused in enumerate([False, *pauses]):
        state = engine.pause(state, "held") if paused else engine.resume(state)
        given_inputs = Inputs({key: Reading(value, number + 1) for key, value in good.items()})
        site_s += dt_s
        result = engine.advance(program, state, given_inputs, Now(site_s, site_s))
        state = result.state
        running_s += dt_s if state.status is Status.RUNNING and number > 0 else 0.0
        assert state.step is not None
        assert math.isclose(state.step.elapsed_s, running_s, abs_tol=1e-6)
        assert result.demand is not None
        assert result.demand.enable is (state.status is Status.RUNNING)
    assert state.step is not None
    assert math.isclose(state.step.charge_Ah, 5.0 * dt_s * len(pauses) / 3600.0, abs_tol=1e-9)


def test_every_kind_of_step_is_exercised() -> None:
    kinds = {step.kind for program in PROGRAMS.values() for step in program.steps}
    assert kinds == set(StepKind) - {StepKind.DISCHARGE}
