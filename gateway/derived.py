"""Points that follow from other points: extremes of the cells, cross-sums, power, charge and energy counted.

A derived value has the worst quality of its inputs and the oldest of their source times; so it is bad, without a number,
as soon as one input is. Counters are different: a count is known as long as somebody kept it, so while its inputs are not
good it stands still as UncertainLastUsableValue, and the time that went uncounted is itself counted.

Signs: + = discharge; "out" is discharge, "in" is charge, both count upwards. Charge and energy integrate in site time,
between the moments at which the inputs were read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gateway.points import Kind, Point, Quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.site import Site, StringSpec
    from gateway.table import Table

GAP_PERIODS = 5.0
"""A pause in the telemetry of more than so many periods of the device is a gap: what flowed meanwhile is not guessed."""

CELL_POINTS = (
    "cell_voltage_max",
    "cell_voltage_max_cell",
    "cell_voltage_min",
    "cell_voltage_min_cell",
    "cell_voltage_mean",
    "cell_voltage_spread",
)
COUNTERS = ("charge_in", "charge_out", "energy_in", "energy_out", "unmeasured_time")
SITE_POWER = "site.power"

_SECONDS_PER_HOUR = 3600.0


def cell_names(string: StringSpec) -> tuple[str, ...]:
    """The names of the cell voltages of a string, cell 1 first."""
    return tuple(f"{string.prefix}.battery.cell.{number}.voltage" for number in range(1, string.cells + 1))


def points(site: Site) -> tuple[Point, ...]:
    """The points that `Derived` publishes. They age as fast as the most impatient of their inputs."""
    known = {point.name: point for point in site.canonical_points}
    found = [point for string in site.strings for point in _string_points(string, known)]
    powers = [point for point in found if point.name.endswith(".battery.power")]
    site_power = _point(SITE_POWER, "W", "Power of all strings at their batteries, + = discharge", powers)
    return (*found, site_power)


def _string_points(string: StringSpec, known: Mapping[str, Point]) -> Iterable[Point]:
    prefix = f"{string.prefix}.battery"
    cells = [known[name] for name in cell_names(string) if name in known]
    current, pack = ([known[name]] if (name := f"{prefix}.{end}") in known else [] for end in ("current", "pack_voltage"))
    for which, text in (("max", "Highest"), ("min", "Lowest")):
        yield _like_cell(f"{prefix}.cell_voltage_{which}", f"{text} cell voltage", cells)
        number = _point(f"{prefix}.cell_voltage_{which}_cell", "", f"Number of the cell with the {text.lower()} voltage", cells)
        yield replace(number, kind=Kind.INTEGER, low=1.0, high=float(string.cells))
    yield _like_cell(f"{prefix}.cell_voltage_mean", "Mean of the cell voltages", cells)
    yield _point(f"{prefix}.cell_voltage_spread", "V", "Highest minus lowest cell voltage", cells)
    yield _point(f"{prefix}.pack_mismatch", "V", "Sum of the cell voltages minus the pack voltage", [*cells, *pack], patient=True)
    yield _point(f"{prefix}.power", "W", "Battery power, current times the sum of the cells, + = discharge", [*current, *cells])
    for name, unit, text in (
        ("charge_in", "Ah", "Charge put into the battery"),
        ("charge_out", "Ah", "Charge taken from the battery"),
        ("energy_in", "Wh", "Energy put into the battery"),
        ("energy_out", "Wh", "Energy taken from the battery"),
        ("unmeasured_time", "s", "Site time that the charge and energy counters missed for want of good telemetry"),
    ):
        # A count never becomes bad by age: it stands still and says so.
        limits = [point.uncertain_after_s for point in (*current, *cells) if point.uncertain_after_s is not None]
        yield Point(
            name=f"{prefix}.{name}",
            unit=unit,
            description=text,
            source="derived",
            low=0.0,
            uncertain_after_s=min(limits, default=None),
        )


def _point(name: str, unit: str, description: str, inputs: Sequence[Point], *, patient: bool = False) -> Point:
    """A point that ages with its least patient input; with `patient`, where a fast input meets a slow one, with its most."""
    choose = max if patient else min
    uncertain, bad = (
        choose((limit for limit in limits if limit is not None), default=None)
        for limits in ([point.uncertain_after_s for point in inputs], [point.bad_after_s for point in inputs])
    )
    return Point(name=name, unit=unit, description=description, source="derived", uncertain_after_s=uncertain, bad_after_s=bad)


def _like_cell(name: str, description: str, cells: Sequence[Point]) -> Point:
    """A voltage with the range and the deadband of the cells."""
    lows, highs = [cell.low for cell in cells], [cell.high for cell in cells]
    return replace(
        _point(name, "V", description, cells),
        low=lows[0] if len(set(lows)) == 1 else None,
        high=highs[0] if len(set(highs)) == 1 else None,
        deadband=min((cell.deadband for cell in cells), default=0.0),
    )


def areas(first: float, second: float, duration: float) -> tuple[float, float]:
    """Area above and below zero of a straight line from `first` to `second` over `duration`, both as magnitudes.

    Splitting at the crossing keeps a pulse that changes sign from cancelling itself.
    """
    if first >= 0.0 and second >= 0.0:
        return (first + second) / 2.0 * duration, 0.0
    if first <= 0.0 and second <= 0.0:
        return 0.0, -(first + second) / 2.0 * duration
    start, end = abs(first), abs(second)
    before, after = start * start / (start + end) / 2.0 * duration, end * end / (start + end) / 2.0 * duration
    return (before, after) if first > 0.0 else (after, before)


@dataclass(frozen=True, slots=True)
class Reading:
    """What flowed when: site time (s), monotonic time (s), current (A) and power (W), + = discharge."""

    site_s: float
    read_at: float
    current_A: float
    power_W: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Charge and energy since they were first counted, and the site time that was missed."""

    charge_in: float = 0.0
    charge_out: float = 0.0
    energy_in: float = 0.0
    energy_out: float = 0.0
    unmeasured_time: float = 0.0

    def missed(self, duration_s: float) -> Counts:
        """After `duration_s` of site time without measurement."""
        return replace(self, unmeasured_time=self.unmeasured_time + max(0.0, duration_s))

    def flowed(self, first: Reading, second: Reading) -> Counts:
        """After what flowed between two readings."""
        hours = max(0.0, second.site_s - first.site_s) / _SECONDS_PER_HOUR
        charge_out, charge_in = areas(first.current_A, second.current_A, hours)
        energy_out, energy_in = areas(first.power_W, second.power_W, hours)
        return replace(
            self,
            charge_in=self.charge_in + charge_in,
            charge_out=self.charge_out + charge_out,
            energy_in=self.energy_in + energy_in,
            energy_out=self.energy_out + energy_out,
        )

    def as_dict(self) -> dict[str, float]:
        """By the names of the points."""
        return {name: getattr(self, name) for name in COUNTERS}


