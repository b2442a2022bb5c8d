"""Fault switches of the simulated testbed, for demonstrations and tests by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape

from gateway import paths
from gateway.cli.output import DEFAULT_STATE, Exit, Json, State, fail, grid, out, print_json, say
from gateway.simulator.control import SimClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

app = typer.Typer(help="Fault switches of the simulated testbed.", no_args_is_help=True)


def _ask(state: Path, request: Mapping[str, object]) -> dict[str, object]:
    found = paths.find(state)
    if found is None or not found.simulator_socket.exists():
        fail(f"no simulator runs with state directory {state}", Exit.UNREACHABLE)

    async def exchange() -> dict[str, object]:
        async with SimClient(found.simulator_socket) as client:
            return await client.request(request)

    try:
        return asyncio.run(exchange())
    except OSError as error:
        fail(f"the simulator of {state} does not answer: {error}", Exit.UNREACHABLE)


@app.command("faults")
def faults(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """List the kinds of fault and those that are set."""
    found = _ask(state, {"do": "list"})
    if as_json:
        print_json(found)
        return
    table = grid("kind", "what it does", cut=("what it does",))
    for kind, text in cast("dict[str, str]", found["kinds"]).items():
        table.add_row(kind, escape(text))
    out.print(table)
    say("devices: " + escape(", ".join(cast("dict[str, str]", found["devices"]))))
    _show_active(found)


@app.command("set")
def set_fault(
    device: Annotated[str, typer.Argument(help="A device id of the site file.")],
    kind: Annotated[str, typer.Argument(help="See `faults`.")],
    cell: Annotated[int | None, typer.Option(help="Cell number from 1.")] = None,
    value: Annotated[float | None, typer.Option(help="What the kind needs; see `faults`.")] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Set a fault on a simulated device."""
    request: dict[str, object] = {"do": "fault", "device": device, "kind": kind}
    request |= {key: given for key, given in (("cell", cell), ("value", value)) if given is not None}
    _show(_ask(state, request), as_json=as_json)


@app.command("clear")
def clear(
    device: Annotated[str | None, typer.Argument(help="All devices when left out.")] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Clear the faults of a device, or of all."""
    _show(_ask(state, {"do": "clear", "device": device}), as_json=as_json)


def _show(answer: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    if answer.get("ok") is False:
        fail(str(answer.get("error")), Exit.REFUSED)
    if not as_json:
        _show_active(answer)


def _show_active(answer: Mapping[str, object]) -> None:
    active = cast("list[dict[str, object]]", answer["active"])
    for fault in active:
        say("[yellow]set[/yellow] " + escape("  ".join(str(value) for value in fault.values() if value is not None)))
    if not active:
        say("no fault is set")
