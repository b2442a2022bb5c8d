"""What the journal promises: order, durability, and that no state of the disk ever stops the gateway."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.commands import Origin, Role
from gateway.journal import TABLES, Event, Journal, as_document
from tests.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(path: Path, **options: int) -> AsyncIterator[Journal]:
    journal = Journal(path, ManualClock(), **options)
    try:
        yield journal
    finally:
        await journal.close()


async def write_some(path: Path, count: int = 200) -> None:
    async with opened(path) as journal:
        for number in range(count):
            journal.record("test", f"event {number}", data={"padding": "x" * 200})
        journal.save("trips", "site", {"latched": True})
        assert await journal.flush()


async def first_events(journal: Journal, after: int, count: int) -> list[Event]:
    found: list[Event] = []
    async with aclosing(journal.follow(after)) as stream:
        async for event in stream:
            found.append(event)
            if len(found) == count:
                break
    return found


def moved_aside(folder: Path) -> list[str]:
    names = [entry.name for entry in folder.iterdir()]
    return [name for name in names if ".corrupt-" in name and not name.endswith(("-wal", "-shm"))]


async def test_events_survive_in_order_and_ids_grow_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as journal:
        ids = [journal.record("trip", f"{number}", severity="alarm") for number in range(5)]
        assert await journal.flush()
    async with opened(path) as journal:
        later = journal.record("run", "next", origin=Origin("cli", "ann", Role.ADMIN), data={"run": 7})
        events = await journal.events()
    assert ids == [1, 2, 3, 4, 5]
    assert later == 6
    assert [(event.id, event.text) for event in events] == [(n + 1, str(n)) for n in range(5)] + [(6, "next")]
    document = as_document(events[-1])
    assert document["origin"] == "cli/ann"
    assert document["data"] == {"run": 7}
    assert document["time"] == "2027-01-15T08:00:00.000+00:00"
    assert events[0].boot_id


async def test_events_answers_with_the_newest_above_an_id(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await write_some(path, 100)
    async with opened(path) as journal:
        journal.record("test", "fresh")
        assert [event.id for event in await journal.events(limit=3)] == [99, 100, 101]
        assert [event.id for event in await journal.events(after=99)] == [100, 101]
        assert await journal.events(after=101) == []


async def test_documents_are_as_last_saved(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as journal:
        for table in TABLES:
            journal.save(table, "a", {"table": table, "old": True})
            journal.save(table, "a", {"table": table, "limits": [1.5, None]})
            journal.save(table, "b", {})
            journal.delete(table, "b")
        assert journal.load("runs") == {"a": {"table": "runs", "limits": [1.5, None]}}
    async with opened(path) as journal:
        for table in TABLES:
            assert journal.load(table) == {"a": {"table": table, "limits": [1.5, None]}}
        with pytest.raises(ValueError, match="no table 'events'"):
            journal.load("events")


async def test_the_file_flushes_every_commit(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await write_some(path, 1)
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


async def test_recording_takes_whatever_it_is_given(tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    async with opened(tmp_path / "state.db") as journal:
        journal.record("test", "garbage \udcff", data={"object": object(), "nan": math.nan})
        journal.record("test", "endless", data=loop)
        assert await journal.flush()
        first, second = await journal.events()
    assert first.text == "garbage ?"
    assert as_document(first)["data"]["nan"] is None
    assert as_document(second)["text"] == "endless"


async def test_a_follower_replays_then_follows_without_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await write_some(path, 1200)
    async with opened(path) as journal:
        follower = asyncio.create_task(first_events(journal, after=150, count=1300))
        for number in range(250):
            journal.record("test", f"live {number}")
            if number % 50 == 0:
                await journal.flush()
        events = await follower
    assert [event.id for event in events] == list(range(151, 1451))


async def test_a_follower_ends_when_the_journal_closes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db", ManualClock())
    seen: list[str] = []

    async def follow() -> None:
        async for event in journal.follow():
            seen.append(event.text)

    follower = asyncio.create_task(follow())
    journal.record("test", "one")
    await journal.flush()
    journal.record("test", "two")
    assert await journal.close()
    await asyncio.wait_for(follower, 5)
    assert seen == ["one", "two"]


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def wrong_header(path: Path) -> None:
    path.write_bytes(b"not a database, but a letter" + path.read_bytes()[28:])


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def foreign(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE events (word TEXT)")
    other.close()


@pytest.mark.parametrize("damage", [damage_middle, truncate, empty, wrong_header, directory, foreign])
async def test_a_damaged_file_is_moved_aside_and_the_start_goes_on(tmp_path: Path, damage) -> None:
    path = tmp_path / "state.db"
    await write_some(path)
    damage(path)
    async with opened(path) as journal:
        assert journal.healthy
        said = (await journal.events(limit=1))[0]
        assert "was damaged" in said.text
        assert said.severity == "alarm"
        assert said.id > 200  # those who resume by id miss nothing
        journal.save("runs", "1", {"state": "running"})
        assert await journal.flush()
    (aside,) = moved_aside(tmp_path)
    assert said.text.endswith(f"it was moved to {aside} and a new one was made")
    async with opened(path) as journal:
        assert journal.load("runs") == {"1": {"state": "running"}}


async def test_what_a_damaged_file_still_tells_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await write_some(path)
    damage_middle(path)
    async with opened(path) as journal:
        assert journal.load("trips") == {"site": {"latched": True}}
    async with opened(path) as journal:
        assert journal.load("trips") == {"site": {"latched": True}}


async def test_a_full_disk_stops_nothing_and_is_caught_up_with(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path, max_bytes=64 * 1024) as journal:
        journal.save("settings", "a", {"kept": True})
        assert await journal.flush()
        ids = [journal.record("test", "x" * 2000) for _ in range(100)]
        assert not await journal.flush()
        assert not journal.healthy
        assert "full" in journal.last_error
        journal.save("trips", "site", {"latched": True})
        assert journal.load("trips") == {"site": {"latched": True}}
        assert [event.id for event in await journal.events(limit=200)] == ids
        assert [event.id for event in await first_events(journal, 0, 100)] == ids  # followers still see what happens

        journal.max_bytes = None
        while not journal.healthy:
            await journal.flush()
        assert await journal.flush()
        assert journal.last_error == ""
    async with opened(path) as journal:
        assert [event.id for event in await journal.events(limit=200)] == ids
        assert journal.load("trips") == {"site": {"latched": True}}


async def test_events_that_do_not_fit_in_memory_are_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.journal_writer.PENDING_MAX", 50)
    async with opened(tmp_path / "state.db", max_bytes=64 * 1024) as journal:
        ids = [journal.record("test", "x" * 4000) for _ in range(80)]
        assert not await journal.flush()
        assert ids[50:] == [0] * 30
        assert journal.dropped == 30
        journal.max_bytes = None
        while "30 events were lost" not in (await journal.events())[-1].text:
            await journal.flush()


async def test_a_place_that_cannot_be_written_leaves_a_journal_in_memory(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "state.db", ManualClock())
    identifier = journal.record("test", "still here")
    assert not await journal.flush()
    assert not journal.healthy
    assert "unable to open" in journal.last_error
    assert [event.id for event in await journal.events()] == [identifier]
    (tmp_path / "missing").mkdir()
    while not await journal.flush():
        pass
    assert await journal.close()
    async with opened(tmp_path / "missing" / "state.db") as journal:
        assert [event.text for event in await journal.events()] == ["still here"]
        assert journal.record("test", "next") > identifier


async def test_a_file_locked_by_another_program_is_waited_for_and_not_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal.record("test", "waits")
        assert not await journal.flush()
        assert "locked" in journal.last_error
        other.execute("ROLLBACK")
        other.close()
        while not await journal.flush():
            pass
    assert not moved_aside(tmp_path)
