"""Verbs about files: check, schema, points, protocol; none of them needs a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway import __version__, config
from gateway.app import site_points
from gateway.cli import output
from tests.unit.cli.terminal import CASES, REPO, SITE, cli, document

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOLS = sorted(file.stem for file in (REPO / "protocols").glob("*.toml"))


def test_version() -> None:
    assert cli("version").stdout == f"{__version__}\n"


class TestCheck:
    @pytest.mark.parametrize("file", sorted((REPO / "sites").glob("*.toml")), ids=lambda file: file.stem)
    def test_every_shipped_site_is_good(self, file: Path) -> None:
        result = cli("check", file)
        assert result.exit_code == 0
        assert result.stdout.startswith("ok ")
        assert " strings, " in result.stdout

    def test_a_good_site_as_json(self) -> None:
        found = document(cli("check", SITE, "--json"))
        assert {key: found[key] for key in ("ok", "site", "strings", "devices")} == {
            "ok": True,
            "site": "testbed",
            "strings": 2,
            "devices": 5,
        }
        assert len(found["hash"]) == 64

    @pytest.mark.parametrize("case", ["site_wrong_unit", "site_unknown_key", "site_duplicate_ids", "site_not_toml"])
    def test_every_problem_of_a_bad_site_is_on_a_line_of_its_own(self, case: str) -> None:
        file = CASES / case / "site.toml"
        expected = (CASES / case / "error.txt").read_text().strip().splitlines()
        result = cli("check", file)
        assert result.exit_code == 2
        assert result.stdout == ""
        *problems, count = result.stderr.strip().splitlines()
        assert problems == [f"{file.parent}/{line}" for line in expected]
        assert count == ("1 problem" if len(expected) == 1 else f"{len(expected)} problems")

    def test_a_bad_site_as_json(self) -> None:
        result = cli("check", CASES / "site_wrong_unit" / "site.toml", "--json")
        assert result.exit_code == 2
        found = document(result)
        assert found["ok"] is False
        assert [problem["line"] for problem in found["problems"]] == [4, 34, 45, 49, 53]
        assert {"file", "line", "key", "text"} == set(found["problems"][0])
        assert found["problems"][0]["key"] == "site.scan"

    def test_protocols_beside_the_site_file_are_checked_too(self, tmp_path: Path) -> None:
        (tmp_path / "protocols").mkdir()
        (tmp_path / "protocols" / "own.toml").write_text('title = "Own"\n')
        (tmp_path / "site.toml").write_text(SITE.read_text())
        result = cli("check", tmp_path / "site.toml")
        assert result.exit_code == 2
        assert "own.toml:1: chemistry: is missing" in result.stderr.replace("\n", "")

    @pytest.mark.parametrize("verb", ["check", "points", "probe", "safe-state", "run"])
    def test_a_file_that_does_not_exist(self, tmp_path: Path, verb: str) -> None:
        result = cli(verb, tmp_path / "none.toml")
        assert result.exit_code == 2
        assert result.stderr == f"{tmp_path}/none.toml: cannot be read: No such file or directory\n1 problem\n"

    def test_brackets_in_a_message_are_kept(self, tmp_path: Path) -> None:
        file = tmp_path / "site.toml"
        file.write_text('[site]\nid = "[red]x[/red]"\n')
        assert "[red]x[/red]" in cli("check", file).stderr


class TestSchema:
    @pytest.mark.parametrize(("kind", "key"), [("site", "string"), ("map", "point"), ("protocol", "track")])
    def test_each_kind_of_file_has_one(self, kind: str, key: str) -> None:
        found = document(cli("schema", kind))
        assert found["type"] == "object"
        assert key in found["properties"]

    def test_without_a_kind_it_is_that_of_sites(self) -> None:
        assert cli("schema").stdout == cli("schema", "site").stdout

    def test_an_unknown_kind_is_a_usage_error(self) -> None:
        result = cli("schema", "weather")
        assert result.exit_code == 2
        assert "protocol" in result.stderr


class TestPoints:
    def test_as_json_they_are_the_points_of_the_table(self) -> None:
        found = document(cli("points", SITE, "--json"))
        points = site_points(config.load(SITE))
        assert [row["name"] for row in found] == [point.name for point in points]
        state = next(row for row in found if row["name"] == "site.state")
        assert "ready" in state["symbols"].values()

    def test_each_point_is_one_line_that_can_be_searched(self) -> None:
        lines = cli("points", SITE).stdout.splitlines()
        points = site_points(config.load(SITE))
        assert [line.split()[0] for line in lines[1:]] == [point.name for point in points]
        (line,) = (line for line in lines if line.startswith("string.A.battery.cell_voltage_max "))
        assert " V " in line

    def test_on_a_narrow_terminal_no_name_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(output.out, "width", 80)
        *lines, note = cli("points", SITE).stdout.splitlines()
        points = site_points(config.load(SITE))
        assert "--json" in note
        assert [line.split()[0] for line in lines[1:]] == [point.name for point in points]
        assert all(len(line.rstrip()) <= 80 for line in lines)


class TestProtocol:
    def test_list(self) -> None:
        lines = cli("protocol", "list").stdout.splitlines()
        assert [line.split()[0] for line in lines[1:]] == PROTOCOLS

    def test_list_as_json(self) -> None:
        found = document(cli("protocol", "list", "--json"))
        assert [row["id"] for row in found] == PROTOCOLS
        assert all(row["title"] and row["chemistry"] for row in found)

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_every_shipped_protocol_is_good(self, name: str) -> None:
        result = cli("protocol", "check", name)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"ok {name}: ")

    def test_check_as_json(self) -> None:
        found = document(cli("protocol", "check", "lfp_cccv", "--json"))
        assert (found["ok"], found["id"]) == (True, "lfp_cccv")
        assert len(found["sha256"]) == 64

    @pytest.mark.parametrize("verb", ["check", "explain"])
    def test_an_unknown_protocol_is_answered_with_the_known_ones(self, verb: str) -> None:
        result = cli("protocol", verb, "lfp_ccv")
        assert result.exit_code == 2
        assert "there is no protocol lfp_ccv" in result.stderr
        assert ", ".join(PROTOCOLS) in result.stderr
        assert PROTOCOLS[0] in document(cli("protocol", verb, "lfp_ccv", "--json"))["error"]

    def test_it_suits_a_string_of_its_chemistry(self) -> None:
        assert cli("protocol", "check", "lfp_cccv", "--site", SITE, "--string", "A").exit_code == 0

    def test_it_does_not_suit_a_string_of_another(self) -> None:
        result = cli("protocol", "check", "lfp_cccv", "--site", SITE, "--string", "B")
        assert result.exit_code == 2
        assert "string B: the string is lead_acid, the steps are for lfp" in result.stderr
        assert "lfp_cccv.toml:" in result.stderr

    def test_a_string_that_does_not_exist(self) -> None:
        result = cli("protocol", "check", "lfp_cccv", "--site", SITE, "--string", "Z")
        assert result.exit_code == 2
        assert "Z" in result.stderr

    def test_a_bad_file_is_refused_with_file_and_line(self) -> None:
        file = CASES / "protocol_missing_timeout" / "protocol.toml"
        result = cli("protocol", "check", file)
        assert result.exit_code == 2
        assert f"{file}:" in result.stderr
        assert document(cli("protocol", "check", file, "--json"))["problems"]

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_explain(self, name: str) -> None:
        lines = cli("protocol", "explain", name).stdout.splitlines()
        assert len(lines) >= 4
        assert document(cli("protocol", "explain", name, "--json"))["lines"] == lines

    def test_explain_says_what_happens_in_plain_words(self) -> None:
        text = cli("protocol", "explain", "hybrid_charge").stdout
        assert "until the highest cell reaches 3.6 V" in text
        assert "$charge_current = 5 A" in text
