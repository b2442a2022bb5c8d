"""Which byte of the shared file is where. All numbers are little-endian; every part starts on a multiple of 64 bytes.

    part        content
    header      `HEADER`: fixed while the file lives
    state       u8 counters and the heartbeat, see STATE_*: the only words that are changed while readers look on
    text map    u4 per text point: the index of the point
    half 0, 1   the image, twice: `HALF`, f8 value, i8 source time (ns UTC), u1 quality per point; u2 length and
                256 bytes of UTF-8 per text point. The value of a text point is the version of its text.
    ring        `SLOT` per change

Image number N is in half N % 2. The writer fills the half that is not in force, then raises the image number; a reader
copies, then looks whether the number is still the same. Ring slots are filled between raising `STATE_RESERVED` and raising
`STATE_WRITTEN`; after copying slots, a reader throws away those that `STATE_RESERVED` says may have been overwritten.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gateway.errors import GatewayError
from gateway.points import TEXT_BYTES, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

    from numpy.typing import NDArray

    from gateway.points import Point

MAGIC = b"BESSIMG\n"
FORMAT_VERSION = 1

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format_version", "<u4"),
        ("points", "<u4"),
        ("texts", "<u4"),
        ("ring_slots", "<u4"),
        ("generation", "<u8"),
        ("layout_hash", "V32"),
        ("boot_id", "V16"),
    ]
)
HALF = np.dtype([("image", "<u8"), ("changes", "<u8"), ("time_ns", "<i8"), ("monotonic", "<f8")])
"""Head of an image: its number, the sequence of the last change it contains, and when it was committed."""
SLOT = np.dtype([("sequence", "<u8"), ("value", "<f8"), ("time_ns", "<i8"), ("point", "<u4"), ("quality", "u1"), ("", "V3")])

STATE_AT = 128
STATE_IMAGE, STATE_RESERVED, STATE_WRITTEN = 0, 1, 2
"""u8 words: number of the image in force (0: none yet), changes begun, changes complete."""
STATE_WORDS = 3
HEARTBEAT_AT = STATE_AT + 64
"""i8 UTC ns and f8 seconds of CLOCK_MONOTONIC, which all processes of a machine share."""
_FIRST_PART = HEARTBEAT_AT + 64

MAX_POINTS = 10_000_000
"""More than this in a header is damage, not a site."""


class ImageUnavailable(GatewayError):
    """There is no image to read: control was not started yet, or the file is not an image of this format."""


class LayoutChanged(GatewayError):
    """Control was restarted with other points: read the published site again, then open a new reader."""


def layout_hash(points: Sequence[Point]) -> str:
    """SHA-256 over names and kinds in order, hexadecimal: two processes with the same hash mean the same by an index."""
    digest = hashlib.sha256()
    for point in points:
        digest.update(f"{point.name}\0{point.kind.value}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a shared file and, from them, the offset of every part in bytes."""

    points: int
    texts: int
    ring_slots: int

    @property
    def text_map_at(self) -> int:
        """Offset of the text map."""
        return _FIRST_PART

    def half_at(self, half: int) -> int:
        """Offset of half 0 or 1 of the image."""
        return _aligned(self.text_map_at + 4 * self.texts) + half * self.half_size

    @property
    def half_size(self) -> int:
        """Bytes of one half."""
        return self._text_at + self.texts * TEXT_BYTES + -self.texts * TEXT_BYTES % 64

    @property
    def _text_at(self) -> int:
        """Offset of the texts in a half, which come last."""
        return _aligned(self._length_at + 2 * self.texts)

    @property
    def _length_at(self) -> int:
        return _aligned(64 + 17 * self.points)

    @property
    def ring_at(self) -> int:
        """Offset of the change ring."""
        return self.half_at(2)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.ring_at + self.ring_slots * SLOT.itemsize

    def half(self, buffer: mmap, half: int) -> Half:
        """The columns of a half, in place."""
        start, count = self.half_at(half), self.points
        return Half(
            head=np.frombuffer(buffer, HALF, 1, start),
            values=np.frombuffer(buffer, "<f8", count, start + 64),
            times_ns=np.frombuffer(buffer, "<i8", count, start + 64 + 8 * count),
            qualities=np.frombuffer(buffer, np.uint8, count, start + 64 + 16 * count),
            text_lengths=np.frombuffer(buffer, "<u2", self.texts, start + self._length_at),
            texts=np.frombuffer(buffer, f"V{TEXT_BYTES}", self.texts, start + self._text_at),
        )


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the double-buffered image as arrays over the file itself."""

    head: NDArray[np.void]
    values: NDArray[np.float64]
    times_ns: NDArray[np.int64]
    qualities: NDArray[np.uint8]
    text_lengths: NDArray[np.uint16]
    texts: NDArray[np.void]


class Words:
    """The counters and the heartbeat of a shared file, in place."""

    __slots__ = ("_beat_ns", "_beat_s", "_words")

    def __init__(self, buffer: mmap) -> None:
        self._words: NDArray[np.uint64] = np.frombuffer(buffer, "<u8", STATE_WORDS, STATE_AT)
        self._beat_ns: NDArray[np.int64] = np.frombuffer(buffer, "<i8", 1, HEARTBEAT_AT)
        self._beat_s: NDArray[np.float64] = np.frombuffer(buffer, "<f8", 1, HEARTBEAT_AT + 8)

    def get(self, word: int) -> int:
        """The counter's value; what was read before the call was read before the counter."""
        fence()
        value = self._words.item(word)
        fence()
        return value

    def set(self, word: int, value: int) -> None:
        """Change a counter; what was written before the call is seen before the change."""
        fence()
        self._words[word] = value
        fence()

    @property
    def heartbeat(self) -> tuple[int, float]:
        """UTC (ns) and monotonic time (s) of the writer's last sign of life."""
        return self._beat_ns.item(0), self._beat_s.item(0)

    def beat(self, time_ns: int, monotonic: float) -> None:
        """Set the heartbeat."""
        self._beat_ns[0] = time_ns
        self._beat_s[0] = monotonic


_fence_lock = threading.Lock()


def fence() -> None:
    """Keep the memory accesses before and after the call in order, as seen from other processors.

    x86 keeps stores in order by itself, ARM does not, and Python has no name for a memory barrier. Releasing a lock is a
    release and taking it an acquire, and the second acquire cannot pass the first release: together a full barrier.
    """
    _fence_lock.acquire()
    _fence_lock.release()
    _fence_lock.acquire()
    _fence_lock.release()


def text_points(points: Sequence[Point]) -> NDArray[np.uint32]:
    """The indices of the text points."""
    return np.array([place for place, point in enumerate(points) if point.kind is Kind.TEXT], dtype=np.uint32)


@cache
def boot_id() -> bytes:
    """16 bytes that differ between two boots of the machine, so that a monotonic time can be trusted; zeros if unknown.

    Linux, random(4): /proc/sys/kernel/random/boot_id.
    """
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def _aligned(offset: int) -> int:
    return offset + -offset % 64
