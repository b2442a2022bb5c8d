"""From a TOML document to the models of its tables.

Each table is read by itself, so that one bad table does not hide the mistakes of another: the model of a bad table is None
in the draft, its raw keys are still there for the checks of references.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gateway.config import model
from gateway.config.messages import missing, problems
from gateway.config.quantities import toml
from gateway.toml_lines import join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from gateway.errors import Problem
    from gateway.toml_lines import LineIndex

T = TypeVar("T", bound=BaseModel)
T_co = TypeVar("T_co", bound=BaseModel, covariant=True)


@dataclass(frozen=True, slots=True)
class Entry(Generic[T_co]):
    """One table of the file: where it stands, its raw keys, and its model; None when it has mistakes."""

    path: str
    raw: Mapping[str, object]
    table: T_co | None

    @property
    def id(self) -> str:
        """Its id as written; empty when there is none."""
        value = self.raw.get("id")
        return value if isinstance(value, str) else ""

    def text(self, key: str) -> str | None:
        """A key's text as written; None when there is none."""
        value = self.raw.get(key)
        return value if isinstance(value, str) else None


@dataclass(slots=True)
class Draft:
    """What could be read of a site file, and what is wrong with it so far."""

    index: LineIndex
    site: Entry[model.SiteTable]
    transports: tuple[Entry[model.TransportTable], ...]
    devices: tuple[Entry[model.DeviceTable], ...]
    strings: tuple[Entry[model.StringTable], ...]
    grid: Entry[model.GridTable] | None
    opcua: Entry[model.OpcuaTable] | None
    schedules: tuple[Entry[model.ScheduleTable], ...]
    problems: list[Problem] = field(default_factory=list["Problem"])

    def note(self, path: str, key: str, text: str) -> None:
        """Note a mistake at a key of the table at `path`; an empty key is the table itself."""
        self.problems.append(self.index.problem(join_path(path, key), text))


def join_path(path: str, key: str) -> str:
    """The path of a dotted key below a table; the table's own for an empty key."""
    for part in key.split(".") if key else ():
        path = join(path, part)
    return path


def read(document: Mapping[str, object], index: LineIndex) -> Draft:
    """Every table of the document, and every mistake that can be seen in one table alone."""
    reader = _Reader(document, index)
    reader.problems += index.unknown("", document, model.SiteFile.model_fields)
    draft = Draft(
        index=index,
        site=reader.one("site", model.SiteTable),
        transports=reader.many("transport", model.TransportTable),
        devices=reader.many("device", model.DeviceTable),
        strings=reader.many("string", model.StringTable),
        grid=reader.one("grid", model.GridTable) if "grid" in document else None,
        opcua=reader.one("opcua", model.OpcuaTable) if "opcua" in document else None,
        schedules=reader.many("schedule", model.ScheduleTable, required=False),
    )
    draft.problems += reader.problems
    return draft


class _Reader:
    """Reads the tables of one document and collects their mistakes."""

    def __init__(self, document: Mapping[str, object], index: LineIndex) -> None:
        self._document = document
        self._index = index
        self.problems: list[Problem] = []

    def one(self, key: str, kind: type[T]) -> Entry[T]:
        value = self._document.get(key)
        if isinstance(value, dict):
            return self._entry(key, cast("dict[str, object]", value), kind)
        self._note(key, missing(_field(key)) if value is None else f"expected a [{key}] table, got {toml(value)}")
        return Entry(key, {}, None)

    def many(self, key: str, kind: type[T], *, required: bool = True) -> tuple[Entry[T], ...]:
        value = self._document.get(key)
        if value is None or value == []:
            if required:
                self._note(key, missing(_field(key)))
            return ()
        items = cast("list[object]", value if isinstance(value, list) else [])
        if not items or not all(isinstance(item, dict) for item in items):
            self._note(key, f"expected [[{key}]] tables, got {toml(cast('object', value))}")
            return ()
        tables = cast("list[dict[str, object]]", items)
        return tuple(self._entry(join(key, number), table, kind) for number, table in enumerate(tables))

    def _entry(self, path: str, table: dict[str, object], kind: type[T]) -> Entry[T]:
        try:
            return Entry(path, table, kind.model_validate(table))
        except ValidationError as error:
            self.problems += problems(error, path, kind, self._index)
            return Entry(path, table, None)

    def _note(self, key: str, text: str) -> None:
        self.problems.append(self._index.problem(key, text))


def _field(key: str) -> FieldInfo:
    return model.SiteFile.model_fields[key]
