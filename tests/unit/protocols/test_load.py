"""Bad protocol files: every mistake at once, each with line, key and what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.protocols.library import library, schema
from tests.protocols.running import ROOT, written

HEAD = """\
title = "T"
chemistry = ["lfp"]
"""
CHARGE = """
[[step]]
id = "bulk"
do = "charge"
at = "5 A"
until = ["cell_voltage_max >= 3.5 V"]
timeout = "1 h"
"""
REST = """
[[step]]
id = "relax"
do = "rest"
until = ["step_time >= 30 min"]
"""


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        written(folder, text)
    return [str(problem) for problem in caught.value.problems]


def hold(at: str = '"14.2 V"', until: str = '["current <= 1 A"]', extra: str = "") -> str:
    return f"""
[[step]]
id = "absorb"
do = "hold"
at = {at}
current_max = "5 A"
until = {until}
timeout = "1 h"
{extra}
"""


def test_a_good_file_loads_with_its_digest(tmp_path: Path) -> None:
    protocol = written(tmp_path, HEAD + CHARGE + REST)
    assert (protocol.id, protocol.title, protocol.chemistry) == ("test", "T", ("lfp",))
    assert protocol.sha256 == hashlib.sha256((HEAD + CHARGE + REST).encode()).hexdigest()
    assert [step.id for step in protocol.tracks[0].steps] == ["bulk", "relax"]


def test_all_mistakes_of_form_come_at_once_in_file_order(tmp_path: Path) -> None:
    text = """\
