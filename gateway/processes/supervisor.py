"""Keeps the processes of a gateway running and stops them in order.

Knows programs and signals, nothing about points or devices. Children start in the given order, each once the one before
is ready, and stop in the reverse order, so that servers go first and control still finds its devices when it stops. The
kernel signals each child when the supervisor is gone (PR_SET_PDEATHSIG, prctl(2)); since it looks at the thread that
forked, `Supervisor.run` must be awaited on the main thread.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from typing import TYPE_CHECKING

from gateway.processes import output
from gateway.processes.child import Child, run_to_end, spawn
from gateway.processes.spec import ProcessSpec, ProcessState, ProcessStatus, exit_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock

_log = logging.getLogger(__name__)

EXIT_GAVE_UP = 70
"""Exit code when an essential process cannot be kept running (EX_SOFTWARE of sysexits.h)."""

FAILURES = 5
FAILURE_WINDOW_S = 60.0
"""So many failures of an essential process within so many real seconds end the supervisor, as do so many starts in a row
that never became ready, however long they took."""

_READY_POLL_S = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Keeper:
    """Runs one process again and again until it is told to stop."""

    def __init__(self, spec: ProcessSpec, owner: Supervisor) -> None:
        self.spec = spec
        self.became_ready = asyncio.Event()
        self._owner = owner
        self._state = ProcessState.WAITING
        self._restarts = 0
        self._last_exit = ""
        self._child: Child | None = None
        self._started_at = 0.0
        self._failures: deque[float] = deque()
        self._was_ready = False
        self._stop = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    def status(self) -> ProcessStatus:
        return ProcessStatus(
            name=self.spec.name,
            state=self._state,
            pid=self._child.pid if self._child else None,
            uptime_s=self._owner.clock.monotonic() - self._started_at if self._child else 0.0,
            restarts=self._restarts,
            last_exit=self._last_exit,
        )

    def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Return when the process has ended and its recovery, where it needed one, is done."""
        self._stop.set()
        if self._keeping is not None:
            await asyncio.wait({self._keeping})

    async def _keep(self) -> None:
        while not self._stop.is_set():
            end = await self._run_once()
            self._last_exit = end if isinstance(end, str) else exit_text(end)
            if end != 0 or not self._stop.is_set():
                await self._recover()
            if self._stop.is_set():
                break
            _log.warning("%s ended unexpectedly: %s", self.spec.name, self._last_exit)
            failures = self._count_failure()
            final = end in self.spec.final_exit_codes
            if self.spec.essential and (final or failures >= FAILURES):
                often = "refused to run" if final else f"failed {failures} times in short succession, the last time"
                self._owner.give_up(f"{self.spec.name} {often}: {self._last_exit}")
                break
            if final:
                _log.error("%s is left alone: it refused to run, see what it printed", self.spec.name)
                self._enter(ProcessState.REFUSED)
                self.became_ready.set()
                return
            self._enter(ProcessState.BACKING_OFF)
            await self._pause(self.spec.backoff_s(failures))
            self._restarts += 1
        self._enter(ProcessState.STOPPED)

    async def _recover(self) -> None:
        argv = self.spec.after_death
        if not argv:
            return
        try:
            code = await run_to_end(argv, self._emit, self.spec.after_death_timeout_s)
        except OSError as error:
            _log.error("%s: %s could not be run: %s", self.spec.name, argv[0], error)
            return
        level = logging.WARNING if code == 0 else logging.ERROR
        _log.log(level, "%s is dead, ran %s: %s", self.spec.name, " ".join(argv), exit_text(code))

    async def _run_once(self) -> int | str:
        """One life of the process; its exit code, or why it did not start."""
        self._enter(ProcessState.STARTING)
        self._was_ready = False
        try:
            child = await spawn(self.spec.argv, self.spec.on_supervisor_death)
        except OSError as error:
            return f"cannot start: {error}"
        self._child, self._started_at = child, self._owner.clock.monotonic()
        ended = asyncio.create_task(child.wait(self._emit))
        readiness = asyncio.create_task(self._await_ready(child))
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
            readiness.cancel()
            if not ended.done():
                await self._end(child, ended)
            return await ended
        finally:
            stop.cancel()
            readiness.cancel()
            child.kill()
            self._child = None

    async def _end(self, child: Child, ended: asyncio.Task[int]) -> None:
        self._enter(ProcessState.STOPPING)
        if not await child.end(ended, self.spec.stop_timeout_s):
            _log.warning("%s did not stop within %g s and was killed", self.spec.name, self.spec.stop_timeout_s)

    async def _await_ready(self, child: Child) -> None:
        deadline = self._owner.clock.monotonic() + self.spec.ready_timeout_s
        while self.spec.ready is not None and not await self.spec.ready(child.pid):
            if self._owner.clock.monotonic() >= deadline:
                _log.error("%s was not ready within %g s and is killed", self.spec.name, self.spec.ready_timeout_s)
                child.kill()
                return
            await asyncio.sleep(_READY_POLL_S)
        self._was_ready = True
        self._enter(ProcessState.RUNNING)
        self.became_ready.set()

    def _count_failure(self) -> int:
        now = self._owner.clock.monotonic()
        self._failures.append(now)
        while self._was_ready and self._failures[0] < now - FAILURE_WINDOW_S:
            self._failures.popleft()
        return len(self._failures)

    async def _pause(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), pause_s)
        except TimeoutError:
            return

    def _emit(self, line: str) -> None:
        self._owner.on_line(self.spec.name, line)

    def _enter(self, state: ProcessState) -> None:
        if state is not self._state:
            self._state = state
            self._owner.on_change(self.status())


