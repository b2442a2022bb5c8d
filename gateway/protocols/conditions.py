"""The one piece of text in a protocol that we parse ourselves: `signal op quantity`.

Signals are what a battery engineer watches. All are in the units of SIGNALS; `current` is a magnitude in the step's
direction, so that a taper end can be true neither by sign nor by a pause. Nothing here does I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Signal:
    """A quantity that an end condition may watch. `rises` and `falls` say in plain English what a comparison waits for."""

    unit: str
    example: str
    rises: str
    falls: str


SIGNALS: Mapping[str, Signal] = {
    "cell_voltage_max": Signal("V", "3.6 V", "the highest cell reaches", "the highest cell falls to"),
    "cell_voltage_min": Signal("V", "2.8 V", "the lowest cell reaches", "the lowest cell falls to"),
    "cell_voltage_mean": Signal("V", "3.4 V", "the mean cell voltage reaches", "the mean cell voltage falls to"),
    "cell_voltage_spread": Signal("V", "50 mV", "the cell spread reaches", "the cell spread falls to"),
    "pack_voltage": Signal("V", "14.1 V", "the pack reaches", "the pack falls to"),
    "current": Signal("A", "C/50", "the current reaches", "the current falls to"),
    "step_time": Signal("s", "30 min", "", ""),
    "step_charge": Signal("Ah", "10 Ah", "the step has moved", "the step has moved at most"),
    "step_energy": Signal("Wh", "100 Wh", "the step has moved", "the step has moved at most"),
    "soc": Signal("%", "80 %", "the state of charge reaches", "the state of charge falls to"),
    "temperature_max": Signal("degC", "45 degC", "the hottest sensor reaches", "the hottest sensor falls to"),
    "temperature_rise": Signal("K", "5 K", "the hottest sensor has risen by", "the hottest sensor has risen by at most"),
    "dv_dt": Signal("V/min", "-5 mV/min", "the mean cell voltage rises by", "the mean cell voltage changes by at most"),
}
"""`dv_dt` is the slope of the mean cell voltage; `step_*` count from the start of the step."""

STEP_SIGNALS = frozenset({"step_time", "step_charge", "step_energy"})
"""Signals that the engine counts itself, in site time."""

OPERATORS = (">=", "<=", ">", "<")
_ITEM = re.compile(r"\s*(?P<signal>\w+)\s*(?P<op>>=|<=|==|!=|>|<|=)\s*(?P<quantity>[^\s=].*?)\s*")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A parsed end condition; the quantity is still text, perhaps a "$parameter"."""

    signal: str
    op: str
    quantity: str

    @property
    def text(self) -> str:
        """The condition as it is shown in results: single spaces."""
        return f"{self.signal} {self.op} {self.quantity}"


def parse(text: str) -> Comparison:
    """Parse "cell_voltage_max >= 3.6 V". Raises ValueError with a sentence that says what to write instead."""
    found = _ITEM.fullmatch(text)
    if found is None:
        msg = f"'{text}' is not a condition; write signal, comparison, quantity, such as \"cell_voltage_max >= 3.6 V\""
        raise ValueError(msg)
    signal, op = found["signal"], found["op"]
    if signal not in SIGNALS:
        msg = f"unknown signal '{signal}'; known signals: {', '.join(sorted(SIGNALS))}"
        raise ValueError(msg)
    if op not in OPERATORS:
        msg = f"'{op}' never holds exactly on a measured value; use one of {', '.join(OPERATORS)}"
        raise ValueError(msg)
    return Comparison(signal, op, " ".join(found["quantity"].split()))


def holds(op: str, value: float, bound: float) -> bool:
    """Whether `value op bound`; False for NaN."""
    if op == ">=":
        return value >= bound
    if op == "<=":
        return value <= bound
    return value > bound if op == ">" else value < bound


def is_upward(op: str) -> bool:
    """True when the comparison waits for a rising value."""
    return op.startswith(">")
