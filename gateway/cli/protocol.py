"""Verbs about charge protocols: list, check, explain, run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.markup import escape

from gateway import config, data
from gateway.cli.operate import parameters
from gateway.cli.output import (
    DEFAULT_STATE,
    Exit,
    Json,
    State,
    User,
    ask,
    complain,
    fail,
    fail_config,
    grid,
    out,
    print_json,
    say,
    short,
)
from gateway.demo_view import result_table
from gateway.errors import ConfigError
from gateway.protocols.checks import check_against
from gateway.protocols.explain import explain as explain_protocol
from gateway.protocols.library import ChargeProtocol, library, load_protocol

app = typer.Typer(help="Charge protocols.", no_args_is_help=True)

File = Annotated[str, typer.Argument(metavar="PROTOCOL", help="A file, or the name of a shipped protocol.")]
_POLL_S = 0.5

Row = dict[str, object]


def _load(name: str, *, as_json: bool = False) -> ChargeProtocol:
    path = Path(name) if name.endswith(".toml") else data.protocols_dir() / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in data.protocols_dir().glob("*.toml")))
        fail(f"there is no protocol {name}; give a .toml file, or one of: {known}", Exit.BAD_INPUT, as_json=as_json)
    try:
        return load_protocol(path)
    except ConfigError as error:
        fail_config(error, as_json=as_json)


@app.command("list")
def list_protocols(as_json: Json = False) -> None:
    """List the shipped protocols."""
    try:
        found = library(data.protocols_dir())
    except ConfigError as error:
        fail_config(error, as_json=as_json)
    if as_json:
        print_json([{"id": p.id, "title": p.title, "chemistry": list(p.chemistry)} for p in found.values()])
        return
    table = grid("protocol", "chemistry", "what it does", cut=("what it does",))
    for protocol in found.values():
        table.add_row(protocol.id, ", ".join(protocol.chemistry), short(protocol.title))
    out.print(table)


@app.command()
def check(
    protocol: File,
    site: Annotated[Path | None, typer.Option(help="Site file to check it against.")] = None,
    strings: Annotated[list[str] | None, typer.Option("--string", help="Strings it is to run on; repeat for more.")] = None,
    as_json: Json = False,
) -> None:
    """Check a protocol, and with --site whether it suits the strings of a site."""
    loaded = _load(protocol, as_json=as_json)
    if site is not None:
        try:
            plant = config.load(site).site
        except ConfigError as error:
            fail_config(error, as_json=as_json)
        problems = check_against(loaded, plant, strings)
        if problems:
            fail_config(ConfigError(problems), as_json=as_json)
    if as_json:
        print_json({"ok": True, "id": loaded.id, "sha256": loaded.sha256})
    else:
        say(f"[green]ok[/green] {loaded.id}: {escape(loaded.title)}")


@app.command()
def explain(protocol: File, as_json: Json = False) -> None:
    """Say in plain English what a protocol does."""
    lines = explain_protocol(_load(protocol, as_json=as_json))
    if as_json:
        print_json({"lines": list(lines)})
        return
    for line in lines:
        say(escape(line))


@app.command()
def run(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="The id of a protocol that the gateway knows.")],
    strings: Annotated[list[str] | None, typer.Option("--string", help="A string to run it on; repeat for more.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a protocol parameter.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run has ended.")] = False,
    state: State = DEFAULT_STATE,
    user: User = "",
    as_json: Json = False,
) -> None:
    """Start a protocol on strings of the running gateway."""
    args: Row = {"protocol": protocol, "strings": strings or [], "parameters": parameters(assignments)}
    started = ask(state, "start_run", args, user=user, as_json=as_json)
    if started["code"] != "accepted":
        fail(f"refused ({started['code']}): {started['reason']}", Exit.REFUSED, as_json=as_json)
    if not wait:
        if as_json:
            print_json({"ok": True, **started})
        else:
            say(f"run {started['run']} started")
        return
    ended = _wait(state, str(started["run"]), as_json=as_json)
    if as_json:
        print_json({"ok": ended["state"] == "completed", "run": ended})
    else:
        out.print(result_table(cast("list[Row]", ended["tracks"])))
        complain(escape(f"run {ended['id']} {ended['state']} {ended.get('reason') or ''}"))
    raise typer.Exit(Exit.OK if ended["state"] == "completed" else Exit.REFUSED)


def _wait(state: Path, run_id: str, *, as_json: bool) -> Row:
    while True:
        found = cast("list[Row]", ask(state, "runs", {"run": run_id}, needs="runs", as_json=as_json)["runs"])[0]
        if found["state"] not in {"armed", "running", "paused", "stopping"}:
            return found
        time.sleep(_POLL_S)
