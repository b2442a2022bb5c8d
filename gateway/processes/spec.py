"""What a supervised process is, and what can be said about one at run time."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One program to keep running. Times are real seconds.

    An `essential` process that keeps failing ends the supervisor; others are retried for ever. `ready` is asked with
    the process id until it says True (see ready.py); None is ready at once. `after_death` is a program that is run
    whenever the process ended without being asked to, or did not stop cleanly, before it is started again.
    `on_supervisor_death` is what the kernel sends when the supervisor itself is killed: SIGTERM for a process that can
    leave its devices safe, SIGKILL for all others. `ready` must not raise.
    """

    name: str
    argv: tuple[str, ...]
    essential: bool = False
    ready: Callable[[int], Awaitable[bool]] | None = None
    ready_timeout_s: float = 30.0
    stop_timeout_s: float = 5.0
    """Between SIGTERM and SIGKILL."""
    backoff_min_s: float = 0.5
    backoff_max_s: float = 10.0
    after_death: tuple[str, ...] = ()
    after_death_timeout_s: float = 30.0
    on_supervisor_death: signal.Signals = signal.SIGKILL
    final_exit_codes: frozenset[int] = frozenset({78})
    """Exits after which another start would only end the same way (EX_CONFIG of sysexits.h): it stays down."""

    def backoff_s(self, failures: int) -> float:
        """The pause before the next start after that many recent failures (1 or more): doubling, bounded."""
        return min(self.backoff_max_s, self.backoff_min_s * 2.0 ** min(failures - 1, 30))


class ProcessState(StrEnum):
    """Where a process is in its life."""

    WAITING = "waiting"
    """For the process before it to become ready."""
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REFUSED = "refused"
    """It ended in a way that another start would only repeat, and is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process at this moment. `pid` is None when there is none; `last_exit` "" before its first end."""

    name: str
    state: ProcessState
    pid: int | None
    uptime_s: float
    restarts: int
    last_exit: str


def exit_text(code: int) -> str:
    """The end of a process for people: "exit code 3", "killed by SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
