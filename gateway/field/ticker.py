"""One timer for all lines that wait for the same moment: hundreds of devices in phase cost one wake-up, not hundreds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.clock import Clock

_LONGEST_S = 60.0
"""Whoever waits for longer is called after this time all the same, and waits again."""


class Ticker:
    """Calls back at moments of the monotonic clock. There is no cancelling: who is called decides whether it matters."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._waiting: dict[float, list[Callable[[float], None]]] = {}

    def at(self, due: float, call: Callable[[float], None]) -> None:
        """Call `call(due)` at `due`, seconds of the monotonic clock; at once in the next round when that is past."""
        calls = self._waiting.get(due)
        if calls is not None:
            calls.append(call)
            return
        self._waiting[due] = [call]
        wait_s = min(max(due - self._now(), 0.0), _LONGEST_S)
        asyncio.get_running_loop().call_later(wait_s, self._ring, due)

    def _ring(self, due: float) -> None:
        for call in self._waiting.pop(due, ()):
            call(due)
