"""Resident memory of a process that holds a large table, its shared image and the change ring. Prints one JSON object.

    python benchmarks/memory.py [--points 100000] [--ring-slots 65536]

Half of the points belong to devices (60 a device), the other half mirrors them under canonical names, as in a real site;
every point ages, every hundredth device point is text. Everything is published, aged and committed several times, so that
all pages have been touched. `rss_MB` counts the mapped file too.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from gateway.clock import SystemClock
from gateway.points import Kind, Point, Quality
from gateway.shared import ImageWriter, layout_hash
from gateway.site import Alias
from gateway.table import Table

TARGET_MB = 300.0
PER_DEVICE = 60


def rss_MB() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


def is_text(number: int) -> bool:
    return number % 100 == 99


def device_name(number: int) -> str:
    return f"device.unit_{number // PER_DEVICE}.measurement.{number % PER_DEVICE}.value"


def canonical_name(number: int) -> str:
    return f"string.S{number // PER_DEVICE}.battery.measurement.{number % PER_DEVICE}.value"


def point(name: str, number: int) -> Point:
    kind = Kind.TEXT if is_text(number) else Kind.ANALOG
    return Point(
        name=name,
        kind=kind,
        unit="V",
        description=f"Measurement {number % PER_DEVICE}",
        source="device map",
        low=0.0,
        high=100.0,
        uncertain_after_s=1.0,
        bad_after_s=3.0,
        deadband=0.001,
    )


def make_table(count: int) -> Table:
    half = count // 2
    points = [point(device_name(number), number) for number in range(half)]
    points += [point(canonical_name(number), number) for number in range(half)]
    aliases = [
        Alias(source=device_name(number), target=canonical_name(number), factor=-1.0 if number % 2 else 1.0)
        for number in range(half)
    ]
    return Table(points, aliases, SystemClock())


def work(table: Table, writer: ImageWriter, cycles: int) -> dict[str, float]:
    """Publish, age and commit everything; medians in us per publish (a block), per sweep and per commit."""
    half = len(table.points) // 2
    blocks = [
        table.claim([device_name(n) for n in range(start, min(start + PER_DEVICE, half)) if not is_text(n)], f"device {start}")
        for start in range(0, half, PER_DEVICE)
    ]
    texts = table.claim([device_name(number) for number in range(half) if is_text(number)], "texts")
    sizes = [sum(not is_text(n) for n in range(start, min(start + PER_DEVICE, half))) for start in range(0, half, PER_DEVICE)]
    values = [np.random.default_rng(1).random(size) for size in sizes]
    spent: dict[str, list[float]] = {"publish_us": [], "age_us": [], "commit_us": []}
    for cycle in range(cycles):
        for number in range(half):
            if is_text(number):
                texts.put(device_name(number), f"text {number} of cycle {cycle}")
        started = time.perf_counter()
        for block, numbers in zip(blocks, values, strict=True):
            block.publish(numbers + cycle, Quality.GOOD, time.time_ns())
        published = time.perf_counter()
        table.age()
        aged = time.perf_counter()
        writer.commit(table)
        committed = time.perf_counter()
        spent["publish_us"].append((published - started) / len(blocks) * 1e6)
        spent["age_us"].append((aged - published) * 1e6)
        spent["commit_us"].append((committed - aged) * 1e6)
    return {name: round(float(np.median(times)), 2) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--ring-slots", type=int, default=65_536)
    parser.add_argument("--cycles", type=int, default=20)
    options = parser.parse_args()
    empty_MB = rss_MB()
    table = make_table(options.points)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        writer = ImageWriter(path, layout_hash(table.points), table.points, options.ring_slots)
        times = work(table, writer, options.cycles)
        result = {
            "benchmark": "memory",
            "points": len(table.points),
            "ring_slots": options.ring_slots,
            "rss_MB": round(rss_MB(), 1),
            "of_which_interpreter_and_libraries_MB": round(empty_MB, 1),
            "shared_file_MB": round(path.stat().st_size / 1e6, 1),
            "target_MB": TARGET_MB,
            "everything_changes_each_cycle": times,
        }
    result["ok"] = result["rss_MB"] < TARGET_MB
    print(json.dumps(result))


if __name__ == "__main__":
    main()
