"""Follows the change ring and writes what changed into the address space.

Source times are those of the ring, never our own; the server time is that of the pass. When the heartbeat of control
stops, every value turns BadNoCommunication and the ServiceLevel falls, until it beats again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gateway.points import Quality
from gateway.servers.opcua.stack import ua
from gateway.servers.opcua.status import QUALITY_STATUS
from gateway.servers.opcua.values import to_datetime, to_variant
from gateway.shared import ImageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from asyncua.server.server import Server
    from asyncua.ua.uatypes import DataValue
    from numpy.typing import NDArray

    from gateway.clock import Clock
    from gateway.servers.opcua.space import Slot
    from gateway.shared import Changes, ImageReader

_log = logging.getLogger(__name__)

PERIOD_S = 0.05
HEARTBEAT_MAX_S = 1.0
"""Control commits once per cycle (0.1 s in the testbed); so much silence means that it is dead or hangs."""
REFRESH_S = 2.0
"""How often a value that did not change gets the time of its newest sample."""
SERVICE_LEVEL_HEALTHY = 255
SERVICE_LEVEL_NO_DATA = 0

_WRITES_PER_TURN = 100
"""Writing never suspends by itself: after so many, others get their turn."""
_UNWRITTEN = 255
"""No quality has this number."""


@dataclass(slots=True)
class Statistics:
    """Since the last `take`, except where a total is named."""

    lag_s: float = 0.0
    """Largest time from control's commit to the end of the pass that showed it."""
    written: int = 0
    drops_total: int = 0
    """How often the ring had overtaken us, so that changes were lost."""


