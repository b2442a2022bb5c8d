"""The demonstration: the shipped composition on the simulated testbed, one hybrid charge, and what ended each step.

It also judges the run: the plant's true maxima must stay within 5 mV of the end conditions, and the lead-acid string's
constant-voltage step must have been real (voltage mode seen, current below 80 % of 5 A).
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from gateway.client import ControlClient
from gateway.demo_view import picture, result_table
from gateway.errors import ControlUnavailable, GatewayError
from gateway.simulator.control import SimClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.paths import Paths

PROTOCOL = "hybrid_charge"
LITHIUM, LEAD = "A", "B"
CC_STEP, CV_STEP = "bulk", "absorb"
DISTURBANCE_MAX = 0.01
"""The lead-acid string's step from constant current to constant voltage may move the other current by this share."""
_AROUND = 20
"""Samples before and after that step that are compared."""
OVERSHOOT_MAX_MV = 5.0
CV_CURRENT_BELOW_A = 4.0
"""80 % of the 5 A of the constant-current step: a lower current in voltage mode shows that the voltage was held."""
_READY_WITHIN_S = 60.0
_POLL_S = 0.15

Row = dict[str, object]


class DemoFailed(GatewayError):
    """The demonstration did not show what it must."""


@dataclass(slots=True)
class Watch:
    """What the demonstration has seen of one string."""

    step: str = ""
    true_max_V: dict[str, float] = field(default_factory=dict[str, float])
    """Step id -> the plant's true highest cell voltage up to its end."""
    voltage_mode_current_A: list[float] = field(default_factory=list[float])
    """Converter current (magnitude) in samples in which the converter reported voltage mode."""
    current_A: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """The plant's true current, and the step that the other string was in."""


class Demo:
    """Runs the hybrid charge on a gateway that is up, and judges it.

    `trouble` tells in sentences which processes are not there although they should be.
    """

    def __init__(self, paths: Paths, console: Console, *, live: bool, trouble: Callable[[], Sequence[str]]) -> None:
        self._paths = paths
        self._console = console
        self._live = live
        self._trouble = trouble
        self._told: set[str] = set()
        self._watches: dict[str, Watch] = {}
        self._events: list[str] = []
        self._last_event = 0
        self._site_s = 0.0
        self._polled_at = time.monotonic()

    async def run(self) -> Row:
        """Wait for ready, run the protocol, watch it; the document that `--json` prints. Raises DemoFailed."""
        async with ControlClient(self._paths.control_socket, "cli") as control:
            await self._ready(control)
            async with SimClient(self._paths.simulator_socket) as plant:
                await plant.request({"do": "truth_reset"})
                request = {"protocol": PROTOCOL, "strings": [LITHIUM, LEAD]}
                started = cast("Row", await control.request("start_run", request, role="admin"))
                if started["code"] != "accepted":
                    raise DemoFailed(f"the run was refused: {started['reason']}")
                self._site_s, self._polled_at = 0.0, time.monotonic()
                run = await self._watch_run(control, plant, str(started["run"]))
            status = cast("Row", await control.request("status", {}, role="admin"))
        return self._document(run, status)

    async def _ready(self, control: ControlClient) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        state: object = "starting"
        while time.monotonic() < deadline:
            try:
                site = cast("Row", cast("Row", await control.request("status", {}, role="admin"))["site"])
            except ControlUnavailable:
                await asyncio.sleep(_POLL_S)
                continue
            if site["state"] == "ready":
                return
            if (site["state"], site["reason"]) != state:
                state = (site["state"], site["reason"])
                self._say(f"{site['state']}: {site['reason']}")
            await asyncio.sleep(_POLL_S)
        raise DemoFailed(f"the site was not ready after {_READY_WITHIN_S:g} s: {state}")

    async def _watch_run(self, control: ControlClient, plant: SimClient, run_id: str) -> Row:
        with Live(console=self._console, refresh_per_second=6, transient=False) if self._live else _NoLive() as live:
            while True:
                status = cast("Row", await control.request("status", {}, role="admin"))
                await self._observe(status, plant)
                await self._new_events(control)
                live.update(picture(status, self._events, self._site_s, self._notes()))
                run = _find_run(await control.request("runs", {"run": run_id}, role="admin"))
                if run["state"] not in {"armed", "running", "paused", "stopping"}:
                    await self._observe(status, plant)
                    return run
                await asyncio.sleep(_POLL_S)

    def _notes(self) -> Sequence[str]:
        """What is wrong with the processes now; where there is no live view, each is told once."""
        notes = self._trouble()
        for note in notes:
            if note not in self._told and not self._live:
                self._say(note)
            self._told.add(note)
        return notes

    def _say(self, text: str) -> None:
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    async def _observe(self, status: Row, plant: SimClient) -> None:
        now = time.monotonic()
        self._site_s += (now - self._polled_at) * cast("float", cast("Row", status["site"])["time_factor"])
        self._polled_at = now
        truth = cast("Row", (await plant.request({"do": "truth"}))["strings"])
        for row in cast("list[Row]", status["strings"]):
            watch = self._watches.setdefault(str(row["id"]), Watch())
            highest = max(cast("list[float]", cast("Row", truth[str(row["id"])])["cell_max_V"]))
            step = str(row["run_step"] or "")
            # The maximum is attributed to the step in which it was first seen; a step that follows starts from there.
            watch.true_max_V.setdefault(watch.step or step, highest)
            if step == watch.step:
                watch.true_max_V[step] = highest
            elif watch.step:
                watch.true_max_V[watch.step] = highest
            watch.step = step or watch.step
            lead_step = self._watches.get(LEAD, Watch()).step
            watch.current_A.append((lead_step, cast("float", cast("Row", truth[str(row["id"])])["current_A"])))
            current = row["converter_current"]
            if row["converter_mode"] == "voltage" and isinstance(current, float):
                watch.voltage_mode_current_A.append(abs(current))

    async def _new_events(self, control: ControlClient) -> None:
        found = cast("Row", await control.request("events", {"after": self._last_event, "limit": 50}, role="admin"))
        for event in cast("list[Row]", found["events"]):
            self._last_event = max(self._last_event, cast("int", event["id"]))
            self._events.append(f"{str(event['time'])[11:19]} {event['text']}")

    def _document(self, run: Row, status: Row) -> Row:
        failures: list[str] = []
        if run["state"] != "completed":
            failures.append(f"the run ended {run['state']}: {run.get('reason')}")
        for track in cast("list[Row]", run["tracks"]):
            watch = self._watches.get(str(track["string"]), Watch())
            for step in cast("list[Row]", track["steps"]):
                over = overshoot_mV(step, watch.true_max_V.get(str(step["id"])))
                if over is not None:
                    step["overshoot_mV"] = round(over, 2)
                    if not over < OVERSHOOT_MAX_MV:
                        failures.append(f"string {track['string']}, step {step['id']} overshot its end by {over:.1f} mV")
        moved = disturbance(self._watches.get(LITHIUM, Watch()).current_A)
        if moved is None:
            failures.append("the lead-acid string never stepped to constant voltage beside a charging lithium string")
        elif not moved < DISTURBANCE_MAX:
            failures.append(f"the step to constant voltage moved the lithium current by {moved:.1%}")
        held = self._watches.get(LEAD, Watch()).voltage_mode_current_A
        if not held:
            failures.append(f"the converter of string {LEAD} never reported voltage mode")
        elif not min(held) < CV_CURRENT_BELOW_A:
            failures.append(f"the current of string {LEAD} never fell below {CV_CURRENT_BELOW_A} A in voltage mode")
        return {
            "ok": not failures,
            "failures": failures,
            "run": run,
            "trips": status["trips"],
            "endpoints": status["endpoints"],
            "notes": sorted(self._told),
            "site_time_s": round(self._site_s, 1),
            "cv": {"string": LEAD, "samples": len(held), "current_min_A": min(held, default=None)},
            "disturbance_percent": None if moved is None else round(moved * 100.0, 3),
        }


