"""Verbs about charge protocols: list, check, explain, run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from gateway import config, data
from gateway.cli.operate import parameters
from gateway.cli.output import DEFAULT_STATE, Exit, Json, State, User, ask, err, fail, fail_config, out, print_json, verdict
from gateway.errors import ConfigError
from gateway.protocols import explain as explanation
from gateway.protocols.checks import check_against
from gateway.protocols.library import library, load_protocol, schema

app = typer.Typer(help="Charge protocols.", no_args_is_help=True)

File = Annotated[str, typer.Argument(metavar="PROTOCOL", help="A file, or the name of a shipped protocol.")]


def _path(name: str) -> Path:
    path = Path(name)
    return path if path.suffix == ".toml" else data.protocols_dir() / f"{name}.toml"


@app.command("list")
def list_protocols(as_json: Json = False) -> None:
    """List the shipped protocols."""
    found = library(data.protocols_dir())
    if as_json:
        print_json([{"id": p.id, "title": p.title, "chemistry": list(p.chemistry)} for p in found.values()])
        return
    for protocol in found.values():
        out.print(f"[bold]{protocol.id}[/bold]  {protocol.title}  [dim]{', '.join(protocol.chemistry)}[/dim]", highlight=False)
