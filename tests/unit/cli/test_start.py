"""Starting a gateway: only one for each state directory, and what `run` tells on its terminal."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from gateway import paths
from gateway.cli import run, watch
from gateway.processes import ProcessState, ProcessStatus
from tests.unit.cli.terminal import SITE, cli, control, document

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.cli.run import Paths


class TestOnlyOne:
    def test_a_second_run_is_refused_and_changes_nothing(self, tmp_path: Path) -> None:
        with paths.held(tmp_path, "gateway"):
            result = cli("run", SITE, "--state", tmp_path)
        assert result.exit_code == 1
        assert "a gateway already runs with state directory" in result.stderr
        assert "--state" in result.stderr
        assert [file.name for file in tmp_path.iterdir()] == ["gateway.lock"]

    def test_neither_is_there_a_demonstration_beside_it(self, tmp_path: Path) -> None:
        with paths.held(tmp_path, "gateway"):
            result = cli("demo", "--state", tmp_path, "--json")
        assert result.exit_code == 1
        assert "already runs" in document(result)["error"]

    @pytest.mark.parametrize("verb", ["run", "control"])
    def test_a_control_process_that_does_not_end_is_waited_for_in_vain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        monkeypatch.setattr(run, "_STOP_CONTROL_S", 0.0)
        more = ("--run-dir", tmp_path / "run") if verb == "control" else ()
        with paths.held(tmp_path, "control"):
            result = cli(verb, SITE, "--state", tmp_path, *more)
        assert result.exit_code == 1
        assert "a control already runs with state directory" in result.stderr
        assert not (tmp_path / "gateway.json").exists()

    def test_a_state_directory_that_cannot_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = cli("run", SITE, "--state", tmp_path / "file")
        assert result.exit_code == 2
        assert "cannot be the state directory" in result.stderr

    def test_what_was_held_is_free_again(self, tmp_path: Path) -> None:
        for _ in range(2):
            with run.sole(tmp_path, "testbed") as files:
                assert files == paths.find(tmp_path)


class TestProcesses:
    def test_of_a_simulated_site(self, tmp_path: Path) -> None:
        files = paths.Paths(tmp_path, tmp_path / "run")
        specs = run.specs(run.load(SITE), SITE, files, fastest=60.0, opcua=None)
        assert [spec.name for spec in specs] == ["simulator", "control", "opcua"]
        assert [spec.essential for spec in specs] == [True, True, False]
        assert all(spec.argv[:2] == (sys.executable, "-m") for spec in specs)
        control_spec = specs[1]
        assert control_spec.on_supervisor_death is signal.SIGTERM
        assert str(files.safe_frames) in control_spec.after_death
        assert control_spec.argv[-2:] == ("--time-factor", "60.0")
        assert specs[2].argv[-1].startswith("opc.tcp://127.0.0.1:")

    def test_of_a_real_site_there_is_no_simulator(self, tmp_path: Path) -> None:
        site = SITE.with_name("testbed.toml")
        specs = run.specs(run.load(site), site, paths.Paths(tmp_path, tmp_path), fastest=1.0, opcua=None)
        assert [spec.name for spec in specs] == ["control", "opcua"]

    def test_another_endpoint(self, tmp_path: Path) -> None:
        specs = run.specs(run.load(SITE), SITE, paths.Paths(tmp_path, tmp_path), fastest=1.0, opcua="opc.tcp://127.0.0.1:0")
        assert specs[-1].argv[-1] == "opc.tcp://127.0.0.1:0"


def process(name: str, state: ProcessState) -> ProcessStatus:
    return ProcessStatus(name=name, state=state, pid=4711, uptime_s=0.0, restarts=0, last_exit="")


class TestTold:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Paths:
        return paths.Paths(tmp_path, tmp_path)

    def tell(self, files: Paths, caplog: pytest.LogCaptureFixture, *changes: ProcessStatus) -> list[str]:
        tell = watch.told(files, files.state)
        with caplog.at_level(logging.INFO):
            for change in changes:
                tell(change)
        return caplog.messages

    def test_a_server_with_where_it_listens(self, files: Paths, caplog: pytest.LogCaptureFixture) -> None:
        (files.run / "opcua.json").write_text(json.dumps({"endpoint": "opc.tcp://127.0.0.1:4840", "pid": 4711}))
        assert self.tell(files, caplog, process("opcua", ProcessState.RUNNING)) == [
            "opcua runs (process 4711), listens at opc.tcp://127.0.0.1:4840"
        ]

    def test_how_to_see_the_plant_and_how_to_stop(self, files: Paths, caplog: pytest.LogCaptureFixture) -> None:
        first, second = self.tell(files, caplog, process("control", ProcessState.RUNNING))
        assert first == "control runs (process 4711)"
        assert f"bess-gateway status --state {files.state}" in second
        assert "Ctrl-C" in second

    def test_ends_and_new_starts(self, files: Paths, caplog: pytest.LogCaptureFixture) -> None:
        changes = [ProcessState.STARTING, ProcessState.BACKING_OFF, ProcessState.STOPPING, ProcessState.STOPPED]
        assert self.tell(files, caplog, *(process("opcua", state) for state in changes)) == [
            "opcua will be started again",
            "opcua stopping",
            "opcua stopped",
        ]


async def test_run_follows_the_events_of_this_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def event(number: int, kind: str, text: str) -> dict[str, object]:
        return {"id": number, "time": "", "kind": kind, "text": text}

    old = [event(1, "process", "control started"), event(2, "process", "control stopped"), event(3, "process", "control started")]
    new = [*old, event(4, "command", "current = 5"), event(5, "sequence", "site ready"), event(6, "release", "released")]

    def following(args: dict[str, object]):
        async def stream():
            for row in new:
                if row["id"] > args["after"]:
                    yield row
            await asyncio.Event().wait()

        return stream()

    with control({"events": {"events": old}, "follow": following}) as gateway, caplog.at_level(logging.INFO, "gateway.run"):
        files = paths.find(gateway.state)
        assert files is not None
        task = asyncio.create_task(watch.follow(files))
        async with asyncio.timeout(10.0):
            while "site ready" not in caplog.messages:  # noqa: ASYNC110  (what is awaited happens in another thread)
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert caplog.messages == ["control started", "site ready"]
