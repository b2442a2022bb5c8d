"""The guard on a live site: what trips, what it does then, and who may undo it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from gateway.alarms import NO_CHARGE_DELAY_S
from gateway.commands import Code, Command, Origin, Rank, Role
from gateway.gate import CommandGate
from gateway.gate_drive import QUIET_WAIT_S
from gateway.guard import Guard, points
from gateway.interlocks import HOLD_S
from gateway.points import Quality
from tests.unit.law.plant import DAB_SAFE, FakeJournal, FakeTable, FakeWriter, settle, site, snapshot_of, string

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.commands import Verdict
    from gateway.site import Site
    from tests.manual_clock import ManualClock

OLGA = Origin("hmi", user="olga", role=Role.OPERATOR)
A, B = "string.A", "string.B"
SCAN_S = 0.1


class Plant:
    """A site with everything but wires; the sequence has made it ready."""

    def __init__(self, of: Site, clock: ManualClock) -> None:
        self.clock = clock
        self.site = of
        self.snapshot = snapshot_of(of, clock)
        self.table = FakeTable(self.snapshot)
        self.journal = FakeJournal()
        self.writer = FakeWriter()
        self.gate = CommandGate(of, self.table.view, self.writer, self.journal, clock)
        self.gate.permit = lambda _: None
        self.guard = Guard(of, self.table, self.gate, self.journal, clock)
        self.frozen: set[str] = set()

    async def ready(self) -> None:
        await self.run(1.0)
        if self.site.grid is not None:
            assert (await self.command("grid", {"output_enable": 1.0})).accepted
        arming = self.guard.arming
        arming.telemetry = arming.converter_faults = arming.bus = True
        await self.run(1.0)

    async def command(self, target: str, values: dict[str, float]) -> Verdict:
        return await self.gate.submit(Command(target=target, values=values, owner="sequence", rank=Rank.SEQUENCE))

    async def charge(self, scope: str, current_A: float = -5.0) -> None:
        values = {"mode_setpoint": 2.0, "current_setpoint": current_A, "enable": 1.0}
        assert (await self.command(f"{scope}.converter", values)).accepted
        self.flow(scope, current_A)

    def flow(self, scope: str, current_A: float) -> None:
        self.snapshot.update({f"{scope}.battery.current": current_A, f"{scope}.converter.battery_current": current_A})

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds / SCAN_S)):
            self.clock.advance(SCAN_S)
            self.snapshot.touch(*(name for name in self.snapshot.names if name not in self.frozen))
            self.guard.cycle()
            self.gate.tick()
            await settle(20)

    def point(self, name: str) -> float | str | None:
        return self.table.published[name]


@contextlib.asynccontextmanager
async def running(of: Site, clock: ManualClock) -> AsyncIterator[Plant]:
    plant = Plant(of, clock)
    task = asyncio.create_task(plant.gate.run())
    try:
        await plant.ready()
        yield plant
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def plant(clock: ManualClock) -> AsyncIterator[Plant]:
    async with running(site(), clock) as found:
        yield found


async def test_it_publishes_every_point_that_it_names(plant: Plant) -> None:
    assert set(plant.table.published) == {point.name for point in points(site())}
    assert plant.table.claimed == set(plant.table.published)


async def test_a_quiet_site_stays_quiet(plant: Plant) -> None:
    await plant.charge(A)
    await plant.run(20.0)
    assert plant.journal.kinds("trip", "alarm", "interlock") == []
    assert plant.point("string.A.trip.latched") == 0.0
    assert plant.point("site.alarms.active") == 0.0


async def test_the_scopes_of_a_device(plant: Plant) -> None:
    assert plant.guard.scopes_of("dab_a") == (A,)
    assert plant.guard.scopes_of("bms_b") == (B,)
    assert plant.guard.scopes_of("rps") == ("site",)
    assert plant.guard.scopes_of("nothing") == ()


async def test_a_trip_acts_on_the_block_that_shows_it(plant: Plant) -> None:
    await plant.charge(A)
    await plant.charge(B)
    await plant.run(1.0)
    plant.snapshot.set("string.A.battery.fault_count", 1.0)
    plant.guard.check(plant.guard.scopes_of("bms_a"))
    await settle()
    assert plant.writer.holds["dab_a"]["enable"] == 0.0
    assert plant.writer.holds["dab_b"]["enable"] == 1.0
    assert plant.point("string.A.trip.latched") == 1.0
    assert plant.point("string.A.trip.first_out") == "battery_fault"
    assert plant.point("string.A.trip.causes") == 1.0
    assert "Fault reported by the BMS" in str(plant.point("string.A.trip.reason"))
    assert plant.point("interlock.string.A.battery_fault.state") == 1.0
    assert plant.point("string.B.trip.latched") == 0.0
    assert plant.journal.texts("trip") == ["string.A tripped: Fault reported by the BMS: reported value 1"]
    assert plant.journal.documents["trips", A]["first_out"] == ["battery_fault"]


async def test_a_lost_bms_trips_its_own_string_only(plant: Plant) -> None:
    await plant.charge(A)
    await plant.charge(B)
    await plant.run(1.0)
    plant.frozen |= {name for name in plant.snapshot.names if name.startswith("string.A.battery")}
    await plant.run(1.4)
    assert plant.writer.holds["dab_a"]["enable"] == 1.0
    await plant.run(0.3)
    assert plant.writer.holds["dab_a"]["enable"] == 0.0
    plant.snapshot.set("string.A.converter.battery_current", 0.0)
    await plant.run(20.0)
    assert plant.point("string.A.trip.first_out") == "battery_telemetry"
    assert plant.point("site.trip.latched") == 0.0
    assert plant.writer.holds["dab_b"]["enable"] == 1.0


async def test_a_converter_that_goes_on_takes_the_site_down(plant: Plant) -> None:
    await plant.charge(A)
    await plant.run(1.0)
    await plant.command("string.A.converter", {"enable": 0.0})
    await plant.run(1.9)
    assert plant.point("site.trip.latched") == 0.0
    await plant.run(0.5)
    assert plant.point("string.A.trip.first_out") == "uncommanded_current"
    assert plant.point("site.trip.first_out") == "string_A"
    await plant.run(QUIET_WAIT_S)
    assert plant.writer.holds["rps"]["output_enable"] == 0.0


async def test_a_string_on_the_bus_takes_the_site_down(clock: ManualClock) -> None:
    async with running(site(string("A", converter=False), string("B")), clock) as plant:
        await plant.charge(B)
        plant.snapshot.set("string.A.battery.temperature_max", 60.0)
        await plant.run(0.5)
        assert plant.point("string.A.trip.first_out") == "overtemperature"
        assert plant.point("site.trip.first_out") == "string_A"
        await plant.run(QUIET_WAIT_S)
        assert plant.writer.holds["rps"]["output_enable"] == 0.0
        assert plant.writer.holds["dab_b"]["enable"] == 0.0
        plant.snapshot.set("string.A.battery.temperature_max", 25.0)
        plant.flow(B, 0.0)
        await plant.run(3.0)
        assert plant.guard.reset("site", OLGA).code is Code.NOT_PERMITTED
        assert plant.guard.reset(A, OLGA).accepted
        await plant.run(HOLD_S + 0.2)
        assert plant.guard.reset("site", OLGA).accepted


async def test_after_a_trip_of_the_site_the_lost_bus_is_nobodys_fault(plant: Plant) -> None:
    plant.guard.stop(OLGA)
    plant.snapshot.update({"grid.voltage": 0.0, "grid.output": 0.0})
    plant.snapshot.update({f"{scope}.converter.faults_latched": 8.0 for scope in (A, B)})
    await plant.run(10.0)
    assert plant.point("site.trip.causes") == 1.0
    assert plant.point("string.A.trip.latched") == 0.0
    assert plant.guard.reset("site", OLGA).accepted


class TestStop:
    async def test_anybody_may_and_everything_goes_off(self, plant: Plant) -> None:
        await plant.charge(A)
        plant.flow(A, 0.0)
        verdict = await plant.guard.stop_and_confirm(Origin("opcua"))
        assert verdict.accepted
        assert "read back" in verdict.reason
        assert plant.writer.holds["dab_a"]["enable"] == 0.0
        assert plant.writer.holds["rps"]["output_enable"] == 0.0
        assert plant.point("site.trip.first_out") == "stop"
        assert plant.journal.records[verdict.record - 1]["kind"] == "stop"

    async def test_again_while_tripped_it_writes_again(self, plant: Plant) -> None:
        plant.guard.stop(OLGA)
        await settle()
        count = len(plant.writer.written("rps"))
        plant.guard.stop(OLGA)
        await settle()
        assert len(plant.writer.written("rps")) == count + 1
        assert plant.point("site.trip.causes") == 1.0

    async def test_the_answer_is_honest_about_a_silent_device(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.guard.STOP_CONFIRM_S", 0.001)
        plant.writer.silence("dab_a")
        assert (await plant.guard.stop_and_confirm(OLGA)).code is Code.NOT_CONFIRMED


class TestReset:
    async def tripped(self, plant: Plant) -> None:
        plant.snapshot.set("string.A.battery.fault_count", 1.0)
        await plant.run(0.1)

    async def test_not_while_the_cause_is_there(self, plant: Plant) -> None:
        await self.tripped(plant)
        verdict = plant.guard.reset(A, OLGA)
        assert verdict.code is Code.NOT_PERMITTED
        assert "Fault reported by the BMS" in verdict.reason
        assert plant.journal.texts("reset")[0].startswith("reset of string.A refused")

    async def test_not_before_it_was_healthy_for_a_while(self, plant: Plant) -> None:
        await self.tripped(plant)
        plant.snapshot.set("string.A.battery.fault_count", 0.0)
        await plant.run(HOLD_S - 0.5)
        assert plant.guard.reset(A, OLGA).code is Code.NOT_PERMITTED
        await plant.run(0.7)
        assert plant.guard.reset(A, OLGA).accepted

    @pytest.mark.parametrize(
        "origin",
        [Origin("hmi", user="otto", role=Role.OBSERVER), Origin("hmi", role=Role.ADMIN), Origin("control", role=Role.ADMIN)],
    )
    async def test_only_a_named_operator_may(self, plant: Plant, origin: Origin) -> None:
        await self.tripped(plant)
        plant.snapshot.set("string.A.battery.fault_count", 0.0)
        await plant.run(HOLD_S + 0.2)
        assert plant.guard.reset(A, origin).code is Code.FORBIDDEN
        assert plant.guard.latch(A) is not None

    async def test_it_starts_nothing_and_is_forgotten_by_the_journal(self, plant: Plant) -> None:
        await plant.charge(A)
        await self.tripped(plant)
        plant.flow(A, 0.0)
        plant.snapshot.set("string.A.battery.fault_count", 0.0)
        await plant.run(HOLD_S + 0.2)
        count = len(plant.writer.log)
        verdict = plant.guard.reset(A, OLGA)
        assert verdict.accepted
        await plant.run(10.0)
        assert len(plant.writer.log) == count
        assert plant.writer.holds["dab_a"]["enable"] == 0.0
        assert plant.gate.owner(f"{A}.converter") == ""
        assert plant.point("string.A.trip.latched") == 0.0
        assert plant.point("string.A.trip.first_out") == ""
        assert plant.journal.documents == {}
        assert "olga" in str(plant.journal.records[verdict.record - 1]["text"])

    async def test_nothing_to_reset(self, plant: Plant) -> None:
        assert plant.guard.reset(A, OLGA).code is Code.WRONG_STATE
        assert plant.guard.reset("string.Z", OLGA).code is Code.UNKNOWN

    async def test_the_rows_say_what_is_in_the_way(self, plant: Plant) -> None:
        await self.tripped(plant)
        (row,) = plant.guard.trip_rows()
        assert row["scope"] == A
        assert row["first_out"] == ["battery_fault"]
        assert row["confirmed_safe"] is True
        assert row["obstacles"] == ["Fault reported by the BMS: reported value 1"]


class TestLatchedConverterFaults:
    async def tripped(self, plant: Plant) -> None:
        plant.snapshot.update({f"{A}.converter.faults_latched": 4.0, f"{A}.converter.faults_live": 4.0})
        await plant.run(HOLD_S + 0.2)
        assert plant.point("string.A.trip.first_out") == "converter_fault"

    async def test_a_live_fault_is_not_reset(self, plant: Plant) -> None:
        await self.tripped(plant)
        assert plant.guard.reset(A, OLGA).code is Code.NOT_PERMITTED

    async def test_a_past_one_is_cleared_in_the_device_with_the_reset(self, plant: Plant) -> None:
        await self.tripped(plant)
        plant.snapshot.set(f"{A}.converter.faults_live", 0.0)
        assert plant.guard.reset(A, OLGA).accepted
        await settle()
        assert {"reset": 1.0} in plant.writer.written("dab_a")
        assert plant.writer.written("dab_a")[-1] == DAB_SAFE
        plant.snapshot.set(f"{A}.converter.faults_latched", 0.0)
        await plant.run(10.0)
        assert plant.point("string.A.trip.latched") == 0.0
        assert plant.gate.owner(f"{A}.converter") == ""

    async def test_one_that_stays_trips_again(self, plant: Plant) -> None:
        await self.tripped(plant)
        plant.snapshot.set(f"{A}.converter.faults_live", 0.0)
        assert plant.guard.reset(A, OLGA).accepted
        await plant.run(2.5)
        assert plant.point("string.A.trip.latched") == 0.0
        await plant.run(1.0)
        assert plant.point("string.A.trip.first_out") == "converter_fault"


class TestRestart:
    async def test_a_trip_survives(self, clock: ManualClock) -> None:
        plant = Plant(site(), clock)
        plant.guard.load({A: {"first_out": ["battery_fault"], "causes": ["battery_fault", "cell_overvoltage"], "reason": "why"}})
        task = asyncio.create_task(plant.gate.run())
        await plant.run(0.1)
        assert plant.writer.holds["dab_a"] == DAB_SAFE
        assert plant.gate.tripped(A)
        assert plant.point("string.A.trip.latched") == 1.0
        assert plant.point("string.A.trip.first_out") == "battery_fault"
        await plant.run(HOLD_S + 0.2)
        assert plant.guard.reset(A, OLGA).accepted
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize("document", [{}, {"first_out": 7, "reason": None}, {"causes": {"a": 1}}])
    async def test_a_damaged_document_is_a_trip_all_the_same(self, clock: ManualClock, document: dict[str, object]) -> None:
        plant = Plant(site(), clock)
        plant.guard.load({A: document})
        assert plant.gate.tripped(A)
        assert plant.point("string.A.trip.reason")

    async def test_what_it_stores_it_can_load(self, plant: Plant, clock: ManualClock) -> None:
        plant.snapshot.set("string.A.battery.fault_count", 1.0)
        await plant.run(0.1)
        again = Plant(site(), clock)
        again.guard.load({key: document for (_, key), document in plant.journal.documents.items()})
        assert again.guard.latch(A) == plant.guard.latch(A)

    async def test_a_string_that_is_gone_is_forgotten_with_a_record(self, clock: ManualClock) -> None:
        plant = Plant(site(), clock)
        plant.journal.save("trips", "string.Z", {})
        plant.guard.load({"string.Z": {}})
        assert plant.journal.documents == {}
        assert "string.Z" in plant.journal.texts("trip")[0]

    async def test_nothing_trips_while_devices_are_still_connecting(self, clock: ManualClock) -> None:
        plant = Plant(site(), clock)
        for name in plant.snapshot.names:
            plant.snapshot.forget(name)
        await plant.run(30.0)
        assert plant.guard.trip_rows() == []
        plant.guard.arming.telemetry = True
        await plant.run(0.1)
        assert {row["scope"] for row in plant.guard.trip_rows()} == {A, B, "site"}


class TestCold:
    async def test_charging_stops_and_may_go_on(self, plant: Plant) -> None:
        await plant.charge(A)
        plant.snapshot.set("string.A.battery.temperature_min", -2.0)
        await plant.run(0.5)
        assert plant.writer.holds["dab_a"]["enable"] == 0.0
        assert plant.point("string.A.trip.latched") == 0.0
        charge = {"mode_setpoint": 2.0, "current_setpoint": -5.0, "enable": 1.0}
        assert (await plant.command(f"{A}.converter", charge)).code is Code.NOT_PERMITTED
        plant.snapshot.set("string.A.battery.temperature_min", 20.0)
        await plant.run(0.2)
        assert (await plant.command(f"{A}.converter", charge)).accepted
        texts = plant.journal.texts("interlock")
        assert "must not charge" in texts[-2]
        assert texts[-1] == "string.A may charge again"


class TestAlarms:
    async def test_a_trip_raises_alarms_that_outlive_it_until_seen(self, plant: Plant) -> None:
        plant.snapshot.set("string.A.battery.fault_count", 1.0)
        await plant.run(0.1)
        ids = {row["id"] for row in plant.guard.alarm_rows()}
        assert ids == {"string.A.battery_fault", "string.A.trip"}
        assert plant.point("site.alarms.active") == 2.0
        assert plant.point("site.alarms.unacknowledged") == 2.0
        assert plant.guard.acknowledge("string.A.trip", OLGA).accepted
        assert plant.gate.tripped(A)  # seeing is not resetting
        plant.snapshot.set("string.A.battery.fault_count", 0.0)
        await plant.run(HOLD_S + 0.2)
        plant.guard.reset(A, OLGA)
        await plant.run(0.1)
        (row,) = plant.guard.alarm_rows()
        assert (row["id"], row["active"], row["acknowledged"]) == ("string.A.battery_fault", False, False)
        assert plant.guard.acknowledge("string.A.battery_fault", OLGA).accepted
        assert plant.guard.alarm_rows() == []

    async def test_who_may_acknowledge_what(self, plant: Plant) -> None:
        plant.guard.stop(OLGA)
        await plant.run(0.1)
        assert plant.guard.acknowledge("site.trip", Origin("hmi", role=Role.OPERATOR)).code is Code.FORBIDDEN
        assert plant.guard.acknowledge("site.trip", Origin("hmi", user="o", role=Role.OBSERVER)).code is Code.FORBIDDEN
        assert plant.guard.acknowledge("no.such", OLGA).code is Code.UNKNOWN
        assert plant.guard.acknowledge("string.A.trip", OLGA).code is Code.WRONG_STATE
        assert plant.guard.acknowledge("site.trip", OLGA).accepted
        assert plant.guard.acknowledge("site.trip", OLGA).code is Code.WRONG_STATE

    async def test_a_lost_device_is_named_with_the_reason_after_its_delay(self, plant: Plant) -> None:
        plant.snapshot.update({"device.bms_a.comm.state": 3.0, "device.bms_a.comm.last_error": "no answer within 0.3 s"})
        await plant.run(1.5)
        assert plant.guard.alarm_rows() == []
        await plant.run(0.7)
        (row,) = plant.guard.alarm_rows()
        assert row["id"] == "device.bms_a.communication"
        assert row["text"] == "No communication with BMS_A (bms_a): no answer within 0.3 s"
        plant.snapshot.set("device.bms_a.comm.state", 2.0)
        await plant.run(0.1)
        assert [row["active"] for row in plant.guard.alarm_rows()] == [False]

    async def test_a_loss_that_nobody_saw_is_raised_again_after_its_delay(self, plant: Plant) -> None:
        for seconds in (3.0, 1.0):
            plant.snapshot.set("device.bms_a.comm.state", 3.0)
            await plant.run(seconds)
            plant.snapshot.set("device.bms_a.comm.state", 2.0)
            await plant.run(1.0)
        plant.snapshot.set("device.bms_a.comm.state", 3.0)
        await plant.run(3.0)
        told = [record["data"]["transition"] for record in plant.journal.records if record["kind"] == "alarm"]
        assert told == ["raised", "cleared", "raised"]

    async def test_a_string_that_is_too_cold_to_charge_is_one_after_a_while(self, plant: Plant) -> None:
        plant.snapshot.set("string.A.battery.temperature_min", -3.0)
        await plant.run(NO_CHARGE_DELAY_S - 0.5)
        assert plant.guard.alarm_rows() == []
        await plant.run(1.0)
        assert [row["id"] for row in plant.guard.alarm_rows()] == ["string.A.cold_charge"]

    async def test_a_short_silence_is_none(self, plant: Plant) -> None:
        for _ in range(5):
            plant.snapshot.set("device.bms_a.comm.state", 3.0)
            await plant.run(1.0)
            plant.snapshot.set("device.bms_a.comm.state", 2.0)
            await plant.run(0.1)
        assert plant.guard.alarm_rows() == []

    async def test_fast_time_is_an_alarm(self, plant: Plant) -> None:
        plant.clock.time_factor = 60.0
        await plant.run(0.1)
        (row,) = plant.guard.alarm_rows()
        assert row["id"] == "site.time_factor"
        assert "60 times" in str(row["text"])
        plant.clock.time_factor = 1.0
        await plant.run(0.1)
        assert [row["active"] for row in plant.guard.alarm_rows()] == [False]

    async def test_a_device_that_does_not_confirm_is_the_most_urgent(self, plant: Plant) -> None:
        plant.writer.silence("dab_a")
        plant.snapshot.set("string.A.battery.fault_count", 1.0)
        await plant.run(1.5)
        assert plant.guard.alarm_rows()[0]["id"] == "string.A.unconfirmed"
        plant.writer.fail.clear()
        await plant.run(3.0)
        assert not any(row["active"] for row in plant.guard.alarm_rows() if row["id"] == "string.A.unconfirmed")

    async def test_a_silent_battery_is_one_loss_not_a_dozen(self, plant: Plant) -> None:
        plant.frozen = {name for name in plant.snapshot.names if name.startswith("string.A.battery")}
        await plant.run(1.0)
        for name in plant.frozen:
            plant.snapshot.set(name, None, Quality.BAD_NO_COMMUNICATION)
        await plant.run(10.0)
        ids = {row["id"] for row in plant.guard.alarm_rows()}
        assert ids == {"string.A.battery_telemetry", "string.A.trip"}

    async def test_it_comes_back_unacknowledged_with_a_new_time(self, plant: Plant) -> None:
        plant.guard.stop(OLGA)
        await plant.run(HOLD_S + 0.2)
        before = plant.guard.alarm_rows()[0]
        plant.guard.acknowledge("site.trip", OLGA)
        assert plant.guard.reset("site", OLGA).accepted
        await plant.run(0.1)
        plant.guard.stop(OLGA)
        await plant.run(0.1)
        row = next(row for row in plant.guard.alarm_rows() if row["id"] == "site.trip")
        assert row["acknowledged"] is False
        assert int(str(row["since_ns"])) > int(str(before["since_ns"]))

    async def test_transitions_are_journalled_once_each(self, plant: Plant) -> None:
        plant.snapshot.set("device.bms_a.comm.state", 3.0)
        await plant.run(10.0)
        plant.snapshot.set("device.bms_a.comm.state", 2.0)
        await plant.run(10.0)
        told = [record["data"]["transition"] for record in plant.journal.records if record["kind"] == "alarm"]
        assert told == ["raised", "cleared"]
