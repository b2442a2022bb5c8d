"""The charge-protocol language as frozen models: what a `protocols/*.toml` file may say.

Quantities stay text here ("5 A", "C/20", "$current"), because C-rates and per-cell voltages mean something only on a
string of known capacity and cell count; `build` turns them into numbers. Every table refuses unknown keys. A field's
description is what a person is told when the field is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a text field as a quantity of this unit."""

    unit: str
    example: str


Current = Annotated[str, Quantity("A", "5 A")]
Voltage = Annotated[str, Quantity("V", "14.1 V")]
Duration = Annotated[str, Quantity("s", "30 min")]

AT_ENTRY = "pack_voltage_at_entry"
"""The voltage to hold is the one measured on the pack when the step before ended."""

_ID = r"^[A-Za-z][A-Za-z0-9_]*$"
Id = Annotated[str, Field(pattern=_ID)]
Target = Annotated[str, Field(description='"next", "end", "abort", or the id of a later step')]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def _table(key: str) -> BeforeValidator:
    """A plain text stands for a table with only this key."""

    def wrap(value: object) -> object:
        return {key: value} if isinstance(value, str) else value

    return BeforeValidator(wrap, json_schema_input_type=str | dict[str, object])


def _tuple(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


AsTuple = BeforeValidator(_tuple)
"""TOML arrays arrive as lists; models keep tuples."""


class Parameter(_Table):
    """A value that may be chosen when the run is started, within its range."""

    unit: str = Field(description='the unit the parameter is in, for example "A"')
    default: str = Field(description='the value when none is given, for example "5 A"')
    min: str = Field(description="the smallest value allowed")
    max: str = Field(description="the largest value allowed")
    description: str = ""


class Limit(_Table):
    """A bound that ends or pauses the track when it is passed for longer than `delay` (site time)."""

    value: str = Field(description='the bound, for example "2.45 V"')
    delay: Duration = "0 s"
    action: Literal["abort", "pause"] = "abort"


LimitEntry = Annotated[Limit, _table("value")]


class Limits(_Table):
    """Safety bounds of a track; they can only be tighter than the site's own trips."""

    cell_voltage_max: Annotated[LimitEntry | None, Quantity("V", "3.62 V")] = None
    cell_voltage_min: Annotated[LimitEntry | None, Quantity("V", "2.8 V")] = None
    cell_voltage_spread_max: Annotated[LimitEntry | None, Quantity("V", "200 mV")] = None
    pack_voltage_max: Annotated[LimitEntry | None, Quantity("V", "14.5 V")] = None
    pack_voltage_min: Annotated[LimitEntry | None, Quantity("V", "11.2 V")] = None
    charge_current_max: Annotated[LimitEntry | None, Quantity("A", "5.5 A")] = None
    discharge_current_max: Annotated[LimitEntry | None, Quantity("A", "5.5 A")] = None
    temperature_max: Annotated[LimitEntry | None, Quantity("degC", "45 degC")] = None
    temperature_min: Annotated[LimitEntry | None, Quantity("degC", "5 degC")] = None
    duration_max: Annotated[LimitEntry | None, Quantity("s", "24 h")] = None
    data_age_max: Duration = "5 s"
    """Real time without a good cell voltage and current after which a controlled step is aborted."""


class EndCondition(_Table):
    """One entry of `until`: a comparison, or several that must hold together."""

    when: str | None = None
    all: Annotated[tuple[Annotated[EndCondition, _table("when")], ...], AsTuple] = ()
    for_: Duration = Field(default="0 s", alias="for")
    then: Target = "next"


def _end(value: object) -> object:
    if isinstance(value, str):
        return {"when": value}
    return {"all": cast("list[object]", value)} if isinstance(value, list) else value


def _ends(value: object) -> object:
    return tuple(_end(item) for item in cast("list[object]", value)) if isinstance(value, list) else value


_ITEM_SCHEMA = {
    "anyOf": [
        {"type": "string", "examples": ["cell_voltage_max >= 3.6 V"]},
        {
            "type": "object",
            "properties": {"when": {"type": "string"}, "for": {"type": "string"}, "then": {"type": "string"}},
            "required": ["when"],
            "additionalProperties": False,
        },
    ]
}
_UNTIL_SCHEMA = {
    "type": "array",
    "description": "Any of these ends the step; a nested list needs all of its items.",
    "items": {"anyOf": [*_ITEM_SCHEMA["anyOf"], {"type": "array", "items": _ITEM_SCHEMA}]},
}
Until = Annotated[tuple[EndCondition, ...], BeforeValidator(_ends), WithJsonSchema(_UNTIL_SCHEMA)]


class Timeout(_Table):
    """The longest time a step may take, and where to go then."""

    after: Duration = Field(description='the time, for example "8 h"')
    then: Target = "abort"


TimeoutEntry = Annotated[Timeout, _table("after")]

_TIMEOUT = 'every controlled step needs a time limit, for example timeout = "8 h"'
_CEILING = 'a voltage step needs a current ceiling, for example current_max = "5 A"'
_UNTIL = 'says what ends the step, for example until = ["cell_voltage_max >= 3.6 V"]'


class _Step(_Table):
    id: Id = Field(description="every step needs an id of its own")
    label: str = ""
    note: str = ""
    min_time: Duration = "0 s"
    """End conditions other than step_time are not looked at before this step time."""


class Charge(_Step):
    """Constant-current charge."""

    do: Literal["charge"]
    at: Current = Field(description='the charge current, for example at = "5 A" or at = "0.2C"')
    until: Until = Field(description=_UNTIL)
    timeout: TimeoutEntry = Field(description=_TIMEOUT)


class Discharge(_Step):
    """Constant-current discharge."""

    do: Literal["discharge"]
    at: Current = Field(description='the discharge current, for example at = "5 A" or at = "C/5"')
    until: Until = Field(description=_UNTIL)
    timeout: TimeoutEntry = Field(description=_TIMEOUT)


Regulate = Literal["pack", "highest_cell"]


class Hold(_Step):
    """Constant voltage, of the pack or of the highest cell; charges only, never above `current_max`."""

    do: Literal["hold"]
    at: str = Field(description=f'the voltage to hold: "14.1 V", "2.35 V/cell" or "{AT_ENTRY}"')
    regulate: Regulate = "pack"
    pack_voltage_max: Voltage | None = None
    current_max: Current = Field(description=_CEILING)
    until: Until = Field(description=_UNTIL)
    timeout: TimeoutEntry = Field(description=_TIMEOUT)


class Float(_Step):
    """Constant voltage without an end of its own: a command, or `max_age`, ends it."""

    do: Literal["float"]
    at: str = Field(description='the voltage to hold: "13.7 V" or "2.27 V/cell"')
    regulate: Regulate = "pack"
    pack_voltage_max: Voltage | None = None
    current_max: Current = Field(description=_CEILING)
    until: Until = ()
    max_age: Duration = Field(description='a float needs an age at which it ends for review, for example max_age = "30 days"')


class ChargeCccv(_Step):
    """Constant current up to a voltage, then that voltage until the current has tapered; one time limit over both."""

    do: Literal["charge_cccv"]
    at: Current = Field(description='the charge current, for example at = "0.2C"; it is the ceiling of the voltage phase too')
    to: str = Field(description='the voltage to charge to and hold: "14.4 V", or "3.60 V" with regulate = "highest_cell"')
    regulate: Regulate = "pack"
    pack_voltage_max: Voltage | None = None
    taper: Current = Field(description='the current at which the charge is full, for example taper = "0.05C"')
    until: Until = ()
    timeout: TimeoutEntry = Field(description=_TIMEOUT)


class Rest(_Step):
    """No current."""

    do: Literal["rest"]
    until: Until = Field(description='says what ends the rest, for example until = ["step_time >= 30 min"]')
    timeout: TimeoutEntry | None = None


Step = Annotated[Charge | Discharge | Hold | Float | ChargeCccv | Rest, Field(discriminator="do")]
STEP_KINDS: dict[str, type[_Step]] = {
    "charge": Charge,
    "discharge": Discharge,
    "hold": Hold,
    "float": Float,
    "charge_cccv": ChargeCccv,
    "rest": Rest,
}

ChemistryName = Literal["lfp", "lead_acid", "zinc"]
Chemistries = Annotated[tuple[ChemistryName, ...], AsTuple]
Steps = Annotated[tuple[Step, ...], AsTuple]
Capability = Literal["dcdc.current_mode", "dcdc.voltage_mode", "bms.cell_voltages", "bms.soc"]


class Track(_Table):
    """The steps of one string in a protocol that works on several."""

    id: Id = Field(description="every track needs an id of its own")
    string: str = Field(description='the string it runs on unless others are named at the start, for example string = "A"')
    title: str = ""
    chemistry: Chemistries = ()
    limits: Limits = Limits()
    step: Steps = Field(min_length=1, description="a track needs steps: [[track.step]]")


class Finally(_Table):
    """What always happens at the end: zero current and converter off; then, when asked for, the pack is watched at rest."""

    rest: Duration = "0 s"
    note: str = ""


class ProtocolFile(_Table):
    """A whole protocol file."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    id: Id | None = None
    title: str = Field(description="the protocol needs a title")
    revision: int | str = 1
    author: str = ""
    description: str = ""
    chemistry: Chemistries = Field(min_length=1, description='the chemistries it is for, for example chemistry = ["lfp"]')
    requires: Annotated[tuple[Capability, ...], AsTuple] = ()
    on_interlock: Literal["abort", "pause"] = "abort"
    on_track_abort: Literal["continue", "abort"] = "continue"
    """Whether the other tracks go on when one is aborted."""
    parameters: dict[Id, Parameter] = {}
    limits: Limits = Limits()
    step: Steps = ()
    track: Annotated[tuple[Track, ...], AsTuple] = ()
    finally_: Finally = Field(default=Finally(), alias="finally")
