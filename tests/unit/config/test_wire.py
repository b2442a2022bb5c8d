"""How long readings take on their lines, against figures worked out by hand."""

from __future__ import annotations

import pytest

from gateway import data
from gateway.config.wire import Line, Load, load_of, shortest_period_s, step_up_s
from gateway.field.device_map import load_map

ORION = load_map(data.maps_dir() / "orion_jr.toml")
CONTROLCARD = load_map(data.maps_dir() / "dab_controlcard.toml")


def test_a_character_has_its_start_parity_and_stop_bits() -> None:
    assert Line(kind="serial", baud=9600, parity="E").character_s == pytest.approx(11 / 9600)
    assert Line(kind="modbus_rtu", baud=115200).character_s == pytest.approx(10 / 115200)
    assert Line(kind="modbus_rtu", baud=9600, parity="N", stop_bits=2).character_s == pytest.approx(11 / 9600)


def test_the_cell_block_and_current_of_an_orion_take_about_a_tenth_of_a_second() -> None:
    # 11 bits a character at 9600 baud: cells ":0322F100\n" and 26 characters back, current 10 and 14; 10 ms thinking each
    characters = (10 + 26) + (10 + 14)
    load = load_of(ORION, 4, Line(kind="serial", baud=9600, parity="E"))
    assert load.fast_s == pytest.approx(characters * 11 / 9600 + 0.020)
    assert 0.08 < load.fast_s < 0.15


def test_a_controlcard_poll_and_write_take_about_a_tenth_of_a_second_at_9600_baud() -> None:
    load = load_of(CONTROLCARD, 0, Line(kind="modbus_rtu", baud=9600))
    assert load.fast_s + load.write_s == pytest.approx(0.127, abs=0.002)
    fast = load_of(CONTROLCARD, 0, Line(kind="modbus_rtu", baud=115200))
    assert fast.fast_s + fast.write_s < 0.02


def test_more_devices_on_a_line_need_a_longer_period() -> None:
    load = Load(fast_s=0.05, slow_s=0.0, write_s=0.01)
    assert shortest_period_s([load]) == pytest.approx(0.06 / 0.9)
    assert shortest_period_s([load, load]) == pytest.approx(0.12 / 0.9)
    assert shortest_period_s([load], slow_share=0.4) == pytest.approx(0.06 / 0.5)


def test_periods_are_chosen_from_the_usual_steps() -> None:
    assert [step_up_s(period) for period in (0.01, 0.1, 0.11, 0.3, 12.0)] == [0.02, 0.1, 0.2, 0.5, 12.0]
