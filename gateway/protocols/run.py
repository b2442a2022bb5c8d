"""A run and its tracks: the engine's state, what was last sent to the converter, and the record of it all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from gateway.commands import Code, Command, Rank
from gateway.device_roles import CONVERTER_MODES
from gateway.protocols import engine
from gateway.protocols.readings import StringReader
from gateway.protocols.state import Event, Now, Status, TrackState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.clock import Clock
    from gateway.commands import Origin, Verdict
    from gateway.points import Snapshot
    from gateway.protocols.library import ChargeProtocol
    from gateway.protocols.program import Program
    from gateway.protocols.state import ConverterDemand
    from gateway.site import Site, StringSpec

LEASE_S = 5.0
"""Real seconds after which the gate makes the converter safe when the runner has fallen silent."""
RENEW_S = 1.5
"""Age of the last command at which it is sent again: three attempts fit into a lease."""
RETRY_S = 3.0
"""For so long a device that does not answer is tried again before the track is ended or paused."""
OFF_WITHIN_S = 10.0
"""A converter that cannot be confirmed off for so long makes the run faulted."""

_MODE_NUMBER = {name: float(number) for number, name in CONVERTER_MODES.items()}
_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.NOT_CONFIRMED})
_SAFE_ALREADY = frozenset({Code.TRIPPED, Code.OWNED})
"""Refusals of "off" that mean that somebody with more right holds the converter: the trip, or the sequence."""


class RunJournal(Protocol):
    """What is needed of the journal."""

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
        """Note an event; its id."""
        ...

    def load(self, table: str) -> Mapping[str, Mapping[str, object]]:
        """All documents of a table."""
        ...

    def save(self, table: str, key: str, document: dict[str, object]) -> None:
        """Keep a document."""
        ...

    def delete(self, table: str, key: str) -> None:
        """Forget a document."""
        ...


def iso_utc(clock: Clock) -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(clock.utc_ns() // 1_000_000_000, UTC).isoformat()


class Track:
    """One string's part of a run."""

    def __init__(self, site: Site, string: StringSpec, program: Program) -> None:
        converter = site.device_at(f"{string.prefix}.converter")
        self.string = string
        self.program = program
        self.target = f"{string.prefix}.converter"
        self.state = TrackState()
        self.released = False
        self._reader = StringReader(site, string)
        self._writable = frozenset(converter.writable) if converter is not None else frozenset[str]()
        self._wanted: ConverterDemand | None = None
        self._sent: ConverterDemand | None = None
        self._pending: ConverterDemand | None = None
        self._sent_at = 0.0
        self._failing_since: float | None = None
        self._off_since: float | None = None
        self._is_off = False

    @property
    def is_closed(self) -> bool:
        """True when the track is over and its converter is off, or will not answer."""
        return self.state.status.is_over and self._is_off

    @property
    def status(self) -> Status:
        """The engine's status, but STOPPING until the converter is confirmed off."""
        return Status.STOPPING if self.state.status.is_over and not self._is_off else self.state.status

    def can(self, verb: str) -> bool:
        """Whether "stopped", "held" or "resumed" means anything now."""
        status = self.state.status
        if verb == "resumed":
            return status is Status.PAUSED
        return status is Status.RUNNING or (verb == "stopped" and status in {Status.ARMED, Status.PAUSED})

    def operate(self, verb: str, reason: str) -> None:
        """Do what the operator asks."""
        if verb == "resumed":
            self.state = engine.resume(self.state)
        elif verb == "held":
            self.state = engine.pause(self.state, reason)
        else:
            self.state = engine.abort(self.program, self.state, reason)

    def interlock(self, reason: str) -> tuple[Event, ...]:
        """A trip or a refusal stands in the way: pause or end the track, as its protocol says."""
        before = self.state.status
        if self.program.on_interlock == "pause" and before in {Status.RUNNING, Status.PAUSED}:
            self.state = engine.pause(self.state, reason)
        else:
            self.state = engine.abort(self.program, self.state, reason)
        return (Event("interlock", reason),) if self.state.status is not before else ()

    def advance(self, snapshot: Snapshot, now: Now) -> tuple[Event, ...]:
        """One cycle of the engine."""
        result = engine.advance(self.program, self.state, self._reader.read(snapshot), now)
        self.state = result.state
        if result.demand is not None:
            self._wanted = result.demand
        if self.state.status in {Status.STOPPING, Status.COMPLETED, Status.ABORTED} and self._off_since is None:
            self._off_since = now.real_s
        return result.events

    def command(self, owner: str, now: Now, *, is_tripped: bool) -> Command | None:
        """What is to be sent now; None when the converter already does it, or a trip holds it safe."""
        if is_tripped:
            self._sent = None
            self._is_off = self._is_off or self.state.status.is_over
            return None
        wanted = self._wanted
        if wanted is None or (wanted == self._sent and (self._is_off or now.real_s - self._sent_at < RENEW_S)):
            return None
        self._pending = wanted
        step = self.program.steps[self.state.index].id if self.state.step is not None else self.state.status.value
        return Command(
            target=self.target,
            values=values(wanted, self._writable),
            owner=owner,
            rank=Rank.RUN,
            lease_s=LEASE_S,
            reason=f"{owner} {step}",
        )

    def answered(self, verdict: Verdict, now: Now) -> tuple[Event, ...]:
        """What the gate said to the last command."""
        ending = self._off_since is not None
        if verdict.accepted:
            self._sent, self._sent_at, self._failing_since = self._pending, now.real_s, None
            self._is_off = self._pending is not None and not self._pending.enable and self.state.status.is_over
            return ()
        self._sent = None
        if ending:
            return self._not_off(verdict, now)
        if self._failing_since is None:
            self._failing_since = now.real_s
        if verdict.code in _TRANSIENT and now.real_s - self._failing_since < RETRY_S:
            return ()
        self._failing_since = None
        return self.interlock(f"{verdict.code.value}: {verdict.reason}")

    def _not_off(self, verdict: Verdict, now: Now) -> tuple[Event, ...]:
        over = self.state.status.is_over
        if verdict.code in _SAFE_ALREADY:
            self._is_off = over
            return ()
        if not over or self._off_since is None or now.real_s - self._off_since < OFF_WITHIN_S:
            return ()
        self._is_off = True
        reason = f"the converter could not be confirmed off: {verdict.reason}"
        self.state = engine.fault(self.state, reason)
        return (Event("fault", reason),)

    def document(self) -> dict[str, object]:
        """The track in the run's record."""
        return {
            "string": self.string.id,
            "track": self.program.track,
            "state": self.status.value,
            "reason": self.state.reason,
            "step": self.program.steps[self.state.index].id if self.state.step is not None else None,
            "steps": [asdict(result) for result in self.state.results],
        }


