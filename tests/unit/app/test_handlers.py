"""What each verb does, with the real gate and devices that obey, refuse or hang."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from gateway import process_points
from gateway.commands import ACCEPTED, Code, Origin, Role, Verdict
from gateway.errors import TransportTimeout
from gateway.field.drivers.base import ProbeRow
from gateway.gate import CommandGate
from gateway.handlers import BadArgument, Handlers
from gateway.journal import Journal
from gateway.parts import Parts
from gateway.points import Quality
from gateway.process_points import ProcessReports
from gateway.rights import LEAST_ROLE
from gateway.table import Table
from tests.unit.law.plant import FakeWriter, site, snapshot_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.manual_clock import ManualClock

OLGA = Origin("hmi", user="olga", role=Role.OPERATOR)


class Asked:
    """Stands for a part that verbs ask something of: remembers how, and answers as told."""

    def __init__(self, **answers: object) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.answers: defaultdict[str, object] = defaultdict(lambda: ACCEPTED, answers)

    def note(self, name: str, *args: object) -> object:
        self.calls.append((name, args))
        return self.answers[name]


class FakeGuard(Asked):
    async def stop_and_confirm(self, origin: Origin) -> object:
        return self.note("stop_and_confirm", origin)

    def reset(self, scope: str, origin: Origin) -> object:
        return self.note("reset", scope, origin)

    def acknowledge(self, alarm: str, origin: Origin) -> object:
        return self.note("acknowledge", alarm, origin)

    def alarm_rows(self) -> list[dict[str, object]]:
        return [{"id": "string.A.trip"}]


class FakeSequence(Asked):
    def start(self, origin: Origin) -> object:
        return self.note("start", origin)

    def stop(self, origin: Origin) -> object:
        return self.note("stop", origin)


class FakeRunner(Asked):
    async def start(self, protocol: str, strings: Sequence[str], parameters: dict[str, str], origin: Origin) -> object:
        return self.note("start", protocol, list(strings), parameters, origin), "7"

    async def stop(self, run: str, reason: str, origin: Origin) -> object:
        return self.note("stop", run, reason, origin)

    async def hold(self, run: str, reason: str, origin: Origin) -> object:
        return self.note("hold", run, reason, origin)

    async def resume(self, run: str, origin: Origin) -> object:
        return self.note("resume", run, origin)

    def runs(self) -> list[dict[str, object]]:
        return [{"id": "7"}, {"id": "8"}]

    def result(self, run: str) -> dict[str, object] | None:
        return {"run": {"id": run}} if run in {"7", "8"} else None


class FakeScheduler(Asked):
    def add(self, document: dict[str, object], origin: Origin) -> object:
        return self.note("add", document, origin)

    def remove(self, schedule: str, origin: Origin) -> object:
        return self.note("remove", schedule, origin)

    def rows(self) -> list[dict[str, object]]:
        return [{"id": "nightly"}]


@dataclass
class FakeBus:
    silent: set[str] = field(default_factory=set)

    async def probe(self, device: str) -> list[ProbeRow]:
        if device in self.silent:
            raise TransportTimeout(f"{device} does not answer")
        return [ProbeRow(name="current", raw="0x01F4", value=5.0, unit="A", quality=Quality.GOOD, address="input 7")]


class Bench:
    """Handlers on a site with two strings, its gate permissive, its clock the test's."""

    def __init__(self, journal: Journal, clock: ManualClock) -> None:
        self.site = site()
        self.clock = clock
        self.writer = FakeWriter()
        snapshot = snapshot_of(self.site, clock)
        self.gate = CommandGate(self.site, lambda: snapshot, self.writer, journal, clock)
        self.gate.permit = lambda _: None
        self.guard, self.sequence = FakeGuard(), FakeSequence()
        self.runner, self.scheduler = FakeRunner(), FakeScheduler()
        self.bus = FakeBus()
        self.journal = journal
        self.table = Table(process_points.points(), (), clock)
        parts = Parts(
            site=self.site,
            table=self.table,
            bus=self.bus,
            gate=self.gate,
            guard=self.guard,
            sequence=self.sequence,
            runner=self.runner,
            scheduler=self.scheduler,
            journal=journal,
            reports=ProcessReports(self.table),
            endpoints=dict,
            clock=clock,
        )
        self.verbs = Handlers(parts).table()

    async def ask(self, verb: str, origin: Origin = OLGA, **args: object) -> dict:
        return await self.verbs[verb](args, origin)

    async def write(self, point: str, value: object, **args: object) -> tuple[str, str]:
        answer = await self.ask("write", point=point, value=value, **args)
        return answer["code"], answer["reason"]


