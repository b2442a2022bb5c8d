"""The error taxonomy: one class per meaning, each with the quality that it leaves on the points it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.points import Quality

if TYPE_CHECKING:
    from collections.abc import Sequence


class GatewayError(Exception):
    """Base of every error that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file that a person wrote: where, what was found, what was expected, what to do.

    `line` counts from 1; 0 when the position is unknown. `key` is the dotted TOML path, for example "string[0].cells".
    """

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        """`file:line: key: text`, without what is unknown."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.text) if part)


class ConfigError(GatewayError):
    """Files that must not be used, with every problem found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FieldError(GatewayError):
    """A device could not be read or written. `quality` is what its points become; `retryable` whether waiting may help."""

    quality: ClassVar[Quality] = Quality.BAD_COMMUNICATION_ERROR
    retryable: ClassVar[bool] = True


class TransportClosed(FieldError):
    """The line, socket or resource is not open and could not be opened."""

    quality = Quality.BAD_NO_COMMUNICATION


class TransportTimeout(FieldError):
    """No complete answer came within the deadline."""

    quality = Quality.BAD_NO_COMMUNICATION


class FrameError(FieldError):
    """An answer came that is damaged, out of turn, or for somebody else."""


class DeviceRefused(FieldError):
    """The device answered that it will not. `code` is its own: a Modbus exception or an SCPI error number."""

    quality = Quality.BAD_DEVICE_FAILURE

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


class WrongDevice(FieldError):
    """Something else than the expected device answers at this address."""

    quality = Quality.BAD_CONFIGURATION_ERROR


class ControlUnavailable(GatewayError):
    """The control process cannot be reached, or it closed the door in mid-request."""
