"""The terminal view: what a spectator reads."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from gateway.demo_view import clock_text, number, picture, result_table


def drawn(what: RenderableType, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(what)
    return console.export_text()


def string(**changes: object) -> dict[str, object]:
    return {
        "id": "A",
        "title": "LiFePO4",
        "ready": True,
        "tripped": False,
        "first_out": "",
        "pack_voltage": 13.4,
        "current": -5.0,
        "soc": 90.0,
        "temperature_max": 25.0,
        "cell_voltage_max": 3.342,
        "cell_voltage_min": 3.34,
        "power": -67.0,
        "cells": [3.3405, 3.3421],
        "converter_mode": "current",
        "converter_current": -5.0,
        "run_state": "running",
        "run_protocol": "hybrid_charge",
        "run_step": "bulk",
        "run_nearest_end": "cell_voltage_max >= 3.6 V",
        "run_progress": 42.0,
        "run_step_elapsed": 754.0,
        **changes,
    }


def status(*strings: dict[str, object], **changes: object) -> dict[str, object]:
    return {
        "site": {"title": "Testbed", "state": "ready", "reason": "", "time_factor": 60.0},
        "grid": {"voltage": 24.01},
        "strings": list(strings) or [string()],
        "alarms": [],
        "trips": [],
        "endpoints": {"opcua": "opc.tcp://127.0.0.1:4840"},
        **changes,
    }


def text_of(*strings: dict[str, object], width: int = 100, **changes: object) -> str:
    return drawn(picture(status(*strings, **changes), ["12:00:01 run 1 started"], 3725.0), width)


class TestNumber:
    def test_a_good_value_has_its_unit(self) -> None:
        assert number(3.34056, 4, "V").plain == "3.3406 V"
        assert number(7, 1, "%").plain == "7.0 %"

    @pytest.mark.parametrize("value", [None, "13.4", float("nan"), float("inf"), True])
    def test_a_value_that_is_not_good_never_looks_like_a_number(self, value: object) -> None:
        shown = number(value, 2, "V").plain
        assert not any(character.isdigit() for character in shown)
        assert shown == "bad"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0:00:00"), (59.9, "0:00:59"), (3725.0, "1:02:05"), (-3.0, "0:00:00"), (360000.0, "100:00:00")]
)
def test_site_time_is_told_in_hours(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_picture_shows_what_the_plant_does(width: int) -> None:
    text = text_of(width=width)
    for words in (
        "Testbed", "ready", "24.01 V", "1:02:05", "60x", "string A", "LiFePO4", "13.40 V", "-5.00 A", "90.0 %", "cell 1",
        "3.3405 V", "3.3421 V", "hybrid_charge", "step bulk", "0:12:34", "run 1 started", "no alarms", "opc.tcp://127.0.0.1:4840",
    ):  # fmt: skip
        assert words in text, words
    assert all(len(line) <= width for line in text.splitlines())


def test_bad_values_are_told_as_bad() -> None:
    bad = dict.fromkeys(("pack_voltage", "soc", "power", "temperature_max", "converter_current", "converter_mode"))
    text = text_of(string(cells=[None, 3.3421], **bad), grid={"voltage": None})
    assert text.count("bad") == 7
    for number_of_a_good_one in ("13.40", "-5.00", "90.0 %", "3.3405", "24.01", "0.00 V", "0.0000"):
        assert number_of_a_good_one not in text


def test_a_progress_that_is_not_known_is_no_progress() -> None:
    assert drawn(picture(status(string(run_progress=None, run_step_elapsed=None)), [], 0.0))


def test_a_trip_is_told_instead_of_the_run() -> None:
    text = text_of(string(tripped=True, first_out="overtemperature"))
    assert "TRIPPED: overtemperature" in text
    assert "hybrid_charge" not in text


def test_a_string_that_is_not_ready_says_so() -> None:
    assert "not ready" in text_of(string(ready=False))


def test_a_string_without_a_run_says_so() -> None:
    assert "no run" in text_of(string(run_protocol="", run_state="idle"))


def test_active_alarms_are_shown_and_past_ones_not() -> None:
    alarms = [{"text": "cell 4 is weak", "active": True}, {"text": "bus was low", "active": False}]
    text = text_of(alarms=alarms)
    assert "alarms: cell 4 is weak" in text
    assert "bus was low" not in text


def test_what_is_wrong_with_the_processes_is_shown() -> None:
    text = drawn(picture(status(), [], 0.0, ["opcua is not running: it cannot listen"]))
    assert "opcua is not running: it cannot listen" in text


def test_foreign_text_is_shown_as_it_is() -> None:
    text = drawn(picture(status(string(title="[bold]x[/bold]")), ["event [red]y[/red] [/]"], 0.0, ["[z]"]))
    for words in ("[bold]x[/bold]", "event [red]y[/red] [/]", "[z]"):
        assert words in text


def test_only_the_newest_events_are_shown_one_line_each() -> None:
    text = drawn(picture(status(), [f"event {number} {'x' * 200}" for number in range(20)], 0.0))
    assert [number for number in range(20) if f"event {number} " in text] == [14, 15, 16, 17, 18, 19]
    assert all(len(line) <= 100 for line in text.splitlines())
    assert sum("xxx" in line for line in text.splitlines()) == 6


class TestResult:
    def test_a_step_has_its_end_value_and_time(self) -> None:
        steps = [
            {
                "id": "bulk",
                "ended_by": "cell_voltage_max >= 3.6 V",
                "value": 3.6003,
                "unit": "V",
                "elapsed_s": 1795.4,
                "overshoot_mV": 1.42,
            }
        ]
        text = drawn(result_table([{"string": "A", "steps": steps}]))
        for words in ("A", "bulk", "cell_voltage_max >= 3.6 V", "3.6 V", "0:29:55", "1.4 mV"):
            assert words in text

    def test_a_value_that_is_not_known_is_no_number(self) -> None:
        steps = [{"id": "bulk", "ended_by": "stopped", "value": None, "unit": None, "elapsed_s": 1.0}]
        line = next(line for line in drawn(result_table([{"string": "A", "steps": steps}])).splitlines() if "stopped" in line)
        assert line.split() == ["A", "bulk", "stopped", "-", "0:00:01"]

    def test_brackets_in_an_end_are_kept(self) -> None:
        steps = [{"id": "x", "ended_by": "cell[4] >= 3 V", "value": 3.0, "unit": "V", "elapsed_s": 1.0}]
        assert "cell[4] >= 3 V" in drawn(result_table([{"string": "A", "steps": steps}]))
