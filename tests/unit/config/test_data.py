"""Where the folders of maps, protocols and sites are found, in a checkout and in an installation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from gateway import data


def test_a_checkout_uses_its_own_folders() -> None:
    root = Path(data.__file__).resolve().parents[1]
    assert (data.maps_dir(), data.protocols_dir(), data.sites_dir()) == (
        root / "device_maps",
        root / "protocols",
        root / "sites",
    )


def installed(tmp_path: Path, *folders: str) -> subprocess.CompletedProcess[str]:
    """Asks an installation below `tmp_path`, away from any checkout, for its device maps."""
    package = tmp_path / "gateway"
    package.mkdir()
    for name in ("__init__.py", "data.py", "errors.py", "points.py"):
        shutil.copy(Path(data.__file__).parent / name, package / name)
    for folder in folders:
        (tmp_path / "share" / "bess-gateway" / folder).mkdir(parents=True)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gateway import data; print(data.maps_dir())"
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={})


def test_an_installation_uses_what_the_wheel_brought(tmp_path: Path) -> None:
    result = installed(tmp_path, "device_maps")
    assert result.stdout.strip() == str(tmp_path / "share" / "bess-gateway" / "device_maps"), result.stderr


def test_an_installation_without_the_folder_says_where_it_looked(tmp_path: Path) -> None:
    result = installed(tmp_path)
    assert result.returncode != 0
    assert "the installation has no folder 'device_maps'" in result.stderr
    assert str(tmp_path / "share" / "bess-gateway" / "device_maps") in result.stderr
