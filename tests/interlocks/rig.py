"""Drives the pure interlocks scan by scan, with every input under the test's hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.interlocks import Inputs, ScopeState, causes, evaluate, obstacles
from tests.manual_clock import ManualClock
from tests.unit.law.plant import site as make_site
from tests.unit.law.plant import snapshot_of

if TYPE_CHECKING:
    from gateway.cause_rules import CauseState
    from gateway.interlocks import Cause, CauseMemory, Latch
    from gateway.site import Site

SCAN_S = 0.1

RUNNING = Inputs(bus_armed=True, faults_armed=True, telemetry_armed=True)
"""A site that is ready, with a string that is commanded on."""


class Rig:
    """One scope of a site. Points are read again at every scan, except the `frozen`."""

    def __init__(
        self, scope: str = "string.A", site: Site | None = None, *, inputs: Inputs = RUNNING, factor: float = 1.0
    ) -> None:
        self.site = site if site is not None else make_site()
        self.clock = ManualClock(time_factor=factor)
        self.snapshot = snapshot_of(self.site, self.clock)
        self.causes: tuple[Cause, ...] = tuple(cause for cause in causes(self.site) if cause.scope == scope)
        self.state = ScopeState.initial(self.causes)
        self.inputs = inputs
        self.frozen: set[str] = set()
        self.latched: list[tuple[str, ...]] = []

    def scan(self, seconds: float = SCAN_S) -> None:
        """Let time pass in scans, the last of which ends after `seconds`."""
        for _ in range(round(seconds / SCAN_S)):
            self.clock.advance(SCAN_S)
            self.snapshot.touch(*(name for name in self.snapshot.names if name not in self.frozen))
            self.evaluate()

    def evaluate(self) -> None:
        result = evaluate(self.causes, self.state, self.snapshot, self.clock.monotonic(), self.clock.site(), self.inputs)
        self.state = result.state
        if result.latched:
            self.latched.append(tuple(cause.id for cause in result.latched))

    def cause(self, cause_id: str) -> Cause:
        return next(cause for cause in self.causes if cause.id == cause_id)

    def memory(self, cause_id: str) -> CauseMemory:
        return self.state.memories[[cause.id for cause in self.causes].index(cause_id)]

    def cause_state(self, cause_id: str) -> CauseState:
        return self.memory(cause_id).state

    @property
    def latch(self) -> Latch | None:
        return self.state.latch

    def obstacles(self) -> str:
        return "; ".join(obstacles(self.causes, self.state, self.clock.monotonic()))
