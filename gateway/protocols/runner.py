"""The shell around the engine: snapshot in, commands to the gate, points, journal.

One run per string; a run has one track per string. A command goes out only when the demand changes or the lease needs
renewal, so that no converter is written to in vain; one that is slow to answer keeps only its own track waiting. A refusal
by the gate, or a trip of the string, ends or pauses that track alone. What was running when the gateway stopped is not
resumed: it is recorded as interrupted.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, cast

from gateway.commands import ACCEPTED, Code, Verdict
from gateway.protocols import engine, run_points
from gateway.protocols.checks import BindingError, arm, bind
from gateway.protocols.run import Run, Track, iso_utc
from gateway.protocols.state import Event, Now, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.commands import Command, Origin
    from gateway.points import Point, Snapshot
    from gateway.protocols.checks import Bound
    from gateway.protocols.library import ChargeProtocol
    from gateway.protocols.run import RunJournal
    from gateway.protocols.run_points import RunBlock
    from gateway.site import Site, StringSpec

_log = logging.getLogger(__name__)

HISTORY = 200
"""So many ended runs are kept in the journal's table; their events stay."""
RESTARTED = "the gateway restarted"
ANSWER_WAIT_S = 0.1
"""Real seconds for which a cycle waits for the answers to what it has sent, so that most are acted on at once."""
_ACTIVE = frozenset({Status.ARMED, Status.RUNNING, Status.PAUSED, Status.STOPPING})


def points(site: Site) -> tuple[Point, ...]:
    """The points that a runner writes."""
    return run_points.points(site)


