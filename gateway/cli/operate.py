"""Verbs that talk to a running gateway: status, start, stop, reset, alarms, events, schedules, runs."""

from __future__ import annotations

from typing import Annotated, cast

import typer
from rich.table import Table

from gateway.cli.output import DEFAULT_STATE, Json, State, User, ask, err, out, print_json, verdict

app = typer.Typer()
schedule_app = typer.Typer(help="Runs that start by the clock.", no_args_is_help=True)

Row = dict[str, object]


def _rows(document: Row, key: str) -> list[Row]:
    return cast("list[Row]", document.get(key, []))


def _number(value: object, digits: int, unit: str) -> str:
    return f"{value:.{digits}f} {unit}" if isinstance(value, float) else "[yellow]bad[/yellow]"


@app.command()
def status(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show what the gateway sees and does."""
    found = ask(state, "status", {}, as_json=as_json)
    if as_json:
        print_json(found)
        return
    site = cast("Row", found["site"])
    out.print(f"[bold]{site['title']}[/bold]  {site['state']}  {site['reason']}", highlight=False)
    table = Table(box=None, header_style="dim")
    for heading in ("string", "ready", "voltage", "current", "cells", "SOC", "run", "trip"):
        table.add_column(heading)
    for row in _rows(found, "strings"):
        cells = f"{_number(row['cell_voltage_min'], 3, 'V')} .. {_number(row['cell_voltage_max'], 3, 'V')}"
        table.add_row(
            f"{row['id']} {row['title']}",
            "ready" if row["ready"] else "[yellow]not ready[/yellow]",
            _number(row["pack_voltage"], 2, "V"),
            _number(row["current"], 2, "A"),
            cells,
            _number(row["soc"], 1, "%"),
            f"{row['run_state']} {row['run_protocol'] or ''} {row['run_step'] or ''}",
            f"[red]{row['first_out']}[/red]" if row["tripped"] else "",
        )
    out.print(table)
    for alarm in _rows(found, "alarms"):
        out.print(f"[red]alarm[/red] {alarm['text']}", highlight=False)
    for name, url in cast("dict[str, str]", found["endpoints"]).items():
        out.print(f"[dim]{name}[/dim] {url}", highlight=False)


@app.command()
def stop(state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """STOP (software): drive every converter to zero and off, now, and latch it.

    This is not an emergency stop: use the hardware E-stop where people are in danger.
    """
    result = ask(state, "stop", {}, user=user, as_json=as_json)
    if result.get("code") != "accepted" and not as_json:
        err.print("[bold red]NOT CONFIRMED, USE THE HARDWARE E-STOP[/bold red]")
    verdict(result, done="stopped", as_json=as_json)


@app.command()
def reset(
    scope: Annotated[str, typer.Argument(help='"site", or a string such as "string.A".')] = "site",
    state: State = DEFAULT_STATE,
    user: User = "",
    as_json: Json = False,
) -> None:
    """Reset a latched trip, when its causes are healthy again. A reset never restarts anything."""
    verdict(ask(state, "reset", {"scope": scope}, user=user, as_json=as_json), done=f"{scope} reset", as_json=as_json)


@app.command()
def start(state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Start the plant: bus to its voltage, converters reset, strings ready."""
    verdict(ask(state, "start_site", {}, user=user, as_json=as_json), done="starting", as_json=as_json)


@app.command("stop-site")
def stop_site(state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Stop the plant in order: converters to zero, off, confirmed, then the bus."""
    verdict(ask(state, "stop_site", {}, user=user, as_json=as_json), done="stopping", as_json=as_json)


@app.command()
def alarms(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """List alarms, the most urgent first."""
    found = ask(state, "alarms", {}, as_json=as_json)
    if as_json:
        print_json(found)
        return
    for alarm in _rows(found, "alarms"):
        mark = "active" if alarm["active"] else "returned"
        known = "" if alarm["acknowledged"] else " [yellow]unacknowledged[/yellow]"
        out.print(f"{alarm['priority']} [bold]{alarm['id']}[/bold] {mark}{known}: {alarm['text']}", highlight=False)


@app.command()
def acknowledge(alarm: str, state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Acknowledge an alarm by its id; neither clears it nor resets a trip."""
    verdict(
        ask(state, "acknowledge", {"alarm": alarm}, user=user, as_json=as_json), done=f"{alarm} acknowledged", as_json=as_json
    )


@app.command()
def events(
    after: Annotated[int, typer.Option(help="Only events after this id.")] = 0,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.")] = 50,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show the journal."""
    found = ask(state, "events", {"after": after, "limit": limit}, as_json=as_json)
    if as_json:
        print_json(found)
        return
    for event in _rows(found, "events"):
        out.print(
            f"[dim]{event['id']:>6} {event['time']}[/dim] {event['kind']:<12} {event['text']}", highlight=False, soft_wrap=True
        )


@app.command("stop-run")
def stop_run(
    run: Annotated[str, typer.Argument(help="The run's id, or a string's id.")],
    state: State = DEFAULT_STATE,
    user: User = "",
    as_json: Json = False,
) -> None:
    """Abort a run; its string goes to zero current, converter off."""
    verdict(ask(state, "stop_run", {"run": run}, user=user, as_json=as_json), done=f"run {run} stopped", as_json=as_json)


@app.command()
def hold(run: str, state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Hold a run: current zero, step clocks stand still."""
    verdict(ask(state, "hold_run", {"run": run}, user=user, as_json=as_json), done=f"run {run} held", as_json=as_json)


@app.command()
def resume(run: str, state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Resume a held run."""
    verdict(ask(state, "resume_run", {"run": run}, user=user, as_json=as_json), done=f"run {run} resumed", as_json=as_json)


@schedule_app.command("list")
def schedule_list(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """List schedules with their next start."""
    found = ask(state, "schedule_list", {}, as_json=as_json)
    if as_json:
        print_json(found)
        return
    table = Table(box=None, header_style="dim")
    for heading in ("id", "protocol", "strings", "when", "next start", "from"):
        table.add_column(heading)
    for row in _rows(found, "schedules"):
        strings = ", ".join(cast("list[str]", row["strings"]))
        when = row.get("cron") or row.get("at") or f"every {row.get('interval_s')} s"
        table.add_row(
            str(row["id"]), str(row["protocol"]), strings, str(when), str(row.get("next_due")), str(row.get("source", ""))
        )
    out.print(table)


@schedule_app.command("add")
def schedule_add(
    schedule: Annotated[str, typer.Argument(metavar="ID")],
    protocol: str,
    strings: Annotated[list[str], typer.Option("--string", help="A string to run it on; repeat for more.")],
    cron: Annotated[str | None, typer.Option(help='Five fields, for example "0 2 * * 6".')] = None,
    interval: Annotated[float | None, typer.Option(help="Seconds between starts.")] = None,
    at: Annotated[str | None, typer.Option(help="ISO 8601 date and time.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA name of the zone that cron and --at are written in.")] = "UTC",
    grace: Annotated[float, typer.Option(help="Seconds after the due time in which a late start still happens.")] = 60.0,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a protocol parameter.")] = None,
    state: State = DEFAULT_STATE,
    user: User = "",
    as_json: Json = False,
) -> None:
    """Start a protocol by the clock; exactly one of --cron, --interval, --at."""
    args: Row = {
        "id": schedule, "protocol": protocol, "strings": strings, "cron": cron, "interval_s": interval, "at": at,
        "timezone": timezone, "misfire_grace_s": grace, "parameters": parameters(parameter),
    }  # fmt: skip
    verdict(ask(state, "schedule_add", args, user=user, as_json=as_json), done=f"schedule {schedule} added", as_json=as_json)


@schedule_app.command("remove")
def schedule_remove(
    schedule: Annotated[str, typer.Argument(metavar="ID")], state: State = DEFAULT_STATE, user: User = "", as_json: Json = False
) -> None:
    """Remove a schedule that was added at run time."""
    result = ask(state, "schedule_remove", {"id": schedule}, user=user, as_json=as_json)
    verdict(result, done=f"schedule {schedule} removed", as_json=as_json)


def parameters(assignments: list[str] | None) -> dict[str, str]:
    """`["i=5 A"]` as a mapping; a usage error names what is wrong."""
    pairs = [text.partition("=") for text in assignments or []]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"expected NAME=VALUE, got {name!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}
