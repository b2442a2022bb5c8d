"""A writer process at full speed, killed in the middle and replaced, and readers in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.unit.shared.stress", *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.system  # counts what readers manage in a given time
def test_readers_never_see_a_torn_image(tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    first = start("writer", path)
    readers = [start("reader", path, "3.5") for _ in range(2)]
    second = None
    try:
        time.sleep(1.5)
        first.kill()
        first.wait()
        second = start("writer", path)
        results = [json.loads(reader.communicate(timeout=30)[0]) for reader in readers]
    finally:
        for process in (first, second, *readers):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout:
                    process.stdout.close()
    for result in results:
        assert (result["torn"], result["backwards"]) == (0, 0), result
        assert result["images"] > 50, result
        assert result["changes"] > 10, result
        assert result["reopened"] == 1, result
