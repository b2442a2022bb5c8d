"""TOML files whose mistakes can be named by line: the parsed table, and on which line each key stands.

The standard parser does the parsing; the scanner here only walks text that it has accepted, to find positions. Paths are
written as people read them: "string[0].limits.cell_voltage_max"; arrays count from 0, keys that are not bare are quoted.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gateway.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' + r"|'''.*?'{3,5}(?!')" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'",
    re.DOTALL,
)
_ERROR_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class LineIndex:
    """Where the keys of one file stand. `file` is the name used in problems."""

    file: str
    lines: Mapping[str, int]

    def line(self, key: str) -> int:
        """The line of a dotted path, from 1; of its nearest ancestor when the key itself is not there, and 1 when none is."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = parent(key)
        return 1

    def problem(self, key: str, text: str) -> Problem:
        """A mistake at this key."""
        return Problem(self.file, self.line(key), key, text)

    def unknown(self, path: str, table: Mapping[str, object], known: Iterable[str]) -> list[Problem]:
        """A problem for every key of `table` (which stands at `path`) that is not among the known ones."""
        names = sorted(known)
        return [self.problem(join(path, key), unknown_key(key, names)) for key in table if key not in names]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say about a key that does not exist: the closest known one, or all of them."""
    names = sorted(known)
    close = get_close_matches(key, names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(names)}"
    return f"unknown key '{key}'; {hint}"


def join(path: str, key: str | int) -> str:
    """The path of a key of the table, or of an element of the array, that stands at `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    name = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{name}" if path else name


def parent(path: str) -> str:
    """The path of the table or array that holds this one; empty for the document."""
    cut = re.fullmatch(r'(.*?)(?:\[\d+\]|(?:^|\.)(?:"(?:[^"\\]|\\.)*"|[^."\[\]]*))', path, re.DOTALL)
    return cut.group(1) if cut else ""


def load_toml(path: Path, name: str | None = None) -> tuple[dict[str, Any], LineIndex]:
    """The table in a TOML file, and its line index.

    `name` is the file name to be used in problems, by default the path as given. Raises ConfigError when the file cannot
    be read, is not UTF-8 or is not TOML.
    """
    file = name if name is not None else str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(file, 0, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(file, 0, "", f"is not UTF-8 text (byte {error.start})")]) from error
    return parse_toml(text, file)


def parse_toml(text: str, file: str) -> tuple[dict[str, Any], LineIndex]:
    """The same for text that is already in memory; `file` is only named in problems."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = _ERROR_LINE.search(message)
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise ConfigError([Problem(file, line, "", f"is not valid TOML: {message}")]) from error
    return table, LineIndex(file, _Scanner(text).document())


class _Scanner:
    """Walks valid TOML and notes the line of every key, table header and array element."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [match.end() for match in re.finditer("\n", text)]
        self._lines: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def document(self) -> dict[str, int]:
        table = ""
        while self._skip(_BLANK) < len(self._text):
            table = self._header() if self._text[self._at] == "[" else self._pair(table)
        return self._lines

    def _header(self) -> str:
        line = self._line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        keys = self._keys()
        self._at += 2 if is_array else 1
        path = ""
        for key in keys[:-1]:
            path = self._last_element(join(path, key))
        path = join(path, keys[-1])
        if is_array:
            self._note(path, line)
            self._counts[path] = self._counts.get(path, 0) + 1
            path = self._last_element(path)
        self._note(path, line)
        return path

    def _last_element(self, path: str) -> str:
        return join(path, self._counts[path] - 1) if path in self._counts else path

    def _pair(self, table: str) -> str:
        """One `key = value`; gives the table back."""
        line = self._line()
        path = table
        for key in self._keys():
            path = join(path, key)
            self._note(path, line)
        self._at += 1  # the equals sign
        self._value(path)
        return table

    def _keys(self) -> list[str]:
        """A dotted key; leaves the position at what follows it."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            keys.append(self._key())
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _key(self) -> str:
        start = self._at
        if self._text[start] in "\"'":
            self._skip(_STRING)
            quoted = self._text[start : self._at]
            return str(tomllib.loads(f"k = {quoted}")["k"])
        self._skip(_BARE_KEY)
        return self._text[start : self._at]

    def _value(self, path: str) -> None:
        self._skip(_SPACE)
        opening = self._text[self._at]
        if opening in "\"'":
            self._skip(_STRING)
        elif opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: str) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_BLANK)] != "]":
            self._note(join(path, index), self._line())
            self._value(join(path, index))
            index += 1
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: str) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            self._pair(path)
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _line(self) -> int:
        return bisect_right(self._starts, self._at) + 1

    def _note(self, path: str, line: int) -> None:
        self._lines.setdefault(path, line)
