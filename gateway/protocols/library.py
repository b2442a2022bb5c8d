"""Loading protocol files: every mistake at once, with file, line and key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gateway.errors import ConfigError, Problem
from gateway.protocols import lint, model
from gateway.protocols.build import TrackView, tracks
from gateway.protocols.salvage import further_mistakes
from gateway.toml_lines import LineIndex, join, load_toml, unknown_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class ChargeProtocol:
    """A loaded protocol that makes sense by itself; whether it suits a string is for `checks` to say.

    `id` is the file's own or its name without the suffix. `sha256` is that of the file's bytes, hexadecimal.
    """

    id: str
    document: model.ProtocolFile
    index: LineIndex
    sha256: str

    @property
    def file(self) -> str:
        """The name of the file as used in problems."""
        return self.index.file

    @property
    def title(self) -> str:
        """What the protocol is called."""
        return self.document.title

    @property
    def chemistry(self) -> tuple[str, ...]:
        """The chemistries it is for."""
        return self.document.chemistry

    @property
    def parameters(self) -> Mapping[str, model.Parameter]:
        """The values that may be chosen at the start."""
        return self.document.parameters

    @property
    def tracks(self) -> tuple[TrackView, ...]:
        """Its tracks; at least one."""
        return tracks(self.document)


def load_protocol(path: Path, name: str | None = None) -> ChargeProtocol:
    """Read and check a protocol file; `name` is the file name for problems, by default the path as given.

    Raises ConfigError with all problems.
    """
    table, index = load_toml(path, name)
    try:
        document = model.ProtocolFile.model_validate(table)
    except ValidationError as error:
        found = [_problem(detail, index) for detail in error.errors()]
        further = [index.problem(key, text) for key, text in further_mistakes(table, error.errors())]
        raise ConfigError(_in_order(found + further)) from error
    problems = [index.problem(key, text) for key, text in lint.mistakes(document)]
    if problems:
        raise ConfigError(_in_order(problems))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ChargeProtocol(document.id or path.stem, document, index, digest)


def library(*folders: Path) -> dict[str, ChargeProtocol]:
    """All protocols in some folders by id; a file replaces those of the same name in later folders.

    Raises ConfigError with the problems of all files, and for an id used twice.
    """
    files: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.toml"):
            files.setdefault(path.stem, path)
    found: dict[str, ChargeProtocol] = {}
    problems: list[Problem] = []
    for _, path in sorted(files.items()):
        try:
            protocol = load_protocol(path)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        if protocol.id in found:
            problems.append(protocol.index.problem("id", f"'{protocol.id}' is also the id of {found[protocol.id].file}"))
        found[protocol.id] = protocol
    if problems:
        raise ConfigError(problems)
    return found


def schema() -> dict[str, Any]:
    """The JSON schema of protocol files, for editors."""
    document = model.ProtocolFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": "bess-gateway charge protocol"}


def _in_order(problems: list[Problem]) -> list[Problem]:
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: problem.line)


def _problem(detail: ErrorDetails, index: LineIndex) -> Problem:
    """One pydantic error as a sentence at a TOML key."""
    loc = [part for part in detail["loc"] if part not in model.STEP_KINDS]
    kind = detail["type"]
    key = _path(loc)
    if kind == "extra_forbidden":
        owner = model_at(detail["loc"][:-1])
        return index.problem(key, unknown_key(str(loc[-1]), keys(owner)))
    if kind == "missing":
        owner = model_at(detail["loc"][:-1])
        field = next((f for n, f in owner.model_fields.items() if (f.alias or n) == loc[-1]), None)
        hint = f": {field.description}" if field is not None and field.description else ""
        return index.problem(key, f"is missing{hint}")
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return index.problem(join(key, "do"), _unknown_kind(detail["input"]))
    return index.problem(key, _message(detail))


def _unknown_kind(step: object) -> str:
    kinds = ", ".join(model.STEP_KINDS)
    if isinstance(step, dict) and "do" in step:
        return f"unknown step kind '{step['do']}'; known kinds: {kinds}"
    return f"is missing: what the step does, one of {kinds}"


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f'{detail["input"]} is a bare number; write a text with a unit, such as "5 A" or "30 min"'
    if detail["type"] == "string_pattern_mismatch":
        return f"'{detail['input']}' is not an identifier: letters, digits and underscores, a letter first"
    if detail["type"] == "literal_error":
        return f"'{detail['input']}' is not one of {detail['ctx']['expected']}" if "ctx" in detail else detail["msg"]
    return detail["msg"][0].lower() + detail["msg"][1:]


def _path(loc: list[int | str]) -> str:
    path = ""
    for part in loc:
        path = join(path, part)
    return path


def keys(table: type[model.BaseModel]) -> list[str]:
    """The keys that a table of the language may have."""
    return [field.alias or name for name, field in table.model_fields.items()]


def model_at(loc: tuple[int | str, ...]) -> type[model.BaseModel]:
    """The table that stands at a location of a validation error; step locations carry the step kind as well."""
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return model.ProtocolFile
    last = names[-1]
    if last in model.STEP_KINDS:
        return model.STEP_KINDS[last]
    if "until" in names:
        return model.EndCondition
    if len(names) > 1 and names[-2] in _TABLES_OF:
        return _TABLES_OF[names[-2]]
    return _TABLES.get(last, model.ProtocolFile)


_TABLES: Mapping[str, type[model.BaseModel]] = {
    "limits": model.Limits,
    "timeout": model.Timeout,
    "track": model.Track,
    "finally": model.Finally,
}
_TABLES_OF: Mapping[str, type[model.BaseModel]] = {"limits": model.Limit, "parameters": model.Parameter}
