"""Verbs that ask a running gateway: what is asked, what is shown, and how they leave."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import typer
from typer.main import get_command

from gateway.cli import output, site
from gateway.cli.operate import parameters
from gateway.cli.verbs import app
from gateway.commands import Role
from tests.unit.cli.terminal import SITE, cli, control, document

if TYPE_CHECKING:
    from pathlib import Path

    import click

ACCEPTED = {"code": "accepted", "reason": "", "record": 12}
REFUSED = {"code": "not_permitted", "reason": "cell [4] is still hot", "record": 13}

ASKING = [
    ("status",),
    ("stop",),
    ("reset", "string.A"),
    ("start",),
    ("stop-site",),
    ("alarms",),
    ("acknowledge", "string.A.trip"),
    ("events",),
    ("stop-run", "7"),
    ("hold", "7"),
    ("resume", "7"),
    ("schedule", "list"),
    ("schedule", "add", "nightly", "lfp_cccv", "--string", "A", "--cron", "0 2 * * *"),
    ("schedule", "remove", "nightly"),
    ("protocol", "run", "lfp_cccv", "--string", "A"),
]
COMMANDING = {
    "stop": ("stop",),
    "reset": ("reset", "string.A"),
    "start_site": ("start",),
    "stop_site": ("stop-site",),
    "acknowledge": ("acknowledge", "string.A.trip"),
    "stop_run": ("stop-run", "7"),
    "hold_run": ("hold", "7"),
    "resume_run": ("resume", "7"),
    "schedule_add": ("schedule", "add", "nightly", "lfp_cccv", "--string", "A", "--cron", "0 2 * * *"),
    "schedule_remove": ("schedule", "remove", "nightly"),
}


def string(identifier: str, **changes: object) -> dict[str, object]:
    return {
        "id": identifier,
        "title": "LiFePO4",
        "ready": True,
        "tripped": False,
        "first_out": "",
        "pack_voltage": 13.4,
        "current": -5.0,
        "soc": 90.0,
        "cell_voltage_min": 3.34,
        "cell_voltage_max": 3.342,
        "run_state": "running",
        "run_protocol": "hybrid_charge",
        "run_step": "bulk",
        **changes,
    }


def status(*strings: dict[str, object], **changes: object) -> dict[str, object]:
    return {
        "site": {"id": "testbed", "title": "Testbed", "state": "ready", "reason": "every string is ready"},
        "strings": list(strings) or [string("A")],
        "devices": [{"id": "bms_a", "state": "online", "error": ""}],
        "alarms": [],
        "trips": [],
        "endpoints": {"opcua": "opc.tcp://127.0.0.1:4840"},
        **changes,
    }


class TestWithoutGateway:
    @pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
    def test_where_none_has_run(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        result = cli(*arguments, "--state", tmp_path)
        assert result.exit_code == 3
        assert result.stdout == ""
        assert str(tmp_path) in result.stderr
        assert "bess-gateway run SITE" in result.stderr

    @pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
    def test_where_none_runs_any_more(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        (tmp_path / "gateway.json").write_text(f'{{"run": "{tmp_path}/run"}}')
        result = cli(*arguments, "--state", tmp_path, "--json")
        assert result.exit_code == 3
        found = document(result)
        assert found["ok"] is False
        assert "no gateway runs" in found["error"]

    def test_one_that_hangs_is_told_apart_soon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(output, "_ANSWER_WITHIN_S", {"stop": 0.05})
        monkeypatch.setattr(site, "_ANSWER_WITHIN_S", 0.05)
        (tmp_path / "gateway.json").write_text(f'{{"run": "{tmp_path}"}}')
        with socket.socket(socket.AF_UNIX) as hung:
            hung.bind(str(tmp_path / "control.sock"))
            hung.listen()
            result = cli("stop", "--state", tmp_path)
            assert result.exit_code == 3
            assert "the gateway hangs" in result.stderr
            assert f"safe-state SITE --state {tmp_path}" in result.stderr.replace("\n", "")
            assert "safe_frames.json does not exist" in cli("safe-state", SITE, "--state", tmp_path).stderr.replace("\n", "")

    def test_safe_state_says_when_there_is_nothing_to_send(self, tmp_path: Path) -> None:
        result = cli("safe-state", SITE, "--state", tmp_path, "--json")
        assert result.exit_code == 3
        assert "safe_frames.json does not exist" in document(result)["error"]

    def test_the_simulators_switches(self, tmp_path: Path) -> None:
        assert cli("simulator", "faults", "--state", tmp_path).exit_code == 3
        (tmp_path / "gateway.json").write_text(f'{{"run": "{tmp_path}"}}')
        (tmp_path / "sim.sock").touch()
        result = cli("simulator", "faults", "--state", tmp_path)
        assert result.exit_code == 3
        assert "does not answer" in result.stderr


class TestCommands:
    @pytest.mark.parametrize(("verb", "arguments"), COMMANDING.items(), ids=COMMANDING)
    def test_accepted(self, verb: str, arguments: tuple[str, ...]) -> None:
        with control({verb: ACCEPTED}) as gateway:
            result = cli(*arguments, "--state", gateway.state, "--user", "olga")
            as_json = cli(*arguments, "--state", gateway.state, "--json")
        assert result.exit_code == 0
        assert result.stdout.strip()
        assert (as_json.exit_code, document(as_json)) == (0, {"ok": True, **ACCEPTED})
        (name, _, origin), (_, _, other) = gateway.asked
        assert (name, origin.process, origin.user, origin.role) == (verb, "cli", "olga", Role.ADMIN)
        assert other.user == "tester"

    @pytest.mark.parametrize(("verb", "arguments"), COMMANDING.items(), ids=COMMANDING)
    def test_refused(self, verb: str, arguments: tuple[str, ...]) -> None:
        with control({verb: REFUSED}) as gateway:
            result = cli(*arguments, "--state", gateway.state)
            as_json = cli(*arguments, "--state", gateway.state, "--json")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "refused (not_permitted): cell [4] is still hot" in result.stderr
        assert (as_json.exit_code, document(as_json)) == (1, {"ok": False, **REFUSED})

    def test_a_stop_that_is_not_confirmed_shouts(self) -> None:
        answer = {"code": "not_confirmed", "reason": "not every device has confirmed", "record": 1}
        with control({"stop": answer}) as gateway:
            result = cli("stop", "--state", gateway.state)
        assert result.exit_code == 1
        assert "NOT CONFIRMED, USE THE HARDWARE E-STOP" in result.stderr

    def test_the_arguments_arrive(self) -> None:
        with control(dict.fromkeys(("reset", "stop_run", "schedule_add"), ACCEPTED)) as gateway:
            cli("reset", "string.A", "--state", gateway.state)
            cli("reset", "--state", gateway.state)
            cli("stop-run", "7", "--state", gateway.state)
            add = ("schedule", "add", "n", "lfp_cccv", "--string", "A", "--interval", "60", "--set", "i = 5 A")
            cli(*add, "--state", gateway.state)
        assert [args for _, args, _ in gateway.asked] == [
            {"scope": "string.A"},
            {"scope": "site"},
            {"run": "7"},
            {
                "id": "n",
                "protocol": "lfp_cccv",
                "strings": ["A"],
                "cron": None,
                "interval_s": 60.0,
                "at": None,
                "timezone": "UTC",
                "misfire_grace_s": 60.0,
                "parameters": {"i": "5 A"},
            },
        ]

    def test_without_a_name_it_is_the_login(self) -> None:
        with control({"reset": ACCEPTED}) as gateway:
            cli("reset", "--state", gateway.state, USER="")
        assert gateway.asked[0][2].user != ""


class TestStatus:
    @pytest.mark.parametrize("width", [80, 200])
    def test_each_string_is_one_line(self, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
        monkeypatch.setattr(output.out, "width", width)
        with control({"status": status(string("A"), string("B", title="Lead-acid"))}) as gateway:
            lines = cli("status", "--state", gateway.state).stdout.splitlines()
        assert lines[0] == "Testbed  ready  every string is ready"
        assert [line.split()[0] for line in lines[1:4]] == ["string", "A", "B"]
        for words in ("LiFePO4", "13.40 V", "-5.00 A", "3.340 V", "3.342 V", "90.0 %", "running"):
            assert words in lines[2]
        assert lines[4] == "opcua opc.tcp://127.0.0.1:4840"
        assert all(len(line.rstrip()) <= width for line in lines)

    def test_a_bad_value_never_looks_like_a_number(self) -> None:
        bad = dict.fromkeys(("pack_voltage", "current", "soc", "cell_voltage_min", "cell_voltage_max"))
        with control({"status": status(string("A", **bad))}) as gateway:
            line = cli("status", "--state", gateway.state).stdout.splitlines()[2]
        assert line.count("bad") == 5
        assert not any(character.isdigit() for character in line.replace("LiFePO4", ""))

    def test_what_is_wrong_has_lines_of_its_own(self) -> None:
        trip = {"scope": "string.A", "first_out": ["x"], "reason": "Over-temperature: 80 degC", "obstacles": ["cell 2 is hot"]}
        found = status(
            string("A", tripped=True, ready=False),
            string("B", ready=False),
            trips=[trip],
            devices=[{"id": "bms_b", "state": "offline", "error": "no answer [3]"}, {"id": "rps", "state": None, "error": ""}],
            alarms=[{"id": f"alarm.{number}", "text": "too hot", "active": number != 3} for number in range(9)],
        )
        with control({"status": found}) as gateway:
            lines = cli("status", "--state", gateway.state).stdout.splitlines()
        assert "TRIPPED" in lines[2]
        assert lines[4:] == [
            "trip string.A: Over-temperature: 80 degC. Against a reset: cell 2 is hot",
            "not ready string B",
            "device bms_b offline no answer [3]",
            "device rps unknown ",
            *(f"alarm alarm.{number}: too hot" for number in (0, 1, 2, 4, 5)),
            "alarm and 3 more, see `bess-gateway alarms`",
            "opcua opc.tcp://127.0.0.1:4840",
        ]

    def test_as_json_it_is_the_document(self) -> None:
        with control({"status": status()}) as gateway:
            assert document(cli("status", "--state", gateway.state, "--json")) == status()

    @pytest.mark.parametrize(
        ("verb", "arguments"),
        [("status", ("status",)), ("alarms", ("alarms",)), ("events", ("events",)), ("schedule_list", ("schedule", "list"))],
    )
    def test_a_refusal_is_told(self, verb: str, arguments: tuple[str, ...]) -> None:
        with control({verb: {"code": "forbidden", "reason": "not you"}}) as gateway:
            result = cli(*arguments, "--state", gateway.state)
        assert result.exit_code == 1
        assert "forbidden" in result.stderr
        assert "not you" in result.stderr


class TestLists:
    def test_alarms(self) -> None:
        rows = [
            {"id": "a.b", "priority": 1, "active": True, "acknowledged": False, "text": "cell [4] low"},
            {"id": "c.d", "priority": 2, "active": False, "acknowledged": True, "text": "bus low"},
        ]
        with control({"alarms": {"alarms": rows}}) as gateway:
            lines = cli("alarms", "--state", gateway.state).stdout.splitlines()
        assert lines == ["1 a.b active unacknowledged: cell [4] low", "2 c.d returned: bus low"]

    def test_events(self) -> None:
        rows = [{"id": 5, "time": "2026-01-01T00:00:00.000+00:00", "kind": "run", "text": "run [1] started"}]
        with control({"events": {"events": rows}}) as gateway:
            result = cli("events", "--after", "4", "--limit", "9", "--state", gateway.state)
        assert result.stdout == "     5 2026-01-01T00:00:00.000+00:00 run          run [1] started\n"
        assert gateway.asked[0][1] == {"after": 4, "limit": 9}

    def test_schedules(self) -> None:
        rows = [
            {"id": "n", "protocol": "p", "strings": ["A", "B"], "cron": "0 2 * * *", "next_due": "tomorrow", "source": "site"},
            {"id": "i", "protocol": "p", "strings": [], "interval_s": 60.0, "next_due": None, "source": "user"},
        ]
        with control({"schedule_list": {"schedules": rows}}) as gateway:
            lines = cli("schedule", "list", "--state", gateway.state).stdout.splitlines()
        assert lines[1].split() == ["n", "p", "A,", "B", "0", "2", "*", "*", "*", "tomorrow", "site"]
        assert lines[2].split() == ["i", "p", "every", "60.0", "s", "never", "user"]

    @pytest.mark.parametrize(
        ("verb", "key", "arguments"),
        [
            ("alarms", "alarms", ("alarms",)),
            ("events", "events", ("events",)),
            ("schedule_list", "schedules", ("schedule", "list")),
        ],
    )
    def test_an_empty_list_says_so(self, verb: str, key: str, arguments: tuple[str, ...]) -> None:
        with control({verb: {key: []}}) as gateway:
            assert cli(*arguments, "--state", gateway.state).stdout == f"no {key}\n"
            assert document(cli(*arguments, "--state", gateway.state, "--json")) == {key: []}


class TestProtocolRun:
    def test_it_starts_and_leaves(self) -> None:
        with control({"start_run": {**ACCEPTED, "run": "7"}}) as gateway:
            run = ("protocol", "run", "lfp_cccv", "--string", "A", "--set", "i=5 A", "--state", gateway.state)
            assert cli(*run).stdout == "run 7 started\n"
            assert document(cli(*run, "--json"))["run"] == "7"
        assert gateway.asked[0][1] == {"protocol": "lfp_cccv", "strings": ["A"], "parameters": {"i": "5 A"}}

    def test_a_refusal(self) -> None:
        with control({"start_run": {**REFUSED, "run": ""}}) as gateway:
            result = cli("protocol", "run", "lfp_cccv", "--state", gateway.state)
        assert result.exit_code == 1
        assert "cell [4] is still hot" in result.stderr

    @pytest.mark.parametrize(("state", "code"), [("completed", 0), ("aborted", 1), ("faulted", 1)])
    def test_waiting_tells_what_ended_each_step(self, state: str, code: int) -> None:
        steps = [{"id": "bulk", "ended_by": "cell_voltage_max >= 3.6 V", "value": 3.6, "unit": "V", "elapsed_s": 60.0}]
        ended = {"id": "7", "state": state, "reason": "why", "tracks": [{"string": "A", "steps": steps}]}
        with control({"start_run": {**ACCEPTED, "run": "7"}, "runs": {"runs": [ended]}}) as gateway:
            run = ("protocol", "run", "lfp_cccv", "--wait", "--state", gateway.state)
            result, as_json = cli(*run), cli(*run, "--json")
        assert result.exit_code == as_json.exit_code == code
        assert "cell_voltage_max >= 3.6 V" in result.stdout
        assert f"run 7 {state} why" in result.stderr
        assert document(as_json) == {"ok": code == 0, "run": ended}


class TestProbe:
    def test_a_running_gateway_is_asked(self) -> None:
        row = {"name": "current", "raw": "[01]", "value": 5.0, "unit": "A", "quality": "Good", "address": "input 7"}
        with control({"probe": {"rows": [row]}}) as gateway:
            result = cli("probe", SITE, "dab_a", "--state", gateway.state)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1].split() == ["dab_a", "current", "input", "7", "[01]", "5", "A", "Good"]
        assert gateway.asked[0][1] == {"device": "dab_a"}

    def test_a_device_that_does_not_answer(self) -> None:
        with control({"probe": {"code": "unavailable", "reason": "dab_a does not answer", "record": 0}}) as gateway:
            result = cli("probe", SITE, "dab_a", "--state", gateway.state)
            as_json = cli("probe", SITE, "dab_a", "--state", gateway.state, "--json")
        assert result.exit_code == as_json.exit_code == 1
        assert "dab_a does not answer" in result.stderr
        assert document(as_json) == [{"device": "dab_a", "error": "dab_a does not answer"}]

    def test_a_device_that_the_site_lacks(self) -> None:
        result = cli("probe", SITE, "dab_z")
        assert result.exit_code == 2
        assert "it has: bms_a, bms_b, dab_a, dab_b, rps" in result.stderr


class TestSafeState:
    @pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
    def test_it_goes_through_the_running_gateway(self, ok: bool, code: int) -> None:
        rows = {"devices": [{"device": "dab_a", "ok": ok, "detail": "everything is off"}], **ACCEPTED}
        with control({"status": status(), "safe_state": rows}) as gateway:
            result = cli("safe-state", SITE, "--state", gateway.state)
        assert result.exit_code == code
        assert result.stdout == f"dab_a: {'safe' if ok else 'NOT CONFIRMED'} everything is off\n"


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("weather",),
            ("check",),
            ("status", "--colour"),
            ("events", "--limit", "many"),
            ("run", "site.toml", "--time-factor", "0.5"),
            ("demo", "--time-factor", "61"),
            ("schedule", "add", "nightly", "lfp_cccv"),
            ("protocol", "run", "lfp_cccv", "--set", "i"),
            ("protocol", "run", "lfp_cccv", "--set", "=5 A"),
        ],
        ids=" ".join,
    )
    def test_wrong_usage(self, arguments: tuple[str, ...]) -> None:
        assert cli(*arguments).exit_code == 2

    def test_name_and_value(self) -> None:
        assert parameters(None) == {}
        assert parameters(["i=5 A", " until = cell_voltage_max >= 3.6 V "]) == {"i": "5 A", "until": "cell_voltage_max >= 3.6 V"}

    @pytest.mark.parametrize("texts", [["i"], ["=5 A"], ["i="], [""], ["i=5 A", "i=6 A"]])
    def test_name_and_value_that_make_no_sense(self, texts: list[str]) -> None:
        with pytest.raises(typer.BadParameter, match=r"expected NAME=VALUE, got|is given twice"):
            parameters(texts)


def verbs(command: click.Command, name: tuple[str, ...] = ()):
    for child, found in getattr(command, "commands", {}).items():
        yield (*name, child), found
        yield from verbs(found, (*name, child))


VERBS = dict(verbs(get_command(app)))


@pytest.mark.parametrize("name", VERBS, ids=" ".join)
def test_every_verb_explains_itself(name: tuple[str, ...]) -> None:
    result = cli(*name, "--help")
    assert result.exit_code == 0
    first_line = (VERBS[name].help or "").strip().splitlines()[0]
    assert 10 < len(first_line) < 130
    assert first_line.endswith(".")
    assert first_line.split()[0] in result.stdout


@pytest.mark.parametrize("name", VERBS, ids=" ".join)
def test_every_option_and_argument_is_explained(name: tuple[str, ...]) -> None:
    for parameter in VERBS[name].params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{' '.join(name)}: {parameter.name}"
