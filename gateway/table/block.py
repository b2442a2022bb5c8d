"""The writing side of the table: a writer's right to publish its points.

Publishing is the hot path of the gateway: a block of 60 points costs a few array operations, and none per point.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gateway.points import Quality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gateway.table.database import Table

_GOOD = int(Quality.GOOD)
_BAD = int(Quality.BAD_WAITING_FOR_INITIAL_DATA)
_SENSOR_FAILURE = int(Quality.BAD_SENSOR_FAILURE)


class Block:
    """Points of one writer that are published together, in the order in which they were claimed."""

    def __init__(self, table: Table, places: Sequence[int], mirrors: Mapping[int, Sequence[tuple[int, float]]]) -> None:
        self._table = table
        self._size = len(places)
        self._places = {table.points[place].name: place for place in places}
        self._mirrors = {place: mirrors[place] for place in places if place in mirrors}
        self._has_text = any(place in table.texts for place in places)
        self._at = _selector(places)
        found = [
            (position, target, factor) for position, place in enumerate(places) for target, factor in self._mirrors.get(place, ())
        ]
        found.sort(key=lambda item: item[1])
        self._mirrored = bool(found)
        self._from = _selector([position for position, _, _ in found])
        self._to = _selector([target for _, target, _ in found])
        factors = np.array([factor for _, _, factor in found], dtype=np.float64)
        self._factors = None if bool((factors == 1.0).all()) else factors
        self._scaled = np.empty(len(found))
        self._finite = np.empty(self._size, dtype=np.bool_)
        self._all_finite = b"\1" * self._size
        self._all_good = bytes([_GOOD]) * self._size
        self._time_ns = -1
        self._read_at = -math.inf

    def publish(self, values: NDArray[np.float64], qualities: NDArray[np.uint8] | Quality, time_ns: int) -> None:
        """Set all points of the block, as read at `time_ns` (UTC).

        A value under a bad quality is dropped; NaN or infinity that is not bad becomes BAD_SENSOR_FAILURE. The same
        `time_ns` as before is the same reading and stays as old as it is. ValueError when the number of values is not
        that of the points, or a point is text.
        """
        if len(values) != self._size or self._has_text:
            self._refuse(len(values))
        if time_ns != self._time_ns:
            self._read_at = self._table.moment_of_read(time_ns)
            self._time_ns = time_ns
        if isinstance(qualities, Quality):
            shared = int(qualities)
        else:
            if len(qualities) != self._size:
                self._refuse(len(qualities))
            shared = _GOOD if qualities.tobytes() == self._all_good else _BAD
        # Comparing bytes costs a fifth of all() and any() at this size.
        if shared < _BAD and np.isfinite(values, out=self._finite).tobytes() == self._all_finite:
            self._store(values, shared, time_ns, self._read_at)
            self._table.age_if_late(self._read_at)
        else:
            self._store_mixed(values, qualities, time_ns)

    def _refuse(self, count: int) -> None:
        names = list(self._places)
        what = "has text points, which are put one by one" if self._has_text else f"has {self._size} points, got {count}"
        msg = f"the block of {names[0] if names else 'no points'} {what}"
        raise ValueError(msg)

    def _store_mixed(self, values: NDArray[np.float64], qualities: NDArray[np.uint8] | Quality, time_ns: int) -> None:
        """The general case: some or all points are bad. A bad one keeps the moment of its last value."""
        shared = isinstance(qualities, Quality)
        checked = np.full(self._size, int(qualities), np.uint8) if shared else np.array(qualities, dtype=np.uint8)
        bad = checked >= _BAD
        missing = ~(np.isfinite(values) | bad)
        if missing.any():
            checked[missing] = _SENSOR_FAILURE
            bad |= missing
        numbers = np.array(values, dtype=np.float64)
        numbers[bad] = np.nan
        read_at = np.where(bad, self._table.read_at[self._at], self._read_at)
        self._store(numbers, checked, time_ns, read_at)
        if not bad.all():
            self._table.age_if_late(self._read_at)

    def _store(
        self,
        values: NDArray[np.float64],
        qualities: NDArray[np.uint8] | int,
        time_ns: int,
        read_at: NDArray[np.float64] | float,
    ) -> None:
        table, at = self._table, self._at
        table.values[at] = values
        table.qualities[at] = qualities
        table.times_ns[at] = time_ns
        table.read_at[at] = read_at
        if not self._mirrored:
            return
        chosen, to = self._from, self._to
        mirrored = values[chosen]
        if self._factors is not None:
            mirrored = np.multiply(mirrored, self._factors, out=self._scaled)
            mirrored += 0.0  # turns the -0.0 of a sign change into 0.0
        table.values[to] = mirrored
        table.qualities[to] = qualities[chosen] if isinstance(qualities, np.ndarray) else qualities
        table.times_ns[to] = time_ns
        table.read_at[to] = read_at[chosen] if isinstance(read_at, np.ndarray) else read_at

    def put(
        self,
        name: str,
        value: float | str | None,
        quality: Quality = Quality.GOOD,
        time_ns: int | None = None,
    ) -> None:
        """Set one point of the block, as known at `time_ns` (UTC; None is now).

        ValueError when the point is not in the block, when the value is text and the point is not (or the other way
        round), or when there is no value and the quality is not bad.
        """
        place = self._places.get(name)
        if place is None:
            msg = f"{name} is not in this block"
            raise ValueError(msg)
        is_text = place in self._table.texts
        if value is None:
            if not quality.is_bad:
                msg = f"{name} has no value and a quality that is not bad ({quality.name})"
                raise ValueError(msg)
        elif isinstance(value, str) is not is_text:
            msg = f"{name} is {'text' if is_text else 'a number'}, got {value!r}"
            raise ValueError(msg)
        self._put(place, value, quality, time_ns)

    def _put(self, place: int, value: float | str | None, quality: Quality, time_ns: int | None) -> None:
        table = self._table
        stamp_ns, read_at = self._stamp(place, time_ns)
        for target, factor in ((place, 1.0), *self._mirrors.get(place, ())):
            number, judged = math.nan, int(quality)
            if isinstance(value, str) and not quality.is_bad:
                number = table.set_text(target, value)
            elif value is not None and not isinstance(value, str) and not quality.is_bad:
                number = value * factor + 0.0
                if not math.isfinite(number):
                    number, judged = math.nan, _SENSOR_FAILURE
            table.values[target] = number
            table.qualities[target] = judged
            table.times_ns[target] = stamp_ns
            if judged < _BAD:
                table.read_at[target] = read_at
        if not quality.is_bad:
            table.age_if_late(read_at)

    def _stamp(self, place: int, time_ns: int | None) -> tuple[int, float]:
        """Source time and monotonic moment of a sample; one that is there already keeps its moment."""
        table = self._table
        if time_ns is None:
            return table.present()
        known = table.times_ns.item(place) == time_ns and table.read_at.item(place) > -math.inf
        return time_ns, table.read_at.item(place) if known else table.moment_of_read(time_ns)


def _selector(places: Sequence[int]) -> slice | NDArray[np.intp]:
    """What indexes a column at `places`: a slice where they are consecutive, which numpy serves several times faster."""
    if places and list(places) == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, dtype=np.intp)
