"""Quantities in site files: pydantic types that turn "100 ms" into 0.1 and say what was expected when they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError, core_schema

from gateway.units import c_rate, expected, quantity, shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


def as_text(value: object, unit: str) -> str:
    """The value when it is a text; otherwise an error that shows how the quantity is to be written."""
    if not isinstance(value, str):
        raise PydanticCustomError("quantity", "{text}", {"text": f"expected {expected(unit)}, got {toml(value)}"})
    return value


def toml(value: object) -> str:
    """A value as it reads in a TOML file, shortened."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def duration(seconds: float) -> str:
    """A time as people say it: "130 ms", "1.5 s"."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1.0 else shown(seconds, "s")


@dataclass(frozen=True, slots=True)
class Unit:
    """Marks a field as a quantity in `unit`; unless `signed`, it must be above 0."""

    unit: str
    signed: bool = False

    def read(self, value: object) -> float:
        """The number of `unit`; ValueError with a sentence for people."""
        number = quantity(as_text(value, self.unit), self.unit)
        if number <= 0.0 and not self.signed:
            raise ValueError(f"'{value}' must be above 0")
        return number

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        _, _, example = expected(self.unit).partition(" such as ")
        return {"type": "string", "examples": [example.strip("'")]}


@dataclass(frozen=True, slots=True)
class CurrentText:
    """Marks a field as a current that may be a C-rate: checked, and kept as text until the capacity is known."""

    def read(self, value: object) -> str:
        """The text itself; ValueError with a sentence for people."""
        text = as_text(value, "A")
        if c_rate(text) is None:
            Unit("A").read(text)
        return text

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "examples": ["5 A", "C/5"]}
