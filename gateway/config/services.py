"""Checks of what runs beside the control loop: the OPC UA server and runs by the clock."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.config.checks import hint
from gateway.errors import ConfigError
from gateway.protocols.checks import check_against
from gateway.protocols.library import load_protocol
from gateway.toml_lines import join

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gateway.config import model
    from gateway.config.reader import Draft
    from gateway.errors import Problem
    from gateway.site import Site

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def check(draft: Draft, protocols: Mapping[str, Path]) -> None:
    """Note an open OPC UA server, and schedules that name what is not there or cannot be read."""
    opcua = draft.opcua.table if draft.opcua is not None else None
    if opcua is not None:
        host, _, port = opcua.endpoint.removeprefix("opc.tcp://").partition("/")[0].rpartition(":")
        if opcua.anonymous and host not in _LOOPBACK:
            text = f"anonymous sessions are for the loopback address only, but the server listens on '{host}'"
            draft.note("opcua", "anonymous", f"{text}; use 127.0.0.1 or anonymous = false")
        if not 0 <= int(port) <= 65535:
            draft.note("opcua", "endpoint", f"port {port} is outside 0 to 65535")
    for entry in draft.schedules:
        if entry.table is not None:
            for key, text in _schedule(entry.table, [string.id for string in draft.strings], protocols):
                draft.note(entry.path, key, text)


def check_runs(draft: Draft, site: Site, protocols: Mapping[str, Path]) -> list[Problem]:
    """What keeps the scheduled protocols from running on their strings."""
    found: dict[Problem, None] = {}
    for entry, schedule in zip(draft.schedules, site.schedules, strict=True):
        try:
            protocol = load_protocol(protocols[schedule.protocol])
        except ConfigError as error:
            found.update(dict.fromkeys(error.problems))
            continue
        for problem in check_against(protocol, site, schedule.strings, schedule.parameters):
            text = f"'{schedule.protocol}' cannot run there: {problem.key}: {problem.text}"
            found[draft.index.problem(join(entry.path, "protocol"), text)] = None
    return list(found)


def _schedule(table: model.ScheduleTable, strings: list[str], protocols: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    if table.protocol not in protocols:
        yield "protocol", f"unknown protocol '{table.protocol}'; {hint(table.protocol, protocols)}"
    for number, string in enumerate(table.strings):
        if string not in strings:
            yield "strings", f"unknown string '{string}'; {hint(string, strings)}"
        if string in table.strings[:number]:
            yield "strings", f"string '{string}' is named twice"
    given = [key for key in ("cron", "interval", "at") if getattr(table, key) is not None]
    if len(given) != 1:
        yield "", f"expected exactly one of cron, interval, at; got {' and '.join(given) if given else 'none'}"
    yield from _times(table)


def _times(table: model.ScheduleTable) -> Iterator[tuple[str, str]]:
    try:
        zone = ZoneInfo(table.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        yield "timezone", f"unknown time zone '{table.timezone}', expected an IANA name such as 'Europe/Berlin'"
        zone = ZoneInfo("UTC")
    if table.cron is not None:
        try:
            # apscheduler has no annotations, and is needed here only for sites with a cron schedule
            import_module("apscheduler.triggers.cron").CronTrigger.from_crontab(table.cron, zone)
        except ValueError as error:
            text = f"'{table.cron}' is not a cron expression such as '0 6 * * mon': {str(error)[0].lower()}{str(error)[1:]}"
            yield "cron", text
    if table.at is not None and _aware(table.at) is None:
        yield "at", f"'{table.at}' is not a time with its UTC offset, such as '2030-01-01T06:00:00+01:00'"


def _aware(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
