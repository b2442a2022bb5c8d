"""Requests to the gate and its answers.

Everything that wants to move something says so with a `Command` and is told a `Verdict`. Values are in canonical signs:
current and power are positive in discharge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(IntEnum):
    """User roles, each with the rights of those below."""

    OBSERVER = 0
    OPERATOR = 1
    ENGINEER = 2
    ADMIN = 3


class Rank(IntEnum):
    """Who may take a target from whom: an owner yields only to a higher rank. STOP and trips stand above all ranks."""

    DISPATCH = 10
    OPERATOR = 20
    RUN = 30
    SEQUENCE = 40


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: the process that carried it, the user, the user's role, and the peer's address."""

    process: str
    user: str = ""
    role: Role = Role.OBSERVER
    peer: str = ""

    def __str__(self) -> str:
        """`process/user@peer`, for reasons and the journal."""
        return "/".join(part for part in (self.process, self.user) if part) + (f"@{self.peer}" if self.peer else "")


CONTROL = Origin("control", role=Role.ADMIN)
"""The control process itself: its sequence, its runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request to set role points of one target together.

    `target` is a canonical prefix with a device behind it: "string.A.converter", "grid". `values` maps the role's
    writable names (see device_roles) to numbers in canonical units and signs; all of them go out as one write where the
    device can. `owner` names the holder of the target, such as "run:17"; `lease_s` is the real time after which the
    target returns to its safe values unless the owner commands again, None for no lease.
    """

    target: str
    values: Mapping[str, float]
    owner: str
    rank: Rank
    lease_s: float | None = None
    reason: str = ""
    origin: Origin = CONTROL


class Code(StrEnum):
    """Why a request was accepted or refused. A refusal's code decides the status that each server answers with."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    """No such point, string, protocol, run, verb or argument."""
    NOT_WRITABLE = "not_writable"
    INVALID = "invalid"
    """Wrong type, not finite, or inconsistent."""
    OUT_OF_RANGE = "out_of_range"
    FORBIDDEN = "forbidden"
    """The role or the process may not do this."""
    OWNED = "owned"
    """Somebody of the same or a higher rank holds the target."""
    TRIPPED = "tripped"
    NOT_PERMITTED = "not_permitted"
    """A permissive or an interlock says no."""
    WRONG_STATE = "wrong_state"
    UNAVAILABLE = "unavailable"
    """The device or the control process did not answer."""
    DEVICE_REFUSED = "device_refused"
    NOT_CONFIRMED = "not_confirmed"
    """The write went out, but the read-back differs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a request. `reason` is a sentence for people; `record` the journal id, 0 when none was made."""

    code: Code
    reason: str = ""
    record: int = 0

    @property
    def accepted(self) -> bool:
        """True when the request was carried out."""
        return self.code is Code.ACCEPTED


ACCEPTED = Verdict(Code.ACCEPTED)
