"""Methods that clients call: each becomes one request to control, and the answer is control's verdict.

A refusal is a Bad status code, with the reason in the output arguments and, for clients that drop the outputs of a
failed call, in the LastRefusal variable. No call waits longer than its deadline (real seconds), because the requests of one
connection are served one after the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway.commands import Code, Role
from gateway.errors import ControlUnavailable
from gateway.servers.opcua.stack import ua
from gateway.servers.opcua.status import VERDICT_STATUS, status_by_name
from gateway.servers.opcua.values import to_datetime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from asyncua.server.server import Server
    from asyncua.ua.uaprotocol_auto import Argument, CallMethodResult
    from asyncua.ua.uatypes import NodeId, StatusCode, Variant

    from gateway.clock import Clock
    from gateway.servers.opcua.nodes import NodeMaker

_log = logging.getLogger(__name__)

DEADLINE_S = 5.0

Arguments = dict[str, object]


class Control(Protocol):
    """The door to the control process."""

    async def request(
        self, verb: str, args: Mapping[str, object] | None = None, *, user: str = "", role: Role | str = Role.OBSERVER
    ) -> object:
        """The answer of control. ControlUnavailable when there is none."""
        ...


class _BadArgument(Exception):
    """An argument that cannot be understood; `status` is what the caller is told."""

    def __init__(self, reason: str, status: str = "BadInvalidArgument") -> None:
        super().__init__(reason)
        self.status = status_by_name(status)


@dataclass(frozen=True, slots=True)
class Input:
    """An input argument; an array of texts where `array`."""

    name: str
    description: str
    array: bool = False

    @property
    def argument(self) -> Argument:
        """As clients see it."""
        return _argument(self.name, ua.ObjectIds.String, self.description, array=self.array)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method: the verb that it asks control for, and how its inputs become the verb's arguments."""

    name: str
    verb: str
    description: str
    inputs: tuple[Input, ...]
    arguments: Callable[[Sequence[Any]], Arguments]


def _start_run(inputs: Sequence[Any]) -> Arguments:
    protocol, strings, parameters = inputs
    try:
        values: object = json.loads(parameters) if parameters else {}
    except ValueError as error:
        raise _BadArgument(f'Parameters is not JSON such as {{"at": "5 A"}}: {error}') from None
    if not isinstance(values, dict):
        raise _BadArgument('Parameters must be a JSON object such as {"at": "5 A"}')
    return {"protocol": protocol, "strings": list(strings), "parameters": values}


METHODS: tuple[Method, ...] = (
    Method(
        name="StartRun",
        verb="start_run",
        description="Start a charge protocol. Answers at once; progress is in string.<id>.run",
        inputs=(
            Input("Protocol", "Id of the protocol, as in the folder Protocols"),
            Input("Strings", "Ids of the strings, one per track of the protocol, in their order", array=True),
            Input("Parameters", 'JSON object of parameters that differ from their defaults, such as {"at": "5 A"}; may be empty'),
        ),
        arguments=_start_run,
    ),
    Method(
        name="StopRun",
        verb="stop_run",
        description="End a run in an orderly way; its converters go to their safe values",
        inputs=(Input("Run", "Id of the run, or of a string for the run that is on it"),),
        arguments=lambda inputs: {"run": inputs[0]},
    ),
    Method(
        name="Stop",
        verb="stop",
        description="STOP: trip the whole site at once; stays tripped until Reset",
        inputs=(),
        arguments=lambda _: {},
    ),
    Method(
        name="Reset",
        verb="reset",
        description="Clear latched trips whose causes are gone",
        inputs=(Input("Scope", '"site", or "string.<id>"'),),
        arguments=lambda inputs: {"scope": inputs[0]},
    ),
)


def _argument(name: str, data_type: int, description: str, *, array: bool = False) -> Argument:
    return ua.Argument(
        Name=name,
        DataType=ua.NodeId(data_type),
        ValueRank=ua.ValueRank.OneDimension if array else ua.ValueRank.Scalar,
        ArrayDimensions=[0] if array else [],
        Description=ua.LocalizedText(description),
    )


def _outputs() -> list[Argument]:
    return [
        _argument("Code", ua.ObjectIds.String, "accepted, or why not: " + ", ".join(code for code in Code if code != "accepted")),
        _argument("Reason", ua.ObjectIds.String, "The reason of a refusal, for people"),
        _argument("Record", ua.ObjectIds.Int64, "Number of the journal record; 0 when none was made"),
        _argument("Run", ua.ObjectIds.String, "Id of the run that was started or ended; empty where there is none"),
    ]


