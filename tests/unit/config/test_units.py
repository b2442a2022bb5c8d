"""Quantities as people write them, and what they are told when they write them wrong."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.units import UNITS, c_rate, dimension, expected, quantity, shown, unit_known


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("3.65 V", "V", 3.65),
        ("3.65V", "V", 3.65),
        (" 3650 mV ", "V", 3.65),
        ("3 mV", "V", 0.003),
        ("1e-3 kV", "V", 1.0),
        (".5 A", "A", 0.5),
        ("-5 A", "A", -5.0),
        ("100 ms", "s", 0.1),
        ("30 min", "s", 1800.0),
        ("10 minutes", "s", 600.0),
        ("8 h", "s", 28800.0),
        ("1 day", "s", 86400.0),
        ("2 h", "min", 120.0),
        ("25 Ah", "Ah", 25.0),
        ("2500 mAh", "Ah", 2.5),
        ("1 kWh", "Wh", 1000.0),
        ("80 %", "%", 80.0),
        ("25 degC", "degC", 25.0),
        ("25 °C", "degC", 25.0),
        ("-10 degC", "degC", -10.0),
        ("5 K", "K", 5.0),
        ("5 degC", "K", 5.0),
        ("1 degC/min", "degC/s", 1 / 60),
        ("1 K/min", "degC/s", 1 / 60),
        ("-4 mV/K/cell", "V/K/cell", -0.004),
        ("5 mV/min", "V/s", 5e-3 / 60),
        ("2 A/s", "A/s", 2.0),
        ("3.5 mΩ", "ohm", 0.0035),
        ("1.33 µH", "H", 1.33e-6),
        ("60 Hz", "Hz", 60.0),
        ("100 kHz", "Hz", 1e5),
        ("7", "", 7.0),
    ],
)
def test_quantities_convert(text: str, unit: str, value: float) -> None:
    assert quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("text", "amperes"), [("C/20", 1.25), ("0.5C", 12.5), ("0.2 C", 5.0), ("1C", 25.0), ("C", 25.0)])
def test_a_c_rate_is_a_current_of_the_rated_capacity(text: str, amperes: float) -> None:
    assert quantity(text, "A", capacity_Ah=25.0) == pytest.approx(amperes)
    assert quantity(text, "mA", capacity_Ah=25.0) == pytest.approx(1000 * amperes)
    rate = c_rate(text)
    assert rate is not None
    assert rate * 25.0 == pytest.approx(amperes)


@pytest.mark.parametrize("text", ["5 A", "25 degC", "", "CC", "C/", "/20"])
def test_what_is_no_c_rate(text: str) -> None:
    assert c_rate(text) is None


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("3.65 A", "V", "'3.65 A' is a current, expected a voltage such as '3.65 V'"),
        ("25 degC", "V", "'25 degC' is a temperature, expected a voltage such as '3.65 V'"),
        ("5 K", "degC", "'5 K' is a temperature difference, expected a temperature such as '25 degC'"),
        ("3 V", "V/s", "'3 V' is a voltage, expected a rate of change of voltage such as '5 mV/min'"),
        ("25 A", "Ah", "'25 A' is a current, expected a charge such as '25 Ah'"),
        ("0.5 rad", "%", "'0.5 rad' is an angle, expected a ratio such as '80 %'"),
        ("80 %", "", "'80 %' is a ratio, expected a plain number"),
        ("3 V*V", "V", "'3 V*V' is in V*V, expected a voltage such as '3.65 V'"),
        ("3.65", "V", "'3.65' has no unit, expected a voltage such as '3.65 V'"),
        ("3.65 v", "V", "unknown unit 'v' in '3.65 v' (did you mean 'V'?), expected a voltage such as '3.65 V'"),
        ("5 coulomb", "Ah", "unknown unit 'coulomb' in '5 coulomb', expected a charge such as '25 Ah'"),
        ("3 V/", "V", "unknown unit 'V/' in '3 V/', expected a voltage such as '3.65 V'"),
        ("five V", "V", "'five V' is not a quantity, expected a voltage such as '3.65 V'"),
        ("", "V", "'' is not a quantity, expected a voltage such as '3.65 V'"),
        ("inf V", "V", "'inf V' is not a quantity, expected a voltage such as '3.65 V'"),
        ("1e999 V", "V", "'1e999 V' is too large for a number"),
        ("C/20", "V", "'C/20' is a current (C-rate), expected a voltage such as '3.65 V'"),
        ("C/20", "A", "'C/20' is a C-rate, but there is no rated capacity here; write a current such as '5 A'"),
        ("C/0", "A", "'C/0' divides by zero"),
    ],
)
def test_a_wrong_quantity_says_what_it_is_and_what_was_expected(text: str, unit: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantity(text, unit)


@given(st.sampled_from(sorted(UNITS)), st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False))
def test_a_number_with_its_unit_reads_back(unit: str, value: float) -> None:
    assert quantity(f"{value!r} {unit}", unit) == value


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(min_value=1e-3, max_value=1e6))
def test_there_and_back_is_the_same_and_other_dimensions_are_refused(one: str, other: str, value: float) -> None:
    convertible = dimension(one) == dimension(other) and "degC" not in {one, other}
    if convertible:
        there = quantity(f"{value!r} {one}", other)
        assert quantity(f"{there!r} {other}", one) == pytest.approx(value, rel=1e-9)
    elif one != other and (one, other) != ("degC", "K"):
        with pytest.raises(ValueError, match="expected"):
            quantity(f"{value!r} {one}", other)


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_a_sentence(text: str) -> None:
    try:
        found: float | str = quantity(text, "V")
    except ValueError as error:
        found = str(error)
    assert isinstance(found, float) or text in found


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_unit_has_an_example_that_reads(unit: str) -> None:
    assert unit_known(unit)
    assert dimension(unit) is not None
    assert quantity(UNITS[unit][1], unit) != 0.0
    assert UNITS[unit][1] in expected(unit)


@pytest.mark.parametrize("unit", ["volt", "v", "Volts", "degc", "foo", " V"])
def test_only_the_canonical_spelling_is_known(unit: str) -> None:
    assert not unit_known(unit)


def test_shown_is_how_a_person_writes_it() -> None:
    assert shown(3.65, "V") == "3.65 V"
    assert shown(1800.0, "s") == "1800 s"
    assert shown(0.5, "") == "0.5"
