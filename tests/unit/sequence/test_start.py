"""The start: its order, what is written, and what each device's trouble costs."""

from __future__ import annotations

import pytest

from gateway.commands import CONTROL, Code, Command, Rank
from gateway.sequence import points
from gateway.sequence_state import SiteState
from tests.unit.sequence.plant import CONVERTER, Plant, site, string


@pytest.fixture
async def plant():
    made = Plant(site(string("A"), string("B")))
    yield made
    await made.sequence.close()


START = ["safe_outputs", "monitor", "protect", "energise", "settle", "reset_converters", "ready"]


async def test_the_start_goes_its_way(plant: Plant) -> None:
    await plant.run(10, until="ready")
    assert plant.history == START
    assert plant.shown["string.A.ready"] == plant.shown["string.B.ready"] == 1.0
    assert plant.shown["site.state"] == SiteState.READY
    assert plant.shown["site.state_reason"] == "every string is ready"
    order = [(target, name) for target, values in plant.log for name in values]
    assert order[0] == ("site", "safe")  # outputs are safe before anything else
    on = order.index(("grid", "output_enable"))
    assert all(order.index((target, name)) < on for target, name in [
        ("grid", "overvoltage_protection"), ("grid", "watchdog_enable"), ("grid", "voltage_setpoint"),
        ("string.A.converter", "communication_timeout"), ("string.B.converter", "bus_overvoltage_trip"),
    ])  # fmt: skip
    assert all(order.index((f"string.{s}.converter", "reset")) > on for s in "AB")


async def test_protection_is_written_as_the_site_says(plant: Plant) -> None:
    await plant.run(10, until="ready")
    assert plant.written("grid") == {
        "overvoltage_protection": 28.0, "source_current_limit": 10.0, "sink_current_limit": 10.0, "watchdog_delay": 5.0,
        "watchdog_enable": 1.0, "voltage_setpoint": 24.0, "output_enable": 1.0,
    }  # fmt: skip
    assert plant.written("string.A.converter") == {
        "bus_overvoltage_trip": 27.0, "bus_undervoltage_trip": 21.0, "communication_timeout": 1.0, "ramp_down_time": 0.5,
        "reset": 1.0,
    }  # fmt: skip


async def test_at_ready_the_runs_may_have_the_strings_but_not_the_bus(plant: Plant) -> None:
    await plant.run(10, until="ready")
    assert plant.owners == {"grid": "sequence"}
    assert plant.sequence.permit(_run("string.A.converter")) is None


async def test_each_converter_is_reset_exactly_once_and_that_is_recorded(plant: Plant) -> None:
    await plant.run(20)
    assert [target for target, values in plant.log if "reset" in values] == ["string.A.converter", "string.B.converter"]
    assert "string A: automatic reset: latched by the start of the bus: 0x0008" in plant.records


async def test_a_converter_that_was_not_halted_is_not_reset(plant: Plant) -> None:
    plant.halts = 0
    await plant.run(10, until="ready")
    assert not [target for target, values in plant.log if "reset" in values]
    assert plant.sequence.ready("A")


async def test_the_guard_is_armed_step_by_step(plant: Plant) -> None:
    await plant.run(10, until="monitor")
    assert not plant.arming.telemetry
    await plant.run(10, until="reset_converters")
    assert plant.arming.telemetry
    assert not plant.arming.bus
    assert not plant.arming.converter_faults  # the sequence may still reset them
    settled = plant.clock.monotonic()
    await plant.run(10, until="ready")
    assert plant.arming.converter_faults
    while not plant.arming.bus:
        await plant.run(0.1)
    assert plant.clock.monotonic() - settled == pytest.approx(1.1, abs=0.15)


async def test_the_bus_must_stay_within_its_band_for_half_a_second(plant: Plant) -> None:
    plant.bus_V = 23.7
    await plant.run(10, until="settle")
    await plant.run(3)
    plant.bus_V = 23.9
    await plant.run(0.3)
    plant.bus_V = 24.3
    await plant.run(0.3)
    plant.bus_V = 24.1
    began = plant.clock.monotonic()
    await plant.run(3, until="reset_converters")
    assert plant.clock.monotonic() - began == pytest.approx(0.5, abs=0.11)


