"""The journal's thread: takes notes from memory to the disk, in order, and goes on trying while the disk refuses.

All notes of one moment go into one transaction. State that other threads read is guarded by `lock`.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from gateway.journal_store import Damaged, Store, move_aside, salvage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gateway.journal_store import Event

_log = logging.getLogger(__name__)

PENDING_MAX = 10_000
"""Events that may wait for the disk; further ones are dropped and counted."""

_RETRY_S = 0.5
"""Real seconds between attempts while the disk refuses."""


class JournalWriter:
    """Owns the file. `documents` is the present content of the tables, by (table, key), as JSON text.

    `after_attempt` is called in the thread after each attempt, `replaced` with a sentence when a damaged file was moved
    aside. `tried` and `stored` count the notes (of `noted`) that an attempt has covered, and that are on the disk;
    `tried_id` is the id of the last event that an attempt has covered.
    """

    def __init__(
        self, path: Path, *, max_bytes: int | None, after_attempt: Callable[[], None], replaced: Callable[[str], None]
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.lock = threading.Condition()
        self.healthy = True
        self.last_error = ""
        self.dropped = 0
        self.noted = self.tried = self.stored = 0
        self.tried_id = 0
        self.documents: dict[tuple[str, str], str] = {}
        self.last_id = 0
        self._after_attempt = after_attempt
        self.replaced = replaced
        self._events: deque[Event] = deque()
        self._changes: dict[tuple[str, str], str | None] = {}
        self._closing = False
        self._store: Store | None = None
        self._first_open()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, event: Event) -> bool:
        """Note an event; False when too many wait already, and it was dropped."""
        with self.lock:
            if len(self._events) >= PENDING_MAX:
                self.dropped += 1
                return False
            self._events.append(event)
            self.noted += 1
            self.lock.notify()
        return True

    def change(self, key: tuple[str, str], body: str | None) -> None:
        """Note the new text of a document; None deletes it."""
        with self.lock:
            if body is None:
                self.documents.pop(key, None)
            else:
                self.documents[key] = body
            self._changes[key] = body
            self.noted += 1
            self.lock.notify()

    def close(self) -> None:
        """Make a last attempt, close the file, end the thread. Blocks."""
        with self.lock:
            self._closing = True
            self.lock.notify()
        self._thread.join()

    def waiting(self) -> list[Event]:
        """Events that are not on the disk yet, oldest first."""
        with self.lock:
            return list(self._events)

    def _first_open(self) -> None:
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            self._take_over(*salvage(self.path))
        else:
            if self._store is not None and not self.last_id:
                self._take_over(self._store.last_id(), self._store.documents())

    def _take_over(self, last_id: int | None, documents: Mapping[tuple[str, str], str]) -> None:
        # Ids must go on growing for those who resume by id. When the last one is lost, the number of seconds since 1970
        # is above it, as long as fewer than one event per second were recorded over the life of the file.
        self.last_id = self.tried_id = int(time.time()) if last_id is None else last_id
        self.documents.update(documents)

    def _open(self) -> None:
        """Open the file, replacing a damaged one; raises sqlite3.Error or OSError when that is impossible at present."""
        try:
            self._store = Store(self.path)
        except Damaged as damage:
            if not self.documents:
                self._take_over(*salvage(self.path))
            aside = move_aside(self.path)
            self._store = Store(self.path)
            with self.lock:
                self._changes = {**self.documents, **self._changes}
                self.noted += 1
            self.replaced(f"{self.path.name} was damaged ({damage}); it was moved to {aside.name} and a new one was made")

    def _work(self) -> None:
        closing = False
        while not closing:
            with self.lock:
                self.lock.wait_for(lambda: self._closing or self._events or self._changes)
                closing = self._closing
            if not self._attempt() and not closing:
                with self.lock:
                    self.lock.wait_for(lambda: self._closing, timeout=_RETRY_S)
        if self._store is not None:
            self._store.close()

    def _attempt(self) -> bool:
        """Write everything noted; False when the disk refused, with nothing lost."""
        with self.lock:
            events, changes, covered = list(self._events), self._changes, self.noted
            self._changes = {}
        try:
            if self._store is None:
                self._open()
            self._write(events, changes)
        except (Damaged, sqlite3.Error, OSError) as error:
            with self.lock:
                self._changes = {**changes, **self._changes}
                self.tried, self.tried_id = self.noted, self._events[-1].id if self._events else self.tried_id
            self._failed(error)
        else:
            with self.lock:
                for _ in events:
                    self._events.popleft()
                self.tried = self.stored = covered
                self.tried_id = events[-1].id if events else self.tried_id
            self._recovered()
        self._after_attempt()
        return self.healthy

    def _write(self, events: list[Event], changes: Mapping[tuple[str, str], str | None]) -> None:
        store = self._store
        if store is not None:
            store.limit_size(self.max_bytes)
            store.write(events, changes)

    def _failed(self, error: Exception) -> None:
        if str(error) != self.last_error:
            _log.error("the journal cannot be written: %s", error)
        self.healthy, self.last_error = False, str(error)
        full = isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
        if self._store is not None and not full:
            # After a failed flush the kernel may have dropped pages: only a file that is opened and checked anew is trusted.
            with contextlib.suppress(sqlite3.Error):
                self._store.close()
            self._store = None

    def _recovered(self) -> None:
        if not self.healthy:
            _log.warning("the journal can be written again")
        self.healthy, self.last_error = True, ""
