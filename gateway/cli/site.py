"""Verbs about a site and its devices: check, schema, points, probe, safe-state."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape

from gateway import config, paths, safe_state
from gateway.app import probe_alone, site_points
from gateway.cli.output import Exit, Json, User, ask, complain, fail, fail_config, grid, out, print_json, say, short
from gateway.cli.run import OwnState, SiteFile, load
from gateway.client import ControlClient
from gateway.errors import ConfigError, ControlUnavailable, FieldError
from gateway.field.device_map import schema as map_schema
from gateway.protocols.checks import check_against
from gateway.protocols.library import library
from gateway.protocols.library import schema as protocol_schema

if TYPE_CHECKING:
    from gateway.points import Point

app = typer.Typer()

Row = dict[str, object]

_ANSWER_WITHIN_S = 2.0

_WIDE = 140
"""Columns of a terminal from which the list of points has room for descriptions."""


class SchemaOf(StrEnum):
    """The kinds of file that people write."""

    SITE = "site"
    MAP = "map"
    PROTOCOL = "protocol"


@app.command()
def check(site: SiteFile, as_json: Json = False) -> None:
    """Check a site file, every device map it uses, its own and the shipped protocols; names every problem at once."""
    loaded = load(site, as_json=as_json)
    try:
        protocols = library(*loaded.protocol_folders)
    except ConfigError as error:
        fail_config(error, as_json=as_json)
    problems = [
        problem
        for schedule in loaded.site.schedules
        if schedule.protocol in protocols
        for problem in check_against(protocols[schedule.protocol], loaded.site, schedule.strings)
    ]
    if problems:
        fail_config(ConfigError(problems), as_json=as_json)
    plant = loaded.site
    if as_json:
        print_json(
            {"ok": True, "site": plant.id, "strings": len(plant.strings), "devices": len(plant.devices), "hash": plant.hash}
        )
    else:
        points = len(site_points(loaded))
        summary = f"{len(plant.strings)} strings, {len(plant.devices)} devices, {points} points"
        say(f"[green]ok[/green] {escape(plant.title)}: {summary}")


@app.command()
def schema(kind: Annotated[SchemaOf, typer.Argument(help="Which file.")] = SchemaOf.SITE) -> None:
    """Print the JSON schema of site, map or protocol files, for editors."""
    makers = {SchemaOf.SITE: config.schema, SchemaOf.MAP: map_schema, SchemaOf.PROTOCOL: protocol_schema}
    print_json(makers[kind]())


@app.command()
def points(site: SiteFile, as_json: Json = False) -> None:
    """List every point of a site: name, unit, range, access, source, description."""
    found = site_points(load(site, as_json=as_json))
    if as_json:
        print_json([{**asdict(point), "symbols": {str(key): text for key, text in point.symbols.items()}} for point in found])
        return
    headings = ("point", "unit", "range", "access", "kind", "description", "source")
    shown = headings if out.width >= _WIDE else headings[:4]
    table = grid(*shown, cut=shown[2:])
    for point in found:
        cells = (_range(point), point.access, point.kind, point.description, point.source)
        table.add_row(escape(point.name), escape(point.unit), *(short(cell) for cell in cells[: len(shown) - 2]))
    out.print(table)
    if shown is not headings:
        say("[dim]kind, description and source: on a wider terminal, or with --json[/dim]")


def _range(point: Point) -> str:
    """`0 .. 5`, with nothing where there is no bound."""
    if point.low is None and point.high is None:
        return ""
    low, high = ("" if bound is None else f"{bound:g}" for bound in (point.low, point.high))
    return f"{low} .. {high}".strip()


@app.command()
def probe(
    site: SiteFile,
    device: Annotated[str | None, typer.Argument(help="All devices when left out.")] = None,
    state: OwnState = None,
    as_json: Json = False,
) -> None:
    """Read devices once and show raw and scaled values side by side; writes nothing.

    A running gateway is asked; where none runs, the devices are read directly.
    """
    loaded = load(site, as_json=as_json)
    if device is not None and loaded.site.device(device) is None:
        known = ", ".join(spec.id for spec in loaded.site.devices)
        fail(f"the site has no device {device}; it has: {known}", Exit.BAD_INPUT, as_json=as_json)
    found = paths.find(state or Path("var") / loaded.site.id)
    wanted = [device] if device else [spec.id for spec in loaded.site.devices]
    rows: list[Row] = []
    failed = False
    for name in wanted:
        try:
            rows.extend({"device": name, **row} for row in asyncio.run(_probe(loaded, name, found)))
        except (FieldError, ControlUnavailable) as error:
            failed = True
            rows.append({"device": name, "error": str(error)})
    if as_json:
        print_json(rows)
    else:
        _show_probe(rows)
    raise typer.Exit(Exit.REFUSED if failed else Exit.OK)


async def _probe(loaded: config.LoadedSite, device: str, found: paths.Paths | None) -> list[Row]:
    if found is not None and found.control_socket.exists():
        try:
            async with ControlClient(found.control_socket, "cli") as client:
                answer = cast("Row", await client.request("probe", {"device": device}, role="admin"))
        except ControlUnavailable:
            return await probe_alone(loaded, device, found)
        if "rows" not in answer:
            raise FieldError(str(answer.get("reason")))
        return cast("list[Row]", answer["rows"])
    return await probe_alone(loaded, device, found)


def _show_probe(rows: list[Row]) -> None:
    table = grid("device", "point", "address", "raw", "value", "unit", "quality", cut=("raw",))
    for row in rows:
        if "error" in row:
            complain(f"[red]{row['device']}[/red] {escape(str(row['error']))}")
            continue
        value, quality = row["value"], str(row["quality"])
        shown = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        cells = [escape(str(row[key])) for key in ("device", "name", "address", "unit")]
        style = "" if quality == "Good" else "yellow"
        table.add_row(*cells[:3], short(row["raw"]), escape(shown), cells[3], quality, style=style)
    if table.rows:
        out.print(table)


@app.command("safe-state")
def drive_safe(site: SiteFile, state: OwnState = None, user: User = "", as_json: Json = False) -> None:
    """Drive every device to its safe state: through the running gateway, or with the frames that it stored."""
    loaded = load(site, as_json=as_json)
    directory = state or Path("var") / loaded.site.id
    found = paths.find(directory)
    if found is not None and found.control_socket.exists() and asyncio.run(_answers(found)):
        result = ask(directory, "safe_state", {}, needs="devices", user=user, as_json=as_json)
        rows = cast("list[Row]", result["devices"])
    else:
        frames = directory / "safe_frames.json"
        if not frames.is_file():
            fail(f"{frames} does not exist: no gateway has loaded this site here yet", Exit.UNREACHABLE, as_json=as_json)
        rows = [asdict(device) for device in safe_state.safe_state(frames)]
    confirmed = all(row["ok"] for row in rows)
    if as_json:
        print_json({"ok": confirmed, "devices": rows})
    else:
        for row in rows:
            mark = "[green]safe[/green]" if row["ok"] else "[red]NOT CONFIRMED[/red]"
            say(f"{row['device']}: {mark} {escape(str(row['detail']))}")
    raise typer.Exit(Exit.OK if confirmed else Exit.REFUSED)


async def _answers(found: paths.Paths) -> bool:
    """True when the control process answers at once; one that hangs must not keep the frames from being sent."""
    try:
        async with ControlClient(found.control_socket, "cli", timeout_s=_ANSWER_WITHIN_S) as client:
            await client.request("status", {}, role="observer")
    except ControlUnavailable:
        return False
    return True
