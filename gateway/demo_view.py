"""The terminal view of the demonstration: one picture of the plant per call, drawn from a status document."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeGuard, cast

from rich.columns import Columns
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

Row = dict[str, object]

_EVENTS_SHOWN = 6


def number(value: object, digits: int, unit: str) -> Text:
    """A number with its unit; a value of bad quality never looks like a number."""
    if _is_number(value):
        return Text(f"{value:.{digits}f} {unit}")
    return Text("bad", style="yellow")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def clock_text(seconds: float) -> str:
    """Site time as h:mm:ss."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def picture(
    status: Mapping[str, object], events: Sequence[str], elapsed_site_s: float, notes: Sequence[str] = ()
) -> RenderableType:
    """The whole view: header, strings, events, alarms, endpoints, and what is wrong with the processes (`notes`)."""
    site = cast("Row", status["site"])
    header = Text.assemble(
        (str(site["title"]), "bold"),
        f"   {site['state']}   bus ",
        number(cast("Row", status["grid"]).get("voltage"), 2, "V"),
        f"   site time {clock_text(elapsed_site_s)}   clock {site['time_factor']:g}x",
    )
    parts: list[RenderableType] = [header]
    parts.extend(_string(row) for row in cast("list[Row]", status["strings"]))
    shown = Text("\n".join(events[-_EVENTS_SHOWN:]) or "-", no_wrap=True, overflow="ellipsis")
    parts.append(Panel(shown, title="events", title_align="left", border_style="dim"))
    parts.append(_alarms(cast("list[Row]", status["alarms"])))
    parts.append(_endpoints(cast("Mapping[str, str]", status["endpoints"])))
    parts.extend(Text(note, style="yellow") for note in notes)
    return Group(*parts)


def _string(row: Row) -> Panel:
    facts = Table.grid(padding=(0, 2))
    facts.add_row("pack", number(row["pack_voltage"], 2, "V"), "current", number(row["converter_current"], 2, "A"))
    facts.add_row("mode", str(row["converter_mode"] or "-"), "power", number(row["power"], 1, "W"))
    facts.add_row("SOC", number(row["soc"], 1, "%"), "temperature", number(row["temperature_max"], 0, "degC"))
    body = Columns([facts, _cells(cast("list[object]", row["cells"]))], padding=(0, 4))
    red = "red" if row["tripped"] else "dim"
    title = Text(f"string {row['id']}  {row['title']}" + ("" if row["ready"] else "  not ready"))
    return Panel(Group(body, _run(row)), title=title, title_align="left", border_style=red)


def _cells(cells: Sequence[object]) -> Table:
    good = [value for value in cells if _is_number(value)]
    highest = max(good, default=None)
    table = Table.grid(padding=(0, 1))
    for index, value in enumerate(cells, 1):
        style = "bold" if value == highest else ""
        table.add_row(f"cell {index}", Text(number(value, 4, "V").plain, style=style if _is_number(value) else "yellow"))
    return table


def _run(row: Row) -> RenderableType:
    if row["tripped"]:
        return Text(f"TRIPPED: {row['first_out']}", style="bold red")
    if not row["run_protocol"]:
        return Text("no run", style="dim")
    progress = row["run_progress"] if _is_number(row["run_progress"]) else 0.0
    step = (
        f"{row['run_protocol']}  {row['run_state']}  step {row['run_step'] or '-'}  {clock_text(_float(row['run_step_elapsed']))}"
    )
    nearest = f"   ends at {row['run_nearest_end']}" if row["run_nearest_end"] else ""
    line = Table.grid(padding=(0, 2))
    line.add_row(ProgressBar(total=100.0, completed=progress, width=24), Text(step + nearest))
    return line


def _float(value: object) -> float:
    return value if _is_number(value) else 0.0


def _alarms(alarms: Sequence[Row]) -> Text:
    active = [str(alarm["text"]) for alarm in alarms if alarm["active"]]
    return Text("alarms: " + "; ".join(active), style="red") if active else Text("no alarms", style="dim")


def _endpoints(endpoints: Mapping[str, str]) -> Text:
    return Text("   ".join(f"{name} {url}" for name, url in endpoints.items()), style="dim")


def result_table(tracks: Sequence[Row]) -> Table:
    """What ended each step of a finished run."""
    table = Table(title="what ended each step", box=None, header_style="dim", title_justify="left")
    for heading in ("string", "step", "ended by", "value", "after", "overshoot"):
        table.add_column(heading)
    for track in tracks:
        for step in cast("list[Row]", track["steps"]):
            value, over = step.get("value"), step.get("overshoot_mV")
            table.add_row(
                Text(str(track["string"])),
                Text(str(step["id"])),
                Text(str(step["ended_by"])),
                f"{value:.4g} {step.get('unit') or ''}" if _is_number(value) else "-",
                clock_text(_float(step.get("elapsed_s"))),
                f"{over:.1f} mV" if _is_number(over) else "",
            )
    return table
