"""The verb `demo`: the shipped composition on the simulated testbed, in one terminal."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gateway import data
from gateway.cli.output import Exit, Json, complain, print_json
from gateway.cli.run import Endpoint, Factor, OwnState, load, sole, specs
from gateway.clock import SystemClock
from gateway.demo import Demo, DemoFailed, console_for, show
from gateway.errors import ControlUnavailable
from gateway.processes import LogFiles, ProcessState, Supervisor

if TYPE_CHECKING:
    from gateway.paths import Paths
    from gateway.processes import ProcessSpec

app = typer.Typer()


class _Interrupted(DemoFailed):
    """Somebody stopped the demonstration; nothing is wrong with it."""


@app.command()
def demo(
    state: OwnState = None,
    once: Annotated[bool, typer.Option("--once", help="Leave when the run has ended.")] = False,
    as_json: Json = False,
    time_factor: Factor = 60.0,
    opcua: Endpoint = None,
) -> None:
    """The paper's hybrid charge on the simulated testbed, live in the terminal.

    Without --state it works in a temporary directory, which is kept for reading when the demonstration fails.
    """
    site = data.sites_dir() / "testbed_sim.toml"
    loaded = load(site, as_json=as_json)
    directory = state or Path(tempfile.mkdtemp(prefix="bess-demo-"))
    with sole(directory, loaded.site.id, as_json=as_json) as files:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", filename=files.logs / "supervisor.log")
        processes = specs(loaded, site, files, fastest=time_factor, opcua=opcua)
        keep = False
        try:
            document = asyncio.run(_demonstrate(processes, files, once=once, as_json=as_json))
            keep = not document["ok"]
        except _Interrupted as interrupted:
            document = {"ok": False, "error": str(interrupted)}
            complain(escape(str(interrupted)))
        except DemoFailed as error:
            document, keep = {"ok": False, "error": str(error)}, True
            complain(f"[red]FAILED[/red] {escape(str(error))}")
    if keep:
        document["logs"] = str(files.logs)
        complain(f"what the processes said is in {escape(str(files.logs))}")
    elif state is None:
        shutil.rmtree(directory, ignore_errors=True)
    if as_json:
        print_json(document)
    raise typer.Exit(Exit.OK if document["ok"] else Exit.REFUSED)


async def _demonstrate(processes: list[ProcessSpec], files: Paths, *, once: bool, as_json: bool) -> dict[str, object]:
    console = console_for(as_json=as_json)
    logs = LogFiles(files.logs)
    supervisor = Supervisor(processes, SystemClock(), on_line=logs)
    running = asyncio.create_task(supervisor.run())
    demonstration = asyncio.create_task(
        Demo(files, console, live=console.is_terminal, trouble=lambda: _trouble(supervisor)).run()
    )
    try:
        await asyncio.wait({running, demonstration}, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.reason.startswith("received "):
            raise _Interrupted("stopped before the charge had ended")
        if supervisor.reason:  # a run that ended with its gateway tells nothing
            raise DemoFailed(f"the gateway stopped: {supervisor.reason}")
        document = _result(demonstration)
        show(document, console)
        if not once:
            console.print("the gateway goes on; Ctrl-C ends it")
            await running
        return document
    finally:
        demonstration.cancel()
        supervisor.request_stop("the demonstration is over")
        await asyncio.wait({running, demonstration})
        if not demonstration.cancelled():
            demonstration.exception()  # told already, or of no interest beside the reason
        logs.close()


def _result(demonstration: asyncio.Task[dict[str, object]]) -> dict[str, object]:
    try:
        return demonstration.result()
    except (ControlUnavailable, OSError) as error:  # the control process, the simulator
        raise DemoFailed(f"a process of the gateway was lost: {error}") from error


def _trouble(supervisor: Supervisor) -> list[str]:
    """The processes that are not there although they should be, for people."""
    return [
        f"{status.name} is not running: {_EXITS.get((status.name, status.last_exit), status.last_exit)}"
        for status in supervisor.status()
        if status.last_exit and status.state in _DOWN
    ]


_DOWN = frozenset({ProcessState.STARTING, ProcessState.BACKING_OFF, ProcessState.REFUSED})
_EXITS = {("opcua", "exit code 69"): "it cannot listen, probably another program has its port; see --opcua"}
"""What the ends of processes that people meet mean (exit codes of gateway.servers.opcua)."""
