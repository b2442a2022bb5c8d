import re

import pytest

from gateway.protocols.conditions import SIGNALS, Comparison, holds, parse
from gateway.units import quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cell_voltage_max >= 3.6 V", Comparison("cell_voltage_max", ">=", "3.6 V")),
        ("  current<=C/50 ", Comparison("current", "<=", "C/50")),
        ("soc > $target", Comparison("soc", ">", "$target")),
        ("dv_dt <= -5  mV/min", Comparison("dv_dt", "<=", "-5 mV/min")),
    ],
)
def test_a_condition_is_signal_comparison_quantity(text: str, expected: Comparison) -> None:
    assert parse(text) == expected


def test_the_shown_text_has_single_spaces() -> None:
    assert parse("current<=C/50").text == "current <= C/50"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("full", "'full' is not a condition; write signal, comparison, quantity, such as \"cell_voltage_max >= 3.6 V\""),
        ("cell_voltage_max >=", "'cell_voltage_max >=' is not a condition"),
        ("voltage >= 3 V", "unknown signal 'voltage'; known signals: cell_voltage_max, "),
        ("soc == 80 %", "'==' never holds exactly on a measured value; use one of >=, <=, >, <"),
    ],
)
def test_a_mistake_is_told_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)


@pytest.mark.parametrize("op", [">=", "<=", ">", "<"])
def test_not_a_number_satisfies_nothing(op: str) -> None:
    assert not holds(op, float("nan"), 1.0)


def test_every_signal_example_is_a_quantity_of_its_unit() -> None:
    for signal in SIGNALS.values():
        quantity(signal.example, signal.unit, capacity_Ah=25.0)
