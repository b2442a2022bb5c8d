"""What each process tells about itself: `process.<name>.*`, reported once a second through the control socket.

Control ages these points like any other, so a process that hangs or dies is seen by its silence.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from gateway.points import Kind, Point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.table import Table

REPORTED: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "opcua": (
        ("memory", "MB", "Resident memory"),
        ("lag", "s", "Age of the newest change when it was published"),
        ("sessions", "", "Open sessions"),
        ("drops", "", "Times that the change ring ran ahead and the image was read again"),
    ),
}
"""Process -> (name, unit, description) of what it reports."""

_UNCERTAIN_AFTER_S, _BAD_AFTER_S = 3.0, 10.0
_MEGABYTE = 1e6


def points() -> tuple[Point, ...]:
    """The points of all processes, control's own included."""
    own = (("memory", "MB", "Resident memory"), ("cpu", "%", "Share of one core"))
    return tuple(
        Point(
            name=f"process.{process}.{name}",
            kind=Kind.ANALOG if unit else Kind.INTEGER,
            unit=unit,
            description=f"{text} of the process {process}",
            low=0.0,
            uncertain_after_s=_UNCERTAIN_AFTER_S,
            bad_after_s=_BAD_AFTER_S,
            deadband=0.5 if unit == "MB" else 0.0,
        )
        for process, rows in {"control": own, **REPORTED}.items()
        for name, unit, text in rows
    )


class ProcessReports:
    """Writes the points of all processes."""

    def __init__(self, table: Table) -> None:
        self._block = table.claim([point.name for point in points()], "processes")
        self._own = psutil.Process(os.getpid())

    def report(self, process: str, values: Mapping[str, object] | Mapping[object, object]) -> None:
        """Take over what a process reports; names that it does not have are ignored, values that are no numbers too."""
        for name, _, _ in REPORTED.get(process, ()):
            value = values.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._block.put(f"process.{process}.{name}", float(value))

    def report_own(self) -> None:
        """Memory and processor share of this process since the last call."""
        with self._own.oneshot():
            self._block.put("process.control.memory", self._own.memory_info().rss / _MEGABYTE)
            self._block.put("process.control.cpu", self._own.cpu_percent())
