"""One process of the stress test of the shared image: `writer PATH` until killed, `reader PATH SECONDS` prints JSON.

Commit number k sets every value to k, every quality to one derived from k, every source time to k and every text to one
that repeats k: a reader that sees anything mixed has seen a torn image.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from gateway.points import Kind, Point
from gateway.shared import ImageReader, ImageUnavailable, ImageWriter, layout_hash

NUMBERS, TEXTS = 3000, 5
POINTS = [Point(name=f"n{i}") for i in range(NUMBERS)] + [Point(name=f"t{i}", kind=Kind.TEXT) for i in range(TEXTS)]
RING_SLOTS = 4 * len(POINTS)


def quality_of(k: int) -> int:
    return k % 2


def text_of(k: int) -> str:
    return f"{k}," * (1 + k % 20)


class Commit:
    """The columns of commit k."""

    def __init__(self, k: int) -> None:
        self.values = np.full(len(POINTS), float(k))
        self.qualities = np.full(len(POINTS), quality_of(k), np.uint8)
        self.times_ns = np.full(len(POINTS), k, np.int64)
        self.texts = dict.fromkeys(range(NUMBERS, len(POINTS)), text_of(k))


def write(path: Path) -> None:
    writer = ImageWriter(path, layout_hash(POINTS), POINTS, RING_SLOTS)
    k = 0
    while True:
        k += 1
        writer.commit(Commit(k))
        if k % 64 == 0:
            time.sleep(0.002)  # lets readers catch up now and then, so that both ways of following are seen


def torn(values: np.ndarray, qualities: np.ndarray, times_ns: np.ndarray) -> bool:
    k = int(values[0])
    return bool((values != k).any() or (qualities != quality_of(k)).any() or (times_ns != k).any())


def wait_for(path: Path) -> ImageReader:
    while True:
        try:
            return ImageReader(path)
        except ImageUnavailable:
            time.sleep(0.01)


def read(path: Path, seconds: float) -> dict[str, int]:
    reader = wait_for(path)
    found = {"images": 0, "changes": 0, "torn": 0, "backwards": 0}
    until = time.monotonic() + seconds
    last = (0, 0)
    seen = 0
    while time.monotonic() < until:
        try:
            image = reader.read()
        except ImageUnavailable:
            continue
        found["images"] += 1
        found["torn"] += torn(image.values, image.qualities, image.times_ns)
        now = (image.generation, int(image.values[0]))
        found["backwards"] += now < last
        last = now
        text = reader.text(NUMBERS + TEXTS - 1)
        found["torn"] += text is None or text != text_of(int(text.split(",", 1)[0]))
        changes = reader.follow()
        if len(changes):
            found["changes"] += 1
            if changes.complete:
                found["torn"] += torn(changes.values, changes.qualities, changes.times_ns)
            else:
                # Whole commits, each of all points in order, one after the other.
                found["torn"] += bool((changes.values != changes.times_ns).any())
                found["torn"] += bool((changes.qualities != changes.values % 2).any())
                found["backwards"] += changes.values[0] not in (seen, seen + 1)
                found["backwards"] += not np.isin(np.diff(changes.values), (0.0, 1.0)).all()
            seen = int(changes.values[-1])
    return found | {"retries": reader.retries, "overruns": reader.overruns, "reopened": reader.reopened}


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        write(Path(sys.argv[2]))
    else:
        print(json.dumps(read(Path(sys.argv[2]), float(sys.argv[3]))))
