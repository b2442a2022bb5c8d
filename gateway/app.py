"""Composition of the control process: the only place where the loop from wire to wire is closed.

    wires -> FieldBus -> Table -> Derived -> Guard (interlocks) --trip--> CommandGate -> FieldBus -> wires
                          |                                               ^
                          |-> Sequence, Runner --------commands-----------|
                          '-> shared image + ring -> the servers --requests over the control socket--/

One event loop, one TaskGroup, no listener but the Unix socket. Interlocks run on every fast block as it arrives and
once more in every cycle; whatever talks to devices does so in tasks of its own, so that a slow line never delays the
cycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from gateway import cycle, derived, gate, guard, process_points, published, sequence
from gateway.clock import SystemClock
from gateway.commands import CONTROL
from gateway.control_socket import ControlServer
from gateway.cycle import Cycle
from gateway.derived import Derived
from gateway.errors import FieldError
from gateway.field.bus import FieldBus
from gateway.frames_file import FramesFile
from gateway.gate import CommandGate
from gateway.guard import Guard
from gateway.handlers import Handlers
from gateway.journal import Journal
from gateway.parts import Parts
from gateway.paths import Paths
from gateway.process_points import ProcessReports
from gateway.protocols import runner
from gateway.protocols.checks import check_against
from gateway.protocols.library import library
from gateway.protocols.runner import Runner
from gateway.protocols.schedule import Scheduler
from gateway.sequence import Sequence
from gateway.sequence_state import SiteState
from gateway.shared import ImageWriter
from gateway.sim_ports import SimPorts
from gateway.table import Table
from gateway.timekeeper import TimeKeeper
from gateway.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config import LoadedSite
    from gateway.field.map_model import DeviceMap
    from gateway.points import Point
    from gateway.protocols.library import ChargeProtocol
    from gateway.site import ScheduleSpec

_log = logging.getLogger(__name__)

REFRESH_S = 0.3
"""Real seconds between two heartbeats to a converter: a third of its default communication time-out of 1.0 s."""

_HOUSEKEEPING_S = 1.0
LOOPS = {"cycle": 1.0, "sequence": 2.0, "runs": 10.0}
"""Longest real time (s) between two passes of each loop before the process counts as hung. A run's step may wait for a
converter that does not answer."""
_COUNTERS_EVERY = 10
"""Rounds of housekeeping between two saves of the charge counters."""
_STOP_WITHIN_S = 15.0
SERVERS = ("opcua",)
"""Processes that announce where they listen, in a file of their name in the run directory."""
_AT_REST = frozenset({SiteState.STOPPED, SiteState.FAULT})


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may change: the fastest clock of a simulated site."""

    fastest: float = 1.0


def _ports(loaded: LoadedSite, paths: Paths) -> SimPorts:
    return SimPorts(paths.simulator, [settings.port for settings in loaded.field.transports if settings.kind == "visa"])


def _look_away(device: str, scan_class: str) -> None:
    del device, scan_class


async def probe_alone(loaded: LoadedSite, device: str, paths: Paths | None) -> list[dict[str, object]]:
    """Read a device once without a running gateway; nothing is written. Raises FieldError when it does not answer."""
    ports = _ports(loaded, paths or Paths(Path(), Path()))
    one = next(settings for settings in loaded.field.devices if settings.id == device)
    field = replace(loaded.field, devices=(one,), transports=tuple(t for t in loaded.field.transports if t.id == one.transport))
    table = Table([*loaded.site.device_points], (), SystemClock())
    bus = FieldBus(field, table.claim, SystemClock(), on_block=_look_away, resolve_port=ports.resolve)
    serving = asyncio.create_task(bus.run())
    try:
        return [{**asdict(row), "quality": row.quality.opcua_name} for row in await bus.probe(device)]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def site_points(loaded: LoadedSite) -> tuple[Point, ...]:
    """Every point of a site, in the order of the shared image."""
    site = loaded.site
    return (
        *site.device_points,
        *site.canonical_points,
        *derived.points(site),
        *gate.points(site),
        *guard.points(site),
        *sequence.points(site),
        *runner.points(site),
        *cycle.points(),
        *process_points.points(),
    )


