"""How the gate writes the journal: one record per command, and one per stream of setpoints.

A command under a lease that its owner renews is a stream: its opening, a change of owner, a refusal and its end are
recorded, its updates are not. Every other command has a record of its own, except a mere repetition of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.commands import Code, Command, Origin, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.gate_rules import Holder


class JournalLike(Protocol):
    """What the gate and the guard need of the journal. `record` never blocks and never raises."""

    def record(
        self,
        kind: str,
        text: str,
        *,
        severity: str = "info",
        source: str = "",
        origin: Origin | str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> int:
        """Note an event of severity "info", "warning" or "alarm"; its id, 0 when it could not be kept."""
        ...


class Records:
    """The gate's part of the journal."""

    def __init__(self, journal: JournalLike) -> None:
        self._journal = journal
        self._refused: dict[str, tuple[str, Code, int]] = {}

    def accepted(self, command: Command, holder: Holder | None, *, repeated: bool) -> int:
        """The record of an accepted command; that of the stream when this is an update of one."""
        self._refused.pop(command.target, None)
        goes_on = holder is not None and holder.owner == command.owner and holder.record != 0
        if holder is not None and goes_on and (repeated or command.lease_s is not None):
            return holder.record
        if holder is not None and holder.owner != command.owner:
            text = f"{command.owner} takes {command.target} from {holder.owner}: {_told(command)}"
        else:
            text = f"{command.target}: {_told(command)}"
        return self._journal.record(
            "command", text, source=command.target, origin=command.origin, data=_data(command, Code.ACCEPTED)
        )

    def refused(self, command: Command, verdict: Verdict) -> Verdict:
        """The verdict with its record; within a stream, the same refusal again has the record of the first."""
        known = self._refused.get(command.target)
        if command.lease_s is not None and known is not None and known[:2] == (command.owner, verdict.code):
            return Verdict(verdict.code, verdict.reason, known[2])
        record = self._journal.record(
            "refusal",
            f"{command.target} refused ({verdict.code}): {verdict.reason}",
            severity="warning",
            source=command.target,
            origin=command.origin,
            data=_data(command, verdict.code),
        )
        self._refused[command.target] = (command.owner, verdict.code, record)
        return Verdict(verdict.code, verdict.reason, record)

    def closed(self, target: str, owner: str, why: str) -> None:
        """The end of an owner's hold on a target."""
        self._refused.pop(target, None)
        self._journal.record("release", f"{target} released by {owner}: {why}", source=target)

    def safe_state(self, target: str, text: str, *, severity: str = "info") -> None:
        """Progress in making a target safe."""
        self._journal.record("safe_state", f"{target}: {text}", severity=severity, source=target)


def _told(command: Command) -> str:
    values = ", ".join(f"{name} = {value:g}" for name, value in command.values.items())
    return f"{values} ({command.reason})" if command.reason else values


def _data(command: Command, code: Code) -> Mapping[str, object]:
    return {
        "target": command.target,
        "values": {name: value if isinstance(value, float) else str(value) for name, value in command.values.items()},
        "owner": command.owner,
        "rank": command.rank.name.lower(),
        "lease_s": command.lease_s,
        "code": code.value,
    }