def restored(saved: Mapping[str, object]) -> Counts:
    """Counts as they were saved; what is missing or no count starts at zero."""
    values = {name: saved.get(name) for name in COUNTERS}
    return Counts(
        **{name: float(value) for name, value in values.items() if isinstance(value, int | float) and 0.0 <= value < math.inf}
    )


class Derived:
    """Keeps the derived points of all strings up to date. `counters`: string id -> counts, as `counters()` gave them."""

    def __init__(self, site: Site, table: Table, clock: Clock, counters: Mapping[str, Mapping[str, object]]) -> None:
        self._strings = {
            string.id: _String(string, table, clock, _gap_s(site, string), restored(counters.get(string.id, {})))
            for string in site.strings
        }
        self._power = table.claim([SITE_POWER], "derived")
        self._powers = _Inputs(table, [f"{string.prefix}.battery.power" for string in site.strings])

    def update(self, string_id: str) -> None:
        """Follow the inputs of one string; to be called after each block of its devices. KeyError for an unknown string."""
        if self._strings[string_id].update():
            values, qualities, times_ns = self._powers.read()
            self._power.put(SITE_POWER, *_outcome(sum(values), qualities, times_ns))

    def counters(self) -> dict[str, dict[str, float]]:
        """What to save, and to give back at the next start: string id -> point name -> count (Ah, Wh, s)."""
        return {string_id: string.counts.as_dict() for string_id, string in self._strings.items()}


def _gap_s(site: Site, string: StringSpec) -> float:
    battery = site.device(string.battery)
    return GAP_PERIODS * (site.scan_s if battery is None else battery.period_s)


def _outcome(value: float, qualities: Sequence[int], times_ns: Sequence[int]) -> tuple[float | None, Quality, int]:
    """A derived sample: the worst of the inputs' qualities, the oldest of their times."""
    quality = Quality(max(qualities))
    return (None if quality.is_bad else value), quality, min(times_ns)


