"""Starting and ending one operating-system process so that neither it nor what it started outlives the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from typing import TYPE_CHECKING

from gateway.processes.output import pump

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DRAIN_S = 0.5
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing may be imported between fork and exec


def _tie_to_parent(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def tie() -> None:  # runs in the child between fork and exec
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above took effect
            os._exit(1)

    return tie


class Child:
    """A running process, the head of a session of its own.

    The session keeps Ctrl-C at the terminal from reaching the children (the supervisor alone decides on their order)
    and lets whatever a child started be killed with it.
    """

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader, pipe: asyncio.ReadTransport) -> None:
        self.pid = process.pid
        self._process = process
        self._output = output
        self._pipe = pipe
        self._gone = False

    async def wait(self, emit: Callable[[str], None]) -> int:
        """Hand on what the process prints until it ends; its exit code, negative for the signal that killed it."""
        pumping = asyncio.create_task(pump(self._output, emit))
        try:
            code = await self._process.wait()
            self.kill()  # what it started
            self._gone = True
            await asyncio.wait({pumping}, timeout=_DRAIN_S)
            return code
        finally:
            pumping.cancel()
            self._pipe.close()

    async def end(self, ended: asyncio.Task[int], timeout_s: float) -> bool:
        """Ask it to stop, and kill it when it has not done so after that time; True when it obeyed.

        `ended` is the task that runs `wait`.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await asyncio.wait({ended}, timeout=timeout_s)
        if ended.done():
            return True
        self.kill()
        await asyncio.wait({ended})
        return False

    def kill(self) -> None:
        """Kill it and everything in its session; without effect when nothing of it is left."""
        if self._gone:  # the number may already be another process's
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


async def spawn(argv: Sequence[str], death_signal: signal.Signals) -> Child:
    """Start a program; raises OSError when it cannot be started.

    Its output comes through a pipe of ours: asyncio's own pipes would hold up the news of its end for as long as
    something that it started keeps them open.
    """
    read_fd, write_fd = os.pipe()
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", buffering=0)
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=write_fd,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_tie_to_parent(os.getpid(), death_signal),  # prctl must be called by the child itself
        )
    except OSError:
        pipe.close()
        raise
    finally:
        os.close(write_fd)
    return Child(process, reader, pipe)


async def run_to_end(argv: Sequence[str], emit: Callable[[str], None], timeout_s: float) -> int:
    """Run a short program; its exit code, that of SIGKILL when it took longer. Raises OSError when it cannot start."""
    child = await spawn(argv, signal.SIGKILL)
    ended = asyncio.create_task(child.wait(emit))
    try:
        await asyncio.wait({ended}, timeout=timeout_s)
        child.kill()
        return await ended
    finally:
        child.kill()