class Control:
    """The control process of one site."""

    def __init__(self, loaded: LoadedSite, paths: Paths, options: Options) -> None:
        site = loaded.site
        self._site, self._paths, self._options = site, paths, options
        self._clock = clock = SystemClock()
        self._journal = journal = Journal(paths.journal, clock)
        self._points = site_points(loaded)
        self._table = table = Table(self._points, site.aliases, clock)
        self._protocols = library(*loaded.protocol_folders)
        self._derived = Derived(site, table, clock, journal.load("counters"))
        ports = _ports(loaded, paths)
        self._bus = bus = FieldBus(loaded.field, table.claim, clock, on_block=self._on_block, resolve_port=ports.resolve)
        self._gate = CommandGate(site, table.view, bus, journal, clock)
        self._gate.publish_to(table.claim([point.name for point in gate.points(site)], "gate"))
        self._guard = Guard(site, table, self._gate, journal, clock)
        self._guard.load(journal.load("trips"))
        self._sequence = Sequence(site, table.view, self._gate, journal, clock, table.claim, self._guard.arming)
        self._gate.permit = self._sequence.permit
        self._runner = Runner(
            site, table.view, self._gate.submit, self._gate.release, journal, clock, table.claim, library=self._protocols
        )
        self._scheduler = Scheduler(site, self._runner, journal, clock, problem=self._schedule_problem)
        self._reports = ProcessReports(table)
        self._timekeeper = TimeKeeper(clock, paths.time_factor, options.fastest if site.simulated else 1.0)
        self._image = ImageWriter(paths.image, published.layout_hash(self._points), self._points, clock=clock)
        self._scopes = {device.id: self._guard.scopes_of(device.id) for device in site.devices}
        self._strings = {device.id: _string_of(device.target) for device in site.devices}
        self._with_heartbeat = tuple(device.id for device in loaded.field.devices if has_heartbeat(device.map))
        self._watchdog = Watchdog(clock, LOOPS)
        passes = (table.age, self._derive, self._check, self._keep_time, self._publish, self._beat)
        self._cycle = Cycle(site.scan_s, passes, table, clock)
        self._frames = FramesFile(paths.safe_frames, self._bus.safe_frames)
        self._sequence.hold = lambda: self._frames.problem
        self._rounds = 0

    def _schedule_problem(self, schedule: ScheduleSpec) -> str:
        protocol = self._protocols.get(schedule.protocol)
        if protocol is None:
            return f"there is no protocol '{schedule.protocol}'; protocols: {', '.join(self._protocols)}"
        problems = check_against(protocol, self._site, schedule.strings, schedule.parameters)
        return "; ".join(problem.text for problem in problems)

    # The control cycle, and what arrives between two of its passes

    def _on_block(self, device: str, scan_class: str) -> None:
        if scan_class != "fast":
            return
        string = self._strings[device]
        if string is not None:
            self._derived.update(string)
        self._guard.check(self._scopes[device])

    def _derive(self) -> None:
        for string in self._site.strings:
            self._derived.update(string.id)

    def _check(self) -> None:
        self._guard.cycle()

    def _keep_time(self) -> None:
        self._timekeeper.update(self._runner.time_to_nearest_end_s(), running=self._runner.is_active)

    def _publish(self) -> None:
        self._image.commit(self._table)

    def _beat(self) -> None:
        self._watchdog.beat("cycle")

    # Tasks

    left_safe = True
    """False when the plant did not confirm the stop sequence: the supervisor then replays the safe frames."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then the plant is stopped in order and left safe."""
        parts = Parts(
            site=self._site,
            table=self._table,
            bus=self._bus,
            gate=self._gate,
            guard=self._guard,
            sequence=self._sequence,
            runner=self._runner,
            scheduler=self._scheduler,
            journal=self._journal,
            reports=self._reports,
            endpoints=self._endpoints,
            clock=self._clock,
        )
        self._write_site()
        gc.collect()
        gc.freeze()
        self._journal.record(
            "process", f"control of {self._site.title} started", source="control", data={"hash": self._site.hash}
        )
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(self._bus.run(), name="field"),
                tasks.create_task(self._gate.run(), name="gate"),
                tasks.create_task(self._cycle.run(), name="cycle"),
                tasks.create_task(self._cycle.follow(self._advance_sequence), name="sequence"),
                tasks.create_task(self._cycle.follow(self._advance_runs), name="runs"),
                *(tasks.create_task(self._refresh_on(device), name=f"heartbeat {device}") for device in self._with_heartbeat),
                tasks.create_task(self._cycle.follow(self._keep_house, self._every(_HOUSEKEEPING_S)), name="housekeeping"),
            ]
            async with ControlServer(self._paths.control_socket, Handlers(parts).table()):
                self._scheduler.start()
                await stop.wait()
                self._watchdog.stopping()
                self._scheduler.shutdown()
                await self._stop_plant()
            await self._sequence.close()
            for task in work:
                task.cancel()
        await self._close()

    def _every(self, seconds: float) -> int:
        return max(1, round(seconds / self._site.scan_s))

    async def _advance_sequence(self) -> None:
        if self._sequence.state is SiteState.MONITOR:
            await self._frames.store()
        await self._sequence.cycle()
        self._watchdog.beat("sequence")

    async def _advance_runs(self) -> None:
        await self._runner.cycle()
        self._watchdog.beat("runs")

    async def _refresh_on(self, device: str) -> None:
        """Advance the heartbeat of one device after finished cycles; each has its own task, so that none waits for another."""
        await self._cycle.follow(partial(self._refresh, device), self._every(REFRESH_S))

    async def _refresh(self, device: str) -> None:
        # A device that does not take its heartbeat stops by itself, and its silence trips its string: nothing to add here.
        with contextlib.suppress(FieldError):
            await self._bus.refresh(device)

    async def _keep_house(self) -> None:
        self._reports.report_own()
        self._watchdog.feed(f"{self._sequence.state.name.lower()}: {self._sequence.reason}")
        self._rounds += 1
        if self._rounds % _COUNTERS_EVERY == 0:
            self._save_counters()
        await self._frames.store()

    def _save_counters(self) -> None:
        for string, counts in self._derived.counters().items():
            self._journal.save("counters", string, counts)

    async def _stop_plant(self) -> None:
        """Abort runs, then the stop sequence; whatever is not confirmed in time is driven safe all the same."""
        for run in self._runner.runs():
            if run["state"] in {"armed", "running", "paused"}:
                await self._runner.stop(str(run["id"]), "the gateway is stopping", CONTROL)
        self._sequence.stop(CONTROL)
        deadline_s = self._clock.monotonic() + _STOP_WITHIN_S
        while self._sequence.state not in _AT_REST:
            if self._clock.monotonic() > deadline_s:
                _log.error("the plant did not confirm its stop within %s s", _STOP_WITHIN_S)
                self.left_safe = False
                return
            await asyncio.sleep(self._site.scan_s)

    async def _close(self) -> None:
        self._save_counters()
        self._timekeeper.close()
        self._watchdog.close()
        self._journal.record("process", "control stopped", source="control")
        await self._journal.close()

    # What others read

    def _endpoints(self) -> Mapping[str, str]:
        """Where the servers that run say that they listen."""
        found: dict[str, str] = {}
        for server in SERVERS:
            with contextlib.suppress(OSError, ValueError, KeyError):
                found[server] = str(json.loads((self._paths.run / f"{server}.json").read_text())["endpoint"])
        return found

    def _write_site(self) -> None:
        protocols = [_published(protocol) for protocol in self._protocols.values()]
        published.write_site(self._paths.site, published.publish(self._site, self._points, protocols=protocols))


def _published(protocol: ChargeProtocol) -> published.PublishedProtocol:
    return published.PublishedProtocol(
        id=protocol.id,
        title=protocol.title,
        chemistry=tuple(protocol.chemistry),
        tracks=tuple(track.string or "" for track in protocol.tracks),
        parameters=tuple(
            published.PublishedParameter(
                name=name, unit=parameter.unit, default=parameter.default, description=parameter.description
            )
            for name, parameter in protocol.parameters.items()
        ),
    )


def has_heartbeat(device_map: DeviceMap) -> bool:
    """True when the device wants a counter written again and again, and stops by itself when it is not."""
    return any(block.heartbeat is not None for block in device_map.write_blocks)


def _string_of(target: str | None) -> str | None:
    return target.split(".")[1] if target and target.startswith("string.") else None


async def _until_told(control: Control) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    await control.run(stop)
    if not control.left_safe:
        raise SystemExit(1)


def run_control(loaded: LoadedSite, paths: Paths, options: Options) -> None:
    """Run the control process until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_until_told(Control(loaded, paths, options)))
