"""What holds for the table whatever is published, in whatever order and at whatever times."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.points import Kind, Point, Quality
from gateway.site import Alias
from gateway.table import Table
from tests.manual_clock import ManualClock

NUMBERS = ("n0", "n1", "n2", "n3")
MIRRORS = ("m2", "m0")
TEXT = "t0"
POINTS = (
    Point(name="n0", uncertain_after_s=1.0, bad_after_s=3.0),
    Point(name="n1", uncertain_after_s=0.5),
    Point(name="m2"),
    Point(name="n2", bad_after_s=2.0),
    Point(name="n3"),
    Point(name="m0", uncertain_after_s=2.0),
    Point(name="t0", kind=Kind.TEXT, bad_after_s=5.0),
)
ALIASES = (Alias(source="n0", target="m0", factor=-1.0), Alias(source="n2", target="m2", factor=1.0))
LIMITS = {"n0": (1.0, 3.0), "n1": (0.5, math.inf), "m2": (math.inf, 2.0), "n2": (math.inf, 2.0), "m0": (1.0, 3.0)}

values = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4)
qualities = st.sampled_from(list(Quality))
times = st.integers(0, 6_000_000_000)


class TableMachine(RuleBasedStateMachine):
    """Publishes anything; remembers the newest source time that each point was given."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.table = Table(POINTS, ALIASES, self.clock)
        self.numbers = self.table.claim(NUMBERS, "numbers")
        self.texts = self.table.claim([TEXT], "texts")
        self.given_ns = dict.fromkeys((point.name for point in POINTS), 0)
        self.aged = False

    def given(self, names: tuple[str, ...], time_ns: int) -> None:
        mirrors = {alias.source: alias.target for alias in ALIASES}
        for name in names:
            self.given_ns[name] = time_ns
            if name in mirrors:
                self.given_ns[mirrors[name]] = time_ns
        self.aged = False

    @rule(published=values, quality=qualities, lag_ns=times)
    def publish_with_one_quality(self, published: list[float], quality: Quality, lag_ns: int) -> None:
        time_ns = self.clock.utc_ns() - lag_ns
        self.numbers.publish(np.array(published), quality, time_ns)
        self.given(NUMBERS, time_ns)

    @rule(published=values, several=st.lists(qualities, min_size=4, max_size=4), lag_ns=times)
    def publish_with_qualities(self, published: list[float], several: list[Quality], lag_ns: int) -> None:
        time_ns = self.clock.utc_ns() - lag_ns
        self.numbers.publish(np.array(published), np.array(several, dtype=np.uint8), time_ns)
        self.given(NUMBERS, time_ns)

    @rule(published=values)
    def publish_the_same_reading_again(self, published: list[float]) -> None:
        """Only when all points carry the same source time is it one reading."""
        stamps = {self.given_ns[name] for name in NUMBERS}
        if len(stamps) != 1 or 0 in stamps:
            return
        ages = {name: self.table.age_s(name) for name in NUMBERS}
        time_ns = stamps.pop()
        self.numbers.publish(np.array(published), Quality.GOOD, time_ns)
        self.given(NUMBERS, time_ns)
        for name in NUMBERS:
            if ages[name] < math.inf and not self.table.sample(name).quality.is_bad:
                assert self.table.age_s(name) >= min(ages[name], (self.clock.utc_ns() - time_ns) * 1e-9) - 1e-6

    @rule(name=st.sampled_from(NUMBERS), value=st.floats(), quality=qualities, lag_ns=st.none() | times)
    def put(self, name: str, value: float, quality: Quality, lag_ns: int | None) -> None:
        time_ns = self.clock.utc_ns() - (lag_ns or 0)
        self.numbers.put(name, value, quality, None if lag_ns is None else time_ns)
        self.given((name,), time_ns)

    @rule(text=st.text(), quality=qualities)
    def put_text(self, text: str, quality: Quality) -> None:
        self.texts.put(TEXT, text, quality)
        self.given((TEXT,), self.clock.utc_ns())

    @rule(real_s=st.floats(0.0, 4.0))
    def pass_time(self, real_s: float) -> None:
        self.clock.advance(real_s)
        self.aged = False

    @rule()
    def age(self) -> None:
        self.table.age()
        self.aged = True

    @invariant()
    def a_value_exists_exactly_when_the_quality_is_not_bad(self) -> None:
        for place, point in enumerate(POINTS):
            sample = self.table.sample(point.name)
            assert (sample.value is None) is sample.quality.is_bad
            assert math.isfinite(self.table.values[place]) is not sample.quality.is_bad
            assert (self.table.number(point.name) is not None) is (sample.quality.is_good and point.name != TEXT)

    @invariant()
    def nothing_is_stamped_again(self) -> None:
        for name, time_ns in self.given_ns.items():
            assert self.table.sample(name).time_ns == time_ns

    @invariant()
    def mirrors_equal_their_sources(self) -> None:
        for alias in ALIASES:
            source, target = self.table.sample(alias.source), self.table.sample(alias.target)
            expected = None if source.value is None else float(source.value) * alias.factor
            assert (target.value, target.time_ns) == (expected, source.time_ns)
            assert target.quality is source.quality

    @invariant()
    def after_a_sweep_nothing_is_better_than_its_age(self) -> None:
        if not self.aged:
            return
        for name, (uncertain_s, bad_s) in LIMITS.items():
            sample = self.table.sample(name)
            age_s, quality = (self.clock.utc_ns() - sample.time_ns) * 1e-9, sample.quality
            assert quality.is_bad or age_s <= bad_s + 1e-6
            assert not quality.is_good or age_s <= uncertain_s + 1e-6


TableMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestTable = TableMachine.TestCase
