"""One device as its line sees it: driver, readings, communication state, and where its values go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gateway.field.device_points import point_name, slow_period_s
from gateway.field.map_model import ScanClass
from gateway.field.schedule import Backoff, Timing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gateway.errors import FieldError
    from gateway.field.codec import Decoded
    from gateway.field.drivers.base import Driver, Part
    from gateway.field.health import Health
    from gateway.field.settings import DeviceSettings
    from gateway.field.sink import Claim, Sink
    from gateway.points import Quality

DEFAULT_TIMEOUT_S = 0.5


@dataclass(slots=True)
class Reading(Timing):
    """A part of a device with its timing and its sinks."""

    link: Link | None = None
    part: int = -1
    scan: str = ""
    numbers: Sink | None = None
    nothing: NDArray[np.float64] | None = None
    texts: Sink | None = None
    text_names: tuple[str, ...] = ()

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
        self.suspect = False
        """One request failed; the next failure loses the device."""
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
            scan=str(part.scan),
            numbers=claim([point_name(self.id, name) for name in part.numbers], writer) if part.numbers else None,
            nothing=np.full(len(part.numbers), np.nan),
            texts=claim([point_name(self.id, name) for name in part.texts], writer) if part.texts else None,
            text_names=part.texts,
        )

    def connected(self, now: float) -> None:
        """The right device answers: everything is read at once, then in phase."""
        self.online, self.suspect, self.error = True, False, None
        self.backoff.reset()
        self.retry.due = math.inf
        for reading in self.readings:
            reading.start(now)
        self.health.online()

    def lose(self, error: FieldError, now: float, time_ns: int) -> None:
        """Give the device up until its back-off has passed; its points get the error's quality."""
        changed = self.online or self.error is None or self.error.quality is not error.quality
        self.online, self.suspect, self.error = False, False, error
        wait_s = self.backoff.fail()
        self.retry.due = now + wait_s
        for reading in self.readings:
            reading.due = math.inf
            if changed:
                reading.fail(error.quality, time_ns)
        self.health.lost(error, wait_s)