def overshoot_mV(step: Mapping[str, object], true_max_V: float | None) -> float | None:
    """How far the plant's true highest cell went beyond a step's cell-voltage end; None when the step ended otherwise."""
    found = re.match(r"cell_voltage_max\s*>=?\s*([0-9.]+)\s*V", str(step.get("ended_by")))
    if found is None or true_max_V is None:
        return None
    return (true_max_V - float(found[1])) * 1000.0


def disturbance(samples: Sequence[tuple[str, float]]) -> float | None:
    """How far the step to constant voltage of one string moved the current of the other, as a share of it.

    `samples` are (step of the stepping string, current of the other); None when there is nothing to compare.
    """
    before = [current for step, current in samples if step == CC_STEP][-_AROUND:]
    after = [current for step, current in samples if step == CV_STEP][:_AROUND]
    mean = sum(before) / len(before) if before else 0.0
    return max(abs(current - mean) for current in after) / abs(mean) if after and mean else None


def _find_run(answer: object) -> Row:
    return cast("list[Row]", cast("Row", answer)["runs"])[0]


class _NoLive:
    """Stands in for the live view where nobody looks."""

    def __enter__(self) -> _NoLive:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, _: object) -> None:
        """Draw nothing."""


def show(document: Row, console: Console) -> None:
    """Print what ended each step, and the judgement."""
    console.print(result_table(cast("list[Row]", cast("Row", document["run"])["tracks"])))
    for note in cast("list[str]", document["notes"]):
        console.print(f"[yellow]note[/yellow] {escape(note)}", highlight=False)
    for failure in cast("list[str]", document["failures"]):
        console.print(f"[red]FAILED[/red] {escape(failure)}", highlight=False)
    if document["ok"]:
        text = "both strings charged as in the paper; the lead-acid step to constant voltage moved the lithium current by"
        console.print(f"[green]ok[/green] {text} {document['disturbance_percent']} %", highlight=False)


def console_for(*, as_json: bool) -> Console:
    """Where the demonstration writes for people: standard error when standard output carries JSON."""
    return Console(file=sys.stderr if as_json else sys.stdout)
