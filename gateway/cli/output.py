"""What every verb shares: where output goes, exit codes, the way to a running gateway.

With `--json` standard output holds exactly one JSON document; everything for people goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer
from rich.console import Console

from gateway import paths
from gateway.client import ControlClient
from gateway.errors import ConfigError, ControlUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

out = Console()
err = Console(stderr=True)

DEFAULT_STATE = Path("var/testbed")


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    REFUSED = 1
    """The request was understood and refused, or a check found problems at run time."""
    BAD_INPUT = 2
    """Wrong usage, or a file that must not be used."""
    UNREACHABLE = 3
    """No gateway runs with that state directory."""


State = Annotated[Path, typer.Option("--state", help="State directory of the gateway.", envvar="BESS_GATEWAY_STATE")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
User = Annotated[str, typer.Option("--user", help="Who asks; recorded in the journal.", envvar="USER")]


def print_json(document: object) -> None:
    """One JSON document on one line of standard output."""
    typer.echo(json.dumps(document, default=str))


def fail(text: str, code: Exit, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong and leave."""
    if as_json:
        print_json({"ok": False, "error": text})
    err.print(f"[red]error[/red] {text}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def fail_config(error: ConfigError, *, as_json: bool = False) -> NoReturn:
    """Print every problem of a bad file and leave."""
    if as_json:
        print_json(
            {"ok": False, "problems": [{"file": p.file, "line": p.line, "key": p.key, "text": p.text} for p in error.problems]}
        )
    for problem in error.problems:
        err.print(f"[bold]{problem.file}:{problem.line}[/bold]: [cyan]{problem.key}[/cyan]: {problem.text}", highlight=False)
    count = len(error.problems)
    err.print(f"[red]{count} problem{'s' if count != 1 else ''}[/red]")
    raise typer.Exit(Exit.BAD_INPUT)


def ask(state: Path, verb: str, args: Mapping[str, object], *, user: str = "", as_json: bool = False) -> dict[str, object]:
    """One request to the running gateway, with the rights of whoever may open its socket (admin)."""
    found = paths.find(state)
    if found is None:
        text = f"no gateway has run with state directory {state}; start one with: bess-gateway run SITE"
        fail(text, Exit.UNREACHABLE, as_json=as_json)

    async def request() -> object:
        async with ControlClient(found.control_socket, "cli") as client:
            return await client.request(verb, dict(args), user=user, role="admin")

    try:
        result = asyncio.run(request())
    except ControlUnavailable as error:
        fail(f"the gateway of {state} does not answer: {error}", Exit.UNREACHABLE, as_json=as_json)
    return cast("dict[str, object]", result) if isinstance(result, dict) else {"result": result}


def verdict(result: Mapping[str, object], *, done: str, as_json: bool) -> None:
    """Print a verdict; leave with 1 when it is a refusal."""
    accepted = result.get("code") == "accepted"
    if as_json:
        print_json({"ok": accepted, **result})
    elif accepted:
        out.print(f"{done}{': ' + str(result['reason']) if result.get('reason') else ''}", highlight=False)
    else:
        err.print(f"[red]refused[/red] ({result.get('code')}): {result.get('reason')}", highlight=False, soft_wrap=True)
    if not accepted:
        raise typer.Exit(Exit.REFUSED)
