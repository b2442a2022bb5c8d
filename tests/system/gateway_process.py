"""A gateway as a user starts it, with `bess-gateway run`, and what a test needs to look at it from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gateway import paths
from gateway.client import ControlClient
from gateway.errors import ControlUnavailable
from gateway.points import Quality
from gateway.published import read_site
from gateway.shared import ImageReader, ImageUnavailable
from gateway.simulator.control import SimClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

REPO = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("bess-gateway")
READY_WITHIN_S = 40.0
"""Includes the start of three interpreters that measure their coverage, on a machine that is busy with other tests."""


def cli(*arguments: str, state: Path, timeout_s: float = 30.0) -> tuple[int, dict]:
    """One `bess-gateway` verb with `--json`; exit code and the document that it printed."""
    command = [COMMAND, *arguments, "--state", str(state), "--json"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.stdout, f"exit code {done.returncode}: {done.stderr}"
    return done.returncode, json.loads(done.stdout)


class GatewayProcess:
    """`bess-gateway run SITE` with a state directory and an OPC UA port of its own."""

    def __init__(self, directory: Path, site: str = "testbed_sim.toml", *, time_factor: float = 1.0) -> None:
        self.state = directory / "state"
        self._site = Path(site) if Path(site).is_absolute() else REPO / "sites" / site
        self._time_factor = time_factor
        self._log = directory / "output.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}

    def start(self) -> None:
        """Start it; returns at once."""
        arguments = ["run", self._site, "--state", self.state, "--opcua", "opc.tcp://127.0.0.1:0"]
        arguments += ["--time-factor", str(self._time_factor)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([COMMAND, *map(str, arguments)], cwd=REPO, stdout=log, stderr=log)

    @property
    def output(self) -> str:
        """What it has printed, without the bytes on the wires."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if " frame " not in line)

    @property
    def paths(self) -> paths.Paths:
        """Its files."""
        found = paths.find(self.state)
        assert found is not None, self.output
        return found

    def pid(self, process: str) -> int:
        """The present process id of "simulator", "control" or "opcua"."""
        return self._child(process).pid

    def _child(self, process: str) -> psutil.Process:
        words = {"simulator": "gateway.simulator", "control": "control", "opcua": "gateway.servers.opcua"}
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if words[process] in child.cmdline()[1:4]:
                    return child
        raise AssertionError(f"there is no process {process}\n{self.output}")

    def suspended(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts the supervisor does nothing; its children live on, which its death would end."""
        assert self._process is not None
        return _suspended(psutil.Process(self._process.pid))

    def wire(self, port: str) -> int:
        """The process id of the simulated devices behind a port."""
        return json.loads(self.paths.simulator.read_text())["pids"][port]

    def family(self) -> list[psutil.Process]:
        """Everything that it has started and that is still there."""
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def stop(self, within_s: float = 30.0) -> int:
        """Stop it as a service manager does; its exit code. Fails when it leaves anything running."""
        assert self._process is not None
        family = self.family()
        for child in family:  # a test that failed may have left something stopped
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"it did not stop within {within_s} s\n{self.output}") from None
        _, left = psutil.wait_procs(family, timeout=1.0)
        for child in left:
            child.kill()
        assert not left, f"left running: {left}\n{self.output}"
        return code


@contextlib.contextmanager
def _suspended(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


class Plant:
    """A gateway that is up, seen by its control socket, its image, and the simulator's truth."""

    def __init__(self, process: GatewayProcess, control: ControlClient, sim: SimClient) -> None:
        self.process = process
        self.control = control
        self.sim = sim
        site = read_site(process.paths.site)
        self.points = site.points
        self._index = {point.name: index for index, point in enumerate(site.points)}
        self._reader = ImageReader(process.paths.image)

    async def ask(self, verb: str, **arguments: object) -> dict:
        """One request, as the command line makes it."""
        answer = await self.control.request(verb, arguments, user="tester", role="admin")
        assert isinstance(answer, dict), answer
        return answer

    async def accepted(self, verb: str, **arguments: object) -> dict:
        """The same, for one that must not be refused."""
        answer = await self.ask(verb, **arguments)
        assert answer["code"] == "accepted", (verb, arguments, answer)
        return answer

    async def site(self) -> dict:
        return (await self.ask("status"))["site"]

    async def string(self, identifier: str) -> dict:
        """One string of `status`."""
        return next(row for row in (await self.ask("status"))["strings"] if row["id"] == identifier)

    async def truth(self, identifier: str) -> dict:
        """What a string really does."""
        return (await self.sim.truth())["strings"][identifier]

    async def current_A(self, identifier: str) -> float:
        """The string's true current, + = discharge."""
        return (await self.truth(identifier))["current_A"]

    async def bus_V(self) -> float:
        return (await self.sim.truth())["bus"]["voltage_V"]

    async def supply(self) -> str:
        return (await self.sim.truth())["bus"]["supply"]

    async def alarms(self) -> dict[str, dict]:
        """The listed alarms by id."""
        return {row["id"]: row for row in (await self.ask("alarms"))["alarms"]}

    async def trips(self) -> dict[str, dict]:
        """The latched trips by scope."""
        return {row["scope"]: row for row in (await self.ask("status"))["trips"]}

    async def events(self, after: int = 0) -> list[dict]:
        return (await self.ask("events", after=after, limit=1000))["events"]

    async def last_event(self) -> int:
        return max((event["id"] for event in await self.events()), default=0)

    def value(self, name: str) -> float:
        """A point's value in the shared image; NaN when it is bad."""
        return float(self._reader.read().values[self._index[name]])

    def symbol(self, name: str) -> str:
        """The word for the value of an enumerated point."""
        return self.points[self._index[name]].symbols[int(self.value(name))]

    def quality(self, name: str) -> Quality:
        return Quality(int(self._reader.read().qualities[self._index[name]]))

    def age_s(self, name: str) -> float:
        """Real seconds since a point was measured."""
        return (time.time_ns() - int(self._reader.read().times_ns[self._index[name]])) / 1e9

    def not_good(self, prefix: str = "") -> dict[str, str]:
        """Every point with that prefix whose quality is not good."""
        qualities = self._reader.read().qualities
        return {
            name: Quality(int(qualities[index])).name
            for name, index in self._index.items()
            if name.startswith(prefix) and qualities[index] != Quality.GOOD
        }

    async def until(self, what: Callable[[], Awaitable[object]], within_s: float, told: str, look_s: float = 0.02) -> float:
        """Wait until `what()` is true; real seconds that it took. A gateway that does not answer is not there yet."""
        begin_s = time.monotonic()
        while True:
            with contextlib.suppress(ControlUnavailable, ImageUnavailable):
                if await what():
                    return time.monotonic() - begin_s
            if time.monotonic() - begin_s > within_s:
                raise AssertionError(f"not within {within_s} s: {told}\n{await self._picture()}")
            await asyncio.sleep(look_s)

    async def _picture(self) -> str:
        with contextlib.suppress(ControlUnavailable):
            events = [f"{event['time']} {event['text']}" for event in (await self.events())[-40:]]
            return "\n".join([json.dumps(await self.ask("status")), *events])
        return f"control does not answer\n{self.process.output}"

    async def state(self, *wanted: str, within_s: float = READY_WITHIN_S) -> float:
        """Wait for one of these states of the site."""

        async def there() -> bool:
            return (await self.site())["state"] in wanted

        return await self.until(there, within_s, f"site {' or '.join(wanted)}")

    async def ready(self, *strings: str, within_s: float = READY_WITHIN_S) -> float:
        """Wait until the site and these strings are ready."""

        async def there() -> bool:
            status = await self.ask("status")
            rows = {row["id"]: row["ready"] for row in status["strings"]}
            return status["site"]["state"] == "ready" and all(rows[name] for name in strings)

        return await self.until(there, within_s, f"ready: {', '.join(strings)}")

    async def current(self, identifier: str, wanted_A: float, within_s: float, tolerance_A: float = 0.1) -> float:
        """Wait until a string's true current is this."""

        async def there() -> bool:
            return abs(await self.current_A(identifier) - wanted_A) <= tolerance_A

        return await self.until(there, within_s, f"string {identifier} at {wanted_A} A")

    async def tripped(self, scope: str, within_s: float) -> float:
        async def there() -> bool:
            return scope in await self.trips()

        return await self.until(there, within_s, f"{scope} tripped")

    async def alarm(self, identifier: str, within_s: float) -> dict:
        """Wait for an active alarm."""

        async def there() -> bool:
            return (await self.alarms()).get(identifier, {}).get("active", False)

        await self.until(there, within_s, f"alarm {identifier}")
        return (await self.alarms())[identifier]

    async def reset(self, scope: str, within_s: float = 10.0) -> None:
        """Reset a trip as soon as its causes allow it."""

        async def done() -> bool:
            return (await self.ask("reset", scope=scope))["code"] == "accepted"

        await self.until(done, within_s, f"reset of {scope}", look_s=0.25)

    async def charge(self, protocol: str = "hybrid_charge", strings: tuple[str, ...] = ("A", "B"), **parameters: str) -> str:
        """Start a run; its id."""
        answer = await self.accepted("start_run", protocol=protocol, strings=list(strings), parameters=parameters)
        return answer["run"]

    async def run(self, identifier: str) -> dict:
        return (await self.ask("runs", run=identifier))["runs"][0]

    async def calm(self) -> None:
        """Back to a healthy plant at rest: no fault, no run, no trip, ready."""
        await self.sim.clear()
        for row in (await self.ask("runs"))["runs"]:
            if row["state"] in {"armed", "running", "paused"}:
                await self.ask("stop_run", run=row["id"])
        await self.until(self._no_run, 5.0, "no run under way")
        for scope in await self.trips():
            await self.reset(scope)
        if (await self.site())["state"] in {"stopped", "fault"}:
            await self.accepted("start_site")
        await self.state("ready")
        # What a converter latched by itself while the site was tripped is a trip once the site is up.
        await self.until(self._ready_or_tripped, 10.0, "every string ready or tripped")
        for scope in await self.trips():
            await self.reset(scope)
        await self.ready(*[row["id"] for row in (await self.ask("status"))["strings"]])

    async def _ready_or_tripped(self) -> bool:
        return all(row["ready"] or row["tripped"] for row in (await self.ask("status"))["strings"])

    async def _no_run(self) -> bool:
        return all(
            row["run_state"] not in {"armed", "running", "paused", "stopping"} for row in (await self.ask("status"))["strings"]
        )


@contextlib.asynccontextmanager
async def connected(process: GatewayProcess, *strings: str) -> AsyncIterator[Plant]:
    """A plant to look at, as soon as control answers and the site and the named strings are ready."""
    deadline_s = time.monotonic() + READY_WITHIN_S
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                found = paths.find(process.state)
                if found is None:
                    raise FileNotFoundError(process.state)
                control = ControlClient(found.control_socket, "cli")
                await control.request("status", {}, role="admin")
                sim = await stack.enter_async_context(SimClient(found.simulator_socket))
                plant = Plant(process, control, sim)
                break
            except (OSError, ControlUnavailable, ImageUnavailable):
                assert time.monotonic() < deadline_s, process.output
                await asyncio.sleep(0.1)
        async with control:
            if strings:
                await plant.ready(*strings)
            yield plant


class Watch:
    """Notes what a string really carries, or how old a point is, again and again while something else goes on."""

    def __init__(self, look: Callable[[], Awaitable[float]]) -> None:
        self._look = look
        self.seen: list[float] = []

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.seen.append(await self._look())
            await asyncio.sleep(0.03)


@contextlib.contextmanager
def running(directory: Path, site: str = "testbed_sim.toml", **options: float):
    """A gateway of its own, stopped at the end; it must stop cleanly."""
    process = GatewayProcess(directory, site, **options)
    process.start()
    try:
        yield process
    finally:
        code = process.stop()
    assert code == 0, process.output
