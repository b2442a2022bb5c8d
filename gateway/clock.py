"""Two time domains behind one seam: real time and site time.

*Real* time (UTC for stamps, monotonic for ages) governs ages, communication time-outs, watchdogs, leases, STOP and
every I/O deadline. *Site* time runs `time_factor` times as fast on a simulated site and equals real time elsewhere; it
governs step clocks, counters, rates and the delays of physical causes.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What every time-dependent part is given."""

    def utc_ns(self) -> int:
        """UTC in nanoseconds since 1970; for stamps only, may step."""
        ...

    def monotonic(self) -> float:
        """Real seconds that never step back; the origin is arbitrary."""
        ...

    def site(self) -> float:
        """Site seconds that never step back; the origin is arbitrary."""
        ...

    @property
    def time_factor(self) -> float:
        """Site seconds per real second, above 0."""
        ...


class SystemClock:
    """The machine's clocks, with a site clock whose rate can be changed while it runs."""

    def __init__(self, time_factor: float = 1.0) -> None:
        self._factor = time_factor
        self._site_at_change = 0.0
        self._changed_at = time.monotonic()

    def utc_ns(self) -> int:
        """UTC in nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Real seconds since an arbitrary origin."""
        return time.monotonic()

    def site(self) -> float:
        """Site seconds since this clock was made."""
        return self._site_at_change + (time.monotonic() - self._changed_at) * self._factor

    @property
    def time_factor(self) -> float:
        """Site seconds per real second."""
        return self._factor

    def set_time_factor(self, factor: float) -> None:
        """Let site time run `factor` times as fast from now on (above 0)."""
        if not factor > 0.0:
            msg = f"time factor must be above 0, got {factor}"
            raise ValueError(msg)
        self._site_at_change, self._changed_at = self.site(), time.monotonic()
        self._factor = factor
