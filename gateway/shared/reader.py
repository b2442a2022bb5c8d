"""Reading the shared image: whole, or as the changes since the last look. Any number of processes, none noticed by control.

Ages are real seconds of CLOCK_MONOTONIC. A reader never writes, and never sees half of a commit.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gateway.clock import SystemClock
from gateway.shared.layout import (
    FORMAT_VERSION,
    HEADER,
    MAGIC,
    MAX_POINTS,
    SLOT,
    STATE_IMAGE,
    STATE_RESERVED,
    STATE_WRITTEN,
    ImageUnavailable,
    Layout,
    LayoutChanged,
    Words,
    boot_id,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gateway.clock import Clock
    from gateway.shared.layout import Half

_log = logging.getLogger(__name__)

_STOPPED_AFTER_S = 0.5
"""A heartbeat older than this makes a reader look whether another file has taken the path: several control cycles."""
_TRIES = 1000
"""A copy takes a small part of a control cycle, so even the second try is rare; this many mean a broken file."""


@dataclass(frozen=True, slots=True)
class Image:
    """A copy of all points as of one commit. The arrays are in the order of the published points.

    `values` is NaN where the quality is bad, and the version of the text for text points. `sequence` counts the changes
    that are contained; `time_ns` is the UTC time of the commit.
    """

    generation: int
    sequence: int
    time_ns: int
    values: NDArray[np.float64]
    qualities: NDArray[np.uint8]
    times_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last look, oldest first; a point may occur several times, and the last one holds.

    `complete` means: these are all points once, not differences (the first look, a new writer, or after an overrun).
    `overrun` means: the reader was too slow, and changes in between are lost.
    """

    points: NDArray[np.intp]
    values: NDArray[np.float64]
    qualities: NDArray[np.uint8]
    times_ns: NDArray[np.int64]
    overrun: bool
    complete: bool

    def __len__(self) -> int:
        return len(self.points)


