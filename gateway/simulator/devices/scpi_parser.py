"""SCPI headers and numbers: IEEE 488.2 and SCPI-1999 volume 1, chapters 6 and 7, as far as a power supply needs them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


class ScpiError(Exception):
    """A command failed with a number of the error queue."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"{number},{ERRORS.get(number, 'Error')}")


ERRORS: dict[int, str] = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -131: "Invalid suffix",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}
"""SCPI-1999 volume 2, chapter 21."""


def pattern(header: str) -> re.Pattern[str]:
    """The pattern that a header such as "OUTPut[:STATe]" matches: long and short forms, optional nodes, any case."""
    text = ""
    for node in re.findall(r"\[:?[A-Za-z0-9]+:?\]|:?[*A-Za-z0-9]+", header):
        name = node.strip("[]:")
        short = "".join(letter for letter in name if not letter.islower())
        before, after = (":" if part.strip("[]")[:1] == ":" else "" for part in (node, node.strip("[]")[::-1]))
        form = f"{before}(?:{re.escape(name)}|{re.escape(short)}){after}"
        text += f"(?:{form})?" if node.startswith("[") else form
    return re.compile(rf"{text}\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unit:
    """One program message unit: a header with all its nodes, a query or not, its parameters."""

    header: str
    query: bool
    parameters: tuple[str, ...]


def units(line: str) -> list[Unit]:
    """The units of a line. A header after ';' continues at the level of the one before, unless it starts with ':' or '*'."""
    found: list[Unit] = []
    path = ""
    for part in line.split(";"):
        text = part.strip()
        if not text:
            continue
        if re.fullmatch(r"[\x20-\x7e]+", text) is None:
            raise ScpiError(-101)
        header, _, rest = text.partition(" ")
        if re.fullmatch(r"[:*]?[A-Za-z][A-Za-z0-9:]*\??", header) is None:
            raise ScpiError(-102)
        query = header.endswith("?")
        name = header.rstrip("?")
        if name.startswith(":"):
            name = name[1:]
        elif not name.startswith("*"):
            name = path + name
        if not name.startswith("*"):
            path = name[: name.rfind(":") + 1]
        parameters = tuple(item.strip() for item in rest.split(",")) if rest.strip() else ()
        found.append(Unit(name, query, parameters))
    return found


def boolean(text: str) -> bool:
    """ON, OFF, 1 or 0."""
    word = text.upper()
    if word in {"ON", "1"}:
        return True
    if word in {"OFF", "0"}:
        return False
    raise ScpiError(-224)


def number(text: str, low: float, high: float, suffixes: str = "") -> float:
    """A decimal number with an optional suffix, or MIN, MAX, INF; -222 outside low to high."""
    word = text.upper()
    if word in {"MIN", "MINIMUM"}:
        return low
    if word in {"MAX", "MAXIMUM", "INF", "INFINITY"}:
        return high
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)\s*([A-Z/]*)", word)
    if match is None:
        raise ScpiError(-102)
    scale = {"": 1.0, suffixes: 1.0, "M" + suffixes: 1e-3, "K" + suffixes: 1e3}.get(match[2])
    if scale is None:
        raise ScpiError(-131)
    value = float(match[1]) * scale
    if not low <= value <= high:
        raise ScpiError(-222)
    return value


def nr3(value: float) -> str:
    """A number as the instrument answers it, +2.40000E+01; 9.9E37 stands for infinity."""
    return f"{value:+.6E}" if math.isfinite(value) else "+9.900000E+37"