@pytest.fixture
async def bench(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bench]:
    journal = Journal(tmp_path / "state.db", clock)
    yield Bench(journal, clock)
    await journal.close()


async def test_every_verb_that_anybody_may_ask_for_has_a_handler_and_no_other(bench: Bench) -> None:
    assert set(bench.verbs) == set(LEAST_ROLE)


class TestBadArguments:
    @pytest.mark.parametrize(
        ("verb", "args", "text"),
        [
            ("acknowledge", {}, "argument 'alarm' is missing or not a text"),
            ("acknowledge", {"alarm": 5}, "argument 'alarm' is missing or not a text"),
            ("reset", {"scope": None}, "argument 'scope' is missing or not a text"),
            ("write", {"value": 1.0}, "argument 'point' is missing or not a text"),
            ("probe", {}, "argument 'device' is missing or not a text"),
            ("runs", {"run": 7}, "argument 'run' is missing or not a text"),
            ("stop_run", {}, "argument 'run' is missing or not a text"),
            ("hold_run", {"run": "7", "reason": 5}, "argument 'reason' is missing or not a text"),
            ("resume_run", {}, "argument 'run' is missing or not a text"),
            ("schedule_remove", {}, "argument 'id' is missing or not a text"),
            ("start_run", {}, "argument 'protocol' is missing or not a text"),
            ("start_run", {"protocol": "x", "strings": "AB"}, "argument 'strings' is not a list of texts"),
            ("start_run", {"protocol": "x", "strings": [1]}, "argument 'strings' is not a list of texts"),
            ("start_run", {"protocol": "x", "parameters": [1]}, "argument 'parameters' is not a mapping"),
            ("report", {"values": 5}, "argument 'values' is not a mapping"),
            ("events", {"after": "1"}, "argument 'after' is not a whole number from 0"),
            ("events", {"after": -1}, "argument 'after' is not a whole number from 0"),
            ("events", {"after": 2**63}, "argument 'after' is not a whole number from 0"),
            ("events", {"limit": True}, "argument 'limit' is not a whole number from 0"),
            ("events", {"limit": 1.5}, "argument 'limit' is not a whole number from 0"),
            ("follow", {"after": None}, "argument 'after' is not a whole number from 0"),
        ],
    )
    async def test_are_named(self, bench: Bench, verb: str, args: dict[str, object], text: str) -> None:
        with pytest.raises(BadArgument) as refused:
            await bench.verbs[verb](args, OLGA)
        assert str(refused.value) == text
        assert bench.writer.log == []