def _ignore(_: ProcessStatus) -> None:
    return


class Supervisor:
    """The processes of one gateway.

    `on_line` gets (name, line) for everything the children print; `on_change` the status of a process that entered
    another state. Both are called in the event loop and must not block. `clock` is used for its monotonic time.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        clock: Clock,
        *,
        on_line: Callable[[str, str], None] = output.to_log,
        on_change: Callable[[ProcessStatus], None] = _ignore,
    ) -> None:
        self.clock = clock
        self.on_line = on_line
        self.on_change = on_change
        self.reason = ""
        """Why it stopped or is stopping; "" while it runs."""
        self._exit_code = 0
        self._stop = asyncio.Event()
        self._keepers = [_Keeper(spec, self) for spec in specs]

    def status(self) -> tuple[ProcessStatus, ...]:
        """Every process, in starting order."""
        return tuple(keeper.status() for keeper in self._keepers)

    async def ready(self) -> None:
        """Return once every process has been ready, or has refused to run."""
        for keeper in self._keepers:
            await keeper.became_ready.wait()

    def request_stop(self, reason: str) -> None:
        """Begin the ordered stop; `run` returns when it is done. Later calls change nothing."""
        if not self._stop.is_set():
            self.reason = reason
            _log.info("stopping: %s", reason)
            self._stop.set()

    def give_up(self, reason: str) -> None:
        """Begin the ordered stop because a process cannot be kept running; `run` returns EXIT_GAVE_UP."""
        if not self._stop.is_set():
            _log.error("giving up: %s", reason)
            self._exit_code = EXIT_GAVE_UP
            self.request_stop(reason)

    async def run(self, *, handle_signals: bool = True) -> int:
        """Start everything, keep it running, stop it in order; 0, or EXIT_GAVE_UP.

        SIGTERM, SIGINT and SIGHUP begin the stop when `handle_signals`. Cancellation stops in order, too.
        """
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in _SIGNALS:
                loop.add_signal_handler(number, self.request_stop, f"received {number.name}")
        try:
            await self._run()
        finally:
            if handle_signals:
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)
        return self._exit_code

    async def _run(self) -> None:
        starter = asyncio.create_task(self._start_in_order())
        try:
            await self._stop.wait()
        finally:
            starter.cancel()
            for keeper in reversed(self._keepers):
                await keeper.stop()

    async def _start_in_order(self) -> None:
        for keeper in self._keepers:
            keeper.start()
            await keeper.became_ready.wait()
