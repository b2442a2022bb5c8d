"""The shared image through the life of its writer: start, commits, silence, restart, damage."""

from __future__ import annotations

import math
import os
import stat
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gateway.points import Kind, Point, Quality
from gateway.shared import ImageReader, ImageUnavailable, ImageWriter, LayoutChanged, layout_hash
from gateway.shared.layout import Words
from gateway.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.manual_clock import ManualClock

POINTS = (Point(name="a", deadband=0.1), Point(name="state", kind=Kind.TEXT), Point(name="b"))
OTHERS = (*POINTS, Point(name="c"))


class Control:
    """What the control process does: a table and its writer."""

    def __init__(self, path: Path, clock: ManualClock, points: tuple[Point, ...] = POINTS, ring_slots: int = 8) -> None:
        self.table = Table(points, [], clock)
        self.block = self.table.claim([point.name for point in points], "test")
        self.writer = ImageWriter(path, layout_hash(points), points, ring_slots, clock=clock)

    def cycle(self, **values: float | str) -> int:
        for name, value in values.items():
            self.block.put(name, value)
        return self.writer.commit(self.table)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image"


def test_owner_writes_group_reads_others_nothing(path: Path, clock: ManualClock) -> None:
    before = os.umask(0)
    try:
        Control(path, clock)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["image"]


def test_no_image_yet(path: Path, clock: ManualClock) -> None:
    with pytest.raises(ImageUnavailable, match="No such file"):
        ImageReader(path, clock=clock)
    control = Control(path, clock)
    reader = ImageReader(path, clock=clock)
    with pytest.raises(ImageUnavailable, match="nothing was written yet"):
        reader.read()
    assert (len(reader.follow()), reader.cursor, reader.text(1)) == (0, None, None)
    control.cycle()
    assert reader.follow().complete
    assert reader.read().qualities.tolist() == [Quality.BAD_WAITING_FOR_INITIAL_DATA] * 3


