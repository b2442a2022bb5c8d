"""Driving a target to its safe values, again and again until the device confirms them.

One `SafeDrive` per target keeps at it in a task of its own, so that a device that does not answer delays no other.
Writes to one device follow one another (`Line`); a safe write that is wanted cancels a normal one in flight to the same
target, and follows it, so that the safe values are always the last thing written.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Protocol

from gateway.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.gate_records import Records
    from gateway.gate_targets import Target

FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 2.0
"""Back-off between attempts to make a target safe, doubling (real seconds)."""

ATTEMPT_TIMEOUT_S = 3.0
"""Real seconds after which one attempt is given up; a transport's own time-outs are shorter."""

ORDER_WAIT_S = 0.5
"""Real seconds for which the grid converter waits for the strings' converters to be told first, and a contactor for what can take
its current away; no longer."""

QUIET_WAIT_S = 0.8
"""Real seconds from the first demand for which it waits until they carry no current, and no longer: a ramp of 0.5 s, a write and
a reading. Taken away under load the bus collapses within 10 ms, and the converters' own protections latch."""


class Writer(Protocol):
    """The way to the devices, in device names, units and signs. Both raise FieldError.

    Writes to one device are carried out in the order of the calls; one that was cancelled is not sent later.
    """

    async def write(self, device: str, values: Mapping[str, float]) -> None:
        """Write the values; returns when the device has acknowledged all of them."""
        ...

    async def read_back(self, device: str, names: Collection[str]) -> Mapping[str, float]:
        """What the device holds now, of those names that it can report."""
        ...


class Line:
    """The order of writes to one device, and the normal write that is in flight."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._target = ""

    async def write(self, writer: Writer, target: Target, values: Mapping[str, float]) -> bool:
        """Write, with the lock held; False when a safe drive pre-empted it. Raises FieldError."""
        task = asyncio.ensure_future(_written(writer, target.device.id, values))
        self._task, self._target = task, target.name
        try:
            await asyncio.wait((task,))
        finally:
            self._task = None
            if not task.done():  # the asker was cancelled: the line is free only when the write has really ended
                task.cancel()
                await asyncio.wait((task,))
        if task.cancelled():
            return False
        task.result()
        return True

    def preempt(self, target: str) -> None:
        """Give up the normal write in flight to that target."""
        if self._task is not None and self._target == target:
            self._task.cancel()


async def _written(writer: Writer, device: str, values: Mapping[str, float]) -> None:
    await writer.write(device, values)


def mismatches(wanted: Mapping[str, float], found: Mapping[str, float]) -> tuple[str, ...]:
    """Names whose read-back differs by more than a device's resolution (0.5 %, or 0.02).

    What the device cannot report is left out: there the acknowledged write is all the proof there can be.
    """
    return tuple(
        name
        for name, value in wanted.items()
        if name in found and not math.isclose(value, found[name], rel_tol=0.005, abs_tol=0.02)
    )


class SafeDrive:
    """Keeps one target's way to its safe values. `on_attempt` is called just before each write."""

    def __init__(self, target: Target, line: Line, writer: Writer, clock: Clock, records: Records) -> None:
        self.target = target
        self.confirmed = False
        self.told = asyncio.Event()
        """Set when the first attempt since the last demand is over."""
        self.after: Sequence[SafeDrive] = ()
        """Drives that go first when all of them are wanted."""
        self.quiet: Callable[[], bool] = _always
        """True when nothing that hangs on this target carries current."""
        self.on_attempt: Callable[[Target], None] = _nothing
        self.on_change: Callable[[Target], None] = _nothing
        self._line = line
        self._writer = writer
        self._clock = clock
        self._records = records
        self._wanted = False
        self._wake = asyncio.Event()
        self._due_s = math.inf
        self._retry_s = FIRST_RETRY_S
        self._failing = False
        self._settled = asyncio.Event()
        self._patient_until_s = -math.inf

    @property
    def wanted(self) -> bool:
        """True from the demand until the device has confirmed."""
        return self._wanted

    def demand(self) -> None:
        """Make the target safe, at once and until confirmed. Asked again meanwhile, it is no more patient than before."""
        if not self._wanted:
            self._patient_until_s = self._clock.monotonic() + QUIET_WAIT_S
        self._wanted = True
        self.confirmed = False
        self._retry_s = FIRST_RETRY_S
        self._due_s = math.inf
        self.told.clear()
        self._line.preempt(self.target.name)
        self._wake.set()
        self.on_change(self.target)

    def supersede(self) -> bool:
        """A new command takes the place of the safe values; True when they were wanted or in force.

        Never call it while the target is tripped.
        """
        if not (self._wanted or self.confirmed):
            return False
        self._wanted = self.confirmed = self._failing = False
        self._due_s = math.inf
        self.on_change(self.target)
        return True

    def tick(self) -> None:
        """Start the next attempt when it is due, and let one go on that waited for others."""
        now_s = self._clock.monotonic()
        if self._due_s <= now_s:
            self._due_s = math.inf
            self._wake.set()
        if not self._settled.is_set() and (self._patient_until_s <= now_s or self.quiet()):
            self._settled.set()

    async def serve(self) -> None:
        """Carry out demands until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._wait_for_others()
            async with self._line.lock:
                if self._wanted:
                    await self._attempt()

    async def _wait_for_others(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ORDER_WAIT_S):
                for drive in self.after:
                    if drive.wanted:
                        await drive.told.wait()
        if not self.quiet():
            self._settled.clear()
            await self._settled.wait()

    async def _attempt(self) -> None:
        self.on_attempt(self.target)
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                problem = await self._write_and_read_back()
        except FieldError as error:
            problem = str(error)
        except TimeoutError:
            problem = f"no answer within {ATTEMPT_TIMEOUT_S:g} s"
        finally:
            self.told.set()
        if problem:
            self._failed(problem)
        elif not self._wake.is_set():  # otherwise it was demanded anew, and is written once more
            self._succeeded()

    async def _write_and_read_back(self) -> str:
        target = self.target
        await self._writer.write(target.device.id, target.safe)
        found = await self._writer.read_back(target.device.id, tuple(target.safe))
        wrong = mismatches(target.safe, found)
        return f"read back differs: {', '.join(f'{name} = {found[name]:g}' for name in wrong)}" if wrong else ""

    def _failed(self, problem: str) -> None:
        if not self._failing:
            text = f"not confirmed safe, trying again: {problem}"
            self._records.safe_state(self.target.name, text, severity="alarm")
        self._failing = True
        self._due_s = self._clock.monotonic() + self._retry_s
        self._retry_s = min(2.0 * self._retry_s, LONGEST_RETRY_S)

    def _succeeded(self) -> None:
        if self._failing:
            self._records.safe_state(self.target.name, "confirmed safe")
        self._wanted = self._failing = False
        self.confirmed = True
        self.on_change(self.target)


def _nothing(target: Target) -> None:
    del target


def _always() -> bool:
    return True
