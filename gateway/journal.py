"""The journal: what happened, in order, and the documents that must survive a restart.

`record` and `save` only note in memory and return at once; a thread commits groups of notes to SQLite, flushed to the
disk. Acting never waits for the disk, and a full or failing disk never stops anything: notes are kept and retried,
`healthy` turns False, and what no longer fits in memory is counted in `dropped`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from gateway.clock import SystemClock
from gateway.journal_store import Event, read_events
from gateway.journal_writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from gateway.clock import Clock
    from gateway.commands import Origin

__all__ = ["TABLES", "Document", "Event", "Journal", "as_document"]

TABLES = ("trips", "schedules", "runs", "counters", "settings")
"""Names of the tables that map a key to a document."""

Document = dict[str, object]
"""Anything that JSON can say."""

_RECENT_MAX = 2_000
_PAGE = 500
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """The journal in one file.

    Opening blocks: it is a start-up step. A file that is damaged, or belongs to another program, is moved aside to
    `*.corrupt-<UTC time>` and a new one is made; what can still be read of its documents is kept, and an event says so.
    When no file can be opened at all, the journal works in memory and goes on trying. `max_bytes` caps the file.
    """

    def __init__(self, path: Path, clock: Clock | None = None, *, max_bytes: int | None = None) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._boot_id = _boot_id()
        self._recent: deque[Event] = deque(maxlen=_RECENT_MAX)
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closed = False
        self._announced_drops = 0
        self._last_id = 0
        notes: list[str] = []
        self._writer = JournalWriter(path, max_bytes=max_bytes, after_attempt=self._attempted, replaced=notes.append)
        self._last_id = self._writer.last_id
        self._writer.start()
        for note in notes:
            self._file_replaced(note)
        self._writer.replaced = self._file_replaced

    @property
    def path(self) -> Path:
        """The file."""
        return self._writer.path

    @property
    def healthy(self) -> bool:
        """True unless the last attempt to write failed."""
        return self._writer.healthy

    @property
    def last_error(self) -> str:
        """Why the last attempt to write failed; empty when it did not."""
        return self._writer.last_error

    @property
    def dropped(self) -> int:
        """Events lost since the start because the disk did not take them."""
        return self._writer.dropped

    @property
    def max_bytes(self) -> int | None:
        """The file grows no larger than this; None is no cap. May be changed at any time."""
        return self._writer.max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int | None) -> None:
        self._writer.max_bytes = value

    def record(
        self,
        kind: str,
        text: str,
        *,
        severity: str = "info",
        source: str = "",
        origin: Origin | str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> int:
        """Note an event of severity "info", "warning" or "alarm"; its id, or 0 when it was dropped. Never blocks or raises."""
        kind, severity, source, text = _clean(kind), _clean(severity), _clean(source), _clean(text)
        asker, body = "" if origin is None else _clean(str(origin)), _encoded(data or {})
        now_ns, now_s = self._clock.utc_ns(), self._clock.monotonic()
        with self._writer.lock:
            event = Event(self._last_id + 1, now_ns, now_s, self._boot_id, kind, severity, source, text, asker, body)
            if not self._writer.put(event):
                return 0
            self._last_id = event.id
            self._recent.append(event)
        return event.id

    def load(self, table: str) -> Mapping[str, Document]:
        """Every document of a table by key, as last saved. ValueError for a table that does not exist."""
        _check_table(table)
        with self._writer.lock:
            found = {key: body for (of, key), body in self._writer.documents.items() if of == table}
        return {key: cast("Document", msgspec.json.decode(body)) for key, body in found.items()}

    def save(self, table: str, key: str, document: Mapping[str, object]) -> None:
        """Keep a document; the newest one per key survives. Never blocks. ValueError for a table that does not exist."""
        _check_table(table)
        self._writer.change((table, _clean(key)), _encoded(document))

    def delete(self, table: str, key: str) -> None:
        """Forget a document; nothing happens when there is none. ValueError for a table that does not exist."""
        _check_table(table)
        self._writer.change((table, _clean(key)), None)

    async def flush(self) -> bool:
        """Wait until the disk was tried with everything noted so far; True when all of that is safely stored."""
        target = self._writer.noted
        with self._listening() as woken:
            while self._writer.tried < target and not self._closed:
                woken.clear()
                await woken.wait()
        return self._writer.stored >= target

    async def events(self, after: int = 0, limit: int = 100) -> list[Event]:
        """The newest events, at most `limit`, with ids above `after`, oldest first; also those not yet on the disk."""
        return await self._read(after, limit, newest=True)

    async def follow(self, after: int = 0) -> AsyncGenerator[Event]:
        """Every event above `after`, oldest first, then each new one once the disk was tried with it; ends at `close`.

        A follower pulls at its own pace: a slow one holds up nobody and misses nothing.
        """
        with self._listening() as woken:
            while True:
                woken.clear()
                closed = self._closed
                page = await self._read(after, _PAGE, newest=False)
                for event in page:
                    after = event.id
                    yield event
                if not page and closed:
                    return
                if not page:
                    await woken.wait()

    async def close(self) -> bool:
        """Store what is left and close the file; False when something could not be stored."""
        await asyncio.to_thread(self._writer.close)
        self._closed = True
        self._wake()
        return self._writer.stored >= self._writer.noted

    async def _read(self, after: int, limit: int, *, newest: bool) -> list[Event]:
        with self._writer.lock:
            upto = self._last_id if newest else self._writer.tried_id
            recent = [event for event in self._recent if after < event.id <= upto]
        # The recent events are those of this process without a gap, so often nothing has to be read from the file.
        whole = after >= upto or (bool(recent) and recent[0].id == after + 1)
        if not whole and not (newest and len(recent) >= limit):
            with contextlib.suppress(sqlite3.Error):
                stored = await asyncio.to_thread(read_events, self.path, after, limit, newest=newest)
                merged = {event.id: event for event in (*stored, *recent) if event.id <= upto}
                recent = [merged[event_id] for event_id in sorted(merged)]
        return recent[-limit:] if newest else recent[:limit]

    def _attempted(self) -> None:
        """In the writer's thread: let followers see what the disk was tried with."""
        with self._writer.lock:
            lost = self._writer.dropped - self._announced_drops if self._writer.healthy else 0
            self._announced_drops += lost
        if lost:
            self.record("journal", f"{lost} events were lost while the disk took none", severity="alarm", source="journal")
        self._wake()

    def _file_replaced(self, note: str) -> None:
        self.record("journal", note, severity="alarm", source="journal")

    def _wake(self) -> None:
        for woken, loop in tuple(self._listeners.items()):
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(woken.set)

    @contextlib.contextmanager
    def _listening(self) -> Generator[asyncio.Event]:
        woken = asyncio.Event()
        self._listeners[woken] = asyncio.get_running_loop()
        try:
            yield woken
        finally:
            del self._listeners[woken]


def as_document(event: Event) -> Document:
    """An event as plain data for people and other processes; `time` is ISO 8601 in UTC, `data` a mapping."""
    seconds, fraction_ns = divmod(event.time_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction_ns // 1000)
    return {
        "id": event.id,
        "time": stamp.isoformat(timespec="milliseconds"),
        "time_ns": event.time_ns,
        "monotonic": event.monotonic,
        "boot_id": event.boot_id,
        "kind": event.kind,
        "severity": event.severity,
        "source": event.source,
        "text": event.text,
        "origin": event.origin,
        "data": cast("Document", msgspec.json.decode(event.data)),
    }


def _check_table(table: str) -> None:
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; there are {', '.join(TABLES)}")


def _encoded(document: Mapping[str, object]) -> str:
    """A mapping as JSON text; what JSON cannot say becomes its printed form, never an exception."""
    try:
        return msgspec.json.encode(dict(document), enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({"unreadable": _clean(repr(document))}).decode()


def _clean(text: str) -> str:
    """Text that UTF-8 can carry: a device's garbage may hold lone surrogates."""
    return str(text).encode("utf-8", "replace").decode()


def _boot_id() -> str:
    try:
        return _BOOT_ID_FILE.read_text().strip()
    except OSError:
        return "unknown"
