"""The file of frames for safe-state: written when it has to be, whole, and telling when it cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.frames_file import FramesFile

if TYPE_CHECKING:
    from pathlib import Path


async def test_frames_are_stored_and_again_when_a_port_has_moved(tmp_path: Path) -> None:
    frames = {"rps": {"port": "127.0.0.1:1"}}
    file = FramesFile(tmp_path / "safe_frames.json", lambda: {name: dict(entry) for name, entry in frames.items()})
    assert file.problem == "the frames for safe-state have not been stored yet"
    await file.store()
    assert file.problem == ""
    assert json.loads((tmp_path / "safe_frames.json").read_text()) == frames
    frames["rps"]["port"] = "127.0.0.1:2"
    await file.store()
    assert json.loads((tmp_path / "safe_frames.json").read_text()) == frames
    assert not (tmp_path / "safe_frames.new").exists()


async def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "safe_frames.json"
    file = FramesFile(path, dict)
    await file.store()
    path.unlink()
    await file.store()
    assert not path.exists()


async def test_a_disk_that_refuses_is_a_problem_until_it_takes_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    file = FramesFile(folder / "safe_frames.json", dict)
    await file.store()
    assert file.problem.startswith("the frames for safe-state cannot be stored: ")
    folder.mkdir()
    await file.store()
    assert file.problem == ""
    assert (folder / "safe_frames.json").is_file()
