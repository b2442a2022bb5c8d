"""Quantities as people write them: "3.65 V", "100 ms", "C/20", "25 degC", "1 degC/min".

The registry holds the units of this trade and no others, so that a typing mistake is not a valid unit of some other
trade (with all units of the world, "5 mA h" and "5 C" would be accepted as something). Prefixes: u, m, k, M. `degC` alone
is a temperature; inside a rate ("degC/min"), and where `K` is wanted, it is a difference.
"""

from __future__ import annotations

import math
import re
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFINITIONS = (
    "micro- = 1e-6 = u-",
    "milli- = 1e-3 = m-",
    "kilo- = 1e3 = k-",
    "mega- = 1e6 = M-",
    "volt = [voltage] = V",
    "ampere = [current] = A",
    "second = [time] = s",
    "minute = 60 * second = min",
    "hour = 3600 * second = h",
    "day = 86400 * second = d",
    "kelvin = [temperature]; offset: 0 = K",
    "degC = kelvin; offset: 273.15",
    "cell = [cell]",
    "radian = []",
    "@alias radian = rad",
    "percent = 0.01",
    "hertz = 1 / second = Hz",
    "watt = volt * ampere = W",
    "voltampere = volt * ampere = VA",
    "var = volt * ampere",
    "ampere_hour = ampere * hour = Ah",
    "watt_hour = watt * hour = Wh",
    "ohm = volt / ampere",
    "@alias ohm = Ohm",
    "farad = ampere * second / volt = F",
    "pascal = [pressure] = Pa",
    "henry = volt * second / ampere = H",
)
"""Unit definitions in pint's own language (SI Brochure, 9th edition, tables 2, 4, 7 and 8)."""

UNITS: Mapping[str, tuple[str, str]] = {
    "V": ("a voltage", "3.65 V"),
    "mV": ("a voltage", "5 mV"),
    "A": ("a current", "5 A"),
    "mA": ("a current", "500 mA"),
    "W": ("a power", "75 W"),
    "kW": ("a power", "5 kW"),
    "VA": ("a power", "75 VA"),
    "var": ("a power", "75 var"),
    "Ah": ("a charge", "25 Ah"),
    "Wh": ("an energy", "320 Wh"),
    "kWh": ("an energy", "5 kWh"),
    "s": ("a time", "30 s"),
    "ms": ("a time", "100 ms"),
    "min": ("a time", "30 min"),
    "h": ("a time", "8 h"),
    "degC": ("a temperature", "25 degC"),
    "K": ("a temperature difference", "5 K"),
    "%": ("a ratio", "80 %"),
    "Hz": ("a frequency", "50 Hz"),
    "kHz": ("a frequency", "100 kHz"),
    "A/s": ("a rate of change of current", "2 A/s"),
    "V/s": ("a rate of change of voltage", "5 mV/min"),
    "W/s": ("a rate of change of power", "10 W/s"),
    "degC/s": ("a rate of change of temperature", "1 degC/min"),
    "V/K/cell": ("a temperature coefficient per cell", "-4 mV/K/cell"),
    "ohm": ("a resistance", "0.1 ohm"),
    "mohm": ("a resistance", "3.5 mohm"),
    "F": ("a capacitance", "2 mF"),
    "H": ("an inductance", "1.33 uH"),
    "Pa": ("a pressure", "100 kPa"),
    "rad": ("an angle", "0.5 rad"),
}
"""The spellings that points and maps may use: what such a quantity is called, and an example."""

_QUANTITY = re.compile(r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>\D.*?)?\s*", re.ASCII)
_C_RATE = re.compile(r"\s*(?:(?P<times>\d+\.?\d*|\.\d+)?\s*C|C\s*/\s*(?P<over>\d+\.?\d*|\.\d+))\s*", re.ASCII)
_UNIT = re.compile(r"[A-Za-z%]+(?:\s*[*/]\s*[A-Za-z%]+)*", re.ASCII)
_TYPOGRAPHY = str.maketrans({"µ": "u", "μ": "u", "Ω": "Ohm", "\u2126": "Ohm", "·": "*"})


def unit_known(unit: str) -> bool:
    """True when a point may carry this unit, in exactly this spelling; the empty text is a plain number."""
    return not unit or unit in UNITS


def expected(unit: str) -> str:
    """What to ask a person for: "a voltage such as '3.65 V'"."""
    if not unit:
        return "a plain number"
    name, example = UNITS.get(unit, (f"a quantity in {unit}", f"1 {unit}"))
    return f"{name} such as '{example}'"


def shown(value: float, unit: str) -> str:
    """The quantity as a person writes it, with at most six significant digits: "3.65 V"."""
    return f"{value:.6g} {unit}".rstrip()


