"""Liveness: which of the loops that matter have moved lately, and telling the service manager only when all of them have.

A loop says `beat` each time it has finished a pass; one that hangs, whatever the others do, stops the service manager's
watchdog from being fed (sd_notify(3), WatchdogSec of systemd.service(5)), and the process is killed and started anew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, cast

from sdnotify import SystemdNotifier  # pyright: ignore[reportMissingTypeStubs] - the package has none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.clock import Clock


class Notifier(Protocol):
    """The way to the service manager."""

    def notify(self, state: str) -> None:
        """Send one notification, such as "READY=1"; never raises."""
        ...

    def close(self) -> None:
        """Close the way."""
        ...


class Watchdog:
    """Watches named loops. `loops` maps each to the longest real time between two of its beats, in seconds."""

    def __init__(self, clock: Clock, loops: Mapping[str, float], notifier: Notifier | None = None) -> None:
        self._clock = clock
        self._loops = dict(loops)
        self._notifier = notifier if notifier is not None else _service_manager()
        self._beats: dict[str, float] = {}
        self._ready = False
        self._status = ""

    def beat(self, name: str) -> None:
        """The loop has finished a pass. KeyError for a loop that is not watched."""
        self._loops[name]
        self._beats[name] = self._clock.monotonic()

    def stale(self) -> tuple[str, ...]:
        """Loops that have not finished a pass in their time, or never; in the order in which they were declared."""
        now_s = self._clock.monotonic()
        return tuple(name for name, limit_s in self._loops.items() if not now_s - self._beats.get(name, -1e18) <= limit_s)

    def feed(self, status: str = "") -> bool:
        """Tell the service manager that the process lives, when every loop does; False, and nothing is told, otherwise.

        The first time it also says that the process is ready. `status` is shown to the administrator.
        """
        if self.stale():
            return False
        if not self._ready:
            self._notifier.notify("READY=1")
            self._ready = True
        if status != self._status:
            self._status = status
            self._notifier.notify(f"STATUS={_one_line(status)}")
        self._notifier.notify("WATCHDOG=1")
        return True

    def stopping(self) -> None:
        """Tell the service manager that the process is about to end."""
        self._notifier.notify("STOPPING=1")

    def close(self) -> None:
        """Close the way to the service manager; nothing is told any more."""
        self._notifier.close()


def _one_line(text: str) -> str:
    """Text as the package can send it: one line of Latin-1 characters; it drops a notification with others in silence."""
    return " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")


class _Nobody:
    """No service manager has started this process."""

    def notify(self, state: str) -> None:
        del state

    def close(self) -> None:
        pass


class _Socket(Protocol):
    def close(self) -> None: ...


class _Package(Protocol):
    """What is used of sdnotify.SystemdNotifier; `socket` is None when the manager could not be reached."""

    socket: _Socket | None

    def notify(self, state: str) -> None: ...


class _ServiceManager:
    def __init__(self) -> None:
        self._package = cast("_Package", cast("object", SystemdNotifier()))

    def notify(self, state: str) -> None:
        self._package.notify(state)

    def close(self) -> None:
        if self._package.socket is not None:
            self._package.socket.close()


def _service_manager() -> Notifier:
    # Asked for only where there is one: without it the package leaves a socket behind.
    return _ServiceManager() if os.environ.get("NOTIFY_SOCKET") else _Nobody()


def feed_period_s() -> float | None:
    """How often to `feed`: half the time the service manager allows (sd_watchdog_enabled(3)); None when it does not watch."""
    try:
        allowed_us = int(os.environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return allowed_us / 2e6 if watched and allowed_us > 0 else None