class TestWrite:
    async def test_a_value_in_range_reaches_the_device(self, bench: Bench) -> None:
        assert await bench.write("string.A.converter.voltage_setpoint", 14.4) == ("accepted", "")
        assert bench.writer.log == [("dab_a", {"voltage_setpoint": 14.4})]
        assert bench.gate.owner("string.A.converter") == "operator:olga"

    async def test_it_is_recorded_with_who_asked(self, bench: Bench) -> None:
        await bench.ask("write", point="grid.voltage_setpoint", value=24, origin=OLGA)
        (event,) = [event for event in (await bench.ask("events"))["events"] if event["kind"] == "command"]
        assert "grid" in event["text"]
        assert "olga" in event["origin"]

    @pytest.mark.parametrize("name", ["string.Z.converter.voltage_setpoint", "nothing", "", "string.A.converter"])
    async def test_what_does_not_exist_is_unknown(self, bench: Bench, name: str) -> None:
        assert await bench.write(name, 1.0) == ("unknown", f"{name} is nothing that can be written")

    async def test_a_name_that_the_device_lacks_is_unknown(self, bench: Bench) -> None:
        assert await bench.write("string.A.converter.colour", 1.0) == ("unknown", "string.A.converter.colour does not exist")

    async def test_a_measurement_is_not_writable(self, bench: Bench) -> None:
        code, reason = await bench.write("string.A.converter.battery_current", 1.0)
        assert (code, reason) == ("not_writable", "string.A.converter.battery_current cannot be written")

    async def test_a_device_without_setpoints_is_nothing_to_write_to(self, bench: Bench) -> None:
        assert (await bench.write("string.A.battery.current", 1.0))[0] == "unknown"

    @pytest.mark.parametrize("value", ["5", True, None, [5.0], {}])
    async def test_only_numbers_can_be_written(self, bench: Bench, value: object) -> None:
        code, reason = await bench.write("string.A.converter.voltage_setpoint", value)
        assert code == "invalid"
        assert reason == f"string.A.converter.voltage_setpoint takes a number, got {value!r}"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    async def test_only_finite_numbers(self, bench: Bench, value: float) -> None:
        assert (await bench.write("string.A.converter.voltage_setpoint", value))[0] == "invalid"

    @pytest.mark.parametrize("value", [-0.1, 20.1, 1e300])
    async def test_the_range_is_the_gates(self, bench: Bench, value: float) -> None:
        assert (await bench.write("string.A.converter.voltage_setpoint", value))[0] == "out_of_range"

    async def test_a_tripped_string_takes_nothing(self, bench: Bench) -> None:
        bench.gate.trip("string.A", "cell over-voltage")
        assert (await bench.write("string.A.converter.voltage_setpoint", 14.4))[0] == "tripped"

    async def test_refusals_write_nothing_and_are_recorded(self, bench: Bench) -> None:
        await bench.write("string.A.converter.voltage_setpoint", 99.0)
        assert bench.writer.log == []
        events = (await bench.ask("events"))["events"]
        assert any("voltage_setpoint" in event["text"] for event in events)

    async def test_the_lease_ends(self, bench: Bench) -> None:
        await bench.write("string.A.converter.voltage_setpoint", 14.4, lease_s=5)
        bench.clock.advance(4.9)
        bench.gate.tick()
        assert bench.gate.owner("string.A.converter") == "operator:olga"
        bench.clock.advance(0.2)
        bench.gate.tick()
        assert bench.gate.owner("string.A.converter") == ""

    @pytest.mark.parametrize("lease_s", ["long", True, None, 0.0, -1.0, float("nan"), 601.0, float("inf")])
    async def test_a_lease_that_makes_no_sense_is_refused(self, bench: Bench, lease_s: object) -> None:
        assert (await bench.write("string.A.converter.voltage_setpoint", 14.4, lease_s=lease_s))[0] == "invalid"
        assert bench.writer.log == []


class TestStop:
    async def test_a_confirmed_stop_tells_how_long_it_took(self, bench: Bench) -> None:
        bench.guard.answers["stop_and_confirm"] = Verdict(Code.ACCEPTED, "everything is off, and was read back", 12)
        answer = await bench.ask("stop")
        assert answer == {"code": "accepted", "reason": "everything is off, and was read back (0 ms)", "record": 12}

    async def test_a_stop_that_is_not_confirmed_says_so(self, bench: Bench) -> None:
        bench.guard.answers["stop_and_confirm"] = Verdict(Code.NOT_CONFIRMED, "not every device has confirmed", 12)
        answer = await bench.ask("stop")
        assert answer["code"] == "not_confirmed"
        assert answer["reason"].startswith("not every device has confirmed")

    async def test_safe_state_tells_per_device(self, bench: Bench) -> None:
        running = asyncio.create_task(bench.gate.run())
        bench.writer.silence("dab_b")
        bench.gate.make_safe("site")
        for _ in range(100):
            await asyncio.sleep(0)
        bench.guard.answers["stop_and_confirm"] = Verdict(Code.NOT_CONFIRMED, "not every device has confirmed")
        answer = await bench.ask("safe_state")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        rows = {row["device"]: row["ok"] for row in answer["devices"]}
        assert rows == {"dab_a": True, "dab_b": False, "rps": False}
        assert answer["code"] == "not_confirmed"


