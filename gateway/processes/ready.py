"""Questions that tell when a process is ready for the next one to start; each makes a `ProcessSpec.ready`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class _Announcement(msgspec.Struct):
    pid: int


def _announced_pid(path: Path) -> int | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Announcement).pid
    except (OSError, msgspec.DecodeError):
        return None


def names_pid(path: Path) -> Callable[[int], Awaitable[bool]]:
    """Ready when the JSON object in the file says `"pid"` of this very process: a file of an earlier start does not count."""

    async def ready(pid: int) -> bool:
        return await asyncio.to_thread(_announced_pid, path) == pid

    return ready


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def answers_on_socket(path: Path) -> Callable[[int], Awaitable[bool]]:
    """Ready when something accepts connections on the Unix socket."""

    async def ready(pid: int) -> bool:
        del pid
        try:
            _, writer = await asyncio.open_unix_connection(path)
            await _close(writer)
        except OSError:
            return False
        return True

    return ready


def answers_on_port(host: str, port: int) -> Callable[[int], Awaitable[bool]]:
    """Ready when something accepts TCP connections there."""

    async def ready(pid: int) -> bool:
        del pid
        try:
            _, writer = await asyncio.open_connection(host, port)
            await _close(writer)
        except OSError:
            return False
        return True

    return ready
