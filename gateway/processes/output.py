"""What the children print: line by line to the supervisor's log, or to one bounded file for each of them."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

LINE_BYTES = 8192
"""A longer line is cut into pieces of this size, so that a child that never ends its line costs no memory."""


def to_log(name: str, line: str) -> None:
    """Pass a line of a child on to the supervisor's own log, with the child's name in front."""
    _log.info("%s: %s", name, line)


class LogFiles:
    """Lines of the children in `<directory>/<name>.log`, with one older generation each."""

    def __init__(self, directory: Path, *, max_bytes: int = 5_000_000) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._handlers: dict[str, RotatingFileHandler] = {}

    def __call__(self, name: str, line: str) -> None:
        """Append one line of the child of that name."""
        handler = self._handlers.get(name)
        if handler is None:
            path = self._directory / f"{name}.log"
            handler = RotatingFileHandler(path, maxBytes=self._max_bytes, backupCount=1, encoding="utf-8", delay=True)
            self._handlers[name] = handler
        handler.handle(logging.LogRecord(name, logging.INFO, "", 0, f"{name}: {line}", None, None))

    def close(self) -> None:
        """Close the files; a later line opens its file again."""
        for handler in self._handlers.values():
            handler.close()
        self._handlers.clear()


async def pump(reader: StreamReader, emit: Callable[[str], None]) -> None:
    """Hand every line that arrives to `emit`, until the other end is closed."""
    rest = b""
    while chunk := await reader.read(LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= LINE_BYTES:
            lines.append(rest)
            rest = b""
        for line in lines:
            emit(line.decode(errors="replace").rstrip("\r"))
    if rest:
        emit(rest.decode(errors="replace"))
