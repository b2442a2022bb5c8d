"""The journal's file: an SQLite database in write-ahead mode, flushed to the disk at every commit.

Blocking code, for the journal's own thread. A file that is damaged, or is not ours, never prevents a start: it is moved
aside and a new one is made (SQLite result codes: sqlite.org/rescode.html).
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_APPLICATION_ID = 0x42455353
"""Marks the file as ours in its header (PRAGMA application_id)."""

_Row = tuple[int, int, float, str, str, str, str, str, str, str]
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY_TIMEOUT_S = 1.0
_NEWEST = "SELECT * FROM events WHERE id > ? ORDER BY id DESC LIMIT ?"
_NEXT = "SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, monotonic REAL NOT NULL, boot_id TEXT NOT NULL, kind TEXT NOT NULL,
    severity TEXT NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL, origin TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS documents (
    subject TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (subject, key)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One record of the journal. Ids only ever grow, also over restarts; order events by id, never by time."""

    id: int
    time_ns: int
    """UTC, nanoseconds since 1970, as the wall clock showed it."""
    monotonic: float
    """Real seconds; comparable only between events of the same `boot_id`."""
    boot_id: str
    kind: str
    """What it is about: "trip", "verdict", "run", "sequence", ..."""
    severity: str
    source: str
    text: str
    origin: str
    data: str
    """A JSON object."""


class Damaged(Exception):
    """The file is not a usable journal; the text says why."""


class Store:
    """An open journal file. Every method may raise sqlite3.Error; `Damaged` when the file must be replaced."""

    def __init__(self, path: Path) -> None:
        if path.is_dir() or (path.exists() and path.stat().st_size == 0):
            raise Damaged("not a database file")
        # Opened at start-up, then used by the writer's thread alone.
        self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            self._check()
            self._connection.execute("PRAGMA synchronous = FULL")
            if (
                self._one("PRAGMA application_id") != _APPLICATION_ID
            ):  # a file that is ready is not written to: the disk may be full
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; COMMIT;")
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error) and _is_damage(error):
                raise Damaged(str(error)) from error
            raise

    def _check(self) -> None:
        found = str(self._one("PRAGMA quick_check"))
        if found != "ok":
            raise Damaged(found)
        if self._one("SELECT count(*) FROM sqlite_master") and self._one("PRAGMA application_id") != _APPLICATION_ID:
            raise Damaged("a database of another program")

    def _one(self, sql: str) -> object:
        row = cast("tuple[object, ...] | None", self._connection.execute(sql).fetchone())
        return None if row is None else row[0]

    def last_id(self) -> int:
        """The largest event id, 0 when there is none."""
        return cast("int", self._one("SELECT coalesce(max(id), 0) FROM events"))

    def documents(self) -> dict[tuple[str, str], str]:
        """Every document's JSON text by (table, key)."""
        rows = cast("list[tuple[str, str, str]]", self._connection.execute("SELECT subject, key, body FROM documents").fetchall())
        return {(table, key): body for table, key, body in rows}

    def write(self, events: Iterable[Event], documents: Mapping[tuple[str, str], str | None]) -> None:
        """Store events and documents (None deletes) in one transaction that is on the disk when this returns."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for (table, key), body in documents.items():
                if body is None:
                    connection.execute("DELETE FROM documents WHERE subject = ? AND key = ?", (table, key))
                else:
                    connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (table, key, body))
            connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(astuple, events))
            connection.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):  # some errors have ended the transaction already
                connection.execute("ROLLBACK")
            raise

    def limit_size(self, max_bytes: int | None) -> None:
        """Refuse to let the file grow beyond `max_bytes`; writes then fail as on a full disk. None lifts the limit."""
        page_size = cast("int", self._one("PRAGMA page_size"))
        pages = 0xFFFFFFFE if max_bytes is None else max(1, max_bytes // page_size)  # sqlite.org/limits.html, item 13
        self._connection.execute(f"PRAGMA max_page_count = {pages}")

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _is_damage(error: sqlite3.Error) -> bool:
    """True when the error says that the file itself is broken, rather than full, locked or unreadable at present."""
    code = cast("int", getattr(error, "sqlite_errorcode", 0))
    return (code & 0xFF) in _DAMAGED  # the low byte is the primary result code


def read_events(path: Path, after: int, limit: int, *, newest: bool) -> list[Event]:
    """At most `limit` events with ids above `after`, in order of id: the newest ones, or the ones that follow `after`.

    Reads on a connection of its own; raises sqlite3.Error.
    """
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)) as reader:
        rows = cast("list[_Row]", reader.execute(_NEWEST if newest else _NEXT, (after, limit)).fetchall())
    found = [Event(*row) for row in rows]
    return found[::-1] if newest else found


def move_aside(path: Path) -> Path:
    """Rename a damaged file, with its write-ahead files, to `*.corrupt-<UTC time>`; returns the new name. Raises OSError."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = Path(f"{path}.corrupt-{stamp}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside


def salvage(path: Path) -> tuple[int | None, dict[tuple[str, str], str]]:
    """What a file that cannot be opened or trusted still tells: its largest event id (None when unknown), its documents."""
    last_id: int | None = None
    documents: dict[tuple[str, str], str] = {}
    with contextlib.suppress(sqlite3.Error):
        reader = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(reader):
            with contextlib.suppress(sqlite3.Error):
                last_id = cast("tuple[int | None]", reader.execute("SELECT max(id) FROM events").fetchone())[0]
            rows = cast("list[tuple[str, str, str]]", reader.execute("SELECT subject, key, body FROM documents").fetchall())
            documents = {(table, key): body for table, key, body in rows}
    return last_id, documents