class Runner:
    """All runs of a site.

    `view` gives the present snapshot, `submit` hands a command to the gate, `release(target, owner)` gives a target back,
    `claim(names, writer)` the block to write points to. `library` holds the protocols that can be started, by id.
    """

    def __init__(
        self,
        site: Site,
        view: Callable[[], Snapshot],
        submit: Callable[[Command], Awaitable[Verdict]],
        release: Callable[[str, str], object],
        journal: RunJournal,
        clock: Clock,
        claim: Callable[[Sequence[str], str], RunBlock],
        *,
        library: Mapping[str, ChargeProtocol],
    ) -> None:
        self._site = site
        self._view = view
        self._submit = submit
        self._release = release
        self._journal = journal
        self._clock = clock
        self._library = library
        self._runs: dict[str, Run] = {}
        self._sending: dict[asyncio.Task[None], Track] = {}
        self._past: dict[str, dict[str, object]] = {key: dict(value) for key, value in journal.load("runs").items()}
        self._last_id = max((int(key) for key in self._past if key.isdigit()), default=0)
        self._block = claim([point.name for point in points(site)], "protocols")
        for string in site.strings:
            run_points.clear(self._block, string.prefix)
        self._close_interrupted()

    @property
    def library(self) -> Mapping[str, ChargeProtocol]:
        """The protocols that can be started, by id."""
        return self._library

    @property
    def is_active(self) -> bool:
        """True while any run is under way."""
        return bool(self._runs)

    async def start(
        self, protocol_id: str, strings: Sequence[str], parameters: Mapping[str, str], origin: Origin
    ) -> tuple[Verdict, str]:
        """Start a protocol; the verdict and the run's id (empty when refused). Every refusal is in the journal too."""
        verdict, run = self._arm(protocol_id, strings, parameters, origin)
        if run is None:
            text = f"start of {protocol_id} on {', '.join(strings) or 'its strings'} refused: {verdict.reason}"
            record = self._journal.record("run", text, severity="warning", source="protocols", origin=origin)
            return Verdict(verdict.code, verdict.reason, record), ""
        self._runs[run.id] = run
        text = f"run {run.id}: {run.protocol.id} started on string {', '.join(track.string.id for track in run.tracks)}"
        record = self._journal.record("run", text, source="protocols", origin=origin, data=run.identity())
        for track in run.tracks:
            run_points.show_run(self._block, track.string.prefix, run.id, run.protocol.id, track.program)
            self._show(track)
        self._save(run)
        return Verdict(Code.ACCEPTED, f"run {run.id} started", record), run.id

    async def stop(self, run_id: str, reason: str, origin: Origin) -> Verdict:
        """Abort a run (by its id, or by a string's): its strings go to zero current, converter off."""
        return self._operate(run_id, "stopped", reason or "stopped by the operator", origin)

    async def hold(self, run_id: str, reason: str, origin: Origin) -> Verdict:
        """Hold a run: current zero, step clocks stand still."""
        return self._operate(run_id, "held", reason or "held by the operator", origin)

    async def resume(self, run_id: str, origin: Origin) -> Verdict:
        """Resume a held run, unless one of its strings is tripped or not ready."""
        return self._operate(run_id, "resumed", "", origin)

    async def cycle(self) -> None:
        """Once per control cycle: look, advance every track, and send what has changed."""
        if not self._runs:
            return
        snapshot = self._view()
        now = Now(self._clock.site(), self._clock.monotonic())
        self._collect_answers()
        started = [
            self._begin_sending(run, track, command)
            for run in self._runs.values()
            for track in run.tracks
            if (command := self._advance(run, track, snapshot, now)) is not None
        ]
        if started:
            await asyncio.wait(started, timeout=ANSWER_WAIT_S)
            self._collect_answers()
        for run in list(self._runs.values()):
            await self._settle(run)

    def runs(self) -> list[dict[str, object]]:
        """All runs known, the newest first: those under way, then those of the past."""
        live = {run_id: run.document() for run_id, run in self._runs.items()}
        return sorted({**self._past, **live}.values(), key=_number, reverse=True)

    def result(self, run_id: str) -> dict[str, object] | None:
        """`{"run": {...}}` of a run (by its id, or by a string's: the present or latest one); None when unknown."""
        run = self._find(run_id)
        if run is not None:
            return {"run": run.document()}
        found = next((document for document in self.runs() if run_id in {document["id"], *_strings(document)}), None)
        return None if found is None else {"run": found}

    def time_to_nearest_end_s(self) -> float:
        """Site seconds to the nearest end of any step, told cautiously; infinite when nothing runs."""
        tracks = [track for run in self._runs.values() for track in run.tracks]
        return min((engine.time_to_end_s(track.state) for track in tracks), default=float("inf"))

    def _close_interrupted(self) -> None:
        for key, document in self._past.items():
            if document.get("state") not in {status.value for status in _ACTIVE}:
                continue
            document |= {"state": Status.ABORTED.value, "reason": RESTARTED, "ended": iso_utc(self._clock)}
            self._journal.save("runs", key, document)
            text = f"run {key} ({document.get('protocol')}) was interrupted: {RESTARTED}"
            self._journal.record("run", text, severity="warning", source="protocols", data={"run": key})

    def _arm(
        self, protocol_id: str, strings: Sequence[str], parameters: Mapping[str, str], origin: Origin
    ) -> tuple[Verdict, Run | None]:
        protocol = self._library.get(protocol_id)
        if protocol is None:
            known = ", ".join(sorted(self._library))
            return Verdict(Code.UNKNOWN, f"there is no protocol '{protocol_id}'; protocols: {known}"), None
        try:
            bound = bind(protocol, self._site, strings)
        except BindingError as error:
            return Verdict(Code.INVALID, str(error)), None
        programs, problems = arm(protocol, self._site, bound, parameters)
        if problems:
            return Verdict(Code.INVALID, "; ".join(problem.text for problem in problems)), None
        refusal = self._permitted(bound)
        if not refusal.accepted:
            return refusal, None
        self._last_id += 1
        tracks = [Track(self._site, item.string, program) for item, program in zip(bound, programs, strict=True)]
        return ACCEPTED, Run(str(self._last_id), protocol, tracks, dict(parameters), origin, iso_utc(self._clock))

    def _permitted(self, bound: Sequence[Bound]) -> Verdict:
        snapshot = self._view()
        for string in (item.string for item in bound):
            run = self._find(string.id)
            if run is not None:
                return Verdict(Code.WRONG_STATE, f"string {string.id} is busy with run {run.id} ({run.protocol.id})")
            refusal = _ready(snapshot, string)
            if not refusal.accepted:
                return refusal
        return ACCEPTED

    def _find(self, key: str) -> Run | None:
        """The live run of that id, or on that string; one whose track has ended there has left the string free."""
        if key in self._runs:
            return self._runs[key]
        return next((run for run in self._runs.values() if any(t.string.id == key and not t.released for t in run.tracks)), None)

    def _operate(self, run_id: str, verb: str, reason: str, origin: Origin) -> Verdict:
        run = self._find(run_id)
        if run is None:
            return Verdict(Code.UNKNOWN, f"no run '{run_id}' is under way")
        live = [track for track in run.tracks if track.can(verb)]
        if not live:
            return Verdict(Code.WRONG_STATE, f"run {run.id} is {run.status.value} and cannot be {verb}")
        if verb == "resumed":
            snapshot = self._view()
            refusal = next((no for track in live if not (no := _ready(snapshot, track.string)).accepted), None)
            if refusal is not None:
                return refusal
        for track in live:
            track.operate(verb, reason)
            self._show(track)
        text = f"run {run.id} {verb}" + (f": {reason}" if reason else "")
        record = self._journal.record("run", text, source="protocols", origin=origin, data={"run": run.id})
        self._save(run)
        return Verdict(Code.ACCEPTED, text, record)

    def _advance(self, run: Run, track: Track, snapshot: Snapshot, now: Now) -> Command | None:
        """One cycle of a track; what is to be sent now, one command at a time."""
        if track.is_closed:
            return None
        tripped = _trip(snapshot, track.string)
        events = track.interlock(tripped) if tripped else ()
        events = (*events, *track.advance(snapshot, now))
        self._tell(run, track, events)
        if events:
            self._save(run)
        self._show(track)
        return None if track in self._sending.values() else track.command(run.owner, now, is_tripped=bool(tripped))

    def _begin_sending(self, run: Run, track: Track, command: Command) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._send(run, track, command))
        self._sending[task] = track
        return task

    def _collect_answers(self) -> None:
        for task in [task for task in self._sending if task.done()]:
            del self._sending[task]
            task.result()  # an error inside the gateway ends the process, as in any of its loops

    async def _send(self, run: Run, track: Track, command: Command) -> None:
        verdict = await self._submit(command)
        now = Now(self._clock.site(), self._clock.monotonic())
        self._tell(run, track, track.answered(verdict, now))

    async def _settle(self, run: Run) -> None:
        """Give back the targets of tracks that are over, let one track's end reach the others, close the run."""
        for track in run.tracks:
            if track.is_closed and not track.released:
                track.released = True
                given_back = self._release(track.target, run.owner)
                if inspect.isawaitable(given_back):
                    await given_back
                self._show(track)
                self._save(run)
        failed = next((track for track in run.tracks if track.status in {Status.ABORTED, Status.FAULTED}), None)
        if failed is not None and run.protocol.document.on_track_abort == "abort":
            for track in run.tracks:
                if track.can("stopped"):
                    track.operate("stopped", f"string {failed.string.id} was aborted")
        if all(track.is_closed for track in run.tracks):
            self._end(run)

    def _end(self, run: Run) -> None:
        run.ended = iso_utc(self._clock)
        severity = "info" if run.status is Status.COMPLETED else "warning"
        text = f"run {run.id} {run.status.value}" + (f": {run.reason}" if run.reason else "")
        self._journal.record("run", text, severity=severity, source="protocols", data=run.document())
        self._save(run)
        self._past[run.id] = run.document()
        del self._runs[run.id]
        for key in sorted(self._past, key=lambda key: _number(self._past[key]))[:-HISTORY]:
            del self._past[key]
            self._journal.delete("runs", key)

    def _tell(self, run: Run, track: Track, events: Sequence[Event]) -> None:
        for event in events:
            severity = "info" if event.kind in {"step", "end", "resume"} else "warning"
            text = f"run {run.id}, string {track.string.id}: {event.text}"
            self._journal.record("run", text, severity=severity, source=track.string.prefix, data={"run": run.id})

    def _save(self, run: Run) -> None:
        self._journal.save("runs", run.id, run.document())

    def _show(self, track: Track) -> None:
        run_points.show(self._block, track.string.prefix, track.program, track.state, track.status)


def _ready(snapshot: Snapshot, string: StringSpec) -> Verdict:
    """The permissives to start or resume: not tripped, and the sequence says ready. What is not known is not ready."""
    reason = _trip(snapshot, string)
    if reason:
        return Verdict(Code.TRIPPED, reason)
    if snapshot.number(f"{string.prefix}.ready") != 1.0:
        why = snapshot.sample("site.state_reason").value
        return Verdict(Code.NOT_PERMITTED, f"string {string.id} is not ready" + (f": {why}" if why else ""))
    return ACCEPTED


def _trip(snapshot: Snapshot, string: StringSpec) -> str:
    """Why the string is tripped; empty when it is not."""
    for prefix, name in ((string.prefix, f"string {string.id}"), ("site", "the site")):
        if snapshot.number(f"{prefix}.trip.latched") == 1.0:
            why = snapshot.sample(f"{prefix}.trip.reason").value
            return f"{name} is tripped" + (f": {why}" if why else "")
    return ""


def _number(document: Mapping[str, object]) -> int:
    key = str(document.get("id"))
    return int(key) if key.isdigit() else 0


def _strings(document: Mapping[str, object]) -> list[str]:
    return [str(track["string"]) for track in cast("list[dict[str, object]]", document.get("tracks", []))]
