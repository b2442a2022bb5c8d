"""What the gate keeps whatever happens, in whatever order: a random walk over requests, trips, silences and time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.commands import Code, Command, Rank, Verdict
from gateway.errors import DeviceRefused
from gateway.gate import CommandGate
from tests.manual_clock import ManualClock
from tests.unit.law.plant import DAB_WRITABLE, FakeJournal, FakeWriter, settle, site, snapshot_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SITE = site()
TARGETS = {"string.A.converter": "dab_a", "string.B.converter": "dab_b", "grid": "rps"}
DEVICES = {device.id: device for device in SITE.devices}
OWNERS = {"dispatch": Rank.DISPATCH, "olga": Rank.OPERATOR, "run:1": Rank.RUN, "run:2": Rank.RUN, "sequence": Rank.SEQUENCE}
SCOPES = ("string.A", "string.B", "site")


def scope_of(device: str) -> str:
    return {"dab_a": "string.A", "dab_b": "string.B"}.get(device, "site")


class Wire(FakeWriter):
    """Notes, at the moment a write arrives, whether it may."""

    def __init__(self, machine: GateMachine) -> None:
        super().__init__()
        self._machine = machine

    async def write(self, device: str, values: Mapping[str, float]) -> None:
        if device in self.fail:
            raise self.fail[device]
        if device in self.slow:
            await self.slow[device].wait()
        self._machine.arrived(device, values)
        await super().write(device, values)


class GateMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.journal = FakeJournal()
        self.writer = Wire(self)
        self.snapshot = snapshot_of(SITE, self.clock)
        self.gate = CommandGate(SITE, lambda: self.snapshot, self.writer, self.journal, self.clock)
        self.gate.permit = lambda _: None
        self.latched: set[str] = set()
        self.pending: list[tuple[Command, asyncio.Task[Verdict]]] = []
        self.verdicts: list[tuple[Command, Verdict]] = []
        self.problems: list[str] = []
        self.service = self.loop.create_task(self.gate.run())
        self.run()

    def run(self) -> None:
        self.loop.run_until_complete(settle(100))
        for command, task in [pair for pair in self.pending if pair[1].done()]:
            self.verdicts.append((command, task.result()))
        self.pending = [pair for pair in self.pending if not pair[1].done()]

    def teardown(self) -> None:
        for event in self.writer.slow.values():
            event.set()
        self.writer.slow.clear()
        self.run()
        assert not self.pending, "a command has no verdict"
        self.service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.service)
        self.loop.close()

    def is_latched(self, device: str) -> bool:
        return bool({scope_of(device), "site"} & self.latched)

    def arrived(self, device: str, values: Mapping[str, float]) -> None:
        spec = DEVICES[device]
        for name, value in values.items():
            low, high = spec.writable[name]
            if not low <= value <= high:
                self.problems.append(f"{device}.{name} = {value} is out of range")
            if self.is_latched(device) and spec.safe.get(name) != value:
                self.problems.append(f"{device}.{name} = {value} arrived while tripped")

    # What can happen

    @rule(
        to=st.sampled_from(sorted(TARGETS)),
        owner=st.sampled_from(sorted(OWNERS)),
        name=st.sampled_from([*sorted(DAB_WRITABLE), "output_enable", "nonsense"]),
        value=st.one_of(st.floats(-8.0, 8.0), st.sampled_from([0.0, 1.0, float("nan"), float("inf")])),
        lease_s=st.sampled_from([None, 0.5, 5.0]),
        confirm=st.booleans(),
    )
    def submit(self, to: str, owner: str, name: str, value: float, lease_s: float | None, *, confirm: bool) -> None:
        command = Command(target=to, values={name: value}, owner=owner, rank=OWNERS[owner], lease_s=lease_s)
        self.pending.append((command, self.loop.create_task(self.gate.submit(command, confirm=confirm))))
        self.run()

    @rule(to=st.sampled_from(sorted(TARGETS)), owner=st.sampled_from(sorted(OWNERS)))
    def switch_on(self, to: str, owner: str) -> None:
        values = {"output_enable": 1.0} if to == "grid" else {"mode_setpoint": 2.0, "current_setpoint": -5.0, "enable": 1.0}
        command = Command(target=to, values=values, owner=owner, rank=OWNERS[owner], lease_s=5.0)
        self.pending.append((command, self.loop.create_task(self.gate.submit(command))))
        self.run()

    @rule(scope=st.sampled_from(SCOPES), at_once=st.booleans())
    def trip(self, scope: str, *, at_once: bool) -> None:
        self.latched.add(scope)
        self.gate.trip(scope, "because")
        if not at_once:
            self.run()

    @rule(scope=st.sampled_from(SCOPES))
    def reset(self, scope: str) -> None:
        self.latched.discard(scope)
        self.gate.clear_trip(scope)

    @rule(to=st.sampled_from(sorted(TARGETS)), owner=st.sampled_from(sorted(OWNERS)))
    def release(self, to: str, owner: str) -> None:
        self.gate.release(to, owner)
        self.run()

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.snapshot.touch()
        self.gate.tick()
        self.run()

    @rule(device=st.sampled_from(sorted(TARGETS.values())), how=st.sampled_from(["silent", "refuses", "slow", "deaf", "well"]))
    def device(self, device: str, how: str) -> None:
        self.writer.fail.pop(device, None)
        self.writer.deaf.discard(device)
        event = self.writer.slow.pop(device, None)
        if event is not None:
            event.set()
        if how == "silent":
            self.writer.silence(device)
        elif how == "refuses":
            self.writer.fail[device] = DeviceRefused("no", 4)
        elif how == "slow":
            self.writer.slow[device] = asyncio.Event()
        elif how == "deaf":
            self.writer.deaf.add(device)
        self.run()

    @rule(charge=st.booleans())
    def forbid_charge(self, *, charge: bool) -> None:
        self.gate.forbid_charge("string.A", "" if charge else "too cold")
        self.run()

    # What must always hold

    @invariant()
    def nothing_forbidden_was_written(self) -> None:
        assert self.problems == []

    @invariant()
    def no_latched_trip_is_lost(self) -> None:
        for scope in SCOPES:
            assert self.gate.tripped(scope) == bool({scope, "site"} & self.latched)

    @invariant()
    def nobody_owns_what_is_tripped(self) -> None:
        for target, device in TARGETS.items():
            if self.is_latched(device) and not self.pending:
                assert self.gate.owner(target) == ""

    @invariant()
    def every_command_has_one_verdict_and_a_record_of_it(self) -> None:
        for command, verdict in self.verdicts:
            assert verdict.record > 0
            record = self.journal.records[verdict.record - 1]
            assert record["data"]["target"] == command.target
            assert record["data"]["owner"] == command.owner
            assert (record["data"]["code"] == Code.ACCEPTED.value) is verdict.accepted

    @invariant()
    def what_is_confirmed_safe_is_safe(self) -> None:
        for target, device in TARGETS.items():
            scope = scope_of(device)
            if scope != "site" and self.gate.confirmed_safe(scope) and target != "grid":
                held = self.writer.holds.get(device, {})
                assert all(held.get(name, value) == value for name, value in DEVICES[device].safe.items())


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