class ImageReader:
    """Follows the image at `path` through restarts of its writer.

    With a `layout_hash` only images of those points are accepted; without, those of the first one. The constructor raises
    ImageUnavailable when there is none yet and LayoutChanged when it is of other points; later, `read` and `follow`
    raise LayoutChanged when control came back with other points.
    """

    def __init__(self, path: Path, layout_hash: str | None = None, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._file = _File(path)
        self._layout_hash = layout_hash or self._file.layout_hash
        self._refuse_other(self._file)
        self._sequence: int | None = None
        self.overruns = 0
        """How often changes were lost because this reader was too slow."""
        self.retries = 0
        """How often a copy had to be made again because the writer was faster."""
        self.reopened = 0
        """How often a new writer was found."""

    @property
    def generation(self) -> int:
        """Which writer's file this is; grows with every start of control."""
        return self._file.generation

    @property
    def layout_hash(self) -> str:
        """See `layout.layout_hash`."""
        return self._file.layout_hash

    @property
    def cursor(self) -> tuple[int, int] | None:
        """(generation, sequence) of the last change seen; None before the first `follow`."""
        return None if self._sequence is None else (self._file.generation, self._sequence)

    def heartbeat_age_s(self, now: float | None = None) -> float:
        """Real seconds since the writer's last commit; infinite when it was before the machine's last start.

        `now` is the reader's CLOCK_MONOTONIC (s); None takes it here.
        """
        if self._file.boot_id != boot_id():
            return math.inf
        _, beat_s = self._file.words.heartbeat
        return max(0.0, (self._clock.monotonic() if now is None else now) - beat_s)

    @property
    def heartbeat_ns(self) -> int:
        """UTC time of the writer's last commit, ns."""
        return self._file.words.heartbeat[0]

    def read(self) -> Image:
        """A coherent copy of all points. ImageUnavailable before the first commit."""
        self._follow_path()
        return self._read()

    def follow(self) -> Changes:
        """What changed since the last call; the first call gives everything. Empty before the first commit."""
        self._follow_path()
        if self._file.words.get(STATE_IMAGE) == 0:
            return _nothing()
        if self._sequence is None:
            return self._everything(overrun=False)
        changes = self._copy_ring(self._sequence)
        if changes is None:
            self.overruns += 1
            if self.overruns == 1:
                _log.warning("reader of %s was overrun at change %s; later overruns are only counted", self._path, self._sequence)
            return self._everything(overrun=True)
        return changes

    def text(self, index: int) -> str | None:
        """The present text of a text point; None when its quality is bad. KeyError when the point is not text."""
        slot = self._file.text_slots[index]
        if self._file.words.get(STATE_IMAGE) == 0:
            return None
        for _ in range(_TRIES):
            number, half = self._half_in_force()
            bad = math.isnan(half.values.item(index))
            data = half.texts[slot].tobytes()[: half.text_lengths.item(slot)]
            if self._file.words.get(STATE_IMAGE) == number:
                return None if bad else data.decode()
            self.retries += 1
        raise self._never_still()

    def _everything(self, *, overrun: bool) -> Changes:
        image = self._read()
        self._sequence = image.sequence
        points = np.arange(len(image.values), dtype=np.intp)
        return Changes(points, image.values, image.qualities, image.times_ns, overrun=overrun, complete=True)

    def _half_in_force(self) -> tuple[int, Half]:
        number = self._file.words.get(STATE_IMAGE)
        return number, self._file.halves[number % 2]

    def _read(self) -> Image:
        for _ in range(_TRIES):
            number, half = self._half_in_force()
            if number == 0:
                msg = f"{self._path}: nothing was written yet"
                raise ImageUnavailable(msg)
            head = half.head.copy()
            values, qualities, times_ns = half.values.copy(), half.qualities.copy(), half.times_ns.copy()
            if self._file.words.get(STATE_IMAGE) == number:
                changes, time_ns = int(head["changes"][0]), int(head["time_ns"][0])
                return Image(self._file.generation, changes, time_ns, values, qualities, times_ns)
            self.retries += 1
        raise self._never_still()

    def _copy_ring(self, seen: int) -> Changes | None:
        """The changes after number `seen`; None when some of them are overwritten."""
        ring = self._file.ring
        written = self._file.words.get(STATE_WRITTEN)
        if written <= seen:
            return _nothing()
        if written - seen > len(ring):
            return None
        slots = ring.take(np.arange(seen, written), mode="wrap")
        if self._file.words.get(STATE_RESERVED) - seen > len(ring):
            return None
        self._sequence = written
        return Changes(
            slots["point"].astype(np.intp),
            slots["value"].copy(),
            slots["quality"].copy(),
            slots["time_ns"].copy(),
            overrun=False,
            complete=False,
        )

    def _follow_path(self) -> None:
        """Where the heartbeat has stopped, look for a new writer's file, and start afresh with it."""
        if self.heartbeat_age_s() < _STOPPED_AFTER_S:
            return
        try:
            if self._path.stat().st_ino == self._file.inode:
                return
            file = _File(self._path)
        except (FileNotFoundError, ImageUnavailable):
            return
        self._refuse_other(file)
        self._file = file
        self._sequence = None
        self.reopened += 1
        _log.info("reader of %s found a new writer, generation %s", self._path, file.generation)

    def _refuse_other(self, file: _File) -> None:
        if file.layout_hash != self._layout_hash:
            msg = f"{self._path} holds other points than those published before"
            raise LayoutChanged(msg)

    def _never_still(self) -> ImageUnavailable:
        return ImageUnavailable(f"{self._path} changed during {_TRIES} copies")


class _File:
    """One shared file, mapped read-only. ImageUnavailable when it is missing, foreign or cut short."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                head = file.read(HEADER.itemsize)
                layout = _checked_layout(path, head, status.st_size)
                buffer = mmap.mmap(file.fileno(), layout.size, access=mmap.ACCESS_READ)
        except OSError as error:
            msg = f"{path}: {error.strerror}"
            raise ImageUnavailable(msg) from error
        header = np.frombuffer(head, HEADER)[0]
        self.inode = status.st_ino
        self.generation = int(header["generation"])
        self.layout_hash = header["layout_hash"].tobytes().hex()
        self.boot_id = header["boot_id"].tobytes()
        self.words = Words(buffer)
        self.halves = (layout.half(buffer, 0), layout.half(buffer, 1))
        self.ring = np.frombuffer(buffer, SLOT, layout.ring_slots, layout.ring_at)
        text_map = np.frombuffer(buffer, "<u4", layout.texts, layout.text_map_at)
        self.text_slots = {point: slot for slot, point in enumerate(text_map.tolist())}


def _checked_layout(path: Path, head: bytes, size: int) -> Layout:
    if len(head) < HEADER.itemsize or not head.startswith(MAGIC):
        msg = f"{path} is not a shared image"
        raise ImageUnavailable(msg)
    header = np.frombuffer(head, HEADER)[0]
    version = int(header["format_version"])
    if version != FORMAT_VERSION:
        msg = f"{path} has format {version}, this program reads format {FORMAT_VERSION}"
        raise ImageUnavailable(msg)
    points, texts, slots = (int(header[name]) for name in ("points", "texts", "ring_slots"))
    layout = Layout(points, texts, slots)
    if points > MAX_POINTS or slots == 0 or size != layout.size:
        msg = f"{path} is damaged: {size} bytes for {points} points, {layout.size} expected"
        raise ImageUnavailable(msg)
    return layout


def _nothing() -> Changes:
    empty = np.zeros(0, dtype=np.intp)
    return Changes(empty, np.zeros(0), np.zeros(0, np.uint8), np.zeros(0, np.int64), overrun=False, complete=False)