async def test_a_bus_that_does_not_settle_is_switched_off(plant: Plant) -> None:
    plant.bus_V = 20.0
    await plant.run(20, until="fault")
    assert "did not settle between 23.8 V and 24.2 V: 20.00 V" in plant.sequence.reason
    await plant.run(0.2)
    assert not plant.output
    plant.bus_V = 24.0
    assert plant.sequence.start(CONTROL).accepted
    await plant.run(10, until="ready")


async def test_a_silent_converter_costs_only_its_own_string(plant: Plant) -> None:
    plant.silent.add("string.B.converter")
    await plant.run(30, until="ready")
    assert (plant.sequence.ready("A"), plant.sequence.ready("B")) == (True, False)
    assert plant.sequence.reason == "string B: the converter has not confirmed its safe values"
    assert plant.shown["string.B.ready_reason"] == "the converter has not confirmed its safe values"
    assert "string.B.converter" not in [target for target, _ in plant.log]


async def test_a_silent_battery_costs_only_its_own_string(plant: Plant) -> None:
    plant.silent.add("string.B.battery")
    await plant.run(30, until="ready")
    assert plant.sequence.ready("A")
    assert plant.shown["string.B.ready_reason"].startswith("no good value of string.B.battery.cell_voltage_max")
    plant.silent.clear()  # found again, it joins without disturbing the other one
    await plant.run(5)
    assert plant.sequence.ready("A")
    assert plant.sequence.ready("B")
    assert plant.history == START


async def test_a_fault_word_that_is_read_seldom_is_waited_for(plant: Plant) -> None:
    plant.silent.add("string.A.battery")
    for name in ("cell_voltage_max", "cell_voltage_min", "current", "temperature_max"):
        plant.snapshot.set(f"string.A.battery.{name}", 3.3)
    await plant.run(3)
    assert plant.history == ["safe_outputs", "monitor"]
    assert plant.sequence.reason == "string A: no good value of string.A.battery.fault_flags"
    assert not plant.arming.telemetry
    plant.silent.clear()
    await plant.run(10, until="ready")
    assert plant.sequence.ready("A")


async def test_a_silent_grid_converter_holds_up_everything(plant: Plant) -> None:
    plant.silent.add("grid")
    await plant.run(60)
    assert plant.history == ["safe_outputs"]
    assert plant.sequence.reason == "the grid converter has not confirmed its safe values"
    assert [values for target, values in plant.log] == [{"safe": 1.0}]


async def test_without_good_values_of_the_grid_converter_nothing_is_switched_on(plant: Plant) -> None:
    await plant.run(10, until="monitor")
    plant.silent.add("grid")
    for name in ("voltage", "current", "output"):
        plant.snapshot.set(f"grid.{name}", None)
    await plant.run(30)
    assert plant.sequence.reason == "no good value of grid.voltage, grid.current, grid.output"
    assert not plant.output


@pytest.mark.parametrize(
    ("halts", "live", "reason"),
    [
        (0b1001, 0, "latched faults that the start of the bus does not explain: 0x0009"),
        (1 << 10, 0, "latched faults that the start of the bus does not explain: 0x0400"),
        (0b1000, 0b1000, "faults that are present now: 0x0008"),
    ],
)
async def test_nothing_but_the_bus_transient_is_reset(plant: Plant, halts: int, live: int, reason: str) -> None:
    plant.halts, plant.live = halts, live
    await plant.run(30, until="ready")
    assert not [target for target, values in plant.log if "reset" in values]
    assert not plant.sequence.ready("A")
    assert reason in plant.shown["string.A.ready_reason"]
    assert plant.arming.converter_faults  # from here on it is for the guard to trip the string


async def test_a_string_whose_faults_were_cleared_by_somebody_comes_back_by_itself(plant: Plant) -> None:
    plant.halts = 1 << 10
    await plant.run(30, until="ready")
    await plant.run(5)
    assert not plant.sequence.ready("A")
    plant.latched["A"] = 0  # tripped and reset by an operator between two cycles
    await plant.run(3)
    assert plant.sequence.ready("A")
    assert not plant.sequence.ready("B")


async def test_a_reset_that_does_not_help_is_not_repeated(plant: Plant) -> None:
    plant.refuses["string.A.converter", "reset"] = "device refused"
    await plant.run(30, until="ready")
    assert not plant.sequence.ready("A")
    assert plant.shown["string.A.ready_reason"] == "the converter was not reset: device refused"
    assert plant.sequence.ready("B")


