"""Where a gateway keeps its files, and that it is the only one there."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway import paths
from gateway.paths import Paths, StateInUse, create, find, held


@pytest.fixture(autouse=True)
def no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def test_a_gateway_is_found_by_its_state_directory(tmp_path: Path) -> None:
    made = create(tmp_path / "new" / "state", "testbed")
    assert made.run == tmp_path / "new" / "state" / "run"
    assert made.logs.is_dir()
    assert find(tmp_path / "new" / "state") == made


def test_the_run_directory_is_the_sessions_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as user:  # tmp_path is too long for a socket
        monkeypatch.setenv("XDG_RUNTIME_DIR", user)
        one, other = create(tmp_path / "one", "testbed"), create(tmp_path / "other", "testbed")
        assert one.run.parent == Path(user)
        assert one.run != other.run, "two gateways of one site must not share their files"
        assert create(tmp_path / "one", "testbed") == one
        assert find(tmp_path / "other") == other


def test_others_cannot_look_into_the_run_directory(tmp_path: Path) -> None:
    assert create(tmp_path, "testbed").run.stat().st_mode & 0o007 == 0


def test_a_given_run_directory_is_taken(tmp_path: Path) -> None:
    made = create(tmp_path / "state", "testbed", tmp_path / "elsewhere")
    assert made.run == tmp_path / "elsewhere"
    assert made.run.is_dir()
    assert find(tmp_path / "state") == made


def test_a_path_too_long_for_a_socket_is_avoided(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 120)
    made = create(state, "testbed")
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(made.run.rmdir)
        assert len(str(made.control_socket)) < 108
        assert len(str(made.simulator_socket)) < 108
        assert find(state) == made


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"run": 5}'])
def test_where_none_has_run_none_is_found(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "gateway.json").write_text(content)
    assert find(tmp_path) is None


def test_every_file_is_in_one_of_the_two_directories() -> None:
    files = Paths(Path("/state"), Path("/run"))
    lasting = {files.journal, files.safe_frames, files.logs}
    passing = {files.image, files.site, files.control_socket, files.simulator, files.simulator_socket, files.time_factor}
    assert {file.parent for file in lasting} == {Path("/state")}
    assert {file.parent for file in passing} == {Path("/run")}


def test_a_state_directory_has_one_gateway(tmp_path: Path) -> None:
    with (
        held(tmp_path, "gateway"),
        pytest.raises(StateInUse, match=r"a gateway already runs with state directory .* \(process \d+\)"),
        held(tmp_path, "gateway"),
    ):
        pass
    with held(tmp_path, "gateway"):
        pass


def test_a_gateway_does_not_stand_in_the_way_of_its_own_control_process(tmp_path: Path) -> None:
    with held(tmp_path, "gateway"), held(tmp_path, "control"):
        pass


def test_a_directory_that_is_missing_is_made(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b", "gateway"):
        assert (tmp_path / "a" / "b").is_dir()


HOLD = """
import sys, subprocess
from pathlib import Path
from gateway.paths import held
with held(Path(sys.argv[1]), "gateway"):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(60)"])
    print(child.pid, flush=True)
    child.wait()
"""


def test_the_lock_goes_with_its_process_however_it_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder, contextlib.ExitStack() as cleaning:
        lines = {holder.stdout.readline().strip(), holder.stdout.readline().strip()}
        (child,) = (int(line) for line in lines if line != "up")
        cleaning.callback(subprocess.run, ["kill", "-9", str(child)], check=True)
        with pytest.raises(StateInUse, match=f"process {holder.pid}"), held(tmp_path, "gateway"):
            pass
        holder.kill()
        holder.wait()
        with held(tmp_path, "gateway", patience_s=5.0):  # although the program that it started still runs
            pass


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter(float(second) for second in range(100))
    slept: list[float] = []
    monkeypatch.setattr(paths.time, "monotonic", lambda: next(now_s))
    monkeypatch.setattr(paths.time, "sleep", slept.append)
    with held(tmp_path, "control"), pytest.raises(StateInUse), held(tmp_path, "control", patience_s=3.0):
        pass
    assert len(slept) == 2
