"""The gate: who may do what, what goes out, and what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING

import pytest

from gateway.commands import Code, Command, Origin, Rank, Role, Verdict
from gateway.errors import DeviceRefused
from gateway.gate import CommandGate, points
from gateway.gate_drive import QUIET_WAIT_S
from tests.unit.law.plant import DAB_SAFE, FakeBlock, FakeJournal, FakeWriter, settle, site, snapshot_of, string

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.site import Site
    from tests.manual_clock import ManualClock

A = "string.A.converter"
CHARGE = {"mode_setpoint": 2.0, "current_setpoint": -5.0, "enable": 1.0}
OPERATOR = Origin("hmi", user="olga", role=Role.OPERATOR)


class Bench:
    """A gate whose devices answer at once."""

    def __init__(self, of: Site, clock: ManualClock) -> None:
        self.clock = clock
        self.snapshot = snapshot_of(of, clock)
        self.writer = FakeWriter()
        self.journal = FakeJournal()
        self.gate = CommandGate(of, lambda: self.snapshot, self.writer, self.journal, clock)
        self.gate.permit = lambda _: None
        self.points: dict[str, float | str | None] = {}
        self.gate.publish_to(FakeBlock(self.points))

    async def submit(self, target: str = A, *, confirm: bool = False, **changes: object) -> Verdict:
        command = {"values": CHARGE, "owner": "run:1", "rank": Rank.RUN, "lease_s": 2.0, **changes}
        return await self.gate.submit(Command(target=target, **command), confirm=confirm)

    async def tick(self, real_s: float = 0.0) -> None:
        self.clock.advance(real_s)
        self.gate.tick()
        await settle()


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.gate.run())
    await settle()
    try:
        yield bench
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def bench(clock: ManualClock) -> AsyncIterator[Bench]:
    async with running(Bench(site(), clock)) as found:
        yield found


class TestRules:
    async def test_an_accepted_command_reaches_the_device_and_the_journal(self, bench: Bench) -> None:
        verdict = await bench.submit()
        assert verdict.accepted
        assert bench.writer.log == [("dab_a", CHARGE)]
        assert bench.journal.kinds() == ["command"]
        assert verdict.record == 1

    async def test_signs_are_those_of_the_device(self, clock: ManualClock) -> None:
        async with running(Bench(site(factor=-1.0), clock)) as bench:
            assert (await bench.submit()).accepted
            assert bench.writer.log == [("dab_a", {**CHARGE, "current_setpoint": 5.0})]

    @pytest.mark.parametrize(
        ("target", "values", "code"),
        [
            ("string.Z.converter", CHARGE, Code.UNKNOWN),
            ("string.A.battery", {"current": 1.0}, Code.UNKNOWN),
            (A, {}, Code.INVALID),
            (A, {"no_such_point": 1.0}, Code.UNKNOWN),
            (A, {"battery_current": 1.0}, Code.NOT_WRITABLE),
            (A, {"current_setpoint": math.nan}, Code.INVALID),
            (A, {"current_setpoint": math.inf}, Code.INVALID),
            (A, {"current_setpoint": "5"}, Code.INVALID),
            (A, {"mode_setpoint": 1.5}, Code.INVALID),
            (A, {"current_setpoint": -6.26}, Code.OUT_OF_RANGE),  # of the device
            (A, {"current_setpoint": 6.1}, Code.OUT_OF_RANGE),  # of the string: 6.0 A in discharge
            (A, {"charge_current_limit": 6.3}, Code.OUT_OF_RANGE),
            (A, {"discharge_current_limit": 6.1}, Code.OUT_OF_RANGE),
            (A, {"mode_setpoint": 3.0, "voltage_setpoint": 7.31, "enable": 1.0}, Code.OUT_OF_RANGE),  # 2 x 3.65 V
            (A, {"mode_setpoint": 3.0, "voltage_setpoint": 4.99, "enable": 1.0}, Code.OUT_OF_RANGE),  # 2 x 2.50 V
            (A, {"mode_setpoint": 3.0, "enable": 1.0}, Code.OUT_OF_RANGE),  # voltage mode at no stated voltage
            ("grid", {"voltage_setpoint": 40.1}, Code.OUT_OF_RANGE),
        ],
    )
    async def test_what_is_unsound_is_refused_and_never_sent(
        self, bench: Bench, target: str, values: dict[str, float], code: Code
    ) -> None:
        verdict = await bench.submit(target, values=values)
        assert verdict.code is code
        assert verdict.reason
        assert bench.writer.log == []
        assert bench.journal.kinds() == ["refusal"]
        assert bench.gate.owner(target) == ""

    @pytest.mark.parametrize("value", [-6.25, 6.0, 0.0])
    async def test_the_ends_of_the_range_belong_to_it(self, bench: Bench, value: float) -> None:
        assert (await bench.submit(values={"current_setpoint": value})).accepted

    async def test_a_lease_of_no_time_is_refused(self, bench: Bench) -> None:
        assert (await bench.submit(lease_s=0.0)).code is Code.INVALID

    async def test_zero_volts_is_fine_outside_voltage_mode(self, bench: Bench) -> None:
        assert (await bench.submit(values={**CHARGE, "voltage_setpoint": 0.0})).accepted

    async def test_a_mode_change_takes_the_earlier_voltage_with_it(self, bench: Bench) -> None:
        assert (await bench.submit(values={**CHARGE, "voltage_setpoint": 12.0})).accepted
        assert (await bench.submit(values={"mode_setpoint": 3.0})).code is Code.OUT_OF_RANGE

    async def test_nothing_passes_before_a_permissive_is_given(self, clock: ManualClock) -> None:
        bench = Bench(site(), clock)
        gate = CommandGate(site(), lambda: bench.snapshot, bench.writer, bench.journal, clock)
        command = Command(target=A, values=CHARGE, owner="run:1", rank=Rank.RUN)
        assert (await gate.submit(command)).code is Code.NOT_PERMITTED

    async def test_the_permissive_binds_all_but_the_sequence_and_what_makes_safe(self, bench: Bench) -> None:
        bench.gate.permit = lambda _: Verdict(Code.NOT_PERMITTED, "not ready")
        assert (await bench.submit()).code is Code.NOT_PERMITTED
        assert (await bench.submit(values={"enable": 0.0, "current_setpoint": 0.0})).accepted
        assert (await bench.submit(owner="sequence", rank=Rank.SEQUENCE)).accepted

    @pytest.mark.parametrize(
        "missing",
        [
            "string.A.battery.cell_voltage_max",
            "string.A.battery.current",
            "string.A.converter.battery_current",
            "string.A.converter.battery_voltage",
        ],
    )
    async def test_no_converter_is_on_without_telemetry(self, bench: Bench, missing: str) -> None:
        bench.snapshot.set(missing, None)
        verdict = await bench.submit()
        assert verdict.code is Code.NOT_PERMITTED
        assert missing in verdict.reason
        assert (await bench.submit(values={"enable": 0.0})).accepted

    async def test_the_grid_converter_too(self, bench: Bench) -> None:
        bench.snapshot.forget("grid.voltage")
        assert (await bench.submit("grid", values={"output_enable": 1.0})).code is Code.NOT_PERMITTED
        assert (await bench.submit("grid", values={"overvoltage_protection": 28.0})).accepted


class TestInterlockOfCharging:
    async def test_only_charging_is_refused(self, bench: Bench) -> None:
        bench.gate.forbid_charge("string.A", "too cold")
        verdict = await bench.submit()
        assert verdict.code is Code.NOT_PERMITTED
        assert "too cold" in verdict.reason
        assert (await bench.submit(values={**CHARGE, "current_setpoint": 5.0})).accepted
        assert (await bench.submit("string.B.converter")).accepted

    async def test_voltage_mode_without_charge_current_is_no_charging(self, bench: Bench) -> None:
        bench.gate.forbid_charge("string.A", "too cold")
        hold = {"mode_setpoint": 3.0, "voltage_setpoint": 6.6, "enable": 1.0, "discharge_current_limit": 1.0}
        assert (await bench.submit(values={**hold, "charge_current_limit": 1.0})).code is Code.NOT_PERMITTED
        assert (await bench.submit(values={**hold, "charge_current_limit": 0.0})).accepted

    async def test_what_charges_is_stopped_and_may_go_on_when_it_is_over(self, bench: Bench) -> None:
        await bench.submit()
        bench.gate.forbid_charge("string.A", "too cold")
        await settle()
        assert bench.writer.holds["dab_a"]["enable"] == 0.0
        bench.gate.forbid_charge("string.A", "")
        assert (await bench.submit()).accepted

    async def test_a_discharge_goes_on(self, bench: Bench) -> None:
        await bench.submit(values={**CHARGE, "current_setpoint": 5.0})
        bench.gate.forbid_charge("string.A", "too cold")
        await settle()
        assert bench.writer.holds["dab_a"]["enable"] == 1.0


class TestOwners:
    async def test_the_first_keeps_it_from_its_equals(self, bench: Bench) -> None:
        await bench.submit()
        verdict = await bench.submit(owner="run:2")
        assert verdict.code is Code.OWNED
        assert "run:1" in verdict.reason
        assert bench.gate.owner(A) == "run:1"

    async def test_a_higher_rank_takes_over_a_lower_does_not(self, bench: Bench) -> None:
        await bench.submit()
        assert (await bench.submit(owner="olga", rank=Rank.OPERATOR)).code is Code.OWNED
        assert (await bench.submit(owner="sequence", rank=Rank.SEQUENCE)).accepted
        assert bench.gate.owner(A) == "sequence"
        assert (await bench.submit()).code is Code.OWNED

    async def test_no_owner_no_command(self, bench: Bench) -> None:
        assert (await bench.submit(owner="")).code is Code.INVALID

    async def test_release_makes_safe_and_frees(self, bench: Bench) -> None:
        await bench.submit()
        assert not bench.gate.release(A, "run:2")
        assert bench.gate.owner(A) == "run:1"
        assert bench.gate.release(A, "run:1")
        await settle()
        assert bench.writer.log[-1] == ("dab_a", DAB_SAFE)
        assert (await bench.submit(owner="run:2")).accepted

    async def test_an_expired_lease_makes_safe_and_is_recorded(self, bench: Bench) -> None:
        await bench.submit()
        await bench.tick(1.9)
        assert bench.writer.holds["dab_a"]["enable"] == 1.0
        await bench.tick(0.2)
        assert bench.writer.log[-1] == ("dab_a", DAB_SAFE)
        assert bench.gate.owner(A) == ""
        assert any("lease ran out" in text for text in bench.journal.texts("release"))

    async def test_a_renewed_lease_holds(self, bench: Bench) -> None:
        for _ in range(5):
            assert (await bench.submit()).accepted
            await bench.tick(1.5)
        assert bench.gate.owner(A) == "run:1"
        assert all(values["enable"] == 1.0 for values in bench.writer.written("dab_a"))

    async def test_a_lease_runs_in_real_time(self, clock: ManualClock) -> None:
        clock.time_factor = 60.0
        async with running(Bench(site(), clock)) as bench:
            await bench.submit()
            await bench.tick(1.9)
            assert bench.gate.owner(A) == "run:1"

    async def test_a_stepped_wall_clock_ends_no_lease(self, bench: Bench) -> None:
        await bench.submit()
        bench.clock.step_wall(3600.0)
        await bench.tick()
        assert bench.gate.owner(A) == "run:1"

    async def test_without_a_lease_it_is_held_for_good(self, bench: Bench) -> None:
        await bench.submit(lease_s=None)
        await bench.tick(1e6)
        assert bench.gate.owner(A) == "run:1"

    async def test_two_at_once_one_wins(self, bench: Bench) -> None:
        bench.writer.slow["dab_a"] = asyncio.Event()
        first = asyncio.create_task(bench.submit(owner="run:1"))
        second = asyncio.create_task(bench.submit(owner="run:2"))
        await settle()
        bench.writer.slow["dab_a"].set()
        verdicts = [await first, await second]
        assert sorted(verdict.code for verdict in verdicts) == [Code.ACCEPTED, Code.OWNED]
        assert len(bench.writer.log) == 1

    async def test_the_owner_is_a_point(self, bench: Bench) -> None:
        assert bench.points["string.A.converter.owner"] == ""
        await bench.submit()
        assert bench.points["string.A.converter.owner"] == "run:1"
        bench.gate.release(A, "run:1")
        assert bench.points["string.A.converter.owner"] == ""
        assert {point.name for point in points(site())} == set(bench.points)


class TestDevices:
    async def test_a_refusal_of_the_device_leaves_no_owner(self, bench: Bench) -> None:
        bench.writer.fail["dab_a"] = DeviceRefused("illegal value", 3)
        assert (await bench.submit()).code is Code.DEVICE_REFUSED
        assert bench.gate.owner(A) == ""
        assert not bench.gate.energised(A)

    async def test_a_refused_command_does_not_end_the_way_to_safe(self, bench: Bench) -> None:
        await bench.submit()
        bench.writer.silence("dab_a")
        bench.gate.release(A, "run:1")
        await settle()
        bench.writer.fail["dab_a"] = DeviceRefused("illegal value", 3)
        assert (await bench.submit(owner="run:2")).code is Code.DEVICE_REFUSED
        bench.writer.fail.clear()
        await bench.tick(2.1)
        assert bench.writer.holds["dab_a"]["enable"] == 0.0
        assert bench.gate.confirmed_safe("string.A")

    async def test_a_command_in_flight_when_its_lease_ends_is_told_so(self, bench: Bench) -> None:
        bench.writer.slow["dab_a"] = asyncio.Event()
        submitted = asyncio.create_task(bench.submit(lease_s=0.5))
        await settle()
        await bench.tick(0.6)
        bench.writer.slow["dab_a"].set()
        assert (await submitted).code is Code.NOT_PERMITTED
        await settle()
        assert bench.writer.log == [("dab_a", DAB_SAFE)]

    async def test_after_silence_the_lease_still_makes_it_safe(self, bench: Bench) -> None:
        bench.writer.silence("dab_a")
        assert (await bench.submit()).code is Code.UNAVAILABLE
        assert bench.gate.energised(A)  # it may have been carried out
        bench.writer.fail.clear()
        await bench.tick(2.1)
        assert bench.writer.log[-1] == ("dab_a", DAB_SAFE)

    async def test_acknowledged_but_not_done_is_found_by_reading_back(self, bench: Bench) -> None:
        bench.writer.holds["dab_a"] = dict.fromkeys(CHARGE, 0.0)
        bench.writer.deaf.add("dab_a")
        verdict = await bench.submit(confirm=True)
        assert verdict.code is Code.NOT_CONFIRMED
        assert "enable" in verdict.reason

    async def test_read_back_agrees(self, bench: Bench) -> None:
        assert (await bench.submit(confirm=True)).accepted


class TestJournal:
    async def test_a_stream_is_one_record(self, bench: Bench) -> None:
        records = set()
        for step in range(20):
            verdict = await bench.submit(values={**CHARGE, "current_setpoint": -step / 4})
            records.add(verdict.record)
        assert records == {1}
        assert bench.journal.kinds() == ["command"]

    async def test_commands_without_a_lease_have_a_record_each_repetitions_none(self, bench: Bench) -> None:
        for value in (-1.0, -1.0, -2.0):
            await bench.submit(values={**CHARGE, "current_setpoint": value}, lease_s=None)
        assert bench.journal.kinds() == ["command", "command"]

    async def test_the_same_refusal_of_a_stream_is_one_record(self, bench: Bench) -> None:
        bench.gate.trip("string.A", "too hot")
        verdicts = [await bench.submit() for _ in range(5)]
        assert {verdict.code for verdict in verdicts} == {Code.TRIPPED}
        assert bench.journal.kinds("refusal") == ["refusal"]
        assert len({verdict.record for verdict in verdicts}) == 1

    async def test_single_refusals_are_all_recorded(self, bench: Bench) -> None:
        for _ in range(3):
            await bench.submit(values={"current_setpoint": 99.0}, lease_s=None, origin=OPERATOR)
        assert bench.journal.kinds("refusal") == ["refusal"] * 3
        assert bench.journal.records[0]["origin"] is OPERATOR

    async def test_a_change_of_owner_is_recorded_with_both_names(self, bench: Bench) -> None:
        await bench.submit()
        await bench.submit(owner="sequence", rank=Rank.SEQUENCE)
        assert "sequence takes string.A.converter from run:1" in bench.journal.texts("command")[1]


class TestTrip:
    async def test_it_makes_its_scope_safe_and_nothing_else(self, bench: Bench) -> None:
        await bench.submit()
        await bench.submit("string.B.converter", owner="run:1")
        bench.gate.trip("string.A", "too hot")
        await settle()
        assert bench.writer.log[-1] == ("dab_a", DAB_SAFE)
        assert bench.writer.holds["dab_b"]["enable"] == 1.0
        assert bench.gate.tripped("string.A")
        assert not bench.gate.tripped("string.B")
        assert bench.gate.confirmed_safe("string.A")
        assert bench.gate.owner(A) == ""
        assert (await bench.submit("string.B.converter", owner="run:1")).accepted

    async def test_nobody_passes_while_it_is_latched(self, bench: Bench) -> None:
        bench.gate.trip("string.A", "too hot")
        for rank in Rank:
            verdict = await bench.submit(rank=rank, owner=rank.name)
            assert verdict.code is Code.TRIPPED
            assert "too hot" in verdict.reason

    async def test_clearing_it_writes_nothing(self, bench: Bench) -> None:
        bench.gate.trip("string.A", "too hot")
        await settle()
        count = len(bench.writer.log)
        bench.gate.clear_trip("string.A")
        await bench.tick(10.0)
        assert len(bench.writer.log) == count
        assert (await bench.submit()).accepted

    async def test_the_site_goes_off_converters_first(self, bench: Bench) -> None:
        bench.gate.trip("site", "STOP")
        await settle()
        assert [device for device, _ in bench.writer.log] == ["dab_a", "dab_b", "rps"]
        assert bench.gate.confirmed_safe("site")
        assert bench.gate.tripped("string.A")
        assert bench.gate.tripped("string.B")

    async def test_the_grid_waits_for_a_converter_that_takes_its_time(self, bench: Bench) -> None:
        bench.writer.slow["dab_a"] = asyncio.Event()
        bench.gate.trip("site", "STOP")
        await settle()
        assert [device for device, _ in bench.writer.log] == ["dab_b"]
        bench.writer.slow["dab_a"].set()
        await settle()
        assert [device for device, _ in bench.writer.log] == ["dab_b", "dab_a", "rps"]

    async def test_a_demand_during_an_attempt_writes_once_more(self, bench: Bench) -> None:
        bench.writer.slow_answer["dab_a"] = asyncio.Event()
        bench.gate.make_safe("string.A")
        await settle()
        bench.gate.trip("string.A", "too hot")
        bench.writer.slow_answer["dab_a"].set()
        await settle()
        assert len(bench.writer.written("dab_a")) == 2
        assert bench.gate.confirmed_safe("string.A")

    async def test_a_silent_converter_does_not_keep_the_grid_on(self, bench: Bench) -> None:
        bench.writer.silence("dab_a")
        bench.gate.trip("site", "STOP")
        await settle()
        assert [device for device, _ in bench.writer.log] == ["dab_b", "rps"]
        assert not bench.gate.confirmed_safe("site")

    async def test_a_hanging_converter_does_not_either(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.gate_drive.ORDER_WAIT_S", 0.001)
        bench.writer.slow["dab_a"] = asyncio.Event()
        bench.gate.trip("site", "STOP")
        await asyncio.wait_for(bench.writer.received["rps"].wait(), timeout=5.0)
        assert "dab_a" not in bench.writer.holds

    async def test_the_grid_stays_on_while_converters_ramp_down(self, bench: Bench) -> None:
        bench.snapshot.set("string.A.converter.battery_current", -5.0)
        bench.gate.trip("site", "STOP")
        await bench.tick(0.5)
        assert bench.writer.written("rps") == []
        bench.snapshot.set("string.A.converter.battery_current", 0.0)
        await bench.tick(0.05)
        assert bench.gate.confirmed_safe("site")

    @pytest.mark.parametrize("current_A", [-5.0, None])
    async def test_but_not_for_long(self, bench: Bench, current_A: float | None) -> None:
        bench.snapshot.set("string.A.converter.battery_current", current_A)
        bench.gate.trip("site", "STOP")
        await bench.tick(QUIET_WAIT_S - 0.01)
        assert bench.writer.written("rps") == []
        await bench.tick(0.02)
        assert bench.gate.confirmed_safe("site")

    async def test_who_presses_stop_again_and_again_does_not_keep_the_bus_on(self, bench: Bench) -> None:
        bench.snapshot.set("string.A.converter.battery_current", -5.0)
        for _ in range(4):
            bench.gate.trip("site", "STOP")
            await bench.tick(QUIET_WAIT_S / 4)
        await bench.tick(0.01)
        assert bench.writer.holds["rps"]["output_enable"] == 0.0
        assert bench.gate.confirmed_safe("site")

    async def test_a_command_given_up_in_flight_leaves_the_target_safe(self, bench: Bench) -> None:
        bench.gate.make_safe("string.A")
        await bench.tick()
        bench.writer.slow["dab_a"] = asyncio.Event()
        asking = asyncio.create_task(bench.submit(lease_s=None))
        await settle()
        assert not bench.gate.confirmed_safe("string.A")
        asking.cancel()
        await settle()
        bench.writer.slow["dab_a"].set()
        await settle()
        assert asking.cancelled()
        assert bench.gate.confirmed_safe("string.A")
        assert bench.writer.holds["dab_a"]["enable"] == 0.0

    async def test_it_is_tried_again_until_it_is_read_back(self, bench: Bench) -> None:
        bench.writer.silence("dab_a")
        bench.gate.trip("string.A", "too hot")
        await settle()
        assert bench.journal.kinds("safe_state") == ["safe_state"]
        for attempt, wait_s in enumerate((0.2, 0.4, 0.8, 1.6, 2.0, 2.0), start=1):
            await bench.tick(wait_s - 0.01)
            assert bench.writer.attempts["dab_a"] == attempt
            await bench.tick(0.02)
            assert bench.writer.attempts["dab_a"] == attempt + 1
        bench.writer.fail.clear()
        await bench.tick(2.1)
        assert bench.writer.log == [("dab_a", DAB_SAFE)]
        assert bench.gate.confirmed_safe("string.A")
        assert bench.journal.kinds("safe_state") == ["safe_state"] * 2  # lost once, back once

    async def test_a_device_that_only_says_yes_is_told_again(self, bench: Bench) -> None:
        await bench.submit()
        bench.writer.deaf.add("dab_a")
        bench.gate.trip("string.A", "too hot")
        await settle()
        assert not bench.gate.confirmed_safe("string.A")
        bench.writer.deaf.clear()
        await bench.tick(0.3)
        assert bench.gate.confirmed_safe("string.A")
        assert bench.writer.holds["dab_a"]["enable"] == 0.0

    async def test_what_cannot_be_read_back_counts_as_written(self, bench: Bench) -> None:
        bench.writer.unreadable = set(DAB_SAFE)
        bench.gate.trip("string.A", "too hot")
        await settle()
        assert bench.gate.confirmed_safe("string.A")

    async def test_a_write_in_flight_is_followed_by_the_safe_values(self, bench: Bench) -> None:
        bench.writer.slow["dab_a"] = asyncio.Event()
        submitted = asyncio.create_task(bench.submit())
        await settle()
        bench.gate.trip("string.A", "too hot")
        await settle()
        bench.writer.slow["dab_a"].set()
        assert (await submitted).code is Code.TRIPPED
        await settle()
        assert bench.writer.log == [("dab_a", DAB_SAFE)]

    async def test_a_write_that_arrived_but_was_not_acknowledged_is_followed_too(self, bench: Bench) -> None:
        bench.writer.slow_answer["dab_a"] = asyncio.Event()
        submitted = asyncio.create_task(bench.submit())
        await settle()
        assert bench.writer.holds["dab_a"]["enable"] == 1.0
        bench.gate.trip("string.A", "too hot")
        bench.writer.slow_answer["dab_a"].set()
        assert (await submitted).code is Code.TRIPPED
        await settle()
        assert bench.writer.log == [("dab_a", CHARGE), ("dab_a", DAB_SAFE)]

    async def test_commands_that_wait_for_the_line_are_refused(self, bench: Bench) -> None:
        bench.writer.slow["dab_a"] = asyncio.Event()
        submitted = [asyncio.create_task(bench.submit()) for _ in range(3)]
        await settle()
        bench.gate.trip("string.A", "too hot")
        bench.writer.slow["dab_a"].set()
        assert {(await task).code for task in submitted} == {Code.TRIPPED}
        await settle()
        assert bench.writer.holds["dab_a"]["enable"] == 0.0
        assert bench.writer.log[-1] == ("dab_a", DAB_SAFE)

    async def test_an_asker_that_goes_away_frees_the_line(self, bench: Bench) -> None:
        bench.writer.slow["dab_a"] = asyncio.Event()
        submitted = asyncio.create_task(bench.submit())
        await settle()
        submitted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitted
        bench.gate.trip("string.A", "too hot")
        bench.writer.slow["dab_a"].set()
        await settle()
        assert bench.writer.log == [("dab_a", DAB_SAFE)]

    async def test_a_trip_before_the_gate_runs_is_served_when_it_does(self, clock: ManualClock) -> None:
        bench = Bench(site(), clock)
        bench.gate.trip("site", "latched before the restart")
        assert (await bench.submit()).code is Code.TRIPPED
        async with running(bench):
            assert bench.gate.confirmed_safe("site")

    async def test_contactors_open_with_their_string(self, clock: ManualClock) -> None:
        strings = (string("A", contactor=True), string("B", contactor=True))
        async with running(Bench(site(*strings), clock)) as bench:
            for name in "AB":
                assert (await bench.submit(f"string.{name}.contactor", values={"closed": 1.0})).accepted
            assert bench.writer.holds["io"] == {"output.1": 1.0, "output.2": 1.0}
            bench.gate.trip("string.A", "too hot")
            await settle()
            assert bench.writer.holds["io"] == {"output.1": 0.0, "output.2": 1.0}

    async def test_waiting_for_safe(self, bench: Bench) -> None:
        bench.writer.slow["rps"] = asyncio.Event()
        bench.gate.trip("site", "STOP")
        assert not await bench.gate.wait_safe("site", 0.001)
        waiting = asyncio.create_task(bench.gate.wait_safe("site", 10.0))
        await settle()
        bench.writer.slow["rps"].set()
        assert await waiting

    async def test_making_safe_without_a_trip(self, bench: Bench) -> None:
        await bench.submit()
        bench.gate.make_safe("site")
        await settle()
        assert bench.gate.confirmed_safe("site")
        assert bench.gate.owner(A) == ""
        assert (await bench.submit()).accepted
        assert not bench.gate.confirmed_safe("site")

    async def test_a_contactor_opens_when_its_converter_carries_nothing(self, clock: ManualClock) -> None:
        async with running(Bench(site(string("A", contactor=True)), clock)) as bench:
            assert (await bench.submit("string.A.contactor", values={"closed": 1.0})).accepted
            assert (await bench.submit()).accepted
            bench.snapshot.set("string.A.converter.battery_current", -5.0)
            bench.gate.trip("string.A", "too hot")
            await bench.tick(0.1)
            assert bench.writer.holds["dab_a"]["enable"] == 0.0
            assert bench.writer.holds["io"] == {"output.1": 1.0}, "never under load without need"
            bench.snapshot.set("string.A.converter.battery_current", 0.0)
            await bench.tick(0.1)
            assert bench.writer.holds["io"] == {"output.1": 0.0}
            assert bench.gate.confirmed_safe("string.A")

    async def test_a_contactor_does_not_wait_for_a_converter_that_never_stops(self, clock: ManualClock) -> None:
        async with running(Bench(site(string("A", contactor=True)), clock)) as bench:
            assert (await bench.submit("string.A.contactor", values={"closed": 1.0})).accepted
            bench.snapshot.set("string.A.converter.battery_current", -5.0)
            bench.gate.trip("string.A", "too hot")
            await bench.tick(QUIET_WAIT_S - 0.1)
            assert bench.writer.holds["io"] == {"output.1": 1.0}
            await bench.tick(0.2)
            assert bench.writer.holds["io"] == {"output.1": 0.0}

    async def test_with_the_site_the_bus_goes_before_the_contactors_of_batteries_on_it(self, clock: ManualClock) -> None:
        strings = (string("A", converter=False, contactor=True), string("B", converter=False, contactor=True))
        async with running(Bench(site(*strings), clock)) as bench:
            for name in "AB":
                assert (await bench.submit(f"string.{name}.contactor", values={"closed": 1.0})).accepted
            bench.writer.log.clear()
            bench.gate.trip("site", "STOP")
            await settle()
            assert [device for device, _ in bench.writer.log] == ["rps", "io", "io"]
            assert bench.gate.confirmed_safe("site")

    async def test_the_contactor_of_a_tripped_string_on_the_bus_opens_at_once(self, clock: ManualClock) -> None:
        async with running(Bench(site(string("A", converter=False, contactor=True)), clock)) as bench:
            assert (await bench.submit("string.A.contactor", values={"closed": 1.0})).accepted
            bench.snapshot.set("string.A.battery.current", -20.0)
            bench.gate.trip("string.A", "over-current")
            await settle()
            assert bench.writer.holds["io"] == {"output.1": 0.0}

    async def test_no_contactor_closes_without_telemetry_of_its_battery(self, clock: ManualClock) -> None:
        async with running(Bench(site(string("A", converter=False, contactor=True)), clock)) as bench:
            bench.snapshot.set("string.A.battery.cell_voltage_max", None)
            verdict = await bench.submit("string.A.contactor", values={"closed": 1.0})
            assert verdict.code is Code.NOT_PERMITTED
            assert "io" not in bench.writer.holds
