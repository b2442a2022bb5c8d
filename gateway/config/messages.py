"""What pydantic finds wrong, as sentences at TOML keys for the person who wrote the file."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from gateway.config.quantities import toml
from gateway.toml_lines import join, unknown_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from gateway.errors import Problem
    from gateway.toml_lines import LineIndex


def problems(error: ValidationError, path: str, kind: type[BaseModel], index: LineIndex) -> list[Problem]:
    """Every mistake in the table of model `kind` that stands at `path`."""
    details = error.errors(include_url=False)
    misspelt = {_intended(detail, kind) for detail in details if detail["type"] == "extra_forbidden"}
    return [
        _problem(detail, path, kind, index)
        for detail in details
        # a key that was meant but misspelt is not missing as well
        if detail["type"] != "missing" or detail["loc"] not in misspelt
    ]


def missing(info: FieldInfo | None) -> str:
    """What to say about a key that is not there."""
    return f"is missing: {info.description}" if info is not None and info.description else "is missing"


def _intended(detail: ErrorDetails, kind: type[BaseModel]) -> tuple[int | str, ...]:
    owner, _ = _locate(kind, detail["loc"])
    *table, name = detail["loc"]
    close = get_close_matches(str(name), list(owner.model_fields), n=1, cutoff=0.6)
    return (*table, *close)


def _problem(detail: ErrorDetails, path: str, kind: type[BaseModel], index: LineIndex) -> Problem:
    owner, info = _locate(kind, detail["loc"])
    key = path
    for part in detail["loc"]:
        key = join(key, part)
    if detail["type"] == "extra_forbidden":
        return index.problem(key, unknown_key(str(detail["loc"][-1]), owner.model_fields))
    if detail["type"] == "missing":
        return index.problem(key, missing(info))
    return index.problem(key, _message(detail))


def _locate(kind: type[BaseModel], loc: Sequence[int | str]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The model that owns the last name of a location, and its field there."""
    info: FieldInfo | None = None
    for part in loc:
        if info is not None:
            kind = next(iter(_models(info.annotation)), kind)
        info = kind.model_fields.get(str(part)) if isinstance(part, str) else info
    return kind, info


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _message(detail: ErrorDetails) -> str:
    say = _TEXTS.get(detail["type"])
    if say is None:
        return f"{detail['msg'][0].lower()}{detail['msg'][1:]}, got {toml(detail['input'])}"
    context: dict[str, Any] = {"message": detail["msg"], **detail.get("ctx", {})}
    return say(detail["input"], context)


def _said(_: object, context: Mapping[str, Any]) -> str:
    return str(context["message"]).removeprefix("Value error, ")


def _not_among(found: object, context: Mapping[str, Any]) -> str:
    words = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
    close = get_close_matches(found, words, n=1) if isinstance(found, str) else []
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"expected {context['expected']}, got {toml(found)}{hint}"


def _no_match(found: object, context: Mapping[str, Any]) -> str:
    if str(context["pattern"]).startswith("^opc"):
        return f"{toml(found)} is not an address such as 'opc.tcp://127.0.0.1:4840'"
    return f"{toml(found)} is not a name: use letters, digits, '_' and '-'"


def _empty(*_: object) -> str:
    return "must not be empty"


_TEXTS: Mapping[str, Callable[[object, Mapping[str, Any]], str]] = {
    "value_error": _said,
    "quantity": _said,
    "enum": _not_among,
    "literal_error": _not_among,
    "greater_than_equal": lambda found, context: f"{found} is out of range, expected at least {context['ge']}",
    "less_than_equal": lambda found, context: f"{found} is out of range, expected at most {context['le']}",
    "string_pattern_mismatch": _no_match,
    "string_too_short": _empty,
    "too_short": _empty,
    "string_type": lambda found, _: f"expected a text, got {toml(found)}",
    "int_type": lambda found, _: f"expected a whole number, got {toml(found)}",
    "bool_type": lambda found, _: f"expected true or false, got {toml(found)}",
    "dict_type": lambda found, _: f"expected a table, got {toml(found)}",
    "model_type": lambda found, _: f"expected a table, got {toml(found)}",
    "tuple_type": lambda found, _: f"expected a list, got {toml(found)}",
}
