"""The shell: one run per string, commands only when needed, refusals and trips end a track, records survive a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.commands import ACCEPTED, Code, Command, Origin, Rank, Role, Verdict
from gateway.points import NEVER, Kind, Quality, Sample
from gateway.protocols import runner as runner_module
from gateway.protocols.library import ChargeProtocol, library
from gateway.protocols.run import LEASE_S, OFF_WITHIN_S, RENEW_S, RETRY_S
from gateway.protocols.runner import RESTARTED, Runner
from tests.manual_clock import ManualClock
from tests.protocols.running import ROOT, written
from tests.protocols.small_site import site, with_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WHO = Origin("cli", user="eve", role=Role.OPERATOR)
GOOD = {
    "battery.cell_voltage_max": 3.3,
    "battery.cell_voltage_min": 3.28,
    "battery.cell_voltage_mean": 3.29,
    "battery.cell_voltage_spread": 0.02,
    "battery.pack_voltage": 13.2,
    "battery.current": 0.0,
    "battery.temperature_max": 25.0,
    "battery.soc": 90.0,
    "converter.battery_current": 0.0,
    "converter.battery_voltage": 13.16,
    "converter.mode": 0.0,
    "converter.limiter_flags": 0.0,
    "ready": 1.0,
    "trip.latched": 0.0,
}

LEAD = {
    "battery.cell_voltage_max": 2.2,
    "battery.cell_voltage_min": 2.15,
    "battery.cell_voltage_mean": 2.17,
    "battery.cell_voltage_spread": 0.05,
}
ZINC = {name: value - 0.5 for name, value in LEAD.items()}
OWN = {"A": {}, "B": LEAD, "Z": ZINC}


class FakeJournal:
    def __init__(self, tables: dict[str, dict[str, dict[str, object]]] | None = None) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.tables = tables if tables is not None else {}

    def record(self, kind: str, text: str, *, severity: str = "info", source: str = "", origin=None, data=None) -> int:
        self.events.append((kind, severity, text))
        return len(self.events)

    def load(self, table: str) -> Mapping[str, Mapping[str, object]]:
        return self.tables.get(table, {})

    def save(self, table: str, key: str, document: dict[str, object]) -> None:
        self.tables.setdefault(table, {})[key] = document

    def delete(self, table: str, key: str) -> None:
        self.tables.get(table, {}).pop(key, None)


class Plant:
    """Points, a gate that answers as told, and a runner in between."""

    def __init__(self, protocols: Mapping[str, ChargeProtocol] | None = None, journal: FakeJournal | None = None) -> None:
        self.clock = ManualClock()
        self.journal = journal or FakeJournal()
        self.samples: dict[str, Sample] = {}
        self.sent: list[Command] = []
        self.released: list[tuple[str, str]] = []
        self.shown: dict[str, float | str | None] = {}
        self.answers: dict[str, Verdict] = {}
        self.slow: dict[str, asyncio.Event] = {}
        self.site = site()
        for string in ("A", "B", "Z"):
            self.set(string)
        self.runner = Runner(
            self.site,
            lambda: self,
            self.submit,
            lambda target, owner: self.released.append((target, owner)),
            self.journal,
            self.clock,
            lambda names, writer: self,
            library=protocols if protocols is not None else library(ROOT / "protocols"),
        )

    # The snapshot

    def sample(self, name: str) -> Sample:
        return self.samples.get(name, NEVER)

    def number(self, name: str) -> float | None:
        return self.sample(name).number

    def age_s(self, name: str) -> float:
        return (self.clock.utc_ns() - self.sample(name).time_ns) / 1e9

    def set(self, string: str, **changes: float | None) -> None:
        """Fresh samples for a string; names with "__" for the dot, None for a bad one."""
        values = GOOD | OWN[string] | {name.replace("__", "."): value for name, value in changes.items()}
        for name, value in values.items():
            quality = Quality.BAD_NO_COMMUNICATION if value is None else Quality.GOOD
            self.samples[f"string.{string}.{name}"] = Sample(value, quality, self.clock.utc_ns())

    # The block and the gate

    def put(self, name: str, value: float | str | None, quality: Quality = Quality.GOOD, time_ns: int | None = None) -> None:
        assert (value is None) == quality.is_bad
        self.shown[name] = value

    async def submit(self, command: Command) -> Verdict:
        self.sent.append(command)
        if command.target in self.slow:
            await self.slow[command.target].wait()
        return self.answers.get(command.target, ACCEPTED)

    async def go(self, real_s: float = 0.1, **values: Mapping[str, float | None]) -> None:
        """Time passes, new samples come, the runner has its cycle."""
        self.clock.advance(real_s)
        for string in ("A", "B", "Z"):
            self.set(string, **values.get(string, {}))
        await self.runner.cycle()

    def run(self, run_id: str = "1"):
        found = self.runner.result(run_id)
        assert found is not None
        return found["run"]

    def texts(self, severity: str | None = None) -> list[str]:
        return [text for _, level, text in self.journal.events if severity in {None, level}]


async def start(plant: Plant, protocol: str = "lfp_cc_rest", strings: Sequence[str] = ("A",), **parameters: str) -> str:
    verdict, run_id = await plant.runner.start(protocol, strings, parameters, WHO)
    assert verdict.accepted, verdict.reason
    assert verdict.record > 0
    return run_id


async def test_a_run_commands_its_converter_within_the_rules() -> None:
    plant = Plant()
    await start(plant)
    assert plant.shown["string.A.run.state"] == 1.0
    await plant.go()
    (command,) = plant.sent
    assert (command.target, command.owner, command.rank, command.lease_s) == ("string.A.converter", "run:1", Rank.RUN, LEASE_S)
    assert command.values == {
        "mode_setpoint": 2.0,
        "current_setpoint": -5.0,
        "charge_current_limit": 5.0,
        "discharge_current_limit": 0.0,
        "enable": 1.0,
    }
    assert plant.shown["string.A.run.state"] == 2.0
    assert plant.shown["string.A.run.step"] == "bulk"
    assert plant.shown["string.A.run.protocol"] == "lfp_cc_rest"


async def test_a_converter_that_is_slow_to_answer_does_not_hold_up_the_other_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "ANSWER_WAIT_S", 0.001)
    plant = Plant()
    await start(plant, "hybrid_charge", ("A", "B"))
    plant.slow["string.A.converter"] = asyncio.Event()
    await plant.go()
    await plant.go(B={"battery__cell_voltage_max": 2.31})
    await plant.go(1.0)
    told = [command.reason.split()[-1] for command in plant.sent if command.target == "string.B.converter"]
    assert told == ["bulk", "absorb"]
    assert len([command for command in plant.sent if command.target == "string.A.converter"]) == 1
    plant.slow["string.A.converter"].set()
    await asyncio.sleep(0)
    await plant.go(2.0)
    assert len([command for command in plant.sent if command.target == "string.A.converter"]) == 2


async def test_an_error_inside_the_gate_is_not_kept_silent() -> None:
    plant = Plant()
    await start(plant)
    plant.answers = None
    with pytest.raises(AttributeError):
        await plant.go()


async def test_an_unchanged_demand_is_sent_again_only_to_renew_the_lease() -> None:
    plant = Plant()
    await start(plant)
    for _ in range(30):
        await plant.go(0.1)
    assert len(plant.sent) == 2
    assert RENEW_S * 3 <= LEASE_S


async def test_a_run_ends_off_released_and_recorded() -> None:
    plant = Plant()
    await start(plant)
    await plant.go()
    await plant.go(A={"battery__cell_voltage_max": 3.61})
    assert plant.sent[-1].values["mode_setpoint"] == 1.0
    plant.clock.time_factor = 60.0
    for _ in range(15):
        await plant.go(1.0)
    run = plant.run()
    assert run["state"] == "completed"
    assert [(step["id"], step["ended_by"]) for step in run["tracks"][0]["steps"]] == [
        ("bulk", "cell_voltage_max >= 3.6 V"),
        ("relax", "step_time >= 10 min"),
    ]
    assert plant.sent[-1].values["mode_setpoint"] == 0.0
    assert plant.sent[-1].values["enable"] == 0.0
    assert plant.released == [("string.A.converter", "run:1")]
    assert plant.shown["string.A.run.state"] == 5.0
    assert plant.shown["string.A.run.progress"] == 100.0
    assert plant.journal.tables["runs"]["1"]["state"] == "completed"
    assert not plant.runner.is_active
    count = len(plant.sent)
    await plant.go(10.0)
    assert len(plant.sent) == count


async def test_the_record_names_the_very_file_and_parameters() -> None:
    plant = Plant()
    await start(plant, charge_current="3 A")
    document = plant.journal.tables["runs"]["1"]
    assert document["sha256"] == plant.runner.library["lfp_cc_rest"].sha256
    assert document["parameters"] == {"charge_current": "3 A"}
    assert document["origin"] == "cli/eve"
    await plant.go()
    assert plant.sent[0].values["current_setpoint"] == -3.0


@pytest.mark.parametrize(
    ("protocol", "strings", "parameters", "code", "reason"),
    [
        ("nothing", ["A"], {}, Code.UNKNOWN, "there is no protocol 'nothing'"),
        ("lfp_cc_rest", ["X"], {}, Code.INVALID, "there is no string 'X'"),
        ("lfp_cc_rest", [], {}, Code.INVALID, "needs to be told which string"),
        ("lfp_cc_rest", ["B"], {}, Code.INVALID, "the string is lead_acid"),
        ("lfp_cc_rest", ["A"], {"charge_current": "99 A"}, Code.INVALID, "outside 0.5 A to 25 A"),
        ("lfp_cc_rest", ["A"], {"charge_current": "10 A"}, Code.INVALID, "above the string's limit of 6 A"),
    ],
)
async def test_a_start_that_cannot_work_is_refused_with_the_reason(protocol, strings, parameters, code, reason) -> None:
    plant = Plant()
    verdict, run_id = await plant.runner.start(protocol, strings, parameters, WHO)
    assert (verdict.code, run_id) == (code, "")
    assert reason in verdict.reason
    assert verdict.record > 0
    assert reason in plant.texts("warning")[0]
    assert plant.runner.runs() == []


@pytest.mark.parametrize("ready", [0.0, None])
async def test_a_string_that_is_not_known_to_be_ready_is_refused(ready: float | None) -> None:
    plant = Plant()
    plant.set("A", ready=ready)
    plant.samples["site.state_reason"] = Sample("waiting for the bus", Quality.GOOD, 1)
    verdict, _ = await plant.runner.start("lfp_cc_rest", ["A"], {}, WHO)
    assert (verdict.code, verdict.reason) == (Code.NOT_PERMITTED, "string A is not ready: waiting for the bus")


async def test_a_tripped_string_is_refused() -> None:
    plant = Plant()
    plant.set("A", trip__latched=1.0)
    verdict, _ = await plant.runner.start("lfp_cc_rest", ["A"], {}, WHO)
    assert verdict.code is Code.TRIPPED


async def test_one_run_per_string() -> None:
    plant = Plant()
    await start(plant, "hybrid_charge", ())
    verdict, _ = await plant.runner.start("lfp_cc_rest", ["A"], {}, WHO)
    assert (verdict.code, verdict.reason) == (Code.WRONG_STATE, "string A is busy with run 1 (hybrid_charge)")
    assert (await plant.runner.start("zinc_cc_rest_cc_rest", ["Z"], {}, WHO))[1] == "2"


async def test_a_trip_ends_its_own_track_only() -> None:
    plant = Plant()
    await start(plant, "hybrid_charge", ())
    await plant.go()
    plant.samples["string.B.trip.reason"] = Sample("cell 4 above 2.60 V", Quality.GOOD, 1)
    await plant.go(B={"trip__latched": 1.0})
    await plant.go(B={"trip__latched": 1.0})
    run = plant.run()
    assert run["state"] == "running"
    track_a, track_b = run["tracks"]
    assert track_a["state"] == "running"
    assert (track_b["state"], track_b["reason"]) == ("aborted", "string B is tripped: cell 4 above 2.60 V")
    assert track_b["steps"][0]["ended_by"] == "abort: string B is tripped: cell 4 above 2.60 V"
    assert plant.released == [("string.B.converter", "run:1")]
    before = len([command for command in plant.sent if command.target == "string.B.converter"])
    await plant.go(20.0, B={"trip__latched": 1.0})
    assert len([command for command in plant.sent if command.target == "string.B.converter"]) == before
    assert any("string B is tripped" in text for text in plant.texts("warning"))


async def test_a_string_whose_track_has_ended_is_free_for_another_run() -> None:
    plant = Plant()
    await start(plant, "hybrid_charge", ())
    await plant.go()
    await plant.go(B={"trip__latched": 1.0})
    await plant.go(B={"trip__latched": 1.0})
    verdict, _ = await plant.runner.start("lead_acid_cc_cv", ["B"], {}, WHO)
    assert verdict.code is Code.TRIPPED
    await plant.go()
    assert (await plant.runner.start("lead_acid_cc_cv", ["B"], {}, WHO))[1] == "2"
    assert (await plant.runner.stop("B", "", WHO)).reason.startswith("run 2 stopped")
    assert plant.run()["state"] == "running"


async def test_a_site_trip_ends_every_track() -> None:
    plant = Plant()
    await start(plant, "hybrid_charge", ())
    await plant.go()
    plant.samples["site.trip.latched"] = Sample(1.0, Quality.GOOD, 1)
    await plant.go()
    await plant.go()
    run = plant.run()
    assert run["state"] == "aborted"
    assert [track["reason"] for track in run["tracks"]] == ["the site is tripped"] * 2


async def test_a_refusal_by_the_gate_ends_the_track_with_its_reason() -> None:
    plant = Plant()
    plant.answers["string.A.converter"] = Verdict(Code.NOT_PERMITTED, "too cold to charge")
    await start(plant)
    await plant.go()
    plant.answers.clear()
    await plant.go()
    await plant.go()
    run = plant.run()
    assert run["state"] == "aborted"
    assert run["reason"] == "string A: not_permitted: too cold to charge"


async def test_a_device_that_misses_a_beat_does_not_end_a_run() -> None:
    plant = Plant()
    await start(plant)
    plant.answers["string.A.converter"] = Verdict(Code.UNAVAILABLE, "no answer")
    await plant.go()
    await plant.go(RETRY_S / 2)
    plant.answers.clear()
    await plant.go()
    assert plant.run()["state"] == "running"
    plant.answers["string.A.converter"] = Verdict(Code.UNAVAILABLE, "no answer")
    await plant.go(RENEW_S + 0.1)
    await plant.go(RETRY_S + 0.1)
    plant.answers.clear()
    await plant.go()
    await plant.go()
    assert plant.run()["state"] == "aborted"


async def test_a_converter_that_cannot_be_confirmed_off_makes_the_run_faulted() -> None:
    plant = Plant()
    await start(plant)
    await plant.go()
    plant.answers["string.A.converter"] = Verdict(Code.UNAVAILABLE, "no answer")
    await plant.runner.stop("1", "", WHO)
    await plant.go()
    await plant.go()
    assert plant.run()["state"] == "stopping"
    await plant.go(OFF_WITHIN_S)
    assert plant.run()["state"] == "faulted"
    assert "could not be confirmed off: no answer" in plant.run()["reason"]
    assert plant.released == [("string.A.converter", "run:1")]


async def test_stop_by_run_or_string_ends_off_at_zero() -> None:
    for key in ("1", "A"):
        plant = Plant()
        await start(plant)
        await plant.go()
        assert (await plant.runner.stop(key, "enough for today", WHO)).accepted
        await plant.go()
        assert plant.sent[-1].values == {
            "mode_setpoint": 0.0,
            "current_setpoint": 0.0,
            "charge_current_limit": 0.0,
            "discharge_current_limit": 0.0,
            "enable": 0.0,
        }
        await plant.go()
        assert plant.run()["state"] == "aborted"
        assert "enough for today" in plant.run()["reason"]
    assert (await plant.runner.stop("1", "", WHO)).code is Code.UNKNOWN


async def test_hold_and_resume() -> None:
    plant = Plant()
    await start(plant)
    await plant.go()
    assert (await plant.runner.hold("1", "", WHO)).accepted
    assert (await plant.runner.hold("1", "", WHO)).code is Code.WRONG_STATE
    await plant.go()
    assert plant.sent[-1].values["enable"] == 0.0
    assert (plant.run()["state"], plant.shown["string.A.run.reason"]) == ("paused", "held by the operator")
    plant.set("A", trip__latched=1.0)
    assert (await plant.runner.resume("1", WHO)).code is Code.TRIPPED
    plant.set("A")
    assert (await plant.runner.resume("A", WHO)).accepted
    await plant.go()
    assert plant.sent[-1].values["current_setpoint"] == -5.0


PAUSING = """\
title = "T"
chemistry = ["lfp"]
on_interlock = "pause"
[[step]]
id = "bulk"
do = "charge"
at = "5 A"
until = ["cell_voltage_max >= 3.6 V"]
timeout = "6 h"
"""


async def test_a_protocol_may_pause_at_a_trip_and_wait_for_the_operator(tmp_path: Path) -> None:
    plant = Plant({"test": written(tmp_path, PAUSING)})
    await start(plant, "test")
    await plant.go()
    await plant.go(A={"trip__latched": 1.0})
    count = len(plant.sent)
    for _ in range(5):
        await plant.go(2.0, A={"trip__latched": 1.0})
    assert plant.run()["state"] == "paused"
    assert len(plant.sent) == count, "a tripped converter is left alone"
    await plant.go()
    assert plant.run()["state"] == "paused", "a reset restarts nothing"
    assert (await plant.runner.resume("1", WHO)).accepted
    await plant.go()
    assert plant.sent[-1].values["current_setpoint"] == -5.0


async def test_tracks_end_together_when_the_protocol_says_so(tmp_path: Path) -> None:
    text = (ROOT / "protocols" / "hybrid_charge.toml").read_text()
    plant = Plant({"test": written(tmp_path, 'on_track_abort = "abort"\n' + text)})
    await start(plant, "test", ())
    await plant.go()
    for _ in range(4):
        await plant.go(B={"trip__latched": 1.0})
    run = plant.run()
    assert [track["state"] for track in run["tracks"]] == ["aborted", "aborted"]
    assert "string B was aborted" in run["tracks"][0]["reason"]


async def test_what_ran_when_the_gateway_stopped_is_recorded_as_interrupted() -> None:
    plant = Plant()
    await start(plant)
    await plant.go()
    again = Plant(journal=FakeJournal(plant.journal.tables))
    (run,) = again.runner.runs()
    assert (run["id"], run["state"], run["reason"]) == ("1", "aborted", RESTARTED)
    assert any("was interrupted" in text for text in again.texts("warning"))
    await again.go()
    assert again.sent == []
    assert again.shown["string.A.run.state"] == 0.0
    assert await start(again) == "2"


async def test_a_converter_is_told_only_what_it_can_take() -> None:
    plant = Plant()
    plant.site = with_device(plant.site, "dab_a", writable={"current_setpoint": (-6.0, 6.0)})
    plant.runner = Runner(
        plant.site, lambda: plant, plant.submit, lambda *_: None, plant.journal, plant.clock, lambda *_: plant,
        library=library(ROOT / "protocols"),
    )  # fmt: skip
    await start(plant)
    await plant.go()
    assert plant.sent[0].values == {"current_setpoint": -5.0}


async def test_the_nearest_end_of_any_track_is_told() -> None:
    plant = Plant()
    assert plant.runner.time_to_nearest_end_s() == float("inf")
    await start(plant, "hybrid_charge", ())
    await plant.go()
    assert plant.runner.time_to_nearest_end_s() <= 5.0


def test_the_points_are_the_ones_that_are_written() -> None:
    plant = Plant()
    points = runner_module.points(plant.site)
    assert {point.name for point in points} == set(plant.shown)
    state = next(point for point in points if point.name == "string.A.run.state")
    assert (state.kind, list(state.symbols.values())) == (
        Kind.ENUM,
        ["idle", "armed", "running", "paused", "stopping", "completed", "aborted", "faulted"],
    )


async def test_old_runs_are_forgotten() -> None:
    old = {str(number): {"id": str(number), "state": "completed", "tracks": []} for number in range(1, 300)}
    plant = Plant(journal=FakeJournal({"runs": old}))
    run_id = await start(plant)
    assert run_id == "300"
    await plant.go()
    await plant.runner.stop(run_id, "", WHO)
    for _ in range(3):
        await plant.go()
    assert len(plant.journal.tables["runs"]) == runner_module.HISTORY
    assert plant.runner.runs()[0]["id"] == "300"
