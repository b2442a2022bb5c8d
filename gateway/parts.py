"""The parts of the control process that verbs and views act on, in one bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.clock import Clock
    from gateway.field.bus import FieldBus
    from gateway.gate import CommandGate
    from gateway.guard import Guard
    from gateway.journal import Journal
    from gateway.process_points import ProcessReports
    from gateway.protocols.runner import Runner
    from gateway.protocols.schedule import Scheduler
    from gateway.sequence import Sequence
    from gateway.site import Site
    from gateway.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Made once by the composition; `endpoints` tells name -> URL of what the servers offer."""

    site: Site
    table: Table
    bus: FieldBus
    gate: CommandGate
    guard: Guard
    sequence: Sequence
    runner: Runner
    scheduler: Scheduler
    journal: Journal
    reports: ProcessReports
    endpoints: Callable[[], Mapping[str, str]]
    clock: Clock
