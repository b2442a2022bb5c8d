"""Bad files are data: each folder holds one file and the exact messages that its author must see.

`site.toml` goes through the site loader (with the folder's own `device_maps` and `protocols`, if any), `map.toml` through
the map loader, `protocol.toml` through the protocol loader and, when that accepts it, against `sites/testbed_sim.toml`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import data
from gateway.config import load
from gateway.errors import ConfigError
from gateway.field.device_map import load_map
from gateway.protocols.checks import check_against
from gateway.protocols.library import load_protocol

HERE = Path(__file__).parent
CASES = sorted(folder.name for folder in HERE.iterdir() if (folder / "error.txt").is_file())


def messages(folder: Path) -> str:
    """What the loader says about the folder's file, one problem a line."""
    try:
        if (folder / "site.toml").is_file():
            load(folder / "site.toml", name="site.toml")
        elif (folder / "map.toml").is_file():
            load_map(folder / "map.toml", "map.toml")
        else:
            protocol = load_protocol(folder / "protocol.toml", "protocol.toml")
            problems = check_against(protocol, load(data.sites_dir() / "testbed_sim.toml").site)
            return "\n".join(str(problem) for problem in problems)
    except ConfigError as error:
        return str(error).replace(f"{folder}/", "")
    return ""


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_refused_with_exactly_these_messages(name: str) -> None:
    expected = (HERE / name / "error.txt").read_text(encoding="utf-8").strip()
    assert expected, "a case without messages tests nothing"
    assert messages(HERE / name) == expected


def test_every_folder_is_a_case() -> None:
    folders = {folder.name for folder in HERE.iterdir() if folder.is_dir() and not folder.name.startswith("__")}
    assert folders == set(CASES)