class Methods:
    """The methods of one server. `role` and `user` are those of the callers: all sessions of this server are alike."""

    def __init__(
        self, control: Control, clock: Clock, *, role: str, user: str = "anonymous", deadline_s: float = DEADLINE_S
    ) -> None:
        self._control = control
        self._clock = clock
        self._role = role
        self._user = user
        self._deadline_s = deadline_s
        self._server: Server | None = None
        self._refusal: NodeId | None = None

    def add(self, server: Server, maker: NodeMaker, parent: NodeId) -> None:
        """Make the methods components of `parent`, and the LastRefusal variable beside them."""
        self._server = server
        for method in METHODS:
            inputs = [listed.argument for listed in method.inputs]
            node = maker.method(f"method.{method.name}", parent, method.name, method.description, (inputs, _outputs()))
            server.iserver.isession.add_method_callback(node, self._bind(method))
        self._refusal = maker.text(
            "method.LastRefusal", parent, "LastRefusal", "The last call that was refused by this server, and why", ""
        )

    def _bind(self, method: Method) -> Callable[..., Awaitable[CallMethodResult]]:
        async def call(parent: NodeId, *variants: Variant) -> CallMethodResult:
            del parent
            return await self.call(method, variants)

        return call

    async def call(self, method: Method, variants: Sequence[Variant]) -> CallMethodResult:
        """One call: checked, asked, answered."""
        per_input = [_check(expected, given) for expected, given in zip(method.inputs, variants, strict=False)]
        if len(variants) != len(method.inputs):
            name = "BadArgumentsMissing" if len(variants) < len(method.inputs) else "BadTooManyArguments"
            return ua.CallMethodResult(StatusCode=status_by_name(name))
        if not all(status.is_good() for status in per_input):
            return ua.CallMethodResult(StatusCode=status_by_name("BadInvalidArgument"), InputArgumentResults=per_input)
        try:
            arguments = method.arguments(
                [_value(expected, given) for expected, given in zip(method.inputs, variants, strict=True)]
            )
        except _BadArgument as bad:
            return await self._answer(method, bad.status, {"code": Code.INVALID, "reason": str(bad)})
        return await self._ask(method, arguments)

    async def _ask(self, method: Method, arguments: Arguments) -> CallMethodResult:
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._control.request(method.verb, arguments, user=self._user, role=self._role)
        except TimeoutError:
            reason = f"control gave no verdict within {self._deadline_s:g} s; what was asked for may still happen"
            return await self._answer(method, status_by_name("BadTimeout"), {"code": Code.UNAVAILABLE, "reason": reason})
        except ControlUnavailable as error:
            return await self._answer(method, VERDICT_STATUS[Code.UNAVAILABLE], {"code": Code.UNAVAILABLE, "reason": str(error)})
        verdict = cast("dict[str, object]", answer) if isinstance(answer, dict) else {}
        return await self._answer(method, _status(verdict.get("code")), verdict)

    async def _answer(self, method: Method, status: StatusCode, verdict: Mapping[str, object]) -> CallMethodResult:
        code, reason = str(verdict.get("code", "")), str(verdict.get("reason", ""))
        record, run = verdict.get("record", 0), verdict.get("run")
        if not status.is_good():
            await self._tell(f"{method.name}: {code}: {reason}")
        return ua.CallMethodResult(
            StatusCode=status,
            OutputArguments=[
                ua.Variant(code, ua.VariantType.String),
                ua.Variant(reason, ua.VariantType.String),
                ua.Variant(record if isinstance(record, int) else 0, ua.VariantType.Int64),
                ua.Variant("" if run is None else str(run), ua.VariantType.String),
            ],
        )

    async def _tell(self, refusal: str) -> None:
        _log.info("refused: %s", refusal)
        if self._server is not None and self._refusal is not None:
            now = to_datetime(self._clock.utc_ns())
            await self._server.write_attribute_value(
                self._refusal, ua.DataValue(ua.Variant(refusal, ua.VariantType.String), SourceTimestamp=now, ServerTimestamp=now)
            )


def _status(code: object) -> StatusCode:
    """The status of an answer; one that is no verdict is a defect of control's, not the caller's."""
    try:
        return VERDICT_STATUS[Code(str(code))]
    except ValueError:
        return status_by_name("BadInternalError")


def _check(expected: Input, given: Variant) -> StatusCode:
    """Whether an argument is a text, or a list of texts; nothing at all counts as an empty list."""
    value: object = given.Value
    if expected.array:
        fits = value is None or (isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value)))
    else:
        fits = isinstance(value, str)
    return status_by_name("Good" if fits else "BadTypeMismatch")


def _value(expected: Input, given: Variant) -> object:
    value: object = given.Value
    return [] if expected.array and value is None else value