class Publisher:
    """Brings the shared image into the nodes of `slots` (in the order of the image's points)."""

    def __init__(self, server: Server, slots: Sequence[Slot], reader: ImageReader, clock: Clock) -> None:
        self._server = server
        self._slots = slots
        self._reader = reader
        self._clock = clock
        self._statistics = Statistics()
        self._lost = False
        self._started = False
        self._generation = reader.generation
        self._refreshed_at = -math.inf
        self._values = np.full(len(slots), np.nan)
        self._qualities = np.full(len(slots), _UNWRITTEN, dtype=np.uint8)
        self._times_ns = np.zeros(len(slots), dtype=np.int64)

    @property
    def lost(self) -> bool:
        """True while the heartbeat of control is missing."""
        return self._lost

    @property
    def generation(self) -> int:
        """Which writer's data is shown."""
        return self._generation

    def take_statistics(self) -> Statistics:
        """What happened since the last call."""
        taken, self._statistics = self._statistics, Statistics()
        taken.drops_total = self._reader.overruns
        return taken

    async def run(self) -> None:
        """Until cancelled. LayoutChanged when control came back with other points."""
        while True:
            await self.step()
            await asyncio.sleep(PERIOD_S)

    async def step(self) -> None:
        """One pass over what is new. LayoutChanged when control came back with other points."""
        changes = self._reader.follow()
        if self._reader.heartbeat_age_s() > HEARTBEAT_MAX_S:
            await self._lose()
            return
        if self._reader.generation != self._generation:
            self._generation = self._reader.generation
            self._started = False
        if (self._lost or not self._started) and not await self._find():
            return
        await self._publish(changes)
        await self._refresh()
        self._statistics.lag_s = max(self._statistics.lag_s, self._reader.heartbeat_age_s())

    async def _lose(self) -> None:
        if self._lost:
            return
        self._lost = True
        _log.error("no heartbeat of the control process for %g s: every value is BadNoCommunication", HEARTBEAT_MAX_S)
        await self._set_service_level(SERVICE_LEVEL_NO_DATA)
        points = np.arange(len(self._slots), dtype=np.intp)
        qualities = np.full(len(points), int(Quality.BAD_NO_COMMUNICATION), dtype=np.uint8)
        await self._write_all(points, np.full(len(points), np.nan), qualities, self._times_ns.copy())

    async def _find(self) -> bool:
        """Control lives (again): write everything once, whatever `follow` thinks is new; False before its first commit."""
        try:
            image = self._reader.read()
        except ImageUnavailable:
            return False
        if self._lost:
            _log.warning("the control process is back")
        self._lost, self._started = False, True
        await self._set_service_level(SERVICE_LEVEL_HEALTHY)
        self._forget()
        await self._write_all(np.arange(len(self._slots), dtype=np.intp), image.values, image.qualities, image.times_ns)
        return True

    def _forget(self) -> None:
        self._values.fill(np.nan)
        self._qualities.fill(_UNWRITTEN)

    async def _publish(self, changes: Changes) -> None:
        points = changes.points
        if changes.complete:
            same_value = (self._values == changes.values) | (np.isnan(self._values) & np.isnan(changes.values))
            fresh = np.flatnonzero(~(same_value & (self._qualities == changes.qualities)))
            await self._write_all(points[fresh], changes.values[fresh], changes.qualities[fresh], changes.times_ns[fresh])
        else:
            await self._write_all(points, changes.values, changes.qualities, changes.times_ns)

    async def _write_all(
        self, points: NDArray[np.intp], values: NDArray[np.float64], qualities: NDArray[np.uint8], times_ns: NDArray[np.int64]
    ) -> None:
        now = to_datetime(self._clock.utc_ns())
        rows: Iterable[tuple[int, float, int, int]] = zip(
            points.tolist(), values.tolist(), qualities.tolist(), times_ns.tolist(), strict=True
        )
        for count, (point, value, quality, time_ns) in enumerate(rows, 1):
            data = self._data_value(point, value, Quality(quality), time_ns, now)
            await self._server.write_attribute_value(self._slots[point].node_id, data)
            if count % _WRITES_PER_TURN == 0:
                await asyncio.sleep(0)
        self._values[points] = values
        self._qualities[points] = qualities
        self._times_ns[points] = times_ns
        self._statistics.written += len(points)

    def _data_value(self, point: int, value: float, quality: Quality, time_ns: int, now: datetime | None) -> DataValue:
        data_type = self._slots[point].data_type
        variant = None
        if not quality.is_bad:
            variant = to_variant(self._reader.text(point) if data_type is ua.VariantType.String else value, data_type)
            if variant is None:
                quality = Quality.BAD_OUT_OF_RANGE
        if variant is None:
            variant = ua.Variant(None, ua.VariantType.Null)
        return ua.DataValue(variant, QUALITY_STATUS[quality], SourceTimestamp=to_datetime(time_ns), ServerTimestamp=now)

    async def _refresh(self) -> None:
        """Give unchanged values the time of their newest sample, so that a Read does not look stale.

        The attribute is replaced without telling subscribers: the ring decides what is a change for them. Waits for a
        moment in which the image holds nothing that the ring has still to bring.
        """
        now_s = self._clock.monotonic()
        if now_s - self._refreshed_at < REFRESH_S:
            return
        image = self._reader.read()
        if (image.generation, image.sequence) != self._reader.cursor:
            return
        self._refreshed_at = now_s
        now = to_datetime(self._clock.utc_ns())
        newer = np.flatnonzero((image.times_ns > self._times_ns) & (image.qualities == self._qualities))
        for count, point in enumerate(newer.tolist(), 1):
            value, time_ns = image.values.item(point), image.times_ns.item(point)
            quality = Quality(image.qualities.item(point))
            self._slots[point].attribute.value = self._data_value(point, value, quality, time_ns, now)
            if count % _WRITES_PER_TURN == 0:
                await asyncio.sleep(0)
        self._times_ns[newer] = image.times_ns[newer]

    async def _set_service_level(self, level: int) -> None:
        now = to_datetime(self._clock.utc_ns())
        data = ua.DataValue(ua.Variant(level, ua.VariantType.Byte), SourceTimestamp=now, ServerTimestamp=now)
        await self._server.write_attribute_value(ua.NodeId(ua.ObjectIds.Server_ServiceLevel), data)
