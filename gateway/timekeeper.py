"""The rate of site time on a simulated site: fast while nothing happens, slow near the end of a step.

A loop that notices an end condition after a tenth of a real second overshoots it by as many site seconds as the clock
is fast, so the clock slows down while any end is near. The factor in force is a point, and the simulator reads it from
a file that both processes map.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.clock import SystemClock

NEAR_S = 60.0
"""Site seconds before a predicted end at which the clock is already slow."""

NEAR_FACTOR = 5.0
"""Largest time factor near an end: 1.3 mV/s of a LiFePO4 cell times a loop of about 0.3 s stays below 5 mV of overshoot."""


def wanted_factor(nearest_end_s: float, *, running: bool, fastest: float) -> float:
    """The time factor for a predicted distance to the nearest end (site seconds); real time without a run.

    What is not known, or not in sight (infinite), counts as near.
    """
    if not running:
        return 1.0
    if not math.isfinite(nearest_end_s) or nearest_end_s <= NEAR_S:
        return min(NEAR_FACTOR, fastest)
    return fastest


class TimeKeeper:
    """Sets the site clock's rate and tells the simulator. `fastest` is 1.0 on a site with any real port."""

    def __init__(self, clock: SystemClock, file: Path, fastest: float) -> None:
        self._clock = clock
        self._fastest = fastest
        file.write_bytes(struct.pack("<d", clock.time_factor))
        with file.open("r+b") as handle:
            self._shared = mmap.mmap(handle.fileno(), 8)

    @property
    def fastest(self) -> float:
        """The largest factor in use."""
        return self._fastest

    def update(self, nearest_end_s: float, *, running: bool) -> None:
        """Choose the factor for the present distance to the nearest end; call it once per control cycle."""
        factor = wanted_factor(nearest_end_s, running=running, fastest=self._fastest)
        if factor != self._clock.time_factor:
            self._clock.set_time_factor(factor)
            struct.pack_into("<d", self._shared, 0, factor)

    def close(self) -> None:
        """Back to real time; unmap the file."""
        struct.pack_into("<d", self._shared, 0, 1.0)
        self._shared.close()
