"""What `run` tells on its terminal: its processes, where they listen, and what the plant goes through."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, cast

from gateway.client import ControlClient
from gateway.errors import ControlUnavailable
from gateway.processes import ProcessState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.paths import Paths
    from gateway.processes import ProcessStatus

_log = logging.getLogger("gateway.run")

_QUIET = frozenset({"command", "release"})
"""Kinds of event that the journal keeps and nobody wants to see scroll by."""
_LOOK_S = 0.5


def told(files: Paths, state: Path) -> Callable[[ProcessStatus], None]:
    """For a supervisor's `on_change`: says which processes run, where they listen, and how to go on."""

    def tell(status: ProcessStatus) -> None:
        if status.state is ProcessState.RUNNING:
            _log.info("%s runs (process %s)%s", status.name, status.pid, _listens(files, status.name))
            if status.name == "control":
                _log.info("see the plant with: bess-gateway status --state %s; Ctrl-C stops it in order", state)
        elif status.state in {ProcessState.STOPPING, ProcessState.STOPPED}:
            _log.info("%s %s", status.name, status.state)
        elif status.state is ProcessState.BACKING_OFF:
            _log.info("%s will be started again", status.name)

    return tell


def _listens(files: Paths, name: str) -> str:
    try:
        return f", listens at {json.loads((files.run / f'{name}.json').read_text())['endpoint']}"
    except (OSError, ValueError, KeyError):
        return ""


async def follow(files: Paths) -> None:
    """Log the events of this start, except those of each single command, until cancelled."""
    async with ControlClient(files.control_socket, "cli") as client:
        after = await _newest(client)
        async for event in client.follow(after, role="observer"):
            if event["kind"] not in _QUIET:
                _log.info("%s", event["text"])


async def _newest(client: ControlClient) -> int:
    """The id before the events of this start, as soon as control answers."""
    while True:
        try:
            answer = cast("dict[str, object]", await client.request("events", {"limit": 200}, role="observer"))
        except ControlUnavailable:
            await asyncio.sleep(_LOOK_S)
            continue
        events = cast("list[dict[str, object]]", answer.get("events", []))
        starts = [cast("int", event["id"]) for event in events if event["kind"] == "process"]
        return max(starts, default=1) - 1
