"""What the control process does for each verb of the control socket.

Rights are not decided here: the control socket has checked verb, role and process before a handler runs. Every handler
answers with plain data; verbs that command answer with a verdict ("code", "reason", "record").
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

from gateway.commands import Code, Command, Rank, Verdict
from gateway.device_roles import DeviceRole
from gateway.errors import FieldError, GatewayError
from gateway.journal import as_document
from gateway.status import status_document

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from gateway.commands import Origin
    from gateway.control_socket import Handler
    from gateway.parts import Parts

_EVENTS_MAX = 1000
_COUNT_MAX = 2**63 - 1
"""Ids of events are signed 64-bit numbers in the journal."""
_OPERATOR_LEASE_S = 60.0
"""Real seconds that a setpoint written by hand stays without being written again."""
_LEASE_MAX_S = 600.0
"""The longest that may be asked for: nobody who has gone away holds a converter for longer."""


class Handlers:
    """One method per verb, named like it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def table(self) -> Mapping[str, Handler]:
        """Verb -> handler."""
        return {
            "status": self.status,
            "alarms": self.alarms,
            "acknowledge": self.acknowledge,
            "events": self.events,
            "follow": self.follow,
            "stop": self.stop,
            "reset": self.reset,
            "start_site": self.start_site,
            "stop_site": self.stop_site,
            "write": self.write,
            "safe_state": self.safe_state,
            "probe": self.probe,
            "report": self.report,
            "protocols": self.protocols,
            "runs": self.runs,
            "start_run": self.start_run,
            "stop_run": self.stop_run,
            "hold_run": self.hold_run,
            "resume_run": self.resume_run,
            "schedule_list": self.schedule_list,
            "schedule_add": self.schedule_add,
            "schedule_remove": self.schedule_remove,
        }

    # What there is to see

    async def status(self, args: Mapping[str, object], origin: Origin) -> object:
        """The plant in one document."""
        del args, origin
        return status_document(self._parts)

    async def alarms(self, args: Mapping[str, object], origin: Origin) -> object:
        """All alarms that are active or not yet acknowledged."""
        del args, origin
        return {"alarms": self._parts.guard.alarm_rows()}

    async def events(self, args: Mapping[str, object], origin: Origin) -> object:
        """The newest events above an id."""
        del origin
        limit = min(max(1, _count(args, "limit", 50)), _EVENTS_MAX)
        found = await self._parts.journal.events(after=_count(args, "after", 0), limit=limit)
        return {"events": [as_document(event) for event in found]}

    async def follow(self, args: Mapping[str, object], origin: Origin) -> AsyncGenerator[object]:
        """Every event above an id, then each new one."""
        del origin
        return self._follow(_count(args, "after", 0))

    async def _follow(self, after: int) -> AsyncGenerator[object]:
        async with aclosing(self._parts.journal.follow(after)) as events:
            async for event in events:
                yield as_document(event)

    async def probe(self, args: Mapping[str, object], origin: Origin) -> object:
        """Raw and scaled values of a device, read now."""
        del origin
        device = _text(args, "device")
        if self._parts.site.device(device) is None:
            return _answer(Verdict(Code.UNKNOWN, f"the site has no device '{device}'"))
        try:
            rows = await self._parts.bus.probe(device)
        except FieldError as error:
            return _answer(Verdict(Code.UNAVAILABLE, str(error)))
        return {"rows": [{**asdict(row), "quality": row.quality.opcua_name} for row in rows]}

    async def report(self, args: Mapping[str, object], origin: Origin) -> object:
        """Another process tells how it is."""
        self._parts.reports.report(origin.process, _mapping(args, "values") if "values" in args else args)
        return {}

    # Stop, start, reset

    async def stop(self, args: Mapping[str, object], origin: Origin) -> object:
        """STOP: everything safe, latched; the answer tells whether the plant has confirmed."""
        del args
        return _answer(await self._stop(origin))

    async def _stop(self, origin: Origin) -> Verdict:
        asked_s = self._parts.clock.monotonic()
        verdict = await self._parts.guard.stop_and_confirm(origin)
        took_ms = (self._parts.clock.monotonic() - asked_s) * 1000.0
        return replace(verdict, reason=f"{verdict.reason} ({took_ms:.0f} ms)")

    async def reset(self, args: Mapping[str, object], origin: Origin) -> object:
        """Reset a latched trip."""
        scope = _text(args, "scope", "site")
        return _answer(self._parts.guard.reset(scope, origin))

    async def acknowledge(self, args: Mapping[str, object], origin: Origin) -> object:
        """Acknowledge an alarm."""
        return _answer(self._parts.guard.acknowledge(_text(args, "alarm"), origin))

    async def start_site(self, args: Mapping[str, object], origin: Origin) -> object:
        """Begin the start sequence."""
        del args
        return _answer(self._parts.sequence.start(origin))

    async def stop_site(self, args: Mapping[str, object], origin: Origin) -> object:
        """Begin the stop sequence."""
        del args
        return _answer(self._parts.sequence.stop(origin))

    async def safe_state(self, args: Mapping[str, object], origin: Origin) -> object:
        """STOP, told per device."""
        verdict = await self._stop(origin)
        devices = [spec for spec in self._parts.site.devices if spec.safe and (spec.target or spec.role is DeviceRole.DIGITAL_IO)]
        rows = [
            {"device": spec.id, "ok": self._parts.gate.confirmed_safe(_scope(spec.target)), "detail": verdict.reason}
            for spec in devices
        ]
        del args
        return {"devices": rows, **_answer(verdict)}

    async def write(self, args: Mapping[str, object], origin: Origin) -> object:
        """Set one writable canonical point by hand, under a lease."""
        name, value = _text(args, "point"), args.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return _answer(Verdict(Code.INVALID, f"{name} takes a number, got {value!r}"))
        target = next(
            (spec.target for spec in self._parts.site.devices if spec.target and name.startswith(spec.target + ".")), None
        )
        if target is None:
            return _answer(Verdict(Code.UNKNOWN, f"{name} is nothing that can be written"))
        lease_s = args.get("lease_s", _OPERATOR_LEASE_S)
        if isinstance(lease_s, bool) or not isinstance(lease_s, int | float):
            return _answer(Verdict(Code.INVALID, f"a lease is a number of seconds, got {lease_s!r}"))
        if lease_s > _LEASE_MAX_S:
            return _answer(
                Verdict(Code.INVALID, f"a lease lasts {_LEASE_MAX_S:g} s at most, got {lease_s:g} s; renew it by writing again")
            )
        command = Command(
            target=target,
            values={name.removeprefix(target + "."): float(value)},
            owner=f"operator:{origin.user or origin.process}",
            rank=Rank.OPERATOR,
            lease_s=float(lease_s),
            reason="written by hand",
            origin=origin,
        )
        return _answer(await self._parts.gate.submit(command))

    # Runs and schedules

    async def protocols(self, args: Mapping[str, object], origin: Origin) -> object:
        """The protocols that can be started."""
        del args, origin
        library = self._parts.runner.library
        return {"protocols": [{"id": p.id, "title": p.title, "chemistry": list(p.chemistry)} for p in library.values()]}

    async def runs(self, args: Mapping[str, object], origin: Origin) -> object:
        """One run, or all that are known."""
        del origin
        if "run" not in args:
            return {"runs": self._parts.runner.runs()}
        found = self._parts.runner.result(_text(args, "run"))
        if found is None:
            return _answer(Verdict(Code.UNKNOWN, f"there is no run '{args['run']}'"))
        return {"runs": [found["run"]]}

    async def start_run(self, args: Mapping[str, object], origin: Origin) -> object:
        """Start a protocol on strings."""
        strings = _texts(args, "strings")
        parameters = {str(key): str(value) for key, value in _mapping(args, "parameters").items()}
        verdict, run = await self._parts.runner.start(_text(args, "protocol"), strings, parameters, origin)
        return {**_answer(verdict), "run": run}

    async def stop_run(self, args: Mapping[str, object], origin: Origin) -> object:
        """Abort a run."""
        return _answer(await self._parts.runner.stop(_text(args, "run"), _text(args, "reason", ""), origin))

    async def hold_run(self, args: Mapping[str, object], origin: Origin) -> object:
        """Hold a run."""
        return _answer(await self._parts.runner.hold(_text(args, "run"), _text(args, "reason", ""), origin))

    async def resume_run(self, args: Mapping[str, object], origin: Origin) -> object:
        """Resume a held run."""
        return _answer(await self._parts.runner.resume(_text(args, "run"), origin))

    async def schedule_list(self, args: Mapping[str, object], origin: Origin) -> object:
        """All schedules with their next due time."""
        del args, origin
        return {"schedules": self._parts.scheduler.rows()}

    async def schedule_add(self, args: Mapping[str, object], origin: Origin) -> object:
        """Add a schedule."""
        return _answer(self._parts.scheduler.add(args, origin))

    async def schedule_remove(self, args: Mapping[str, object], origin: Origin) -> object:
        """Remove a schedule that was added at run time."""
        return _answer(self._parts.scheduler.remove(_text(args, "id"), origin))


def _answer(verdict: Verdict) -> dict[str, object]:
    return {"code": verdict.code.value, "reason": verdict.reason, "record": verdict.record}


def _scope(target: str | None) -> str:
    return ".".join(target.split(".")[:2]) if target and target.startswith("string.") else "site"


def _text(args: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = args.get(name, default)
    if not isinstance(value, str):
        raise BadArgument(f"argument '{name}' is missing or not a text")
    return value


def _texts(args: Mapping[str, object], name: str) -> list[str]:
    value = args.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[object]", value)):
        raise BadArgument(f"argument '{name}' is not a list of texts")
    return cast("list[str]", value)


def _mapping(args: Mapping[str, object], name: str) -> Mapping[object, object]:
    value = args.get(name, {})
    if not isinstance(value, dict):
        raise BadArgument(f"argument '{name}' is not a mapping")
    return cast("Mapping[object, object]", value)


def _count(args: Mapping[str, object], name: str, default: int) -> int:
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _COUNT_MAX:
        raise BadArgument(f"argument '{name}' is not a whole number from 0")
    return value


class BadArgument(GatewayError, ValueError):
    """A verb was asked for with arguments that make no sense."""
