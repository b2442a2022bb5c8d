"""Transports and drivers by name, through entry points: a site's own package is found like ours.

Groups: `bess_gateway.transports` (kind -> `OpenTransport`) and `bess_gateway.drivers` (wire language -> `Driver` class).
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from gateway.field.drivers.base import Driver
    from gateway.field.transports.base import OpenTransport

TRANSPORTS, DRIVERS = "bess_gateway.transports", "bess_gateway.drivers"


def transport_kinds() -> tuple[str, ...]:
    """The installed transport kinds, sorted."""
    return tuple(sorted(entry_points(group=TRANSPORTS).names))


def languages() -> tuple[str, ...]:
    """The installed wire languages, sorted."""
    return tuple(sorted(entry_points(group=DRIVERS).names))


def transport_opener(kind: str) -> OpenTransport:
    """The opener of a transport kind. ValueError when no installed package has it."""
    return cast("OpenTransport", _load(TRANSPORTS, kind, "transport kind"))


def driver_class(language: str) -> type[Driver]:
    """The driver of a wire language. ValueError when no installed package has it."""
    return cast("type[Driver]", _load(DRIVERS, language, "wire language"))


@cache
def _load(group: str, name: str, what: str) -> object:
    found = entry_points(group=group, name=name)
    if not found:
        known = ", ".join(sorted(entry_points(group=group).names))
        msg = f"unknown {what} '{name}'; installed: {known or 'none'}"
        raise ValueError(msg)
    return next(iter(found)).load()
