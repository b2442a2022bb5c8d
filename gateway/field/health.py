"""The communication points of one device, and its messages: on the edge only, never per poll."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.errors import WrongDevice
from gateway.field.device_points import CommState, comm_name

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.errors import FieldError
    from gateway.field.sink import Sink
    from gateway.field.transports.base import FrameLog

logger = logging.getLogger(__name__)

_REMIND_EVERY_S = 3600.0


class Health:
    """Counts requests and errors, publishes the device's communication state, and logs failure, change and recovery.

    Whoever sends a request adds one to `requests`.
    """

    def __init__(self, device_id: str, sink: Sink, clock: Clock) -> None:
        self._device = device_id
        self._sink = sink
        self._clock = clock
        self.requests = 0
        self.errors = 0
        self.state = CommState.OFFLINE
        self._error = ""
        self._failed_at: float | None = None
        self._reminded_at = 0.0
        self._counted = 0
        self._put("state", float(CommState.OFFLINE))
        self._put("last_error", "")
        self._put("next_retry", "")
        self._put("requests", 0.0)
        self._put("errors", 0.0)

    def count(self) -> None:
        """Publish the counters when they have moved; called about once a second."""
        if self.requests != self._counted:
            self._counted = self.requests
            self._put("requests", float(self.requests))

    def failed_request(self, error: FieldError, frames: FrameLog | None) -> None:
        """One request failed; the device may yet be well."""
        self.errors += 1
        self._put("errors", float(self.errors))
        text = f"{type(error).__name__}: {error}"
        if text != self._error:
            self._error = text
            self._put("last_error", text)
            logger.warning("%s: %s", self._device, text, extra={"device": self._device})
            for line in frames.lines() if frames is not None else ():
                logger.info("%s frame %s", self._device, line, extra={"device": self._device})

    def connecting(self) -> None:
        """An attempt begins."""
        if self.state not in {CommState.RETRYING, CommState.WRONG_DEVICE}:
            self._set_state(CommState.CONNECTING)

    def online(self) -> None:
        """The right device answered."""
        self._put("next_retry", "")
        if self._failed_at is not None:
            lost_s = self._clock.monotonic() - self._failed_at
            logger.warning("%s answers again after %.1f s", self._device, lost_s, extra={"device": self._device})
        elif self.state is not CommState.ONLINE:
            logger.info("%s answers", self._device, extra={"device": self._device})
        self._failed_at = None
        self._error = ""
        self._set_state(CommState.ONLINE)

    def lost(self, error: FieldError, retry_in_s: float) -> None:
        """The device is given up until the next attempt."""
        now = self._clock.monotonic()
        if self._failed_at is None:
            self._failed_at = self._reminded_at = now
            logger.warning("%s is lost: %s", self._device, error, extra={"device": self._device})
        elif now - self._reminded_at >= _REMIND_EVERY_S:
            self._reminded_at = now
            hours = (now - self._failed_at) / 3600
            logger.warning("%s is still lost after %.1f h: %s", self._device, hours, error, extra={"device": self._device})
        at = datetime.fromtimestamp(self._clock.utc_ns() / 1e9 + retry_in_s, UTC)
        self._put("next_retry", at.isoformat(timespec="milliseconds"))
        self._set_state(CommState.WRONG_DEVICE if isinstance(error, WrongDevice) else CommState.RETRYING)

    def _set_state(self, state: CommState) -> None:
        if state is not self.state:
            self.state = state
            self._put("state", float(state))

    def _put(self, name: str, value: float | str) -> None:
        self._sink.put(comm_name(self._device, name), value)
