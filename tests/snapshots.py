"""A snapshot that a test fills by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway.points import NEVER, Quality, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.clock import Clock


class FakeSnapshot:
    """Points from a dict: a number or text is a good sample read now, None a bad one; unknown names were never read.

    `set` changes one point, `touch` reads points again without changing them (all of them when none are named). Ages
    run on the clock's monotonic time, source times on its UTC.
    """

    def __init__(self, values: Mapping[str, float | str | None], clock: Clock) -> None:
        self._clock = clock
        self._samples: dict[str, Sample] = {}
        self._read_s: dict[str, float] = {}
        self.update(values)

    def set(self, name: str, value: float | str | None, quality: Quality | None = None, *, age_s: float = 0.0) -> None:
        """Give one point a new sample, read `age_s` ago; the quality is good, or without a value BAD_SENSOR_FAILURE."""
        if quality is None:
            quality = Quality.BAD_SENSOR_FAILURE if value is None else Quality.GOOD
        kept = None if quality.is_bad else value
        number = float(kept) if isinstance(kept, (int, float)) else kept
        self._samples[name] = Sample(number, quality, self._clock.utc_ns() - round(age_s * 1e9))
        self._read_s[name] = self._clock.monotonic() - age_s

    def update(self, values: Mapping[str, float | str | None]) -> None:
        """Give several points new good samples."""
        for name, value in values.items():
            self.set(name, value)

    def touch(self, *names: str) -> None:
        """Read the points again: same value and quality, new source time."""
        for name in names or tuple(self._samples):
            sample = self._samples[name]
            self._samples[name] = Sample(sample.value, sample.quality, self._clock.utc_ns())
            self._read_s[name] = self._clock.monotonic()

    def forget(self, name: str) -> None:
        """Make a point one that was never read."""
        self._samples.pop(name, None)
        self._read_s.pop(name, None)

    @property
    def names(self) -> tuple[str, ...]:
        """The points that were read."""
        return tuple(self._samples)

    def sample(self, name: str) -> Sample:
        return self._samples.get(name, NEVER)

    def number(self, name: str) -> float | None:
        return self.sample(name).number

    def age_s(self, name: str) -> float:
        read_s = self._read_s.get(name)
        return math.inf if read_s is None else self._clock.monotonic() - read_s
