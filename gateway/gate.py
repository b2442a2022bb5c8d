"""The command gate: the only way to a device.

`submit` is the door for requests: rules in a fixed order (see gate_rules), one write, one verdict, one record. `trip` is
the other door, which nothing vetoes: it drives the safe values of every target of a scope until they are read back, and
while it is latched no command passes. A target has at most one owner; an owner's lease runs in real monotonic time, and
when it ends, or the owner lets go, the target returns to its safe values.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from gateway.commands import Code, Command, Verdict
from gateway.device_roles import DeviceRole
from gateway.errors import DeviceRefused, FieldError
from gateway.gate_drive import Line, SafeDrive, Writer, mismatches
from gateway.gate_records import JournalLike, Records
from gateway.gate_rules import Holder, Situation, judge
from gateway.gate_targets import GRID, SITE, Target, targets, targets_of
from gateway.points import Kind, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.clock import Clock
    from gateway.points import Snapshot
    from gateway.site import Site

__all__ = ["CommandGate", "JournalLike", "Writer", "points"]

NO_CURRENT_A = 0.2
"""A converter below this current has stopped (two steps of a 0.1 A sensor)."""

TICK_S = 0.05
"""Real seconds between two looks at leases and retries."""


class _Put(Protocol):
    """Where the gate publishes its own points."""

    def put(self, name: str, value: float | str | None) -> None: ...


def points(site: Site) -> tuple[Point, ...]:
    """The owner of each target, and whether it is confirmed safe."""
    return tuple(
        point
        for name in targets(site)
        for point in (
            Point(name=f"{name}.owner", kind=Kind.TEXT, description="Who commands it; empty when nobody does"),
            Point(
                name=f"{name}.safe_confirmed",
                kind=Kind.BOOLEAN,
                description="Its safe values were read back, and nothing has been commanded since",
            ),
        )
    )


def _nothing_is_permitted(command: Command) -> Verdict | None:
    return Verdict(Code.NOT_PERMITTED, f"{command.target} cannot be commanded before the site's sequence runs")


class CommandGate:
    """See the module. `run` must be running for leases, retries and safe drives to be served.

    `permit` adds the permissives of the site's sequence: a refusal, or None. Without it only Rank.SEQUENCE passes.
    """

    def __init__(
        self,
        site: Site,
        view: Callable[[], Snapshot],
        writer: Writer,
        journal: JournalLike,
        clock: Clock,
    ) -> None:
        self.permit: Callable[[Command], Verdict | None] = _nothing_is_permitted
        self._view = view
        self._writer = writer
        self._clock = clock
        self._records = Records(journal)
        self._targets = targets(site)
        self._lines = {target.device.id: Line() for target in self._targets.values()}
        self._drives = {
            name: SafeDrive(target, self._lines[target.device.id], writer, clock, self._records)
            for name, target in self._targets.items()
            if target.safe
        }
        for drive in self._drives.values():
            drive.on_attempt, drive.on_change = self._note_safe, self._publish
            self._put_in_order(drive)
        self._trips: dict[str, str] = {}
        self._no_charge: dict[str, str] = {}
        self._holders: dict[str, Holder] = {}
        self._commanded: dict[str, Mapping[str, float]] = {}
        self._stepped_s: dict[str, float] = {}
        self._posted: asyncio.Queue[Command] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._sink: _Put | None = None

    def publish_to(self, sink: _Put) -> None:
        """Publish the gate's points (see `points`) there, now and on every change."""
        self._sink = sink
        for target in self._targets.values():
            self._publish(target)

    # What others may know

    def tripped(self, scope: str) -> bool:
        """True while the scope's own trip, or that of the site, is latched."""
        return bool(self.trip_reason(scope))

    def trip_reason(self, scope: str) -> str:
        """Why the scope is tripped; empty when it is not."""
        own = self._trips.get(scope, "")
        return own or self._trips.get(SITE, "")

    def owner(self, target: str) -> str:
        """Who holds the target; empty when nobody does."""
        holder = self._holders.get(target)
        return holder.owner if holder is not None else ""

    def commanded(self, target: str) -> Mapping[str, float]:
        """What the target was last told (canonical), whether or not it answered; empty before the first write."""
        return self._commanded.get(target, {})

    def energised(self, target: str) -> bool:
        """True when the target was last told to be on. A target that was never told anything is taken to be off."""
        known = self._targets.get(target)
        return known is not None and known.energised(self.commanded(target))

    def charging(self, target: str) -> bool:
        """True when what the target was last told may charge its battery."""
        known = self._targets.get(target)
        return known is not None and known.charges(self.commanded(target))

    def stepped_s(self, target: str) -> float:
        """Monotonic time at which the commanded values last changed; -inf when never."""
        return self._stepped_s.get(target, -math.inf)

    def confirmed_safe(self, scope: str) -> bool:
        """True when every target of the scope was read back safe, and nothing has been commanded since."""
        return all(self._drives[target.name].confirmed for target in targets_of(self._targets, scope))

    async def wait_safe(self, scope: str, timeout_s: float) -> bool:
        """Wait until the scope is confirmed safe, or `timeout_s` real seconds have passed; whether it is."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.confirmed_safe(scope):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _put_in_order(self, drive: SafeDrive) -> None:
        """What goes first: converters, then the grid converter; a contactor opens after what can take its current away."""
        target = drive.target
        if target.scope == SITE:
            drive.after = tuple(other for other in self._drives.values() if other.target.device.role is DeviceRole.DCDC)
            drive.quiet = self._converters_are_quiet
        elif target.string is not None and target.is_contactor:
            converter = f"{target.scope}.converter" if target.string.converter is not None else ""
            first = self._drives.get(converter or GRID)
            drive.after = (first,) if first is not None else ()
            if converter:
                drive.quiet = lambda: self._carries_nothing(converter)

    def _converters_are_quiet(self) -> bool:
        """True when every string's converter says that it carries no current; one that is silent may carry some."""
        return all(self._carries_nothing(name) for name, t in self._targets.items() if t.device.role is DeviceRole.DCDC)

    def _carries_nothing(self, converter: str) -> bool:
        current_A = self._view().number(f"{converter}.battery_current")
        return current_A is not None and abs(current_A) < NO_CURRENT_A

    # Requests

    async def submit(self, command: Command, *, confirm: bool = False) -> Verdict:
        """Carry out a request or refuse it; with `confirm`, read back what was written. Every verdict is recorded."""
        target = self._targets.get(command.target)
        if target is None:
            return self._records.refused(command, Verdict(Code.UNKNOWN, f"{command.target} is nothing that can be commanded"))
        refusal = judge(command, self._situation(target))
        if refusal is not None:
            return self._records.refused(command, refusal)
        line = self._lines[target.device.id]
        async with line.lock:
            # Judged again: while the line was busy, somebody else may have taken the target, or it may have tripped.
            refusal = judge(command, self._situation(target))
            if refusal is not None:
                return self._records.refused(command, refusal)
            return await self._carry_out(command, target, line, confirm=confirm)

    def _situation(self, target: Target) -> Situation:
        return Situation(
            target=target,
            snapshot=self._view(),
            commanded=self.commanded(target.name),
            holder=self._holders.get(target.name),
            tripped=self.trip_reason(target.scope),
            no_charge=self._no_charge.get(target.scope, ""),
            permit=self.permit,
        )

    async def _carry_out(self, command: Command, target: Target, line: Line, *, confirm: bool) -> Verdict:
        before, held = self.commanded(target.name), self._holders.get(target.name)
        self._hold(command, target, held)
        self._note(target, {**before, **command.values})
        drive = self._drives.get(target.name)
        was_safe = drive is not None and drive.supersede()
        try:
            written = await line.write(self._writer, target, target.to_device(command.values))
            problem = await self._confirmed(command, target) if confirm and written else None
        except DeviceRefused as error:
            self._note(target, before)
            self._restore(target, command.owner, held)
            problem, written = Verdict(Code.DEVICE_REFUSED, f"{target.device.id} refused: {error}"), True
        except FieldError as error:
            # It may have been carried out all the same, so the owner keeps the target and its lease runs.
            problem, written = Verdict(Code.UNAVAILABLE, f"{target.device.id} did not answer: {error}"), True
        except asyncio.CancelledError:
            if was_safe and drive is not None:
                drive.demand()  # the asker has gone, and nobody knows what came of it
            raise
        if problem is not None and was_safe and drive is not None:
            drive.demand()  # the command came to nothing, so what it would have replaced is still to be done
        problem = self._overtaken(target, written=written) or problem
        if problem is not None:
            return self._records.refused(command, problem)
        return self._accepted(command, target, held, repeated=self.commanded(target.name) == before)

    def _accepted(self, command: Command, target: Target, held: Holder | None, *, repeated: bool) -> Verdict:
        record = self._records.accepted(command, held, repeated=repeated)
        holder = self._holders.get(target.name)
        if holder is not None and holder.owner == command.owner:
            self._holders[target.name] = Holder(owner=holder.owner, rank=holder.rank, until_s=holder.until_s, record=record)
        return Verdict(Code.ACCEPTED, record=record)

    def _overtaken(self, target: Target, *, written: bool) -> Verdict | None:
        """The verdict on a command that a trip, or a return to the safe values, caught in flight."""
        reason = self.trip_reason(target.scope)
        if reason:
            return Verdict(Code.TRIPPED, f"{target.name} tripped while the command was in flight: {reason}")
        if not written:
            return Verdict(Code.NOT_PERMITTED, f"{target.name} was made safe while the command was in flight")
        return None

    async def _confirmed(self, command: Command, target: Target) -> Verdict | None:
        wanted = target.to_device(command.values)
        found = await self._writer.read_back(target.device.id, tuple(wanted))
        wrong = mismatches(wanted, found)
        if not wrong:
            return None
        told = ", ".join(f"{name} is {found[name]:g} instead of {wanted[name]:g}" for name in wrong)
        return Verdict(Code.NOT_CONFIRMED, f"{target.device.id} did not take the values: {told}")

    def _note(self, target: Target, values: Mapping[str, float]) -> None:
        if self._commanded.get(target.name) != values:
            self._stepped_s[target.name] = self._clock.monotonic()
        self._commanded[target.name] = values

    def _note_safe(self, target: Target) -> None:
        self._note(target, {**self.commanded(target.name), **target.safe_values})

    def post(self, command: Command) -> None:
        """Carry out a command of a moment in the gate's own task, then let go of its target; the verdict is recorded."""
        self._posted.put_nowait(command)

    async def _serve_posted(self) -> None:
        while True:
            command = await self._posted.get()
            await self.submit(command)
            self.release(command.target, command.owner)

    # Owners and leases

    def _hold(self, command: Command, target: Target, held: Holder | None) -> None:
        until_s = math.inf if command.lease_s is None else self._clock.monotonic() + command.lease_s
        record = held.record if held is not None and held.owner == command.owner else 0
        self._holders[target.name] = Holder(owner=command.owner, rank=command.rank, until_s=until_s, record=record)
        self._publish(target)

    def _restore(self, target: Target, owner: str, held: Holder | None) -> None:
        if self.owner(target.name) != owner:
            return
        if held is None:
            del self._holders[target.name]
        else:
            self._holders[target.name] = held
        self._publish(target)

    def release(self, target: str, owner: str) -> bool:
        """Let go of a target and make it safe; False, and nothing happens, when `owner` does not hold it."""
        if self.owner(target) != owner:
            return False
        self._let_go(target, "released by its owner")
        return True

    def _let_go(self, target: str, why: str) -> None:
        holder = self._holders.pop(target)
        if target in self._drives:
            self._drives[target].demand()
        self._publish(self._targets[target])
        self._records.closed(target, holder.owner, why)

    def tick(self) -> None:
        """End leases that have run out, and start retries that are due."""
        now_s = self._clock.monotonic()
        for target in [name for name, holder in self._holders.items() if holder.until_s <= now_s]:
            self._let_go(target, "its lease ran out")
        for drive in self._drives.values():
            drive.tick()

    # The second door

    def trip(self, scope: str, reason: str) -> None:
        """Make every target of the scope safe, now and until it is read back; nothing passes before `clear_trip`."""
        self._trips[scope] = reason or "tripped"
        for target in targets_of(self._targets, scope):
            self._drives[target.name].demand()
        released = [name for name in self._holders if scope in {self._targets[name].scope, SITE}]
        holders = [(name, self._holders.pop(name).owner) for name in released]
        for name, owner in holders:
            self._publish(self._targets[name])
            self._records.closed(name, owner, f"tripped: {reason}")

    def clear_trip(self, scope: str) -> None:
        """Let commands pass again, after a reset. Nothing is written: what was safe stays safe until commanded."""
        self._trips.pop(scope, None)

    def make_safe(self, scope: str) -> None:
        """Drive every target of the scope to its safe values without latching anything; owners lose their hold."""
        for target in targets_of(self._targets, scope):
            if target.name in self._holders:
                self._let_go(target.name, "made safe")
            else:
                self._drives[target.name].demand()

    def forbid_charge(self, scope: str, reason: str) -> None:
        """Refuse charging in a string from now on, and stop what charges; an empty reason allows it again."""
        if not reason:
            self._no_charge.pop(scope, None)
            return
        self._no_charge[scope] = reason
        for target in targets_of(self._targets, scope):
            if target.charges(self.commanded(target.name)):
                self._drives[target.name].demand()
                self._records.safe_state(target.name, f"charging stopped: {reason}", severity="warning")

    # Service

    async def run(self) -> None:
        """Serve safe drives, leases and retries until cancelled."""
        async with asyncio.TaskGroup() as group:
            for drive in self._drives.values():
                group.create_task(drive.serve())
            group.create_task(self._serve_posted())
            while True:
                self.tick()
                await asyncio.sleep(TICK_S)

    def _publish(self, target: Target) -> None:
        self._changed.set()
        if self._sink is None:
            return
        drive = self._drives.get(target.name)
        self._sink.put(f"{target.name}.owner", self.owner(target.name))
        self._sink.put(f"{target.name}.safe_confirmed", float(drive is not None and drive.confirmed))
