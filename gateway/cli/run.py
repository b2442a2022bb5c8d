"""Verbs that start a gateway: `run`, `demo`, and `control`, the process that everything else stands round."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import config, data, paths
from gateway.app import Options, run_control
from gateway.cli.output import Exit, Json, err, fail, fail_config, print_json
from gateway.clock import SystemClock
from gateway.demo import Demo, DemoFailed, console_for, show
from gateway.errors import ConfigError
from gateway.processes import LogFiles, ProcessSpec, Supervisor
from gateway.processes.ready import answers_on_socket, names_pid

if TYPE_CHECKING:
    from gateway.config import LoadedSite
    from gateway.paths import Paths

app = typer.Typer()

SiteFile = Annotated[Path, typer.Argument(metavar="SITE", help="Site file.")]
OwnState = Annotated[Path | None, typer.Option("--state", help="State directory; default ./var/<site id>.")]
Factor = Annotated[float, typer.Option(min=1.0, max=60.0, help="Fastest clock of a simulated site, site seconds per second.")]
Endpoint = Annotated[str | None, typer.Option("--opcua", help="OPC UA endpoint instead of the site file's.")]

_STOP_CONTROL_S = 20.0
"""An ordered stop of the plant takes a few seconds for each of its steps."""


def load(site: Path, *, as_json: bool = False) -> LoadedSite:
    """The site of a file; every problem printed when there is any."""
    try:
        return config.load(site)
    except ConfigError as error:
        fail_config(error, as_json=as_json)


def specs(loaded: LoadedSite, site: Path, files: Paths, *, fastest: float, opcua: str | None) -> list[ProcessSpec]:
    """The processes of a gateway, in starting order."""
    python = (sys.executable, "-m")
    found: list[ProcessSpec] = []
    if loaded.site.simulated:
        argv = (*python, "gateway.simulator", str(site), "--run-dir", str(files.run))
        found.append(ProcessSpec(name="simulator", argv=argv, essential=True, ready=names_pid(files.simulator)))
    control = (*python, "gateway", "control", str(site), "--state", str(files.state), "--run-dir", str(files.run))
    found.append(
        ProcessSpec(
            name="control",
            argv=(*control, "--time-factor", str(fastest)),
            essential=True,
            ready=answers_on_socket(files.control_socket),
            stop_timeout_s=_STOP_CONTROL_S,
            on_supervisor_death=signal.SIGTERM,  # an ordered stop, not devices left to their own watchdogs
            after_death=(*python, "gateway.safe_state", str(files.safe_frames)),
        )
    )
    if loaded.site.opcua is not None:
        endpoint = opcua or loaded.site.opcua.endpoint
        argv = (
            *python,
            "gateway.servers.opcua",
            "--run-dir",
            str(files.run),
            "--state",
            str(files.state),
            "--endpoint",
            endpoint,
        )
        found.append(ProcessSpec(name="opcua", argv=argv, ready=names_pid(files.run / "opcua.json")))
    return found


@app.command()
def run(
    site: SiteFile,
    state: OwnState = None,
    time_factor: Factor = 1.0,
    opcua: Endpoint = None,
) -> None:
    """Start a gateway with all its processes and stay with it; Ctrl-C stops it in order."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    loaded = load(site)
    files = paths.create(state or Path("var") / loaded.site.id, loaded.site.id)
    supervisor = Supervisor(specs(loaded, site, files, fastest=time_factor, opcua=opcua), SystemClock())
    raise typer.Exit(asyncio.run(supervisor.run()))


@app.command(hidden=True)
def control(
    site: SiteFile,
    state: Annotated[Path, typer.Option("--state")],
    run_dir: Annotated[Path, typer.Option("--run-dir")],
    time_factor: Factor = 1.0,
) -> None:
    """Run the control process alone, as a service manager does."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    loaded = load(site)
    run_control(loaded, paths.Paths(state, run_dir), Options(fastest=time_factor))


@app.command()
def demo(
    state: OwnState = None,
    once: Annotated[bool, typer.Option("--once", help="Leave when the run has ended.")] = False,
    as_json: Json = False,
    time_factor: Factor = 60.0,
    opcua: Endpoint = None,
) -> None:
    """The paper's hybrid charge on the simulated testbed, live in the terminal."""
    site = data.sites_dir() / "testbed_sim.toml"
    loaded = load(site, as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="bess-demo-") as scratch:
        files = paths.create(state or Path(scratch), loaded.site.id)
        processes = specs(loaded, site, files, fastest=time_factor, opcua=opcua)
        try:
            document = asyncio.run(_demonstrate(processes, files, once=once, as_json=as_json))
        except DemoFailed as error:
            err.print(f"what the processes said is in {files.logs}", highlight=False)
            fail(str(error), Exit.REFUSED, as_json=as_json)
    if as_json:
        print_json(document)
    raise typer.Exit(Exit.OK if document["ok"] else Exit.REFUSED)


async def _demonstrate(processes: list[ProcessSpec], files: Paths, *, once: bool, as_json: bool) -> dict[str, object]:
    console = console_for(as_json=as_json)
    logs = LogFiles(files.logs)
    supervisor = Supervisor(processes, SystemClock(), on_line=logs)
    running = asyncio.create_task(supervisor.run())
    demonstration = asyncio.create_task(Demo(files, console, live=console.is_terminal).run())
    try:
        await asyncio.wait({running, demonstration}, return_when=asyncio.FIRST_COMPLETED)
        if not demonstration.done():
            demonstration.cancel()
            raise DemoFailed(f"the gateway stopped: {supervisor.reason}")
        document = demonstration.result()
        show(document, console)
        if not once:
            console.print("the gateway goes on; Ctrl-C ends it")
            await running
        return document
    finally:
        supervisor.request_stop("the demonstration is over")
        await running
        logs.close()
