"""The tag database of the control process: the one place where every point has its value, quality and source time.

Columns are numpy arrays in the order of the points, so that a block of a device, an ageing sweep or the shared image
costs one array operation each. Every point has one writer, which holds it through a `Block`. Canonical points mirror
device points (aliases) and change with them in the same call.

What always holds: a point of bad quality has no number (NaN in `values`, None in a `Sample`); a point that is not bad has
a finite one; ageing changes quality and never a source time; a sample published twice under the same source time is as
old as it was. Ages are real monotonic seconds. Belongs to one thread (the event loop's).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gateway.points import NEVER, TEXT_BYTES, Kind, Quality, Sample
from gateway.table.block import Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gateway.clock import Clock
    from gateway.points import Point, Snapshot
    from gateway.site import Alias

_NEVER_AGES_S = 1e18
"""Stands for "no limit": infinity would make NaN of a point that was never read."""
_STEP_NS = 200_000_000
"""Wall and monotonic clock apart by more than this since the last look: the wall clock was stepped. Clock slewing is
at most 500 ppm (Linux adjtimex), far below this between two looks."""
_STEP_DOUBT_S = 10.0
"""After a step of the wall clock, source times of requests that were then in flight say nothing about age."""

_UNCERTAIN = int(Quality.UNCERTAIN_LAST_USABLE_VALUE)
_BAD = int(Quality.BAD_WAITING_FOR_INITIAL_DATA)
_NO_COMMUNICATION = int(Quality.BAD_NO_COMMUNICATION)


def fit_text(text: str) -> str:
    """`text` cut to TEXT_BYTES bytes of UTF-8 at a character border; what UTF-8 cannot carry becomes "?"."""
    if text.isascii() and len(text) <= TEXT_BYTES:
        return text
    return text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")


class Table:
    """The points and their present samples.

    `index` gives a point's place in the columns `values` (float64; for a text point the version of its text),
    `qualities` (uint8, see `Quality`) and `times_ns` (int64, UTC); `texts` holds the text points' texts. The columns are
    for reading; only a `Block` writes. ValueError when names repeat or an alias makes no sense.
    """

    def __init__(self, points: Sequence[Point], aliases: Sequence[Alias], clock: Clock) -> None:
        self.points = tuple(points)
        self.index: Mapping[str, int] = {point.name: place for place, point in enumerate(self.points)}
        if len(self.index) != len(self.points):
            names = [point.name for point in self.points]
            msg = f"points defined more than once: {', '.join(sorted({name for name in names if names.count(name) > 1}))}"
            raise ValueError(msg)
        size = len(self.points)
        self.values = np.full(size, np.nan)
        self.qualities = np.full(size, _BAD, dtype=np.uint8)
        self.times_ns = np.zeros(size, dtype=np.int64)
        self.texts: dict[int, str] = {place: "" for place, point in enumerate(self.points) if point.kind is Kind.TEXT}
        self.texts_truncated = 0
        """Texts that were longer than a text point may be, since the start."""
        self.read_at = np.full(size, -np.inf)
        """Monotonic time at which each point last had a value that was not bad; -inf when never."""
        self._versions = dict.fromkeys(self.texts, 0)
        self._mirrors = _mirrors(self, aliases)
        self._mirrored = frozenset(place for targets in self._mirrors.values() for place, _ in targets)
        self._writers: dict[int, str] = {}
        self._clock = clock
        self._wall_offset_ns = clock.utc_ns() - int(clock.monotonic() * 1e9)
        self._stepped_at = -math.inf
        self._uncertain_after, self._bad_after = self._limits()
        self.patience_s = float(min(self._uncertain_after.min(), self._bad_after.min())) if size else _NEVER_AGES_S
        self._deadline = np.empty(size)
        self._late = np.empty(size, dtype=np.bool_)

    def _limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ages (s) at which each point becomes uncertain and bad; a mirror is never more patient than its source."""
        uncertain, bad = (
            np.array([_NEVER_AGES_S if limit is None else limit for limit in limits], dtype=np.float64)
            for limits in ([p.uncertain_after_s for p in self.points], [p.bad_after_s for p in self.points])
        )
        for source, targets in self._mirrors.items():
            for target, _ in targets:
                uncertain[target] = min(uncertain[target], uncertain[source])
                bad[target] = min(bad[target], bad[source])
        return uncertain, bad

    def claim(self, names: Sequence[str], writer: str) -> Block:
        """The right to publish `names`, in that order, as `writer`.

        ValueError when a name is unknown, mirrors another point, or has another writer already.
        """
        problems = [problem for name in names if (problem := self._claim_problem(name, writer))]
        if len(set(names)) != len(names):
            problems.append("a name is given twice")
        if problems:
            msg = f"{writer} cannot claim its points: {'; '.join(problems)}"
            raise ValueError(msg)
        places = [self.index[name] for name in names]
        self._writers.update(dict.fromkeys(places, writer))
        return Block(self, places, self._mirrors)

    def _claim_problem(self, name: str, writer: str) -> str | None:
        place = self.index.get(name)
        if place is None:
            return f"{name} does not exist"
        if place in self._mirrored:
            return f"{name} mirrors another point"
        owner = self._writers.get(place, writer)
        return None if owner == writer else f"{name} belongs to {owner}"

    def age(self) -> None:
        """Mark what is older than its point allows: uncertain first, then bad and without a number."""
        now = self._look()
        np.add(self.read_at, self._bad_after, out=self._deadline)
        np.less(self._deadline, now, out=self._late)
        self._late &= self.qualities < _BAD
        if self._late.any():
            self.qualities[self._late] = _NO_COMMUNICATION
            self.values[self._late] = np.nan
        np.add(self.read_at, self._uncertain_after, out=self._deadline)
        np.less(self._deadline, now, out=self._late)
        self._late &= self.qualities < _UNCERTAIN
        if self._late.any():
            self.qualities[self._late] = _UNCERTAIN

    def view(self) -> Snapshot:
        """The present samples, without a copy: coherent until the next await."""
        return _View(self)

    def sample(self, name: str) -> Sample:
        """The sample of a point; NEVER for a name that does not exist."""
        place = self.index.get(name)
        if place is None:
            return NEVER
        quality = Quality(self.qualities.item(place))
        value: float | str | None = None
        if not quality.is_bad:
            text = self.texts.get(place)
            value = self.values.item(place) if text is None else text
        return Sample(value, quality, self.times_ns.item(place))

    def number(self, name: str) -> float | None:
        """The value of a numeric point when its quality is good, else None."""
        place = self.index.get(name)
        if place is None or self.qualities.item(place) >= _UNCERTAIN or place in self.texts:
            return None
        return self.values.item(place)

    def age_s(self, name: str) -> float:
        """Real seconds since the point was last read with a value that is not bad; infinite when never."""
        place = self.index.get(name)
        return math.inf if place is None else max(0.0, self._clock.monotonic() - self.read_at.item(place))

    def moment_of_read(self, time_ns: int) -> float:
        """The monotonic time that belongs to the source time `time_ns` (UTC).

        A source time in the future counts as now, and so does every one shortly after the wall clock was stepped.
        """
        now = self._look()
        lag_ns = self._wall_offset_ns + int(now * 1e9) - time_ns
        return now if lag_ns <= 0 or now - self._stepped_at < _STEP_DOUBT_S else now - lag_ns * 1e-9

    def present(self) -> tuple[int, float]:
        """UTC (ns) and monotonic time (s), now."""
        return self._clock.utc_ns(), self._clock.monotonic()

    def age_if_late(self, read_at: float) -> None:
        """Age at once when a sample arrived that is older than some point allows."""
        if self._clock.monotonic() - read_at > self.patience_s:
            self.age()

    def _look(self) -> float:
        """Monotonic time, now; notices steps of the wall clock."""
        now = self._clock.monotonic()
        offset_ns = self._clock.utc_ns() - int(now * 1e9)
        if abs(offset_ns - self._wall_offset_ns) > _STEP_NS:
            self._stepped_at = now
        self._wall_offset_ns = offset_ns
        return now

    def set_text(self, place: int, text: str) -> float:
        """Store a text and give its version, a number that changes whenever the text does."""
        fitted = fit_text(text)
        if fitted != text:
            self.texts_truncated += 1
        if fitted != self.texts[place] or not self._versions[place]:
            self.texts[place] = fitted
            self._versions[place] += 1
        return float(self._versions[place])