async def test_protection_that_is_not_confirmed_keeps_the_string_out_until_it_is(plant: Plant) -> None:
    plant.refuses["string.A.converter", "bus_overvoltage_trip"] = "is 32 instead of 27"
    await plant.run(30, until="ready")
    assert not plant.sequence.ready("A")
    assert plant.sequence.ready("B")
    assert plant.shown["string.A.ready_reason"] == "protective settings: is 32 instead of 27"
    plant.refuses.clear()
    await plant.run(5)
    assert plant.sequence.ready("A")


async def test_protection_of_the_grid_converter_comes_before_its_output(plant: Plant) -> None:
    plant.refuses["grid", "watchdog_enable"] = "no"
    await plant.run(30)
    assert plant.history[-1] == "protect"
    assert not plant.output
    assert plant.sequence.reason == "protective settings of the grid converter: no"


async def test_a_watchdog_shorter_than_twice_time_out_and_ramp_is_refused() -> None:
    plant = Plant(site(string("A"), watchdog_s=2.9))
    await plant.run(30, until="ready")
    assert plant.shown["string.A.ready_reason"] == ("the watchdog of the grid converter (2.9 s) must be at least 3 s for dab_a")
    enough = Plant(site(string("A"), watchdog_s=3.0))
    await enough.run(30, until="ready")
    assert enough.sequence.ready("A")


async def test_a_device_that_hangs_never_delays_the_cycle(plant: Plant) -> None:
    plant.hangs.add("string.A.converter")
    await plant.run(30, until="ready")
    assert plant.sequence.ready("B")
    assert not plant.sequence.ready("A")
    await plant.sequence.close()


async def test_a_converter_with_few_settings_gets_those_it_has() -> None:
    few = {name: CONVERTER[name] for name in ("current_setpoint", "communication_timeout")}
    plant = Plant(site(string("A"), converter=few, settings={}, points=frozenset({"state"})))
    plant.halts = 0
    await plant.run(30, until="ready")
    assert plant.sequence.ready("A")
    assert plant.written("string.A.converter") == {"communication_timeout": 1.0}
    assert "dab_a is not given, or does not offer, bus_overvoltage_trip, bus_undervoltage_trip, ramp_down_time" in plant.records


async def test_strings_on_the_bus_need_no_converter() -> None:
    plant = Plant(site(string("A", converter=False), string("B")))
    plant.bus_V = 25.3  # held by the battery
    await plant.run(10, until="ready")
    assert plant.sequence.ready("A")
    assert plant.sequence.ready("B")
    assert plant.written("grid")["voltage_setpoint"] == 24.0


async def test_a_watchdog_trip_of_the_grid_converter_is_cleared_but_nothing_else_is_without_a_person(plant: Plant) -> None:
    plant.grid_flags = 1 << 11 | 1 << 7
    await plant.run(10, until="ready")
    assert plant.written("grid")["clear_protection"] == 1.0

    other = Plant(site(string("A")))
    other.grid_flags = 1
    await other.run(10, until="fault")
    assert other.sequence.reason == "the grid converter reports over-voltage; find the cause, then start the site"
    assert "clear_protection" not in other.written("grid")
    assert other.sequence.start(CONTROL).accepted
    await other.run(10, until="ready")
    assert other.written("grid")["clear_protection"] == 1.0


async def test_a_bus_that_cannot_be_switched_on_is_tried_three_times(plant: Plant) -> None:
    plant.refuses["grid", "output_enable"] = "device refused"
    await plant.run(30, until="fault")
    assert plant.sequence.reason == "the bus cannot be switched on: device refused"
    assert len([values for target, values in plant.log if target == "grid" and values == {"voltage_setpoint": 24.0}]) == 3


def _run(target: str) -> Command:
    return Command(target=target, values={"current_setpoint": -5.0}, owner="run:1", rank=Rank.RUN)


async def test_nobody_else_commands_anything_before_ready(plant: Plant) -> None:
    await plant.run(10, until="settle")
    refusal = plant.sequence.permit(_run("string.A.converter"))
    assert refusal is not None
    assert refusal.code is Code.NOT_PERMITTED
    assert refusal.reason == "string A is not ready: the site is in state settle"
    assert plant.sequence.permit(_run("grid")) is not None


def test_every_state_has_its_name_on_the_point() -> None:
    state = next(point for point in points(site(string("A"))) if point.name == "site.state")
    assert list(state.symbols.values()) == [*START, "stopping", "stopped", "fault", "connect"]
