"""The OPC UA process: waits for control's publication, serves it, and ends when it was replaced by another.

Exit codes: 0 stopped by a signal; 75 the site has changed, start again; 78 the site file asks for something that this
server refuses; 69 the endpoint cannot be opened (sysexits.h).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import psutil

from gateway.client import ControlClient
from gateway.clock import SystemClock
from gateway.errors import ControlUnavailable, GatewayError
from gateway.published import SiteUnavailable, read_site
from gateway.servers.opcua.limits import NotAllowed
from gateway.servers.opcua.methods import Methods
from gateway.servers.opcua.publisher import Publisher
from gateway.servers.opcua.server import open_server
from gateway.shared import ImageReader, ImageUnavailable, LayoutChanged

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from gateway.published import PublishedSite
    from gateway.servers.opcua.methods import Control
    from gateway.servers.opcua.server import Running

_log = logging.getLogger(__name__)

PROCESS = "opcua"
ANNOUNCEMENT = "opcua.json"
"""In the run directory once the server listens: {"endpoint": ..., "pid": ...}."""
_WAIT_S = 0.2
_REPORT_S = 1.0
_WATCH_S = 1.0
_MEGABYTE = 1e6


class Exit(IntEnum):
    """How the process ends."""

    STOPPED = 0
    ENDPOINT = 69
    SITE_CHANGED = 75
    REFUSED = 78


class SiteChanged(GatewayError):
    """Control published another site than the one that is served."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. An `endpoint` of "" takes the site's."""

    run: Path
    endpoint: str = ""


async def serve(options: Options) -> Exit:
    """Serve until a signal, or until there is a reason to start again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        return await serve_until(options, stop)
    except NotAllowed as error:
        _log.error("%s", error)
        return Exit.REFUSED
    except OSError as error:
        _log.error("cannot listen: %s", error)
        return Exit.ENDPOINT


async def serve_until(options: Options, stop: asyncio.Event) -> Exit:
    """Serve until `stop`, or until there is a reason to start again. NotAllowed, OSError: see `open_server`."""
    clock = SystemClock()
    opened = await _wait_for_publication(options.run, stop)
    if opened is None:
        return Exit.STOPPED
    site, reader = opened
    endpoint = options.endpoint or (site.opcua.endpoint if site.opcua else "")
    if not endpoint:
        raise NotAllowed(f"{site.file} has no [opcua] table, and no --endpoint was given")
    async with ControlClient(options.run / "control.sock", PROCESS) as control:
        role = site.opcua.anonymous_role if site.opcua else "observer"
        methods = Methods(control, clock, role=role)
        anonymous = site.opcua is None or site.opcua.anonymous
        async with open_server(site, endpoint, anonymous=anonymous, methods=methods) as running:
            publisher = Publisher(running.server, running.slots, reader, clock)
            await publisher.step()
            with _announced(options.run / ANNOUNCEMENT, running.endpoint):
                return await _run(options, site, running, publisher, control, stop)


async def _run(
    options: Options, site: PublishedSite, running: Running, publisher: Publisher, control: Control, stop: asyncio.Event
) -> Exit:
    outcome = Exit.STOPPED
    try:
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(publisher.run()),
                tasks.create_task(_watch_site(options.run / "site.json", site)),
                tasks.create_task(_report(running, publisher, control)),
            ]
            await stop.wait()
            for task in work:
                task.cancel()
    except* (LayoutChanged, SiteChanged) as changed:
        _log.warning("%s: starting again", changed.exceptions[0])
        outcome = Exit.SITE_CHANGED
    return outcome


async def _wait_for_publication(run: Path, stop: asyncio.Event) -> tuple[PublishedSite, ImageReader] | None:
    """The published site and its image; None when stopped before there was one."""
    said = ""
    while not stop.is_set():
        try:
            site = read_site(run / "site.json")
            return site, ImageReader(run / "image", site.layout_hash)
        except (SiteUnavailable, ImageUnavailable, LayoutChanged) as error:
            if str(error) != said:
                said = str(error)
                _log.info("waiting for the control process: %s", said)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _WAIT_S)
    return None


async def _watch_site(path: Path, served: PublishedSite) -> None:
    """Raise SiteChanged when control publishes something else than what is served."""
    seen = -1
    while True:
        with contextlib.suppress(FileNotFoundError):
            inode = path.stat().st_ino  # noqa: ASYNC240  (a file in memory)
            if inode != seen:
                seen = inode
                _compare(path, served)
        await asyncio.sleep(_WATCH_S)


def _compare(path: Path, served: PublishedSite) -> None:
    try:
        site = read_site(path)
    except SiteUnavailable:
        return
    if site != served:
        raise SiteChanged(f"control published another site than the one served ({site.file})")


async def _report(running: Running, publisher: Publisher, control: Control) -> None:
    """Tell control once a second how this process is."""
    process = psutil.Process()
    while True:
        await asyncio.sleep(_REPORT_S)
        statistics = publisher.take_statistics()
        values: dict[str, object] = {
            "lag": statistics.lag_s,
            "memory": process.memory_info().rss / _MEGABYTE,
            "drops": statistics.drops_total,
            "sessions": running.sessions,
            "subscriptions": running.subscriptions,
        }
        with contextlib.suppress(ControlUnavailable, TimeoutError):
            async with asyncio.timeout(_REPORT_S):
                await control.request("report", values)


@contextlib.contextmanager
def _announced(path: Path, endpoint: str) -> Generator[None]:
    """Say where the server listens while it does."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps({"endpoint": endpoint, "pid": os.getpid()}))
    new.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
