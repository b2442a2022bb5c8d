"""One device as its line sees it: driver, readings, communication state, and where its values go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gateway.field.device_points import point_name, slow_period_s
from gateway.field.map_model import ScanClass
from gateway.field.schedule import Backoff, Timing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gateway.errors import FieldError
    from gateway.field.block_codec import Decoded
    from gateway.field.drivers.base import Driver, Part
    from gateway.field.health import Health
    from gateway.field.settings import DeviceSettings
    from gateway.field.sink import Claim, Sink
    from gateway.field.transports.base import Request
    from gateway.points import Quality

DEFAULT_TIMEOUT_S = 0.5
LOST_AFTER = 3
"""Failed requests in a row after which a device is lost: a reading, its repetition, and one more."""


@dataclass(slots=True)
class Reading(Timing):
    """A part of a device with its timing and its sinks."""

    link: Link | None = None
    part: int = -1
    request: Request | None = None
    scan: str = ""
    numbers: Sink | None = None
    nothing: NDArray[np.float64] | None = None
    texts: Sink | None = None
    text_names: tuple[str, ...] = ()
    failures: int = 0
    """Failed attempts in a row."""
    backoff: Backoff = field(default_factory=Backoff)

    def publish(self, decoded: Decoded, time_ns: int) -> None:
        """Values as read at `time_ns`."""
        if self.numbers is not None:
            self.numbers.publish(decoded.values, decoded.qualities, time_ns)
        if self.texts is not None and self.link is not None:
            for name, text in decoded.texts.items():
                self.texts.put(point_name(self.link.id, name), text, time_ns=time_ns)

    def fail(self, quality: Quality, time_ns: int) -> None:
        """No values, for this reason."""
        if self.numbers is not None and self.nothing is not None:
            self.numbers.publish(self.nothing, quality, time_ns)
        if self.texts is not None and self.link is not None:
            for name in self.text_names:
                self.texts.put(point_name(self.link.id, name), None, quality, time_ns)


class Link:
    """A device on a line. `retry` is due when a device that is not online is to be asked again."""

    def __init__(self, settings: DeviceSettings, health: Health) -> None:
        self.settings = settings
        self.id = settings.id
        self.health = health
        self.timeout_s = settings.timeout_s or settings.map.timeout_s or DEFAULT_TIMEOUT_S
        self.driver: Driver | None = None
        self.readings: list[Reading] = []
        self.retry = Reading(rank=1, period_s=math.inf, link=self)
        self.retry.start(-math.inf)
        self.backoff = Backoff()
        self.online = False
        self.failures = 0
        """Failed requests in a row, whatever they asked for."""
        self.error: FieldError | None = None

    def attach(self, driver: Driver, claim: Claim, phase: float) -> None:
        """Take the driver and claim the points of its parts. `phase` is the device's share of a period, 0 to 1."""
        self.driver = driver
        slow = [part for part in driver.parts if part.scan is ScanClass.SLOW]
        for number, part in enumerate(driver.parts):
            share = phase + (slow.index(part) / len(slow) if part.scan is ScanClass.SLOW else 0.0)
            self.readings.append(self._reading(number, part, claim, share))

    def _reading(self, number: int, part: Part, claim: Claim, share: float) -> Reading:
        period_s = {
            ScanClass.FAST: self.settings.period_s,
            ScanClass.SLOW: slow_period_s(self.settings),
            ScanClass.ONCE: math.inf,
        }
        seconds = period_s[part.scan]
        writer = f"field.{self.id}"
        return Reading(
            rank=0 if part.scan is ScanClass.FAST else 1,
            period_s=seconds,
            phase_s=share % 1.0 * seconds if math.isfinite(seconds) else 0.0,
            link=self,
            part=number,
            request=part.request,
            scan=str(part.scan),
            numbers=claim([point_name(self.id, name) for name in part.numbers], writer) if part.numbers else None,
            nothing=np.full(len(part.numbers), np.nan),
            texts=claim([point_name(self.id, name) for name in part.texts], writer) if part.texts else None,
            text_names=part.texts,
        )

    def connected(self, now: float) -> None:
        """The right device answers: everything is read at once, then in phase."""
        self.online, self.failures, self.error = True, 0, None
        self.backoff.reset()
        self.retry.due = math.inf
        for reading in self.readings:
            reading.failures = 0
            reading.backoff.reset()
            reading.start(now)
        self.health.online()

    def succeeded(self, reading: Reading) -> None:
        """One reading came."""
        if self.failures or reading.failures:
            self.failures = reading.failures = 0
            reading.backoff.reset()

    def failed(self, reading: Reading, error: FieldError, now: float, time_ns: int) -> None:
        """One reading did not come.

        It is repeated once, after whatever else is due; then its points are bad and it is tried again after a growing
        wait, while the device's other readings go on. When nothing at all comes from the device, it is lost.
        """
        self.failures += 1
        reading.failures += 1
        if self.failures >= LOST_AFTER:
            self.lose(error, now, time_ns)
        elif reading.failures == 1:
            reading.due = now
        else:
            reading.fail(error.quality, time_ns)
            reading.due = now + reading.backoff.fail()

    def unanswered(self, error: FieldError, now: float, time_ns: int) -> None:
        """A command brought no answer, which counts like a reading, so that a dead device is soon given up."""
        self.failures += 1
        if self.online and self.failures >= LOST_AFTER:
            self.lose(error, now, time_ns)

    def lose(self, error: FieldError, now: float, time_ns: int) -> None:
        """Give the device up until its back-off has passed; its points get the error's quality."""
        changed = self.online or self.error is None or self.error.quality is not error.quality
        self.online, self.error = False, error
        wait_s = self.backoff.fail()
        self.retry.due = now + wait_s
        for reading in self.readings:
            reading.due = math.inf
            if changed:
                reading.fail(error.quality, time_ns)
        self.health.lost(error, wait_s)