class _Inputs:
    """Some points of the table, read together. Lists, because arithmetic on a handful of numbers is faster in them."""

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self._table = table
        self._places = np.array([table.index[name] for name in names], dtype=np.intp)

    def state(self) -> tuple[list[int], list[int]]:
        """Qualities and source times (ns)."""
        return self._table.qualities[self._places].tolist(), self._table.times_ns[self._places].tolist()

    def values(self) -> list[float]:
        """The values, NaN where bad."""
        return self._table.values[self._places].tolist()

    def read(self) -> tuple[list[float], list[int], list[int]]:
        """Values, qualities and source times."""
        return self.values(), *self.state()


class _String:
    """The derived points of one string."""

    def __init__(self, string: StringSpec, table: Table, clock: Clock, gap_s: float, counts: Counts) -> None:
        prefix = f"{string.prefix}.battery"
        self._table, self._clock, self._gap_s = table, clock, gap_s
        self._current = table.index[f"{prefix}.current"]
        self._inputs = _Inputs(table, [f"{prefix}.current", *cell_names(string), f"{prefix}.pack_voltage"])
        self._cell_block = table.claim([f"{prefix}.{name}" for name in CELL_POINTS], "derived")
        self._mismatch, self._power = f"{prefix}.pack_mismatch", f"{prefix}.power"
        self._block = table.claim([self._mismatch, self._power], "derived")
        self._count_block = table.claim([f"{prefix}.{name}" for name in COUNTERS], "derived")
        self._qualities: list[int] = []
        self._times_ns: list[int] = []
        self.counts = counts
        self._last: Reading | None = None
        self._accounted_s: float | None = None
        """Site time up to which flow is either counted or known to be missed."""
        self._counted_ns = 0

    def update(self) -> bool:
        """True when there may be a new power."""
        qualities, times_ns = self._inputs.state()
        if qualities == self._qualities and times_ns == self._times_ns:
            return False
        cells = qualities[1:-1] != self._qualities[1:-1] or times_ns[1:-1] != self._times_ns[1:-1]
        flow = qualities[:-1] != self._qualities[:-1] or times_ns[:-1] != self._times_ns[:-1]
        self._qualities, self._times_ns = qualities, times_ns
        current_A, *volts, pack_V = self._inputs.values()
        if cells:
            self._publish_cells(volts)
        self._block.put(self._mismatch, *_outcome(sum(volts) - pack_V, qualities[1:], times_ns[1:]))
        if flow:
            power_W = current_A * sum(volts)
            self._block.put(self._power, *_outcome(power_W, qualities[:-1], times_ns[:-1]))
            self._count(current_A, power_W)
        return flow

    def _publish_cells(self, volts: list[float]) -> None:
        high_V, low_V = max(volts), min(volts)
        which = volts.index(high_V) + 1.0, volts.index(low_V) + 1.0
        quality, time_ns = Quality(max(self._qualities[1:-1])), min(self._times_ns[1:-1])
        extremes = np.array([high_V, which[0], low_V, which[1], sum(volts) / len(volts), high_V - low_V])
        self._cell_block.publish(extremes, quality, time_ns)

    def _count(self, current_A: float, power_W: float) -> None:
        if not Quality(max(self._qualities[:-1])).is_good:
            self._stand_still()
            return
        reading = self._reading(current_A, power_W)
        if self._last is None or reading.read_at - self._last.read_at > self._gap_s:
            self._miss_until(reading.site_s)
            self._keep(reading)
        elif reading.read_at > self._last.read_at:
            self.counts = self.counts.flowed(self._last, reading)
            self._keep(reading)

    def _reading(self, current_A: float, power_W: float) -> Reading:
        read_at = self._table.read_at.item(self._current)
        site_s = self._clock.site() - (self._clock.monotonic() - read_at) * self._clock.time_factor
        return Reading(site_s, read_at, current_A, power_W)

    def _keep(self, reading: Reading) -> None:
        self._last, self._accounted_s = reading, reading.site_s
        self._counted_ns = self._times_ns[0]
        self._publish_counts(Quality.GOOD)

    def _stand_still(self) -> None:
        now_s = self._clock.site()
        self._miss_until(now_s)
        self._last, self._accounted_s = None, now_s
        self._publish_counts(Quality.UNCERTAIN_LAST_USABLE_VALUE)

    def _miss_until(self, site_s: float) -> None:
        if self._accounted_s is not None:
            self.counts = self.counts.missed(site_s - self._accounted_s)

    def _publish_counts(self, quality: Quality) -> None:
        if not self._counted_ns:
            return  # nothing was read yet in this run: the points wait for their first value
        counts = self.counts
        values = (counts.charge_in, counts.charge_out, counts.energy_in, counts.energy_out, counts.unmeasured_time)
        self._count_block.publish(np.array(values), quality, self._counted_ns)
