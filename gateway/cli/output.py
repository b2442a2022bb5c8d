"""What every verb shares: where output goes, exit codes, the way to a running gateway.

With `--json` standard output holds exactly one JSON document; everything for people goes to standard error.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway import paths
from gateway.client import ControlClient
from gateway.errors import ConfigError, ControlUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_UNBOUNDED = 1000
"""Columns of output that no terminal shows: nothing is wrapped or cut for grep, less and files."""

out = Console(width=None if sys.stdout.isatty() else _UNBOUNDED)
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


def say(markup: str) -> None:
    """One line for people, wrapped between words on a terminal only; put foreign text through `escape`."""
    out.print(markup, highlight=False, soft_wrap=not out.is_terminal)


def complain(markup: str) -> None:
    """The same on standard error."""
    err.print(markup, highlight=False, soft_wrap=not err.is_terminal)


def grid(*headings: str, cut: Collection[str] = ()) -> Table:
    """An empty table. Columns in `cut` shrink where the terminal is narrow (fill them with `short`), the others never."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading not in cut)
    return table


def short(text: object) -> Text:
    """Text that ends in an ellipsis where the terminal ends."""
    return Text(str(text), no_wrap=True, overflow="ellipsis")


def fail(text: str, code: Exit, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong and leave."""
    if as_json:
        print_json({"ok": False, "error": text})
    complain(f"[red]error[/red] {escape(text)}")
    raise typer.Exit(code)


def fail_config(error: ConfigError, *, as_json: bool = False) -> NoReturn:
    """Print every problem of a bad file and leave."""
    if as_json:
        print_json(
            {"ok": False, "problems": [{"file": p.file, "line": p.line, "key": p.key, "text": p.text} for p in error.problems]}
        )
    for problem in error.problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        key = f"[cyan]{escape(problem.key)}[/cyan]: " if problem.key else ""
        complain(f"[bold]{escape(place)}[/bold]: {key}{escape(problem.text)}")
    count = len(error.problems)
    complain(f"[red]{count} problem{'s' if count != 1 else ''}[/red]")
    raise typer.Exit(Exit.BAD_INPUT)


_ANSWER_WITHIN_S = {"stop": 6.0, "status": 5.0, "alarms": 5.0}
"""Real seconds until an asker is told that the gateway hangs, where that must not take long; STOP waits 3 s for the devices."""
_PATIENCE_S = 35.0


def ask(
    state: Path, verb: str, args: Mapping[str, object], *, needs: str = "", user: str = "", as_json: bool = False
) -> dict[str, object]:
    """One request to the running gateway, with the rights of whoever may open its socket (admin).

    `needs` is the key that an answer has which is not a refusal; without it, a refusal is for the caller to show.
    """
    found = paths.find(state)
    if found is None:
        text = f"no gateway has run with state directory {state}; start one with: bess-gateway run SITE"
        fail(text, Exit.UNREACHABLE, as_json=as_json)

    async def request() -> object:
        patience_s = _ANSWER_WITHIN_S.get(verb, _PATIENCE_S)
        async with ControlClient(found.control_socket, "cli", timeout_s=patience_s) as client:
            return await client.request(verb, dict(args), user=user or _login(), role="admin")

    try:
        result = asyncio.run(request())
    except ControlUnavailable as error:
        text = f"no gateway runs with state directory {state} ({error}); start one with: bess-gateway run SITE"
        if isinstance(error.__cause__, TimeoutError):
            text = f"the gateway hangs: {error}; make the devices safe without it: bess-gateway safe-state SITE --state {state}"
        fail(text, Exit.UNREACHABLE, as_json=as_json)
    answer = cast("dict[str, object]", result) if isinstance(result, dict) else {"result": result}
    if needs and needs not in answer:
        fail(f"{verb} was refused ({answer.get('code')}): {answer.get('reason')}", Exit.REFUSED, as_json=as_json)
    return answer


def _login() -> str:
    """Who asks when no name was given: the user that this program runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user id, for instance in a container
        return f"uid {os.getuid()}"


def verdict(result: Mapping[str, object], *, done: str, as_json: bool) -> None:
    """Print a verdict; leave with 1 when it is a refusal."""
    accepted = result.get("code") == "accepted"
    reason = escape(str(result.get("reason") or ""))
    if as_json:
        print_json({"ok": accepted, **result})
    elif accepted:
        say(f"{escape(done)}{': ' + reason if reason else ''}")
    else:
        complain(f"[red]refused[/red] ({result.get('code')}): {reason}")
    if not accepted:
        raise typer.Exit(Exit.REFUSED)
