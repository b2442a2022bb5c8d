"""Schedules that start runs, survive restarts, and say why a start did not happen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gateway.clock import SystemClock
from gateway.commands import ACCEPTED, Code, Origin, Verdict
from gateway.protocols.schedule import Scheduler
from gateway.site import ScheduleSpec
from tests.protocols.small_site import site
from tests.unit.protocols.test_runner import FakeJournal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WHO = Origin("cli", user="eve")


class FakeRunner:
    def __init__(self, verdict: Verdict = ACCEPTED) -> None:
        self.verdict = verdict
        self.started: list[tuple[str, tuple[str, ...], dict[str, str], str]] = []
        self.done = asyncio.Event()

    async def start(
        self, protocol_id: str, strings: Sequence[str], parameters: Mapping[str, str], origin: Origin
    ) -> tuple[Verdict, str]:
        self.started.append((protocol_id, tuple(strings), dict(parameters), str(origin)))
        self.done.set()
        return self.verdict, "7" if self.verdict.accepted else ""


def spec(schedule_id: str = "nightly", **changes: object) -> ScheduleSpec:
    fields: dict[str, object] = {
        "id": schedule_id,
        "protocol": "lfp_cccv",
        "strings": ("A",),
        "parameters": {"charge_current": "4 A"},
        "cron": None,
        "interval_s": None,
        "at": None,
        "misfire_grace_s": 60.0,
        "timezone": "UTC",
    }
    return ScheduleSpec(**(fields | changes))


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def make(runner: FakeRunner, journal: FakeJournal, *schedules: ScheduleSpec) -> Scheduler:
    return Scheduler(site(schedules=schedules), runner, journal, SystemClock())


async def until(journal: FakeJournal, text: str) -> str:
    """Wait for an event with this text; the loop turns until it is there."""
    async with asyncio.timeout(5.0):
        while True:
            found = [line for _, _, line in journal.events if text in line]
            if found:
                return found[0]
            await asyncio.sleep(0)


async def test_a_start_that_is_owed_and_within_its_grace_happens_late() -> None:
    runner, journal = FakeRunner(), FakeJournal()
    due = ago(20)
    journal.save("schedules", "nightly", {**_document(at=due), "since": ago(3600), "last_due": None})
    scheduler = make(runner, journal)
    scheduler.start()
    await until(journal, "schedule nightly started run 7")
    scheduler.shutdown()
    await asyncio.sleep(0)
    assert runner.started == [("lfp_cccv", ("A",), {"charge_current": "4 A"}, "schedule/nightly")]
    assert journal.tables["schedules"]["nightly"]["last_due"] == due


def _document(**changes: object) -> dict[str, object]:
    made = spec(**changes)
    return {name: getattr(made, name) for name in ScheduleSpec.__slots__} | {"strings": ["A"], "source": "user"}


async def test_what_could_never_run_is_not_planned() -> None:
    runner, journal = FakeRunner(), FakeJournal()
    scheduler = Scheduler(site(), runner, journal, SystemClock(), problem=lambda spec: f"no protocol {spec.protocol}")
    verdict = scheduler.add(_document(cron="0 2 * * *", at=None), Origin("cli", "olga"))
    assert (verdict.code, verdict.reason) == (Code.INVALID, "schedule 'nightly' could never run: no protocol lfp_cccv")
    assert scheduler.rows() == []


async def test_a_start_beyond_its_grace_is_an_event_with_the_reason() -> None:
    runner, journal = FakeRunner(), FakeJournal()
    journal.save("schedules", "nightly", {**_document(at=ago(3000)), "since": ago(7200), "last_due": None})
    scheduler = make(runner, journal)
    scheduler.start()
    text = await until(journal, "did not start lfp_cccv")
    scheduler.shutdown()
    await asyncio.sleep(0)
    assert "its grace is 60 s" in text
    assert runner.started == []
    assert journal.tables["schedules"]["nightly"]["last_due"] is not None


async def test_a_start_that_happened_is_not_owed_again_after_a_restart() -> None:
    runner, journal = FakeRunner(), FakeJournal()
    due = ago(20)
    journal.save("schedules", "nightly", {**_document(at=due), "since": ago(3600), "last_due": due})
    scheduler = make(runner, journal)
    scheduler.start()
    for _ in range(20):
        await asyncio.sleep(0)
    scheduler.shutdown()
    await asyncio.sleep(0)
    assert runner.started == []
    assert scheduler.rows()[0]["next_due"] is None


async def test_a_refused_run_is_told() -> None:
    runner, journal = FakeRunner(Verdict(Code.WRONG_STATE, "string A is busy with run 3")), FakeJournal()
    journal.save("schedules", "nightly", {**_document(at=ago(5)), "since": ago(3600), "last_due": None})
    scheduler = make(runner, journal)
    scheduler.start()
    text = await until(journal, "could not start")
    scheduler.shutdown()
    await asyncio.sleep(0)
    assert text == "schedule nightly could not start lfp_cccv: string A is busy with run 3"


async def test_schedules_added_at_run_time_survive_a_restart() -> None:
    runner, journal = FakeRunner(), FakeJournal()
    first = make(runner, journal, spec("site_one", cron="0 2 * * *"))
    first.start()
    document = {"id": "mine", "protocol": "lfp_cccv", "strings": ["A"], "interval_s": 7200.0}
    verdict = first.add(document, WHO)
    assert verdict.accepted
    assert verdict.record > 0
    assert first.add(document, WHO).code is Code.INVALID
    first.shutdown()
    await asyncio.sleep(0)
    second = make(runner, journal, spec("site_one", cron="0 2 * * *"))
    assert [(row["id"], row["source"]) for row in second.rows()] == [("mine", "user"), ("site_one", "site")]
    assert second.rows()[0]["next_due"] is not None
    assert second.remove("mine", WHO).accepted
    assert second.remove("mine", WHO).code is Code.UNKNOWN
    assert second.remove("site_one", WHO).code is Code.FORBIDDEN
    assert [row["id"] for row in make(runner, journal, spec("site_one", cron="0 2 * * *")).rows()] == ["site_one"]


async def test_a_removed_schedule_no_longer_starts() -> None:
    runner, journal = FakeRunner(), FakeJournal()
    scheduler = make(runner, journal)
    scheduler.start()
    scheduler.add({"id": "mine", "protocol": "lfp_cccv", "strings": ["A"], "interval_s": 3600.0}, WHO)
    scheduler.remove("mine", WHO)
    assert scheduler.rows() == []
    scheduler.shutdown()
    await asyncio.sleep(0)


def test_nonsense_is_refused_with_the_reason() -> None:
    scheduler = make(FakeRunner(), FakeJournal())
    verdict = scheduler.add({"id": "x", "protocol": "p", "strings": []}, WHO)
    assert (verdict.code, verdict.reason) == (Code.INVALID, "give exactly one of cron, interval and at")


def test_a_start_that_is_over_already_is_refused() -> None:
    scheduler = make(FakeRunner(), FakeJournal())
    at = ago(3600)
    verdict = scheduler.add({"id": "x", "protocol": "p", "strings": ["A"], "at": at}, WHO)
    assert (verdict.code, verdict.reason) == (Code.INVALID, f"schedule 'x' would never start: {at} is past")
    assert scheduler.rows() == []


def test_a_schedule_changed_in_the_site_file_owes_nothing_from_the_past() -> None:
    journal = FakeJournal()
    make(FakeRunner(), journal, spec(cron="0 2 * * *"))
    journal.tables["schedules"]["nightly"]["last_due"] = ago(86400)
    assert make(FakeRunner(), journal, spec(cron="0 2 * * *")).rows()[0]["last_due"] is not None
    assert make(FakeRunner(), journal, spec(cron="0 3 * * *")).rows()[0]["last_due"] is None


def test_a_schedule_gone_from_the_site_file_is_forgotten_and_a_broken_one_is_told() -> None:
    journal = FakeJournal()
    make(FakeRunner(), journal, spec(cron="0 2 * * *"))
    journal.save("schedules", "broken", {"id": "broken", "source": "user"})
    assert make(FakeRunner(), journal).rows() == []
    assert journal.tables["schedules"] == {}
    assert any("schedule broken was dropped" in text for _, _, text in journal.events)
