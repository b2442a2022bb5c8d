"""A clock that moves only when a test says so."""

from __future__ import annotations


class ManualClock:
    """Real and site time under the test's control; `advance` moves both, site time by the time factor."""

    def __init__(self, monotonic: float = 1000.0, utc_ns: int = 1_800_000_000_000_000_000, time_factor: float = 1.0) -> None:
        self._monotonic = monotonic
        self._utc_ns = utc_ns
        self._site = 0.0
        self.time_factor = time_factor

    def utc_ns(self) -> int:
        return self._utc_ns

    def monotonic(self) -> float:
        return self._monotonic

    def site(self) -> float:
        return self._site

    def advance(self, real_s: float) -> None:
        """Let `real_s` seconds pass."""
        self._monotonic += real_s
        self._utc_ns += round(real_s * 1e9)
        self._site += real_s * self.time_factor

    def step_wall(self, real_s: float) -> None:
        """Let the wall clock jump, without any time passing."""
        self._utc_ns += round(real_s * 1e9)
