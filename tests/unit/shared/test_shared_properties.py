"""The image and the ring against a plain model, whatever is written and however slowly it is read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.points import TEXT_BYTES, Kind, Point, Quality
from gateway.shared import ImageReader, ImageWriter, layout_hash
from gateway.table import Table
from tests.manual_clock import ManualClock

NUMBERS, TEXTS = 5, 2
POINTS = tuple(
    Point(name=f"p{i}", kind=Kind.TEXT if i >= NUMBERS else Kind.ANALOG, deadband=0.5 if i == 0 else 0.0)
    for i in range(NUMBERS + TEXTS)
)
DEADBANDS = np.array([point.deadband for point in POINTS])

places = st.integers(0, NUMBERS - 1)
numbers = st.floats(-10.0, 10.0) | st.integers(-3, 3).map(float)
qualities = st.sampled_from(list(Quality))
texts = st.text(max_size=TEXT_BYTES + 10)


class Follower:
    """What a process knows that applies changes to what it had before."""

    def __init__(self, reader: ImageReader) -> None:
        self.reader = reader
        self.values = np.full(len(POINTS), np.nan)
        self.qualities = np.full(len(POINTS), 255, np.uint8)
        self.slack = DEADBANDS
        self.seen = 0

    def follow(self, written: int, ring_slots: int, *, committed: bool) -> None:
        changes = self.reader.follow()
        lost = committed and self.reader.cursor is not None and self.seen > 0 and written - self.seen > ring_slots
        assert changes.overrun is lost
        if changes.complete:
            self.slack = 2.0 * DEADBANDS
        elif committed:
            assert len(changes) == written - self.seen
        self.values[changes.points] = changes.values
        self.qualities[changes.points] = changes.qualities
        if self.reader.cursor is not None:
            self.seen = self.reader.cursor[1]


class SharedMachine(RuleBasedStateMachine):
    """A table, its image, a reader that looks at every commit and one that looks now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "image"
        self.clock = ManualClock()
        self.table = Table(POINTS, [], self.clock)
        self.block = self.table.claim([point.name for point in POINTS], "test")

    @initialize(ring_slots=st.integers(1, 12))
    def start(self, ring_slots: int) -> None:
        self.ring_slots = ring_slots
        self.writer = ImageWriter(self.path, layout_hash(POINTS), POINTS, ring_slots, clock=self.clock)
        self.eager = Follower(ImageReader(self.path, clock=self.clock))
        self.lazy = Follower(ImageReader(self.path, clock=self.clock))
        self.committed = False
        self.pending = True

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(place=places, value=numbers, quality=qualities)
    def put(self, place: int, value: float, quality: Quality) -> None:
        self.block.put(f"p{place}", value, quality)
        self.pending = True

    @rule(place=st.integers(NUMBERS, NUMBERS + TEXTS - 1), text=texts, quality=qualities)
    def put_text(self, place: int, text: str, quality: Quality) -> None:
        self.block.put(f"p{place}", text, quality)
        self.pending = True

    @rule()
    def commit(self) -> None:
        before = self.writer.changes
        reported = self.writer.commit(self.table)
        assert self.writer.changes == before + reported
        self.committed, self.pending = True, False
        self.clock.advance(0.1)
        self.eager.follow(self.writer.changes, self.ring_slots, committed=True)
        self.agrees(self.eager)

    @rule()
    def look_now_and_then(self) -> None:
        self.lazy.follow(self.writer.changes, self.ring_slots, committed=self.committed)

    @rule()
    def restart(self) -> None:
        """A new writer; readers find it when the heartbeat has stopped."""
        generation = self.writer.generation
        self.writer = ImageWriter(self.path, layout_hash(POINTS), POINTS, self.ring_slots, clock=self.clock)
        assert self.writer.generation > generation
        self.clock.advance(1.0)
        self.writer.commit(self.table)
        self.committed, self.pending = True, False
        for follower in (self.eager, self.lazy):
            follower.seen = 0
            follower.follow(self.writer.changes, self.ring_slots, committed=True)
            self.agrees(follower)

    def agrees(self, follower: Follower) -> None:
        """Old image + differences = new image, but for what the deadband keeps back."""
        assert (follower.qualities == self.table.qualities).all()
        bad = self.table.qualities >= Quality.BAD_WAITING_FOR_INITIAL_DATA
        assert (np.isnan(follower.values) == bad).all()
        assert (np.abs(follower.values - self.table.values)[~bad] <= follower.slack[~bad]).all()

    @invariant()
    def the_image_equals_the_table(self) -> None:
        if not self.committed or self.pending:
            return
        reader = self.eager.reader
        image = reader.read()
        np.testing.assert_array_equal(image.values, self.table.values)
        np.testing.assert_array_equal(image.qualities, self.table.qualities)
        np.testing.assert_array_equal(image.times_ns, self.table.times_ns)
        for place in range(NUMBERS, NUMBERS + TEXTS):
            assert reader.text(place) == self.table.sample(f"p{place}").value


SharedMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestShared = SharedMachine.TestCase


class Column:
    """Columns of numbers only."""

    def __init__(self, values: list[float]) -> None:
        self.values = np.array(values)
        self.qualities = np.zeros(len(values), np.uint8)
        self.times_ns = np.zeros(len(values), np.int64)
        self.texts: dict[int, str] = {}


@given(
    ring_slots=st.integers(1, 40),
    commits=st.lists(st.tuples(st.lists(st.integers(0, 3).map(float), min_size=4, max_size=4), st.booleans()), max_size=40),
)
@settings(deadline=None)
def test_ring_against_a_list(ring_slots: int, commits: list[tuple[list[float], bool]]) -> None:
    """Exactly the changes of the model come out, in order; an overrun is told exactly when some are overwritten."""
    points = [Point(name=f"p{i}") for i in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        path, clock = Path(folder) / "image", ManualClock()
        writer = ImageWriter(path, layout_hash(points), points, ring_slots, clock=clock)
        reader = ImageReader(path, clock=clock)
        writer.commit(Column([0.0] * 4))
        assert reader.follow().complete
        present, expected = [0.0] * 4, list[tuple[int, float]]()
        for values, look in commits:
            expected += [(i, values[i]) for i in range(4) if values[i] != present[i]]
            present = values
            writer.commit(Column(values))
            if not look:
                continue
            changes = reader.follow()
            assert changes.overrun is (len(expected) > ring_slots)
            if changes.overrun:
                assert changes.values.tolist() == present
            else:
                assert list(zip(changes.points.tolist(), changes.values.tolist(), strict=True)) == expected
            expected = []
