"""Contactors in the sequence: connected before the bus is up, never with a surge, one after the other, opened at the end."""

from __future__ import annotations

import pytest

from gateway.bus_connection import DEAD_BUS_V, MATCHED_V_PER_CELL, obstacle
from gateway.commands import CONTROL, Code
from gateway.sequence_state import Facts, StringFacts
from tests.unit.sequence.plant import CELLS, Plant, site, string


def passive() -> Plant:
    plant = Plant(site(string("A", converter=False, contactor=True), string("B", converter=False, contactor=True)))
    plant.bus_V = 24.0
    plant.pack_V = {"A": 23.5, "B": 23.5}
    return plant


def moves(plant: Plant) -> list[str]:
    """What was told to contactors and to the output of the grid converter, in order."""
    told = [
        (target, values) for target, values in plant.log if "closed" in values or "output_enable" in values or target == "site"
    ]
    return [f"{target} {next(iter(values))}" for target, values in told]


CONNECTED = ["string.A.contactor closed", "string.B.contactor closed", "grid output_enable"]


async def test_batteries_are_connected_one_by_one_before_the_bus_is_switched_on() -> None:
    plant = passive()
    await plant.run(15, until="ready")
    assert plant.history == [
        "safe_outputs", "monitor", "protect", "connect", "energise", "settle", "reset_converters", "ready",
    ]  # fmt: skip
    assert moves(plant) == ["site safe", *CONNECTED]
    assert plant.closed == {"A": True, "B": True}
    assert plant.sequence.ready("A")
    assert plant.sequence.ready("B")
    await plant.sequence.close()


async def test_a_site_without_contactors_has_nothing_to_connect() -> None:
    plant = Plant(site(string("A")))
    await plant.run(15, until="ready")
    assert "connect" not in plant.history
    await plant.sequence.close()


async def test_a_bus_that_still_holds_a_voltage_is_waited_for() -> None:
    plant = passive()
    plant.left_over_V = 20.0
    await plant.run(15, until="connect")
    await plant.run(3)
    assert plant.closed == {"A": False, "B": False}
    assert "string A: not connected: the bus is at 20.00 V and the string at 23.50 V" in plant.sequence.reason
    plant.left_over_V = 4.0
    await plant.run(15, until="ready")
    assert plant.closed == {"A": True, "B": True}
    await plant.sequence.close()


async def test_a_battery_at_another_voltage_stays_off_the_bus_until_it_matches() -> None:
    plant = passive()
    plant.pack_V["B"] = 23.0
    await plant.run(30, until="ready")
    await plant.run(0.5)
    assert plant.closed == {"A": True, "B": False}
    assert plant.sequence.ready("A")
    assert not plant.sequence.ready("B")
    assert str(plant.shown["string.B.ready_reason"]).startswith("not connected: the bus is at 24.00 V and the string at 23.00 V")
    plant.pack_V["B"] = 23.98
    await plant.run(3)
    assert plant.closed["B"]
    assert plant.sequence.ready("B")
    await plant.sequence.close()


async def test_after_a_trip_a_start_connects_the_string_again_and_the_reset_does_not() -> None:
    plant = passive()
    await plant.run(15, until="ready")
    plant.pack_V = {"A": 24.0, "B": 24.0}
    plant.trip("string.A", "cell over-voltage")
    await plant.run(1)
    plant.trips.clear()
    await plant.run(10)
    assert plant.closed == {"A": False, "B": True}
    assert plant.shown["string.A.ready_reason"] == "its trip was reset; start the site to connect it again"
    answer = plant.sequence.start(CONTROL)
    assert (answer.code, answer.reason) == (Code.ACCEPTED, "to be connected again: string A")
    assert plant.sequence.start(CONTROL).code is Code.WRONG_STATE
    await plant.run(3)
    assert plant.closed["A"]
    assert plant.sequence.ready("A")
    assert plant.sequence.state.name == "READY"
    await plant.sequence.close()


async def test_a_stop_opens_the_contactors_after_the_bus_and_waits_for_them() -> None:
    plant = passive()
    await plant.run(15, until="ready")
    assert plant.sequence.stop(CONTROL).accepted
    await plant.run(10, until="stopped")
    assert plant.closed == {"A": False, "B": False}
    assert not plant.output
    assert plant.sequence.reason == "stopped"
    await plant.sequence.close()