def quantity(text: str, unit: str, *, capacity_Ah: float | None = None) -> float:
    """The number of `unit` that a text such as "3.65 V", "100 ms" or "C/20" stands for.

    C-rates are currents and need the rated capacity. Where `unit` is "degC" only a temperature in degC is taken, where it
    is "K" a difference in K or degC. Raises ValueError with a sentence for people: not a quantity, no unit, unknown unit,
    another dimension, a C-rate without a capacity.
    """
    rate = c_rate(text)
    if rate is not None:
        return _from_c_rate(text, rate, unit, capacity_Ah)
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"'{text}' is not a quantity, expected {expected(unit)}")
    number = float(match["number"])
    if not math.isfinite(number):
        raise ValueError(f"'{text}' is too large for a number")
    written = " ".join((match["unit"] or "").replace("°", "deg").translate(_TYPOGRAPHY).split())
    if not written:
        if unit:
            raise ValueError(f"'{text}' has no unit, expected {expected(unit)}")
        return number
    return _convert(number, _factor(text, written, unit))


def c_rate(text: str) -> float | None:
    """The C-rate that a text such as "C/20", "0.5C" or "1 C" stands for, per hour; None when it is no C-rate."""
    match = _C_RATE.fullmatch(text)
    if not match:
        return None
    if match["over"] is not None:
        over = float(match["over"])
        if over == 0.0:
            raise ValueError(f"'{text}' divides by zero")
        return 1.0 / over
    return float(match["times"] or 1.0)


def _from_c_rate(text: str, rate: float, unit: str, capacity_Ah: float | None) -> float:
    if dimension(unit) != dimension("A"):
        raise ValueError(f"'{text}' is a current (C-rate), expected {expected(unit)}")
    if capacity_Ah is None:
        raise ValueError(f"'{text}' is a C-rate, but there is no rated capacity here; write a current such as '5 A'")
    return rate * capacity_Ah * _factor(text, "A", unit)


def _convert(number: float, factor: float) -> float:
    """Times the factor; by way of the inverse where that is the exact number, so that "3 mV" is 0.003."""
    inverse = 1.0 / factor
    return number / round(inverse) if factor < 1.0 and math.isclose(inverse, round(inverse), rel_tol=1e-12) else number * factor


def _factor(text: str, written: str, unit: str) -> float:
    """The factor from the written unit to the wanted one."""
    have = dimension(written) if _UNIT.fullmatch(written) else None
    if have is None:
        raise ValueError(f"unknown unit '{written}' in '{text}'{_suggestion(written)}, expected {expected(unit)}")
    want = dimension(unit)
    if {written, unit} == {"degC", "K"} and unit == "K":
        return 1.0
    if have != want or (unit == "degC") != (written == "degC"):
        raise ValueError(f"'{text}' is {_name(written)}, expected {expected(unit)}")
    return _scale(written) / _scale(unit)


def _suggestion(written: str) -> str:
    """Spelling help for a unit that differs from a known one in case only."""
    close = [known for known in UNITS if known.lower() == written.lower()]
    return f" (did you mean '{close[0]}'?)" if close else ""


def _name(written: str) -> str:
    """What a quantity in this unit is called."""
    if written == "degC":
        return "a temperature"
    found = dimension(written)
    names = [name for known, (name, _) in UNITS.items() if known != "degC" and dimension(known) == found]
    return names[0] if names else f"in {written}"


@cache
def dimension(unit: str) -> str | None:
    """A text that is equal for units that can be converted into each other; None for an unknown unit."""
    if not unit:
        return ""
    try:
        found = _registry().get_dimensionality(_for_pint(unit))
    except (AttributeError, TypeError, ValueError):  # what pint's own errors derive from
        return None
    # a ratio and an angle are both without dimension, but nobody means one by the other
    special = {"%": "%", "rad": "rad"}.get(unit)
    return special or " ".join(f"{name}^{power:g}" for name, power in sorted(found.items()))


@cache
def _scale(unit: str) -> float:
    """The unit in base units; 1 for degC, which only ever meets itself."""
    if unit in {"", "degC"}:
        return 1.0
    factor, _ = _registry().get_base_units(_for_pint(unit))
    return factor


def _for_pint(unit: str) -> str:
    """Pint's spelling: in a rate, degC is a difference; the per cent sign is a word."""
    return re.sub(r"\bdegC\b", "kelvin", unit).replace("%", "percent")


class _Registry(Protocol):
    """What we use of pint.UnitRegistry, whose own annotations are partly unknown."""

    def get_dimensionality(self, input_units: str) -> Mapping[str, float]: ...

    def get_base_units(self, input_units: str) -> tuple[float, object]: ...


@cache
def _registry() -> _Registry:
    """The registry, made at first use: importing pint takes a quarter of a second that most verbs need not pay."""
    return cast("_Registry", import_module("pint").UnitRegistry(_DEFINITIONS, on_redefinition="raise"))
