"""Verbs that talk to a running gateway: status, start, stop, reset, alarms, events, schedules, runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape

from gateway.cli.output import (
    DEFAULT_STATE,
    Json,
    State,
    User,
    ask,
    complain,
    grid,
    out,
    print_json,
    say,
    short,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(name="bess-gateway", pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
schedule_app = typer.Typer(help="Runs that start by the clock.", no_args_is_help=True)

_ALARMS_SHOWN = 5
"""Alarms in `status`, the most urgent; `alarms` lists all."""

RunId = Annotated[str, typer.Argument(help="The run's id, or a string's id.")]
ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="Its name.")]

Row = dict[str, object]


def _rows(document: Row, key: str) -> list[Row]:
    return cast("list[Row]", document.get(key, []))


def _number(value: object, digits: int, unit: str) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.{digits}f} {unit}" if good else "[yellow]bad[/yellow]"


@app.command()
def status(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show what the gateway sees and does."""
    found = ask(state, "status", {}, needs="site", as_json=as_json)
    if as_json:
        print_json(found)
        return
    site = cast("Row", found["site"])
    say(f"[bold]{escape(str(site['title']))}[/bold]  {site['state']}  {escape(str(site['reason']))}")
    table = grid("string", "voltage", "current", "lowest cell", "highest", "SOC", "run", cut=("run",))
    for row in _rows(found, "strings"):
        table.add_row(
            escape(f"{row['id']}  {row['title']}"),
            _number(row["pack_voltage"], 2, "V"),
            _number(row["current"], 2, "A"),
            _number(row["cell_voltage_min"], 3, "V"),
            _number(row["cell_voltage_max"], 3, "V"),
            _number(row["soc"], 1, "%"),
            short(_doing(row)),
        )
    out.print(table)
    for line in _remarks(found):
        say(line)


def _remarks(found: Row) -> Iterator[str]:
    """What deserves a line of its own: trips, what is not ready or offline, active alarms, where servers listen."""
    for row in _rows(found, "trips"):
        against = "; ".join(cast("list[str]", row["obstacles"])) or "nothing, reset it when the cause is understood"
        yield f"[red]trip[/red] {escape(str(row['scope']))}: {escape(str(row['reason']))}. Against a reset: {escape(against)}"
    for row in _rows(found, "strings"):
        if not row["ready"] and not row["tripped"]:
            yield f"[yellow]not ready[/yellow] string {escape(str(row['id']))}"
    for row in _rows(found, "devices"):
        if row["state"] != "online":
            yield f"[yellow]device[/yellow] {row['id']} {row['state'] or 'unknown'} {escape(str(row['error']))}"
    active = [alarm for alarm in _rows(found, "alarms") if alarm["active"]]
    for alarm in active[:_ALARMS_SHOWN]:
        yield f"[red]alarm[/red] {escape(str(alarm['id']))}: {escape(str(alarm['text']))}"
    if len(active) > _ALARMS_SHOWN:
        yield f"[red]alarm[/red] and {len(active) - _ALARMS_SHOWN} more, see `bess-gateway alarms`"
    for name, url in cast("dict[str, str]", found["endpoints"]).items():
        yield f"[dim]{name}[/dim] {url}"


def _doing(row: Row) -> str:
    """What a string is doing; a trip first."""
    if row["tripped"]:
        return "TRIPPED"
    return " ".join(str(row[key]) for key in ("run_state", "run_step", "run_protocol") if row[key]) or "-"


@app.command()
def stop(state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """STOP (software): drive every converter to zero and off, now, and latch it.

    This is not an emergency stop: use the hardware E-stop where people are in danger.
    """
    result = ask(state, "stop", {}, user=user, as_json=as_json)
    if result.get("code") != "accepted" and not as_json:
        complain("[bold red]NOT CONFIRMED, USE THE HARDWARE E-STOP[/bold red]")
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
    found = ask(state, "alarms", {}, needs="alarms", as_json=as_json)
    if as_json:
        print_json(found)
        return
    if not found["alarms"]:
        say("no alarms")
    for alarm in _rows(found, "alarms"):
        mark = "active" if alarm["active"] else "returned"
        known = "" if alarm["acknowledged"] else " [yellow]unacknowledged[/yellow]"
        say(f"{alarm['priority']} [bold]{escape(str(alarm['id']))}[/bold] {mark}{known}: {escape(str(alarm['text']))}")


@app.command()
def acknowledge(
    alarm: Annotated[str, typer.Argument(help="The alarm's id, see `alarms`.")],
    state: State = DEFAULT_STATE,
    user: User = "",
    as_json: Json = False,
) -> None:
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
    found = ask(state, "events", {"after": after, "limit": limit}, needs="events", as_json=as_json)
    if as_json:
        print_json(found)
        return
    if not found["events"]:
        say("no events")
    for event in _rows(found, "events"):
        say(f"[dim]{event['id']:>6} {event['time']}[/dim] {event['kind']:<12} {escape(str(event['text']))}")


@app.command("stop-run")
def stop_run(
    run: RunId,
    state: State = DEFAULT_STATE,
    user: User = "",
    as_json: Json = False,
) -> None:
    """Abort a run; its string goes to zero current, converter off."""
    verdict(ask(state, "stop_run", {"run": run}, user=user, as_json=as_json), done=f"run {run} stopped", as_json=as_json)


@app.command()
def hold(run: RunId, state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Hold a run: current zero, step clocks stand still."""
    verdict(ask(state, "hold_run", {"run": run}, user=user, as_json=as_json), done=f"run {run} held", as_json=as_json)


@app.command()
def resume(run: RunId, state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Resume a held run."""
    verdict(ask(state, "resume_run", {"run": run}, user=user, as_json=as_json), done=f"run {run} resumed", as_json=as_json)


@schedule_app.command("list")
def schedule_list(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """List schedules with their next start."""
    found = ask(state, "schedule_list", {}, needs="schedules", as_json=as_json)
    if as_json:
        print_json(found)
        return
    if not found["schedules"]:
        say("no schedules")
        return
    table = grid("id", "protocol", "strings", "when", "next start", "from")
    for row in _rows(found, "schedules"):
        strings = ", ".join(cast("list[str]", row["strings"]))
        when = row.get("cron") or row.get("at") or f"every {row.get('interval_s')} s"
        cells = (row["id"], row["protocol"], strings, when, row.get("next_due") or "never", row.get("source", ""))
        table.add_row(*(escape(str(cell)) for cell in cells))
    out.print(table)


@schedule_app.command("add")
def schedule_add(
    schedule: ScheduleId,
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="The id of a protocol that the gateway knows.")],
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
def schedule_remove(schedule: ScheduleId, state: State = DEFAULT_STATE, user: User = "", as_json: Json = False) -> None:
    """Remove a schedule that was added at run time."""
    result = ask(state, "schedule_remove", {"id": schedule}, user=user, as_json=as_json)
    verdict(result, done=f"schedule {schedule} removed", as_json=as_json)


def parameters(assignments: list[str] | None) -> dict[str, str]:
    """`["i=5 A"]` as a mapping; a usage error names what is wrong."""
    found: dict[str, str] = {}
    for text in assignments or []:
        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--set")
        if name in found:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--set")
        found[name] = value
    return found
