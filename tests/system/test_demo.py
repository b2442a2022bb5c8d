"""The demonstration as a user starts it: the paper's hybrid charge, judged by what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.gateway_process import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system


def environment(directory: Path) -> dict[str, str]:
    """What it keeps goes below that directory."""
    kept = {key: value for key, value in os.environ.items() if key not in {"XDG_RUNTIME_DIR", "COLUMNS"}}
    return kept | {"TMPDIR": str(directory)}


def demo(*arguments: str, directory: Path, timeout_s: float = 290.0) -> tuple[subprocess.CompletedProcess[str], dict, float]:
    """`bess-gateway demo --once --json`; what it did, the last line of its standard output, and real seconds."""
    begin_s = time.monotonic()
    done = subprocess.run(
        [COMMAND, "demo", "--once", "--json", *arguments],
        cwd=directory,
        env=environment(directory),
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.stdout, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1]), time.monotonic() - begin_s


@pytest.mark.timeout(300)
def test_the_hybrid_charge_ends_as_in_the_paper(tmp_path: Path) -> None:
    done, found, took_s = demo("--opcua", "opc.tcp://127.0.0.1:0", directory=tmp_path)
    assert done.returncode == 0, (found.get("failures"), done.stderr)
    assert took_s < 240.0
    assert found["ok"]
    assert found["failures"] == []
    assert found["trips"] == []
    assert found["endpoints"]["opcua"].startswith("opc.tcp://127.0.0.1:")
    assert found["run"]["state"] == "completed"
    tracks = {track["string"]: {step["id"]: step for step in track["steps"]} for track in found["run"]["tracks"]}
    assert {string: list(steps) for string, steps in tracks.items()} == {
        "A": ["bulk", "relax"],
        "B": ["bulk", "absorb", "relax"],
    }
    for step in (step for steps in tracks.values() for step in steps.values()):
        assert step["ended_by"]
        assert isinstance(step["value"], float)
        assert step["unit"]
        assert step["elapsed_s"] > 0.0
        assert step.get("overshoot_mV", 0.0) < 5.0
    assert tracks["A"]["bulk"]["ended_by"] == "cell_voltage_max >= 3.6 V"
    assert tracks["A"]["bulk"]["value"] == pytest.approx(3.6, abs=0.005)
    assert tracks["B"]["bulk"]["ended_by"] == "cell_voltage_max >= 2.3 V"
    assert {"overshoot_mV"} <= set(tracks["A"]["bulk"]) & set(tracks["B"]["bulk"])
    assert tracks["A"]["relax"]["elapsed_s"] == pytest.approx(600.0, abs=10.0)
    assert found["cv"]["current_min_A"] < 4.0, "80 % of 5 A: constant voltage was real"
    assert found["cv"]["samples"] > 10
    assert found["disturbance_percent"] < 1.0
    assert found["site_time_s"] > 1800.0
    assert "what ended each step" in done.stderr
    assert list(tmp_path.iterdir()) == [], "a demonstration that went well leaves nothing behind"


def test_a_state_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "run").write_text("a file where the gateway wants a directory")
    done, found, _ = demo("--state", str(state), directory=tmp_path, timeout_s=60.0)
    assert done.returncode == 2
    assert found["ok"] is False
    assert "cannot be the state directory" in found["error"]
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(120)
def test_a_demonstration_that_fails_says_why_and_leaves_its_logs(tmp_path: Path) -> None:
    """Its simulator is killed again and again, until the supervisor gives up."""
    with subprocess.Popen(
        [COMMAND, "demo", "--once", "--json", "--opcua", "opc.tcp://127.0.0.1:0"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline_s = time.monotonic() + 80.0
        killed: set[int] = set()
        while running.poll() is None and time.monotonic() < deadline_s:
            killed |= {pid for pid in simulators(tmp_path) if pid not in killed and kill(pid)}
            time.sleep(0.1)
        out, err = running.communicate(timeout=30.0)
    found = json.loads(out.splitlines()[-1])
    assert running.returncode == 1, err
    assert found["ok"] is False
    assert len(killed) > 1
    (logs,) = tmp_path.glob("bess-demo-*/log")
    assert found["logs"] == str(logs)
    assert str(logs) in err
    assert "Traceback" not in err
    assert {"simulator.log", "supervisor.log"} <= {file.name for file in logs.iterdir()}
    assert "killed by SIGKILL" in (logs / "supervisor.log").read_text()


@pytest.mark.timeout(90)
def test_a_demonstration_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "demo", "--json", "--opcua", "opc.tcp://127.0.0.1:0"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline_s = time.monotonic() + 30.0
        while not simulators(tmp_path) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=40.0)
    assert running.returncode == 1
    assert json.loads(out) == {"ok": False, "error": "stopped before the charge had ended"}
    assert "Traceback" not in err
    assert "FAILED" not in err
    assert list(tmp_path.iterdir()) == []


def simulators(directory: Path) -> list[int]:
    """The simulator that says that it is up, in whichever temporary directory."""
    found: list[int] = []
    for file in directory.glob("bess-demo-*/run/sim.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(file.read_text())["pid"])
    return found


def kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True
