"""From our qualities and verdicts to OPC UA status codes, by name (OPC 10000-4, 7.39; OPC 10000-8, 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.commands import Code
from gateway.points import Quality
from gateway.servers.opcua.stack import ua

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncua.ua.uatypes import StatusCode


def status_by_name(name: str) -> StatusCode:
    """The status code of that name, for example "BadOutOfRange"; raises AttributeError for a name that does not exist."""
    return ua.StatusCode(getattr(ua.StatusCodes, name))


QUALITY_STATUS: Mapping[Quality, StatusCode] = {quality: status_by_name(quality.opcua_name) for quality in Quality}
"""Shared objects, never to be changed."""

_VERDICT_NAMES: Mapping[Code, str] = {
    Code.ACCEPTED: "Good",
    Code.UNKNOWN: "BadNotFound",
    Code.NOT_WRITABLE: "BadNotWritable",
    Code.INVALID: "BadInvalidArgument",
    Code.OUT_OF_RANGE: "BadOutOfRange",
    Code.FORBIDDEN: "BadUserAccessDenied",
    Code.OWNED: "BadLocked",
    Code.TRIPPED: "BadInvalidState",
    Code.NOT_PERMITTED: "BadRequestNotAllowed",
    Code.WRONG_STATE: "BadInvalidState",
    Code.UNAVAILABLE: "BadResourceUnavailable",
    Code.DEVICE_REFUSED: "BadDeviceFailure",
    Code.NOT_CONFIRMED: "BadDeviceFailure",
}

VERDICT_STATUS: Mapping[Code, StatusCode] = {code: status_by_name(name) for code, name in _VERDICT_NAMES.items()}
"""What a method or a write answers for each verdict; the reason goes with it as text."""