class _View:
    """The live `Snapshot` of a table."""

    __slots__ = ("age_s", "number", "sample")

    def __init__(self, table: Table) -> None:
        self.sample = table.sample
        self.number = table.number
        self.age_s = table.age_s


def _mirrors(table: Table, aliases: Sequence[Alias]) -> Mapping[int, Sequence[tuple[int, float]]]:
    """For each mirrored point the points that mirror it, with their factors. ValueError when that makes no sense."""
    mirrors: dict[int, list[tuple[int, float]]] = {}
    sources = {alias.source for alias in aliases}
    seen: set[str] = set()
    for alias in aliases:
        problem = _alias_problem(table, alias)
        if alias.target in sources:
            problem = "the target is itself a source"
        if alias.target in seen:
            problem = "the target mirrors two points"
        if problem:
            msg = f"alias {alias.source} -> {alias.target}: {problem}"
            raise ValueError(msg)
        seen.add(alias.target)
        mirrors.setdefault(table.index[alias.source], []).append((table.index[alias.target], alias.factor))
    return mirrors


def _alias_problem(table: Table, alias: Alias) -> str | None:
    source, target = table.index.get(alias.source), table.index.get(alias.target)
    if source is None or target is None:
        return f"{alias.source if source is None else alias.target} does not exist"
    if (source in table.texts) is not (target in table.texts):
        return "one is text, the other a number"
    return None if math.isfinite(alias.factor) and alias.factor else f"the factor is {alias.factor}"