def test_changes_carry_value_quality_and_source_time(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    reader = ImageReader(path, clock=clock)
    control.cycle(a=1.0, b=2.0)
    assert reader.follow().complete
    clock.advance(0.1)
    assert control.cycle(b=2.5, state="ready") == 2
    changes = reader.follow()
    assert (changes.complete, changes.overrun) == (False, False)
    assert changes.points.tolist() == [1, 2]
    assert changes.values.tolist() == [1.0, 2.5]
    assert changes.times_ns.tolist() == [clock.utc_ns()] * 2
    assert changes.qualities.tolist() == [Quality.GOOD] * 2
    assert reader.text(1) == "ready"
    assert len(reader.follow()) == 0


def test_deadband_counts_from_the_last_reported_value(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    control.cycle(a=1.0)
    reported = [control.cycle(a=1.0 + step * 0.04) for step in range(1, 8)]
    assert reported == [0, 0, 1, 0, 0, 1, 0]


def test_quality_is_reported_without_a_change_of_value(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    control.cycle(a=1.0)
    control.block.put("a", 1.0, Quality.UNCERTAIN_SUBSTITUTE_VALUE)
    assert control.writer.commit(control.table) == 1
    control.block.put("a", None, Quality.BAD_DEVICE_FAILURE)
    assert control.writer.commit(control.table) == 1
    control.block.put("a", None, Quality.BAD_DEVICE_FAILURE)
    assert control.writer.commit(control.table) == 0
    control.block.put("a", 1.0)
    assert control.writer.commit(control.table) == 1


def test_text_of_a_numeric_point(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    control.cycle(a=1.0)
    reader = ImageReader(path, clock=clock)
    with pytest.raises(KeyError):
        reader.text(0)


def test_a_text_comes_back_after_a_bad_spell(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    reader = ImageReader(path, clock=clock)
    control.cycle(state="ready")
    control.block.put("state", None, Quality.BAD_DEVICE_FAILURE)
    control.cycle()
    assert reader.text(1) is None
    control.cycle(state="ready")
    assert reader.text(1) == "ready"
    control.cycle(state="")
    assert reader.text(1) == ""


def test_overrun_is_counted_and_resynchronised(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock, ring_slots=4)
    reader = ImageReader(path, clock=clock)
    control.cycle(a=0.0)
    reader.follow()
    for step in range(1, 5):
        control.cycle(a=float(step))
    assert (reader.follow().overrun, reader.overruns) == (False, 0)
    for step in range(5, 10):
        control.cycle(a=float(step))
    changes = reader.follow()
    assert (changes.overrun, changes.complete, reader.overruns) == (True, True, 1)
    assert changes.values[0] == 9.0
    control.cycle(a=20.0)
    assert reader.follow().values.tolist() == [20.0]


def test_a_commit_larger_than_the_ring(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock, ring_slots=1)
    reader = ImageReader(path, clock=clock)
    control.cycle(a=1.0)
    reader.follow()
    control.cycle(a=2.0, b=2.0, state="x")
    changes = reader.follow()
    assert (changes.overrun, changes.values[2]) == (True, 2.0)


def test_heartbeat(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    reader = ImageReader(path, clock=clock)
    control.cycle()
    clock.advance(3.0)
    assert reader.heartbeat_age_s() == pytest.approx(3.0)
    assert reader.heartbeat_age_s(clock.monotonic() + 1.0) == pytest.approx(4.0)
    control.cycle()
    assert reader.heartbeat_ns == clock.utc_ns()
    clock.step_wall(3600.0)
    assert reader.heartbeat_age_s() == 0.0


def test_a_file_from_before_the_machines_last_start_is_dead(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.shared.writer.boot_id", lambda: bytes(range(16)))
    control = Control(path, clock)
    control.cycle()
    assert ImageReader(path, clock=clock).heartbeat_age_s() == math.inf


def test_a_restarted_writer_is_found_and_starts_afresh(path: Path, clock: ManualClock) -> None:
    old = Control(path, clock)
    reader = ImageReader(path, clock=clock)
    old.cycle(a=1.0)
    reader.follow()
    new = Control(path, clock)
    assert new.writer.generation > old.writer.generation == reader.generation
    new.cycle(a=7.0)
    assert reader.read().values[0] == 1.0
    clock.advance(1.0)
    new.cycle()
    changes = reader.follow()
    assert (changes.complete, changes.overrun, changes.values[0]) == (True, False, 7.0)
    assert (reader.generation, reader.reopened) == (new.writer.generation, 1)
    assert reader.cursor == (new.writer.generation, new.writer.changes)


def test_generation_grows_though_the_wall_clock_went_back(path: Path, clock: ManualClock) -> None:
    first = Control(path, clock).writer.generation
    clock.step_wall(-86400.0)
    assert Control(path, clock).writer.generation == first + 1


def test_a_reader_outlives_a_missing_file(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    control.cycle(a=1.0)
    reader = ImageReader(path, clock=clock)
    path.unlink()
    clock.advance(5.0)
    assert reader.read().values[0] == 1.0
    path.write_bytes(b"something else")
    assert reader.read().values[0] == 1.0
    assert reader.heartbeat_age_s() == pytest.approx(5.0)


def test_other_points_are_refused(path: Path, clock: ManualClock) -> None:
    Control(path, clock).cycle(a=1.0)
    with pytest.raises(LayoutChanged):
        ImageReader(path, layout_hash(OTHERS), clock=clock)
    reader = ImageReader(path, layout_hash(POINTS), clock=clock)
    Control(path, clock, OTHERS).cycle()
    clock.advance(1.0)
    for look in (reader.read, reader.follow):
        with pytest.raises(LayoutChanged):
            look()


def test_the_hash_tells_points_apart() -> None:
    hashes = {
        layout_hash(points) for points in (POINTS, OTHERS, POINTS[::-1], (*POINTS[:2], Point(name="b", kind=Kind.BOOLEAN)), ())
    }
    assert len(hashes) == 5
    assert layout_hash(POINTS) == layout_hash([Point(name="a"), Point(name="state", kind=Kind.TEXT), Point(name="b")])


def test_files_that_are_no_image(path: Path, clock: ManualClock) -> None:
    Control(path, clock).cycle(a=1.0)
    whole = path.read_bytes()
    for content, message in (
        (b"", "not a shared image"),
        (b"x" * 4096, "not a shared image"),
        (whole[:-1], "damaged"),
        (whole[:200], "damaged"),
        (whole[:8] + b"\x63\0\0\0" + whole[12:], "has format 99"),
    ):
        path.write_bytes(content)
        with pytest.raises(ImageUnavailable, match=message):
            ImageReader(path, clock=clock)
    assert Control(path, clock).cycle() == 3


def test_a_writer_replaces_what_is_no_image(path: Path, clock: ManualClock) -> None:
    path.write_bytes(b"something else")
    control = Control(path, clock)
    control.cycle(a=1.0)
    assert ImageReader(path, clock=clock).read().values[0] == 1.0


def test_an_image_that_never_stands_still_is_given_up(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control(path, clock)
    control.cycle(a=1.0, state="x")
    reader = ImageReader(path, clock=clock)
    numbers = iter(range(1, 1_000_000))
    monkeypatch.setattr(Words, "get", lambda *_: next(numbers))
    for look in (reader.read, lambda: reader.text(1)):
        with pytest.raises(ImageUnavailable, match="changed during"):
            look()


def test_readers_cannot_write(path: Path, clock: ManualClock) -> None:
    control = Control(path, clock)
    control.cycle(a=1.0)
    reader = ImageReader(path, clock=clock)
    image = reader.read()
    image.values[:] = 99.0
    assert reader.read().values[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        reader._file.halves[1].values[0] = 99.0


def test_a_site_without_texts_and_one_without_points(path: Path, clock: ManualClock) -> None:
    for points in ((Point(name="a"),), ()):
        control = Control(path, clock, points)
        control.writer.commit(control.table)
        reader = ImageReader(path, clock=clock)
        assert len(reader.follow().points) == len(points)
        assert np.isnan(reader.read().values).all()
