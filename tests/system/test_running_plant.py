"""What an operator does with a healthy plant: look, charge, hold, stop, STOP."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.system.gateway_process import Plant, cli

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]


async def test_status_tells_the_plant_and_every_canonical_point_is_good(plant: Plant):
    code, status = await asyncio.to_thread(cli, "status", state=plant.process.state)
    assert code == 0
    assert status["site"]["state"] == "ready"
    assert [(row["id"], row["ready"], row["tripped"], len(row["cells"])) for row in status["strings"]] == [
        ("A", True, False, 4),
        ("B", True, False, 6),
    ]
    assert {row["id"]: row["state"] for row in status["devices"]} == dict.fromkeys(
        ("bms_a", "bms_b", "dab_a", "dab_b", "rps"), "online"
    )
    assert status["alarms"] == status["trips"] == []
    assert status["grid"]["voltage"] == pytest.approx(await plant.bus_V(), abs=0.1)
    for row in status["strings"]:
        assert row["cells"] == pytest.approx((await plant.truth(row["id"]))["cell_V"], abs=0.003)
    without_value = ("converter.reset", "clear_protection", "nearest_end_distance", "nearest_end_eta")  # push-buttons; no run
    bad = {name for prefix in ("string.", "grid.", "site.") for name in plant.not_good(prefix)}
    assert {name for name in bad if not name.endswith(without_value)} == set()


async def test_both_strings_charge_as_asked_and_stop_at_once(plant: Plant):
    run = await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    await asyncio.sleep(3.0)
    for string in "AB":
        assert await plant.current_A(string) == pytest.approx(-5.0, abs=0.05)
        assert (await plant.string(string))["run_state"] == "running"
        assert (await plant.string(string))["current"] == pytest.approx(-5.0, abs=0.15)

    await plant.accepted("hold_run", run=run)
    for string in "AB":
        await plant.current(string, 0.0, within_s=1.5, tolerance_A=0.05)
    elapsed_s = (await plant.string("A"))["run_step_elapsed"]
    await asyncio.sleep(1.0)
    row = await plant.string("A")
    assert row["run_state"] == "paused"
    assert row["run_step_elapsed"] == pytest.approx(elapsed_s, abs=0.21)

    await plant.accepted("resume_run", run=run)
    for string in "AB":
        await plant.current(string, -5.0, within_s=3.0)

    asked_s = time.monotonic()
    await plant.accepted("stop_run", run=run)
    for string in "AB":
        await plant.current(string, 0.0, within_s=1.0, tolerance_A=0.05)
    assert time.monotonic() - asked_s < 1.0
    assert (await plant.run(run))["state"] == "aborted"
    assert (await plant.site())["state"] == "ready"
    assert await plant.trips() == {}


async def test_a_cell_above_its_limit_trips_its_string_alone_and_says_so(plant: Plant):
    run = await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    cells = (await plant.truth("A"))["cell_V"]
    await plant.sim.fault("bms_a", "offset", cell=3, value=3.67 - cells[2])
    await plant.tripped("string.A", within_s=2.0)
    await plant.current("A", 0.0, within_s=1.0, tolerance_A=0.05)
    assert await plant.current_A("B") == pytest.approx(-5.0, abs=0.05)

    trip = (await plant.trips())["string.A"]
    assert trip["first_out"] == ["cell_overvoltage"]
    assert trip["reason"].startswith("Cell over-voltage: 3.6")
    assert "limit 3.650 V" in trip["reason"]
    assert (await plant.alarm("string.A.cell_overvoltage", within_s=1.0))["priority"] == 1
    assert (await plant.string("A"))["run_state"] in {"aborted", "faulted"}
    assert (await plant.string("B"))["run_state"] == "running"

    code, refused = await asyncio.to_thread(cli, "protocol", "run", "lfp_cc_rest", "--string", "A", state=plant.process.state)
    assert code == 1
    assert "over-voltage" in refused["error"]
    refused = await plant.ask("reset", scope="string.A")
    assert (refused["code"], "over-voltage" in refused["reason"].lower()) == ("not_permitted", True)

    await plant.sim.clear("bms_a")
    await plant.reset("string.A")
    await plant.ready("A")
    assert await plant.current_A("A") == pytest.approx(0.0, abs=0.05)
    assert await plant.current_A("B") == pytest.approx(-5.0, abs=0.05)
    assert (await plant.run(run))["state"] == "running"


async def test_a_hot_cell_trips_its_string_alone(plant: Plant):
    await plant.charge()
    await plant.current("B", -5.0, within_s=5.0)
    await plant.sim.request({"do": "set", "string": "A", "temperature": 48.0})
    await plant.sim.fault("bms_a", "heat", cell=2, value=65.0)
    await plant.tripped("string.A", within_s=15.0)
    assert (await plant.trips())["string.A"]["first_out"] == ["overtemperature"]
    await plant.current("A", 0.0, within_s=1.0, tolerance_A=0.05)
    assert max((await plant.truth("A"))["temperature_degC"]) > 55.0
    assert set(await plant.trips()) == {"string.A"}
    assert await plant.current_A("B") == pytest.approx(-5.0, abs=0.05)
    await plant.sim.clear("bms_a")
    await plant.sim.request({"do": "set", "string": "A", "temperature": 25.0})
    await plant.reset("string.A")
    await plant.ready("A")


async def test_stop_switches_everything_off_and_starts_nothing_afterwards(plant: Plant):
    await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    asked_s = time.monotonic()
    answer = await plant.ask("stop")
    took_s = time.monotonic() - asked_s
    assert answer["code"] == "accepted", answer
    assert took_s < 1.0
    for string in "AB":
        await plant.current(string, 0.0, within_s=1.0, tolerance_A=0.05)
    assert await plant.supply() == "off"
    assert (await plant.site())["state"] == "fault"

    refused = await plant.ask("start_run", protocol="lfp_cc_rest", strings=["A"], parameters={})
    assert (refused["code"], "STOP" in refused["reason"]) == ("tripped", True)
    assert (await plant.ask("start_site"))["code"] == "tripped"
    await asyncio.sleep(2.1)  # a cause must have been gone for 2 s
    code, answer = await asyncio.to_thread(cli, "reset", "site", "--user", "tester", state=plant.process.state)
    assert (code, answer["ok"]) == (0, True)
    await asyncio.sleep(2.0)
    assert (await plant.site())["state"] == "stopped"
    assert await plant.supply() == "off"
    assert (await plant.ask("start_run", protocol="lfp_cc_rest", strings=["A"], parameters={}))["code"] == "not_permitted"

    await plant.accepted("start_site")
    await plant.ready("A", "B")
    assert await plant.bus_V() == pytest.approx(24.0, abs=0.2)
    assert [await plant.current_A(string) for string in "AB"] == pytest.approx([0.0, 0.0], abs=0.05)


async def test_stop_from_the_command_line_is_confirmed(plant: Plant):
    await plant.charge()
    await plant.current("A", -5.0, within_s=5.0)
    code, answer = await asyncio.to_thread(cli, "stop", state=plant.process.state)
    assert (code, answer["ok"]) == (0, True), answer
    assert [await plant.current_A(string) for string in "AB"] == pytest.approx([0.0, 0.0], abs=0.05)
    assert await plant.supply() == "off"


async def test_a_schedule_starts_a_run_by_itself(plant: Plant):
    after = await plant.last_event()
    at = datetime.now(UTC) + timedelta(seconds=3)
    options = ["--string", "A", "--at", at.isoformat()]
    code, answer = await asyncio.to_thread(cli, "schedule", "add", "soon", "lfp_cc_rest", *options, state=plant.process.state)
    assert (code, answer["ok"]) == (0, True), answer
    await plant.current("A", -5.0, within_s=8.0)
    assert abs((datetime.now(UTC) - at).total_seconds()) < 5.0
    texts = [event["text"] for event in await plant.events(after) if event["kind"] == "schedule"]
    assert any(text.startswith("schedule soon started run ") for text in texts), texts
    assert (await plant.string("B"))["run_state"] != "running"
    await plant.accepted("schedule_remove", id="soon")
