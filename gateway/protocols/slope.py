"""The present slope of a noisy signal: a straight line through the recent past, older samples counting less.

An exponentially weighted regression gives a far quieter slope than differences do, and needs no memory of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slope:
    """Weighted sums over samples, with time counted from the latest one and values from the first one."""

    time_constant_s: float
    samples: int = 0
    span_s: float = 0.0
    """Time between the first and the latest sample."""
    last_ns: int = -1
    _last_s: float = 0.0
    _origin: float = 0.0
    _weight: float = 0.0
    _t: float = 0.0
    _y: float = 0.0
    _tt: float = 0.0
    _ty: float = 0.0

    def add(self, time_s: float, value: float, time_ns: int) -> Slope:
        """With one more sample; the same when its source time is not new."""
        if time_ns == self.last_ns:
            return self
        if self.samples == 0:
            return Slope(self.time_constant_s, 1, 0.0, time_ns, time_s, value, 1.0)
        dt = time_s - self._last_s
        if dt <= 0.0:
            return self
        keep = math.exp(-dt / self.time_constant_s)
        y = value - self._origin
        return Slope(
            self.time_constant_s,
            self.samples + 1,
            self.span_s + dt,
            time_ns,
            time_s,
            self._origin,
            keep * self._weight + 1.0,
            keep * (self._t - dt * self._weight),
            keep * self._y + y,
            keep * (self._tt - 2.0 * dt * self._t + dt * dt * self._weight),
            keep * (self._ty - dt * self._y),
        )

    @property
    def per_second(self) -> float | None:
        """The slope in units per site second; None with fewer than three samples."""
        spread = self._weight * self._tt - self._t * self._t
        if self.samples < 3 or spread <= 0.0:
            return None
        return (self._weight * self._ty - self._t * self._y) / spread
