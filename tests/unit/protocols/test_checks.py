"""Whether a protocol suits the strings of a site."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.protocols.checks import BindingError, bind, check_against
from tests.protocols.running import shipped, written
from tests.protocols.small_site import limits, site, with_device, with_string

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.site import Site

CHARGE = """\
title = "T"
chemistry = ["lfp"]
[[step]]
id = "bulk"
do = "charge"
at = "5 A"
until = ["cell_voltage_max >= 3.6 V"]
timeout = "1 h"
"""
HOLD = """
[[step]]
id = "absorb"
do = "hold"
at = "14.4 V"
current_max = "5 A"
until = ["current <= C/50"]
timeout = "1 h"
"""


def texts(folder: Path, text: str, plant: Site | None = None, strings: list[str] | None = None, **parameters: str) -> list[str]:
    return [str(problem) for problem in check_against(written(folder, text), plant or site(), strings or ["A"], parameters)]


@pytest.mark.parametrize(
    ("name", "strings"),
    [
        ("lfp_cc_rest", ["A"]),
        ("lfp_cccv", ["A"]),
        ("lead_acid_cc_cv", ["B"]),
        ("lead_acid_cccv_rest_float", ["B"]),
        ("zinc_cc_rest_cc_rest", ["Z"]),
        ("hybrid_charge", ["A", "B"]),
        ("hybrid_charge", None),
        ("lfp_cccv", None),
    ],
)
def test_the_shipped_protocols_suit_the_testbed(name: str, strings: list[str] | None) -> None:
    assert check_against(shipped(name), site(), strings) == []


def test_another_chemistry_is_refused() -> None:
    found = check_against(shipped("lfp_cccv"), site(), ["B"])
    assert [problem.text for problem in found] == ["on string B: the string is lead_acid, the steps are for lfp"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CHARGE.replace("3.6 V", "3.63 V"),
            (
                "test.toml:7: step[0].until[0]: on string A: 'cell_voltage_max >= 3.63 V' must stay at least 30 mV below "
                "the 3.65 V at which the string trips"
            ),
        ),
        (CHARGE.replace("5 A", "6.1 A"), "step[0].at: on string A: 6.1 A is above the string's limit of 6 A"),
        (
            CHARGE + '[limits]\ncell_voltage_max = "3.7 V"\n',
            "limits.cell_voltage_max: on string A: cell_voltage_max 3.7 V is looser than the site's 3.65",
        ),
        (
            CHARGE + '[limits]\ncell_voltage_min = "2.4 V"\n',
            "limits.cell_voltage_min: on string A: cell_voltage_min 2.4 V is looser than the site's 2.5",
        ),
        (
            CHARGE + HOLD.replace("14.4 V", "14.55 V"),
            "step[1].at: on string A: '3.6375 V per cell' must stay at least 30 mV below the 3.65 V",
        ),
        (
            CHARGE + HOLD.replace("14.4 V", "14.2 V"),
            "step[0].until[0]: on string A: 'cell_voltage_max >= 3.6 V' is above the 3.55 V that step 'absorb' holds next",
        ),
        (
            CHARGE + HOLD.replace("C/50", "0.3C"),
            "step[1].until[0]: on string A: 'current <= 0.3C' already holds at the current ceiling of 5 A",
        ),
        (CHARGE.replace("5 A", "0.3C"), "step[0].at: on string A: 7.5 A is above the string's limit of 6 A"),
    ],
)
def test_what_does_not_suit_the_site_is_refused_with_the_numbers(tmp_path: Path, text: str, expected: str) -> None:
    found = texts(tmp_path, text)
    assert any(expected in line for line in found), found


def test_the_margin_of_lead_acid_is_50_mV(tmp_path: Path) -> None:
    text = CHARGE.replace("lfp", "lead_acid")
    assert texts(tmp_path, text.replace("3.6 V", "2.55 V"), strings=["B"]) == []
    assert "at least 50 mV below the 2.6 V" in texts(tmp_path, text.replace("3.6 V", "2.56 V"), strings=["B"])[0]


def test_voltages_per_cell_are_taken_times_the_cells(tmp_path: Path) -> None:
    assert texts(tmp_path, CHARGE + HOLD.replace("14.4 V", "3.61 V/cell")) == []
    assert "3.63 V per cell" in texts(tmp_path, CHARGE + HOLD.replace("14.4 V", "3.63 V/cell"))[0]


def test_a_converter_is_asked_for_no_more_than_it_takes(tmp_path: Path) -> None:
    weak = with_device(
        site(), "dab_a", writable={"mode_setpoint": (0, 3), "current_setpoint": (-4.0, 4.0), "voltage_setpoint": (0.0, 14.0)}
    )
    found = texts(tmp_path, CHARGE + HOLD, weak)
    assert any("5 A is outside what converter dab_a takes (-4 to 4 A)" in line for line in found)
    assert any("offers no voltage mode with a current ceiling" in line for line in found)
    assert any("14.4 V is outside what converter dab_a takes (0 to 14 V)" in line for line in found)


def test_a_device_with_the_opposite_sign_is_judged_in_its_own_sign(tmp_path: Path) -> None:
    writable = {"mode_setpoint": (0.0, 3.0), "current_setpoint": (0.0, 6.0)}
    charger = with_device(site(), "dab_a", writable=writable, current_factor=-1.0)
    assert texts(tmp_path, CHARGE, charger) == []
    discharger = with_device(site(), "dab_a", writable=writable, current_factor=1.0)
    assert "outside what converter dab_a takes" in texts(tmp_path, CHARGE, discharger)[0]


def test_a_string_without_a_converter_is_refused(tmp_path: Path) -> None:
    plant = site()
    plant = replace(plant, devices=tuple(device for device in plant.devices if device.id != "dab_a"))
    assert "the string has no converter of its own" in texts(tmp_path, CHARGE, plant)[0]


def test_required_capabilities_must_be_offered(tmp_path: Path) -> None:
    blind = with_device(site(), "bms_a", points=frozenset({"current", "pack_voltage"}))
    found = texts(tmp_path, 'requires = ["bms.cell_voltages", "bms.soc"]\n' + CHARGE, blind)
    assert [line.split(": on string A: ")[1] for line in found] == [
        "the string's devices do not offer bms.cell_voltages",
        "the string's devices do not offer bms.soc",
    ]
    assert (
        "does not report a state of charge"
        in texts(tmp_path, CHARGE.replace("cell_voltage_max >= 3.6 V", "soc >= 90 %"), blind)[0]
    )


def test_a_tighter_site_is_heeded() -> None:
    strict = with_string(site(), "A", limits=limits(3.6, 2.5))
    found = [problem.text for problem in check_against(shipped("lfp_cc_rest"), strict, ["A"])]
    assert any("looser than the site's 3.6" in text for text in found)
    assert any("at least 30 mV below the 3.6 V" in text for text in found)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"charge_current": "30 A"}, "parameter charge_current = 30 A is outside 0.05C to 1C"),
        ({"charge_current": "6 V"}, "'6 V' is a voltage"),
        ({"speed": "6 A"}, "unknown parameter 'speed'; parameters: charge_current, cell_target"),
    ],
)
def test_parameters_are_checked_again_when_they_are_given(parameters: dict[str, str], expected: str) -> None:
    found = [problem.text for problem in check_against(shipped("lfp_cccv"), site(), ["A"], parameters)]
    assert any(expected in text for text in found), found


def test_tracks_take_their_own_strings_or_those_named_in_order() -> None:
    protocol = shipped("hybrid_charge")
    assert [item.string.id for item in bind(protocol, site(), [])] == ["A", "B"]
    assert [item.string.id for item in bind(protocol, site(), ["B", "A"])] == ["A", "B"]
    assert [item.string.id for item in bind(protocol, site(), ["A", "Z"])] == ["A", "Z"]
    with pytest.raises(BindingError, match="has 2 tracks, but 1 strings are named"):
        bind(protocol, site(), ["A"])


def test_plain_steps_run_on_each_string_named() -> None:
    protocol = shipped("lfp_cccv")
    with pytest.raises(BindingError, match="needs to be told which string"):
        bind(protocol, site(), [])
    with pytest.raises(BindingError, match="there is no string 'X'; strings: A, B, Z"):
        bind(protocol, site(), ["X"])
    with pytest.raises(BindingError, match="named twice"):
        bind(protocol, site(), ["A", "A"])
    assert [item.string.id for item in bind(protocol, site(), ["A", "B"])] == ["A", "B"]


def test_strings_that_do_not_fit_the_tracks_are_a_problem_of_the_file() -> None:
    found = check_against(shipped("hybrid_charge"), site(), ["A"])
    assert [(problem.key, problem.text) for problem in found] == [
        ("track", "hybrid_charge has 2 tracks, but 1 strings are named")
    ]


def test_a_site_without_the_chemistry_says_so() -> None:
    plant = site()
    lead_only = replace(plant, strings=plant.strings[1:2])
    assert [str(problem) for problem in check_against(shipped("lfp_cccv"), lead_only)] == [
        "protocols/lfp_cccv.toml:8: chemistry: the site has no string with a converter whose cells are lfp"
    ]
