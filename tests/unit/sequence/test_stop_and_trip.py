"""The ordered stop, trips and what comes after their reset."""

from __future__ import annotations

import pytest

from gateway.commands import CONTROL, Code
from tests.unit.sequence.plant import Plant, site, string


@pytest.fixture
async def plant():
    made = Plant(site(string("A"), string("B")))
    await made.run(10, until="ready")
    await made.run(2)
    made.log.clear()
    yield made
    await made.sequence.close()


async def test_the_stop_goes_its_way(plant: Plant) -> None:
    plant.current_A = -5.0
    assert plant.sequence.stop(CONTROL).accepted
    assert not plant.sequence.ready("A")
    await plant.run(1)
    told = [values for target, values in plant.log if target == "string.A.converter"]
    assert told == [
        {"current_setpoint": 0.0, "charge_current_limit": 0.0, "discharge_current_limit": 0.0},
        {"current_setpoint": 0.0, "mode_setpoint": 0.0, "enable": 0.0},
    ]
    assert plant.output  # the bus stays while current flows
    assert plant.arming.bus is False  # and is no longer watched, as its end is wanted
    plant.current_A = 0.1
    await plant.run(1, until="stopped")
    assert not plant.output
    assert plant.log[-1] == ("site", {"safe": 1.0})
    assert plant.sequence.reason == "stopped"
    assert not plant.arming.converter_faults
    assert plant.owners == {}


async def test_the_stop_comes_to_its_end_though_nothing_is_confirmed(plant: Plant) -> None:
    plant.current_A = 3.0
    plant.hangs = {"string.A.converter", "string.B.converter"}
    plant.silent.add("grid")
    assert plant.sequence.stop(CONTROL).accepted
    await plant.run(11, until="stopped")
    assert plant.sequence.reason == "stopped, but the grid converter has not confirmed that it is off"
    assert "site: bus off: the current of string A, B is not confirmed to be zero" in plant.records
    assert ("site", {"safe": 1.0}) in plant.log
    await plant.sequence.close()


async def test_stopped_stays_stopped_until_started(plant: Plant) -> None:
    plant.sequence.stop(CONTROL)
    await plant.run(5, until="stopped")
    plant.log.clear()
    await plant.run(30)
    assert plant.sequence.state.name == "STOPPED"
    assert plant.log == []
    assert plant.sequence.stop(CONTROL).code is Code.WRONG_STATE
    assert plant.sequence.start(CONTROL).accepted
    assert plant.sequence.start(CONTROL).code is Code.WRONG_STATE
    await plant.run(10, until="ready")
    assert plant.sequence.ready("A")
    assert plant.sequence.ready("B")


async def test_a_stop_in_the_middle_of_a_start(plant: Plant) -> None:
    other = Plant(site(string("A")))
    other.hangs.add("grid")
    await other.run(10, until="protect")
    await other.run(1)
    assert other.sequence.stop(CONTROL).accepted
    await other.run(10, until="stopped")
    await other.sequence.close()


async def test_a_tripped_string_leaves_the_other_ready(plant: Plant) -> None:
    plant.trips["string.A"] = "cell over-voltage"
    await plant.run(1)
    assert plant.shown["string.A.ready"] == 0.0
    assert plant.shown["string.A.ready_reason"] == "tripped: cell over-voltage"
    assert plant.sequence.ready("B")
    assert plant.sequence.state.name == "READY"
    assert plant.log == []


async def test_after_its_reset_a_string_comes_back_by_itself(plant: Plant) -> None:
    plant.trips["string.A"] = "cell over-voltage"
    await plant.run(1)
    plant.trips.clear()
    await plant.run(3)
    assert plant.sequence.ready("A")
    assert {target for target, _ in plant.log} == {"string.A.converter"}  # nobody else is touched
    assert "enable" not in plant.written("string.A.converter")


async def test_a_string_tripped_before_the_start_is_reset_once_after_it() -> None:
    plant = Plant(site(string("A"), string("B")))
    plant.trips["string.A"] = "latched before the restart"
    await plant.run(10, until="ready")
    assert not plant.sequence.ready("A")
    assert plant.latched["A"]
    plant.trips.clear()
    await plant.run(3)
    assert plant.sequence.ready("A")
    assert [target for target, values in plant.log if "reset" in values].count("string.A.converter") == 1


async def test_a_trip_of_the_site_is_never_left_without_a_start(plant: Plant) -> None:
    plant.trips["site"] = "STOP"
    await plant.run(1)
    assert plant.sequence.state.name == "FAULT"
    assert plant.sequence.reason == "the site is tripped: STOP"
    assert not plant.sequence.ready("A")
    assert not plant.arming.bus
    assert plant.sequence.start(CONTROL).code is Code.TRIPPED
    assert plant.sequence.stop(CONTROL).code is Code.WRONG_STATE
    assert plant.log == []  # the trip has its own way to the devices
    plant.output = False
    plant.trips.clear()
    await plant.run(30)
    assert plant.sequence.state.name == "STOPPED"
    assert plant.sequence.reason == "the trip of the site was reset; start the site to go on"
    assert plant.log == []
    assert plant.sequence.start(CONTROL).accepted
    await plant.run(10, until="ready")
    assert plant.sequence.ready("A")


async def test_a_trip_latched_before_a_restart_prevents_the_start() -> None:
    plant = Plant(site(string("A")))
    plant.trips["site"] = "STOP, latched before the restart"
    await plant.run(10)
    assert plant.history == ["fault"]
    assert not [values for target, values in plant.log if target == "grid"]


@pytest.mark.parametrize("state", ["safe_outputs", "monitor", "protect", "energise", "settle", "reset_converters"])
async def test_a_trip_of_the_site_ends_a_start_in_any_state(state: str) -> None:
    plant = Plant(site(string("A")))
    await plant.run(10, until=state)
    plant.trips["site"] = "STOP"
    plant.log.clear()
    await plant.run(5)
    assert plant.sequence.state.name == "FAULT"
    assert plant.log == []
