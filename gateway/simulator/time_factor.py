"""Site seconds per real second, as control writes it into a file of the run directory."""

from __future__ import annotations

import math
import os
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = struct.Struct("<d")
_LOOK_EVERY_S = 0.5
_LARGEST = 1000.0


class TimeFactorFile:
    """Reads the factor; 1.0 until the file is there. Reading through a descriptor, not a mapping, survives a truncated file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._identity = (-1, -1)
        self._looked_at = -math.inf
        self.factor = 1.0

    def read(self) -> float:
        """The factor in force now."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        if self._descriptor >= 0:
            data = os.pread(self._descriptor, _FORMAT.size, 0)
            if len(data) == _FORMAT.size:
                value = float(_FORMAT.unpack(data)[0])
                self.factor = value if 0.0 < value <= _LARGEST else self.factor
        return self.factor

    def _look(self) -> None:
        """Open the file, or open it again when another one has taken its place."""
        try:
            found = self._path.stat()
        except OSError:
            return
        if (found.st_dev, found.st_ino) == self._identity:
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._identity = (found.st_dev, found.st_ino)
