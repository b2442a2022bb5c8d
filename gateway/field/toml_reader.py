"""Typed reading of one TOML table: every mistake is noted with its line, and reading goes on with a stand-in value.

The stand-in never escapes: a file with problems is refused as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard, TypeVar, cast

from gateway.toml_lines import LineIndex, join

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from enum import StrEnum

    from gateway.errors import Problem

    E = TypeVar("E", bound=StrEnum)
else:
    E = TypeVar("E")


def _no_problems() -> list[Problem]:
    return []


@dataclass(slots=True)
class TableReader:
    """Reads the keys of `table`, which stands at `path`; `defaults` are used for keys that are absent."""

    table: Mapping[str, object]
    path: str
    index: LineIndex
    problems: list[Problem] = field(default_factory=_no_problems)
    defaults: Mapping[str, object] = field(default_factory=dict[str, object])

    def note(self, key: str, text: str) -> None:
        """Note a mistake at a key of this table; an empty key is the table itself."""
        path = join(self.path, key) if key else self.path
        self.problems.append(self.index.problem(path, text))

    def has(self, key: str) -> bool:
        return key in self.table or key in self.defaults

    def get(self, key: str) -> object:
        return self.table.get(key, self.defaults.get(key))

    def known(self, keys: Iterable[str]) -> None:
        """Note every key that is none of these."""
        self.problems += self.index.unknown(self.path, self.table, keys)

    def require(self, key: str, why: str = "") -> bool:
        if not self.has(key):
            self.note(key, f"'{key}' is missing{why}")
            return False
        return True

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty; without a default the key is required."""
        if not self.has(key):
            if default is None:
                self.require(key)
            return default or ""
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            self.note(key, f"expected a text, got {shown(value)}")
            return default or ""
        return value

    def choice(self, key: str, kind: type[E], default: E | None = None) -> E:
        """One of the words of an enumeration; without a default the key is required."""
        words = [str(member) for member in kind if str(member)]
        if not self.has(key):
            if default is None:
                self.note(key, f"'{key}' is missing: one of {', '.join(words)}")
            return default if default is not None else next(iter(kind))
        value = self.get(key)
        if value not in words:
            self.note(key, f"expected one of {', '.join(words)}, got {shown(value)}")
            return default if default is not None else next(iter(kind))
        return kind(cast("str", value))

    def word(self, key: str, words: Iterable[str], default: str) -> str:
        """One of the given words."""
        value = self.get(key) if self.has(key) else default
        known = tuple(words)
        if value not in known:
            self.note(key, f"expected one of {', '.join(known)}, got {shown(value)}")
            return default
        return cast("str", value)

    def boolean(self, key: str, default: bool = False) -> bool:
        value = self.get(key) if self.has(key) else default
        if not isinstance(value, bool):
            self.note(key, f"expected true or false, got {shown(value)}")
            return default
        return value

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """A whole number within low..high; without a default the key is required."""
        if not self.has(key):
            if default is None:
                self.require(key)
            return low if default is None else default
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self.note(key, f"expected a whole number, got {shown(value)}")
        elif not low <= value <= high:
            self.note(key, f"{value} is outside {low} to {high}")
        else:
            return value
        return low if default is None else default

    def number(self, key: str, default: float | None = None) -> float | None:
        """A finite number, or the default when the key is absent."""
        if not self.has(key):
            return default
        value = self.get(key)
        if is_number(value):
            return float(value)
        self.note(key, f"expected a number, got {shown(value)}")
        return default

    def positive(self, key: str) -> float | None:
        """A number above 0, or None when the key is absent."""
        value = self.number(key)
        if value is not None and value <= 0:
            self.note(key, f"{value:g} is not above 0")
            return None
        return value

    def pair(self, key: str) -> tuple[float, float] | None:
        """`[low, high]` with low below high, or None when the key is absent."""
        if not self.has(key):
            return None
        value = self.get(key)
        items = as_list(value) or []
        if len(items) == 2 and is_number(items[0]) and is_number(items[1]) and items[0] < items[1]:
            return float(items[0]), float(items[1])
        self.note(key, f"expected [low, high] with low below high, got {shown(value)}")
        return None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty when the key is absent."""
        if not self.has(key):
            return ()
        items = as_list(self.get(key))
        if items is None or not all(isinstance(item, str) and item for item in items):
            self.note(key, f"expected a list of texts, got {shown(self.get(key))}")
            return ()
        return tuple(cast("list[str]", items))

    def sub_table(self, key: str) -> TableReader | None:
        """The table under a key, or None when it is absent or no table."""
        if not self.has(key):
            return None
        value = self.get(key)
        if not isinstance(value, dict):
            self.note(key, f"expected a table, got {shown(value)}")
            return None
        return TableReader(cast("dict[str, object]", value), join(self.path, key), self.index, self.problems)

    def tables(self, key: str, defaults: Mapping[str, object] | None = None) -> Iterator[TableReader]:
        """The tables of an array of tables."""
        if not self.has(key):
            return
        items = as_list(self.get(key))
        if items is None or not all(isinstance(item, dict) for item in items):
            self.note(key, f"expected [[{key}]] tables, got {shown(self.get(key))}")
            return
        for number, item in enumerate(cast("list[dict[str, object]]", items)):
            yield TableReader(item, join(join(self.path, key), number), self.index, self.problems, defaults or {})


def as_list(value: object) -> list[object] | None:
    """The value when it is a list, else None."""
    return cast("list[object]", value) if isinstance(value, list) else None


def is_number(value: object) -> TypeGuard[float]:
    """True for a finite int or float that is no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def shown(value: object) -> str:
    """A value as it reads in a TOML file, shortened."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
