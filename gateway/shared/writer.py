"""The one writer of the shared image, in the control process: called once per control cycle."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gateway.clock import SystemClock
from gateway.points import TEXT_BYTES
from gateway.shared.layout import (
    FORMAT_VERSION,
    HEADER,
    MAGIC,
    SLOT,
    STATE_IMAGE,
    STATE_RESERVED,
    STATE_WRITTEN,
    Layout,
    Words,
    boot_id,
    text_points,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gateway.clock import Clock
    from gateway.points import Point
    from gateway.shared.layout import Half

RING_SLOTS = 65_536
"""2 MiB: a slow reader of 10,000 changes per second may sleep for six seconds before it is overrun."""
_MODE = 0o640
"""Owner writes, the group (the servers) reads."""


class Columns(Protocol):
    """What a commit takes from the table: one entry per point; for a text point the value is the text's version."""

    @property
    def values(self) -> NDArray[np.float64]: ...
    @property
    def qualities(self) -> NDArray[np.uint8]: ...
    @property
    def times_ns(self) -> NDArray[np.int64]: ...
    @property
    def texts(self) -> Mapping[int, str]: ...


class ImageWriter:
    """A new shared file under a new generation, put in the place of the one before; that one is never touched.

    `ring_slots` bounds how many changes a reader may lag behind. OSError when the file cannot be made, a full disk
    included: all of its space is taken here, not while running.
    """

    def __init__(
        self,
        path: Path,
        layout_hash: str,
        points: Sequence[Point],
        ring_slots: int = RING_SLOTS,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._text_points = text_points(points)
        self._layout = Layout(len(points), len(self._text_points), ring_slots)
        self.generation = max(self._clock.utc_ns(), _generation_of(path) + 1)
        self._deadbands = np.array([point.deadband for point in points], dtype=np.float64)
        self._deadbands[self._text_points] = 0.0
        self._reported = np.full(len(points), np.nan)
        self._reported_qualities = np.full(len(points), 255, dtype=np.uint8)
        """No quality has this number: the first commit reports every point."""
        self._text_versions = (np.zeros(self._layout.texts), np.zeros(self._layout.texts))
        self._difference = np.empty(len(points))
        self._changed = np.empty(len(points), dtype=np.bool_)
        self._image = 0
        self._changes = 0
        self._create(path, bytes.fromhex(layout_hash))

    def _create(self, path: Path, digest: bytes) -> None:
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            os.fchmod(descriptor, _MODE)
            os.posix_fallocate(descriptor, 0, self._layout.size)
            buffer = mmap.mmap(descriptor, self._layout.size)
        finally:
            os.close(descriptor)
        header = np.frombuffer(buffer, HEADER, 1)
        header["magic"] = MAGIC
        header["format_version"] = FORMAT_VERSION
        header["points"] = self._layout.points
        header["texts"] = self._layout.texts
        header["ring_slots"] = self._layout.ring_slots
        header["generation"] = self.generation
        header["layout_hash"] = np.void(digest)
        header["boot_id"] = np.void(boot_id())
        text_map = np.frombuffer(buffer, "<u4", self._layout.texts, self._layout.text_map_at)
        text_map[:] = self._text_points
        self._words = Words(buffer)
        self._halves = (self._layout.half(buffer, 0), self._layout.half(buffer, 1))
        self._ring = np.frombuffer(buffer, SLOT, self._layout.ring_slots, self._layout.ring_at)
        self._words.beat(self._clock.utc_ns(), self._clock.monotonic())
        new.rename(path)

    @property
    def changes(self) -> int:
        """Changes written since this writer was made."""
        return self._changes

    def commit(self, columns: Columns, time_ns: int | None = None) -> int:
        """Show the readers the present columns as one coherent image; returns how many changes were reported.

        A point is reported when its quality changed or its value moved by more than its deadband since it was last
        reported. `time_ns` (UTC, now when None) goes into the heartbeat.
        """
        changed = self._find_changes(columns)
        stamp_ns = self._clock.utc_ns() if time_ns is None else time_ns
        monotonic = self._clock.monotonic()
        image = self._image + 1
        half = self._halves[image % 2]
        half.values[:] = columns.values
        half.times_ns[:] = columns.times_ns
        half.qualities[:] = columns.qualities
        self._write_texts(half, self._text_versions[image % 2], columns)
        half.head[0] = (image, self._changes + len(changed), stamp_ns, monotonic)
        # The image first: who reads of a text's change in the ring must find the new text in the image.
        self._words.set(STATE_IMAGE, image)
        self._image = image
        if len(changed):
            self._write_ring(changed, columns)
        self._words.beat(stamp_ns, monotonic)
        return len(changed)

    def _find_changes(self, columns: Columns) -> NDArray[np.intp]:
        """The points to report. NaN is no number exactly where the quality is bad, so qualities tell of its coming."""
        np.subtract(columns.values, self._reported, out=self._difference)
        np.abs(self._difference, out=self._difference)
        np.greater(self._difference, self._deadbands, out=self._changed)
        self._changed |= columns.qualities != self._reported_qualities
        changed = np.flatnonzero(self._changed)
        self._reported[changed] = columns.values[changed]
        self._reported_qualities[changed] = columns.qualities[changed]
        return changed

    def _write_texts(self, half: Half, written: NDArray[np.float64], columns: Columns) -> None:
        """Bring the texts of a half up to date; `written` holds the versions that are in it."""
        versions = columns.values[self._text_points]
        stale = np.flatnonzero((versions != written) & ~np.isnan(versions))
        for slot in stale.tolist():
            data = columns.texts[int(self._text_points[slot])].encode()
            half.text_lengths[slot] = len(data)
            half.texts[slot] = np.void(data.ljust(TEXT_BYTES, b"\0"))
        written[stale] = versions[stale]

    def _write_ring(self, changed: NDArray[np.intp], columns: Columns) -> None:
        first, total = self._changes, self._changes + len(changed)
        self._words.set(STATE_RESERVED, total)
        kept = changed[-len(self._ring) :]
        sequences = np.arange(total - len(kept) + 1, total + 1, dtype=np.uint64)
        slots = np.zeros(len(kept), SLOT)
        slots["sequence"] = sequences
        slots["value"] = columns.values[kept]
        slots["time_ns"] = columns.times_ns[kept]
        slots["point"] = kept
        slots["quality"] = columns.qualities[kept]
        start = (total - len(kept)) % len(self._ring)
        until_end = len(self._ring) - start
        self._ring[start : start + len(kept)] = slots[:until_end]
        self._ring[: max(0, len(kept) - until_end)] = slots[until_end:]
        self._changes = first + len(changed)
        self._words.set(STATE_WRITTEN, total)


def _generation_of(path: Path) -> int:
    """The generation of the file that is there; 0 when there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            data = file.read(HEADER.itemsize)
    except OSError:
        return 0
    if len(data) < HEADER.itemsize or not data.startswith(MAGIC):
        return 0
    return int(np.frombuffer(data, HEADER)["generation"][0])
