"""The frames that make every device safe, kept in a file for a time when this program is gone (see safe_state).

The file is written before the site may be energised, and again whenever a port has moved or a driver has learned something
about its device.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)


class FramesFile:
    """Keeps the file in step with the frames. `problem` is why the file is not what it should be; empty when it is."""

    def __init__(self, path: Path, frames: Callable[[], Mapping[str, object]]) -> None:
        self.problem = "the frames for safe-state have not been stored yet"
        self._path = path
        self._frames = frames
        self._stored: Mapping[str, object] | None = None
        self._turn = asyncio.Lock()

    async def store(self) -> None:
        """Write the frames when they have changed; a disk that does not take them is a `problem`, tried again next time."""
        async with self._turn:
            frames = self._frames()
            if frames == self._stored:
                return
            try:
                await asyncio.to_thread(_write, self._path, json.dumps(frames))
            except OSError as error:
                self._failed(f"the frames for safe-state cannot be stored: {error}")
                return
            self._stored, self.problem = frames, ""

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("%s", problem)
        self.problem = problem


def _write(path: Path, text: str) -> None:
    """Whole or not at all, also when the power fails."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
