"""Verbs that start a gateway: `run`, and `control`, the process that everything else stands round."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import config, paths
from gateway.app import Options, run_control
from gateway.cli.output import Exit, complain, fail, fail_config
from gateway.cli.watch import follow, told
from gateway.clock import SystemClock
from gateway.errors import ConfigError
from gateway.processes import ProcessSpec, Supervisor
from gateway.processes.ready import answers_on_socket, names_pid

if TYPE_CHECKING:
    from collections.abc import Generator

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


@contextmanager
def sole(state: Path, site_id: str, *, as_json: bool = False) -> Generator[Paths]:
    """The files of a gateway that is the only one with that state directory; leaves with a sentence when it cannot be."""
    with ExitStack() as holding:
        try:
            holding.enter_context(paths.held(state, "gateway"))
            _await_control(state)
            files = paths.create(state, site_id)
        except paths.StateInUse as error:
            fail(f"{error}; stop it first, or give this one another --state", Exit.REFUSED, as_json=as_json)
        except OSError as error:
            fail(f"{state} cannot be the state directory: {error}", Exit.BAD_INPUT, as_json=as_json)
        yield files


def _await_control(state: Path) -> None:
    """A control process whose supervisor was killed still stops its plant in order; two at once must never be."""
    try:
        with paths.held(state, "control"):
            return
    except paths.StateInUse as error:
        complain(f"waiting: {error}")
    with paths.held(state, "control", patience_s=_STOP_CONTROL_S):
        return


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
    directory = state or Path("var") / loaded.site.id
    with sole(directory, loaded.site.id) as files:
        processes = specs(loaded, site, files, fastest=time_factor, opcua=opcua)
        code = asyncio.run(_stay(processes, files, directory))
    raise typer.Exit(code)


async def _stay(processes: list[ProcessSpec], files: Paths, state: Path) -> int:
    supervisor = Supervisor(processes, SystemClock(), on_change=told(files, state))
    following = asyncio.create_task(follow(files))
    try:
        return await supervisor.run()
    finally:
        following.cancel()
        await asyncio.wait({following})


@app.command(hidden=True)
def control(
    site: SiteFile,
    state: Annotated[Path, typer.Option("--state", help="State directory.")],
    run_dir: Annotated[Path, typer.Option("--run-dir", help="Run directory.")],
    time_factor: Factor = 1.0,
) -> None:
    """Run the control process alone, as a service manager does."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it tells of each of its steps
    loaded = load(site)
    try:
        with paths.held(state, "control", patience_s=_STOP_CONTROL_S):
            run_control(loaded, paths.create(state, loaded.site.id, run_dir), Options(fastest=time_factor))
    except paths.StateInUse as error:
        fail(str(error), Exit.REFUSED)