def values(demand: ConverterDemand, writable: frozenset[str]) -> dict[str, float]:
    """The demand as role points, canonical signs; names that the converter does not offer are left out."""
    wanted = {
        "mode_setpoint": _MODE_NUMBER[demand.mode],
        "current_setpoint": demand.current_A,
        "charge_current_limit": demand.charge_limit_A,
        "discharge_current_limit": demand.discharge_limit_A,
        "enable": 1.0 if demand.enable else 0.0,
    }
    if demand.voltage_V is not None:
        wanted["voltage_setpoint"] = demand.voltage_V
    return {name: value for name, value in wanted.items() if name in writable}


@dataclass(slots=True)
class Run:
    """A started protocol."""

    id: str
    protocol: ChargeProtocol
    tracks: list[Track]
    parameters: dict[str, str]
    origin: Origin
    started: str
    ended: str | None = None
    owner: str = field(init=False)

    def __post_init__(self) -> None:
        self.owner = f"run:{self.id}"

    @property
    def status(self) -> Status:
        """The run's status: that of its most active track; once all are over, of the worst."""
        statuses = {track.status for track in self.tracks}
        order = (
            Status.RUNNING,
            Status.PAUSED,
            Status.ARMED,
            Status.STOPPING,
            Status.FAULTED,
            Status.ABORTED,
        )
        return next((status for status in order if status in statuses), Status.COMPLETED)

    @property
    def reason(self) -> str:
        """The reasons of its tracks, each with its string."""
        return "; ".join(f"string {track.string.id}: {track.state.reason}" for track in self.tracks if track.state.reason)

    def identity(self) -> dict[str, object]:
        """What was started: enough to find the very file again."""
        return {
            "run": self.id,
            "protocol": self.protocol.id,
            "revision": self.protocol.document.revision,
            "sha256": self.protocol.sha256,
            "strings": [track.string.id for track in self.tracks],
            "parameters": self.parameters,
        }

    def document(self) -> dict[str, object]:
        """The run's record."""
        identity = {key: value for key, value in self.identity().items() if key != "run"}
        return {
            "id": self.id,
            **identity,
            "title": self.protocol.title,
            "origin": str(self.origin),
            "started": self.started,
            "ended": self.ended,
            "state": self.status.value,
            "reason": self.reason,
            "tracks": [track.document() for track in self.tracks],
        }