class TestSee:
    async def test_probe_shows_raw_and_scaled(self, bench: Bench) -> None:
        (row,) = (await bench.ask("probe", device="dab_a"))["rows"]
        assert row == {"name": "current", "raw": "0x01F4", "value": 5.0, "unit": "A", "quality": "Good", "address": "input 7"}

    async def test_probe_of_a_silent_device_is_an_answer(self, bench: Bench) -> None:
        bench.bus.silent.add("dab_a")
        assert await bench.ask("probe", device="dab_a") == {
            "code": "unavailable",
            "reason": "dab_a does not answer",
            "record": 0,
        }

    async def test_probe_of_a_device_that_does_not_exist(self, bench: Bench) -> None:
        answer = await bench.ask("probe", device="dab_z")
        assert answer["code"] == "unknown"
        assert "dab_z" in answer["reason"]

    async def test_runs(self, bench: Bench) -> None:
        assert await bench.ask("runs") == {"runs": [{"id": "7"}, {"id": "8"}]}
        assert await bench.ask("runs", run="8") == {"runs": [{"id": "8"}]}
        assert (await bench.ask("runs", run="9"))["code"] == "unknown"

    async def test_schedules_and_alarms(self, bench: Bench) -> None:
        assert await bench.ask("schedule_list") == {"schedules": [{"id": "nightly"}]}
        assert await bench.ask("alarms") == {"alarms": [{"id": "string.A.trip"}]}

    async def test_events_are_the_newest_above_an_id(self, bench: Bench) -> None:
        for number in range(5):
            bench.journal.record("run", f"event {number}")
        events = (await bench.ask("events", limit=2))["events"]
        assert [event["text"] for event in events] == ["event 3", "event 4"]
        after = (await bench.ask("events", after=events[0]["id"], limit=1000))["events"]
        assert [event["text"] for event in after] == ["event 4"]
        assert len((await bench.ask("events", limit=0))["events"]) == 1

    async def test_follow_gives_what_was_and_what_comes(self, bench: Bench) -> None:
        bench.journal.record("run", "before")
        stream = await bench.verbs["follow"]({}, OLGA)
        assert (await anext(stream))["text"] == "before"
        bench.journal.record("run", "after")
        assert (await anext(stream))["text"] == "after"
        await stream.aclose()

    async def test_a_process_reports(self, bench: Bench) -> None:
        server = Origin("opcua")
        assert await bench.ask("report", origin=server, values={"sessions": 2}) == {}
        assert bench.table.number("process.opcua.sessions") == 2.0
        assert await bench.ask("report", origin=server, sessions=3) == {}
        assert bench.table.number("process.opcua.sessions") == 3.0


class TestHandedOn:
    async def test_a_start_with_all_that_belongs_to_it(self, bench: Bench) -> None:
        answer = await bench.ask("start_run", protocol="lfp_cccv", strings=["A"], parameters={"i": 5})
        assert answer == {"code": "accepted", "reason": "", "record": 0, "run": "7"}
        assert bench.runner.calls == [("start", ("lfp_cccv", ["A"], {"i": "5"}, OLGA))]

    async def test_a_refusal_comes_back_as_it_is(self, bench: Bench) -> None:
        bench.guard.answers["reset"] = Verdict(Code.NOT_PERMITTED, "the cell is still hot", 5)
        assert await bench.ask("reset", scope="string.A") == {
            "code": "not_permitted",
            "reason": "the cell is still hot",
            "record": 5,
        }

    async def test_each_to_its_part(self, bench: Bench) -> None:
        await bench.ask("reset")
        await bench.ask("acknowledge", alarm="string.A.trip")
        await bench.ask("start_site")
        await bench.ask("stop_site")
        await bench.ask("stop_run", run="7", reason="enough")
        await bench.ask("hold_run", run="7")
        await bench.ask("resume_run", run="7")
        await bench.ask("schedule_add", id="nightly")
        await bench.ask("schedule_remove", id="nightly")
        assert bench.guard.calls == [("reset", ("site", OLGA)), ("acknowledge", ("string.A.trip", OLGA))]
        assert bench.sequence.calls == [("start", (OLGA,)), ("stop", (OLGA,))]
        assert bench.runner.calls == [("stop", ("7", "enough", OLGA)), ("hold", ("7", "", OLGA)), ("resume", ("7", OLGA))]
        assert bench.scheduler.calls == [("add", ({"id": "nightly"}, OLGA)), ("remove", ("nightly", OLGA))]