async def test_a_stop_tells_of_a_contactor_that_does_not_confirm() -> None:
    plant = passive()
    await plant.run(15, until="ready")
    plant.silent.add("string.B.contactor")
    assert plant.sequence.stop(CONTROL).accepted
    await plant.run(15, until="stopped")
    assert plant.sequence.reason == "stopped, but the contactor of string B has not confirmed that it is open"
    await plant.sequence.close()


async def test_a_relay_that_refuses_is_told_again_and_keeps_nobody_for_ever() -> None:
    plant = passive()
    plant.refuses["string.A.contactor", "closed"] = "relays refused"
    await plant.run(30, until="ready")
    assert plant.closed == {"A": False, "B": True}
    assert plant.shown["string.A.ready_reason"] == "the contactor was not closed: relays refused"
    plant.refuses.clear()
    plant.pack_V = {"A": 24.0, "B": 24.0}
    await plant.run(5)
    assert plant.sequence.ready("A")
    await plant.sequence.close()


async def test_the_bus_is_not_switched_on_while_a_contactor_does_not_report() -> None:
    plant = passive()
    plant.stuck.add("A")
    await plant.run(15, until="connect")
    await plant.run(20)
    assert plant.sequence.state.name == "CONNECT"
    assert "the contactor does not report that it is closed" in plant.sequence.reason
    assert not plant.output
    plant.trip("string.A", "Contactor does not close")  # which the guard does
    await plant.run(15, until="ready")
    assert plant.closed == {"A": False, "B": True}
    await plant.sequence.close()


async def test_a_converter_is_connected_to_its_battery_while_it_is_off() -> None:
    plant = Plant(site(string("A", contactor=True), string("B")))
    await plant.run(15, until="ready")
    told = [target for target, values in plant.log if values.keys() & {"closed", "output_enable", "reset"}]
    assert told.index("string.A.contactor") < told.index("grid") < told.index("string.A.converter")
    assert plant.sequence.ready("A")
    await plant.sequence.close()


async def test_nothing_is_energised_while_the_site_is_held() -> None:
    plant = passive()
    held = ["the frames for safe-state cannot be stored: disk full"]
    plant.sequence.hold = lambda: held[0]
    await plant.run(10)
    assert plant.sequence.state.name == "MONITOR"
    assert plant.sequence.reason == held[0]
    assert moves(plant) == ["site safe"]
    held[0] = ""
    await plant.run(15, until="ready")
    await plant.sequence.close()


def facts(bus_V: float | None, *, output: bool = False, grid: bool = True) -> Facts:
    return Facts(strings=(), grid=grid, output=output, voltage_V=bus_V)


def direct(pack_V: float | None) -> StringFacts:
    return StringFacts(id="A", converter=False, contactor=True, cells=CELLS, pack_V=pack_V)


MATCHED_V = MATCHED_V_PER_CELL * CELLS


@pytest.mark.parametrize(
    ("bus_V", "pack_V", "output", "allowed"),
    [
        (0.0, 26.0, False, True),
        (0.0, 26.0, True, False),  # switched on, and about to rise
        (DEAD_BUS_V - 0.1, 26.0, False, True),
        (DEAD_BUS_V, 26.0, False, False),
        (26.0, 26.0, True, True),
        (26.0 + 0.9 * MATCHED_V, 26.0, True, True),
        (26.0 - 0.9 * MATCHED_V, 26.0, False, True),
        (26.0 + 1.1 * MATCHED_V, 26.0, False, False),
        (26.0 - 1.1 * MATCHED_V, 26.0, True, False),
        (None, 26.0, False, False),
        (0.0, None, False, False),
    ],
)
def test_when_a_battery_may_join_the_bus(bus_V: float | None, pack_V: float | None, output: bool, allowed: bool) -> None:
    assert (obstacle(direct(pack_V), facts(bus_V, output=output)) == "") is allowed


def test_without_a_measured_bus_nothing_is_connected() -> None:
    assert obstacle(direct(26.0), facts(None, grid=False)) == "nothing measures the voltage of the bus"


def test_a_battery_behind_a_converter_may_be_connected_at_any_bus_voltage() -> None:
    own = StringFacts(id="A", converter=True, contactor=True, cells=CELLS, pack_V=13.0)
    assert obstacle(own, facts(26.6, output=True)) == ""