title = "T"
chemistry = ["lfp", "nicd"]
colour = 3
[limits]
cell_voltage_max = { value = "3.6 V", delai = "1 s" }
[[step]]
id = "a"
do = "charge"
at = 5
until = ["soc >= 50 %", { when = "soc >= 60 %", fore = "3 s" }]
[[step]]
id = "b"
do = "chrge"
[[step]]
id = "c"
do = "hold"
at = "14 V"
until = []
timeout = "1 h"
"""
    assert problems(tmp_path, text) == [
        "test.toml:2: chemistry[1]: 'nicd' is not one of 'lfp', 'lead_acid' or 'zinc'",
        (
            "test.toml:3: colour: unknown key 'colour'; known keys: author, chemistry, description, finally, id, limits, "
            "on_interlock, on_track_abort, parameters, requires, revision, schema, step, title, track"
        ),
        "test.toml:5: limits.cell_voltage_max.delai: unknown key 'delai'; did you mean 'delay'?",
        'test.toml:6: step[0].timeout: is missing: every controlled step needs a time limit, for example timeout = "8 h"',
        'test.toml:9: step[0].at: 5 is a bare number; write a text with a unit, such as "5 A" or "30 min"',
        "test.toml:10: step[0].until[1].fore: unknown key 'fore'; did you mean 'for'?",
        "test.toml:13: step[1].do: unknown step kind 'chrge'; known kinds: charge, discharge, hold, float, charge_cccv, rest",
        'test.toml:14: step[2].current_max: is missing: a voltage step needs a current ceiling, for example current_max = "5 A"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHARGE.replace("5 A", "5 V"), "step[0].at: '5 V' is a voltage, expected a current such as '5 A'"),
        (CHARGE.replace('"5 A"', '"$i"'), "step[0].at: unknown parameter '$i'; known parameters: none"),
        (CHARGE.replace("5 A", "-5 A"), "directions are words (charge, discharge), magnitudes are positive"),
        (CHARGE.replace("5 A", "0 A"), "step[0].at: '0 A' moves nothing; use a rest step"),
        (CHARGE.replace("cell_voltage_max", "cell_v_max"), "step[0].until[0]: unknown signal 'cell_v_max'"),
        (CHARGE.replace("3.5 V", "3.5 A"), "step[0].until[0]: '3.5 A' is a current, expected a voltage such as '3.65 V'"),
        (CHARGE + CHARGE, "step[1].id: step id 'bulk' is used twice"),
        (CHARGE.replace('"1 h"', '{ after = "1 h", then = "bulk" }'), 'step[0].timeout: then = "bulk" jumps backwards'),
        (CHARGE.replace('"1 h"', '{ after = "1 h", then = "x" }'), 'step[0].timeout: then = "x": no such step'),
        (CHARGE.replace('"1 h"', '"0 s"'), "step[0].timeout: the timeout is zero"),
        (
            CHARGE.replace('3.5 V"]', '3.5 V", "current <= 1 A"]'),
            "step[0].until[1]: 'current <= 1 A' cannot end a constant-current step; a taper needs a voltage step",
        ),
        (
            CHARGE.replace('3.5 V"]', '3.5 V", "cell_voltage_max >= 3.6 V"]'),
            "step[0].until[1]: 'cell_voltage_max >= 3.6 V' is never needed: 'cell_voltage_max >= 3.5 V' ends the step first",
        ),
        (
            CHARGE.replace("cell_voltage_max >= 3.5 V", "cell_voltage_max <= 3.5 V"),
            "step[0].until[0]: 'cell_voltage_max <= 3.5 V' waits the wrong way on a charge step",
        ),
        (
            CHARGE.replace("cell_voltage_max >= 3.5 V", "step_time >= 2 h"),
            "step[0].until[0]: 'step_time >= 2 h' is not before the timeout of 1 h",
        ),
        (
            CHARGE.replace("cell_voltage_max >= 3.5 V", "step_charge <= 5 Ah"),
            "step[0].until[0]: 'step_charge <= 5 Ah' already holds when the step starts",
        ),
        (
            REST.replace("step_time >= 30 min", "cell_voltage_max <= 3.4 V"),
            "step[0].until: a rest needs an end by time, such as \"step_time >= 30 min\", or a timeout",
        ),
        (REST.replace("step_time >= 30 min", "step_charge >= 1 Ah"), "means nothing at rest, where no current flows"),
        (
            "[limits]\ncell_voltage_max = '3.5 V'\n" + CHARGE,
            "step[0].until[0]: 'cell_voltage_max >= 3.5 V' is not below the protocol's own limit cell_voltage_max 3.5 V",
        ),
        (
            "[limits]\ncharge_current_max = '4 A'\n" + CHARGE,
            "step[0].at: 5 A is above the protocol's own limit charge_current_max 4 A",
        ),
        (
            CHARGE.replace("cell_voltage_max >= 3.5 V", "pack_voltage >= 14.4 V") + hold('"14.2 V"'),
            "step[0].until[0]: 'pack_voltage >= 14.4 V' is above the 14.2 V that step 'absorb' holds next",
        ),
        (
            CHARGE + hold('"3.45 V"', extra='regulate = "highest_cell"\npack_voltage_max = "13.8 V"'),
            "step[0].until[0]: 'cell_voltage_max >= 3.5 V' is above the 3.45 V that step 'absorb' holds next",
        ),
        (hold('"pack_voltage_at_entry"'), "step[0].at: pack_voltage_at_entry needs a charge step right before it"),
        (
            hold('"3.6 V"', extra='regulate = "highest_cell"'),
            "step[0].regulate: regulating the highest cell needs a ceiling, such as pack_voltage_max = \"14.3 V\"",
        ),
        (hold(until='["current <= 6 A"]'), "step[0].until[0]: 'current <= 6 A' already holds at the current ceiling of 5 A"),
        (
            CHARGE.replace('["cell_voltage_max >= 3.5 V"]', '[{ when = "soc >= 50 %", then = "end" }]').replace(
                'timeout = "1 h"', 'timeout = { after = "1 h", then = "end" }'
            )
            + REST,
            "step[1].id: step 'relax' can never be reached: no step before it goes on to it",
        ),
        (
            "[parameters.i]\nunit = 'A'\ndefault = '7 A'\nmin = '1 A'\nmax = '5 A'\n" + CHARGE,
            "parameters.i.default: parameter i = 7 A is outside 1 A to 5 A",
        ),
    ],
)  # fmt: skip
def test_each_mistake_of_meaning_has_its_message(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, HEAD + text)
    assert any(expected in line for line in found), found


@pytest.mark.parametrize("key", ["timeout", "until", "at", "id"])
def test_a_charge_step_needs_its_keys(tmp_path: Path, key: str) -> None:
    lines = [line for line in CHARGE.splitlines() if not line.startswith(f"{key} =")]
    found = problems(tmp_path, HEAD + "\n".join(lines))
    assert len(found) == 1
    assert f"step[0].{key}: is missing" in found[0]


def test_float_needs_a_ceiling_and_an_age_but_no_timeout(tmp_path: Path) -> None:
    step = '[[step]]\nid = "float"\ndo = "float"\nat = "13.6 V"\n'
    assert [line.split(": ")[1] for line in problems(tmp_path, HEAD + step)] == ["step[0].current_max", "step[0].max_age"]
    written(tmp_path, HEAD + step + 'current_max = "1 A"\nmax_age = "30 d"\n')


def test_steps_and_tracks_exclude_each_other(tmp_path: Path) -> None:
    track = '[[track]]\nid = "a"\nstring = "A"\n' + REST.replace("[[step]]", "[[track.step]]")
    assert "either steps ([[step]]) or tracks ([[track]])" in problems(tmp_path, HEAD + REST + track)[0]
    assert "either steps ([[step]]) or tracks ([[track]])" in problems(tmp_path, HEAD)[0]
    again = track.replace('id = "a"', 'id = "b"', 1)
    assert "two tracks have the string 'A'" in problems(tmp_path, HEAD + track + again)[0]


def test_a_library_reports_the_problems_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(HEAD)
    (tmp_path / "b.toml").write_text("title = 3\n")
    (tmp_path / "c.toml").write_text("title = \n")
    with pytest.raises(ConfigError) as caught:
        library(tmp_path)
    assert {Path(problem.file).name for problem in caught.value.problems} == {"a.toml", "b.toml", "c.toml"}


def test_an_id_may_be_used_by_one_file_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text('id = "same"\n' + HEAD + REST)
    with pytest.raises(ConfigError, match="'same' is also the id of"):
        library(tmp_path)


def test_a_protocol_of_ones_own_replaces_the_one_of_the_same_file_name(tmp_path: Path) -> None:
    for folder, titles in (("own", {"a": "mine"}), ("shipped", {"a": "theirs", "b": "theirs"})):
        (tmp_path / folder).mkdir()
        for name, title in titles.items():
            text = HEAD.replace(HEAD.splitlines()[0], f'title = "{title}"') + REST
            (tmp_path / folder / f"{name}.toml").write_text(text)
    found = library(tmp_path / "own", tmp_path / "not_there", tmp_path / "shipped")
    assert {key: protocol.title for key, protocol in found.items()} == {"a": "mine", "b": "theirs"}


def test_the_schema_knows_every_step_kind_and_the_short_forms() -> None:
    found = schema()
    assert set(found["properties"]) >= {"title", "chemistry", "step", "track", "limits", "finally", "parameters"}
    assert {"Charge", "Discharge", "Hold", "Float", "ChargeCccv", "Rest"} <= set(found["$defs"])
    assert {"type": "string"} in found["$defs"]["Rest"]["properties"]["timeout"]["anyOf"]
    assert found["$defs"]["Charge"]["additionalProperties"] is False


def test_the_shipped_files_say_what_they_need() -> None:
    for protocol in library(ROOT / "protocols").values():
        assert {"dcdc.current_mode", "bms.cell_voltages"} <= set(protocol.document.requires)
        holds = any(step.do in {"hold", "float", "charge_cccv"} for step in protocol.document.step)
        assert holds <= ("dcdc.voltage_mode" in protocol.document.requires)
