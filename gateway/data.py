"""Where device maps, charge protocols and sites are found: in a source checkout, or in an installed wheel.

The wheel carries the three folders in `share/bess-gateway` below the installation prefix. A checkout is preferred, so
that an edited file is the one that is used.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARE = Path("share") / "bess-gateway"


def maps_dir() -> Path:
    """The folder of the device maps that come with the gateway; ConfigError when the installation lacks it."""
    return _folder("device_maps")


def protocols_dir() -> Path:
    """The folder of the charge protocols that come with the gateway; ConfigError when the installation lacks it."""
    return _folder("protocols")


def sites_dir() -> Path:
    """The folder of the example sites that come with the gateway; ConfigError when the installation lacks it."""
    return _folder("sites")


def _folder(name: str) -> Path:
    for root in _roots():
        if (root / name).is_dir():
            return root / name
    looked = ", ".join(str(root / name) for root in _roots())
    raise ConfigError([Problem(name, 0, "", f"the installation has no folder '{name}'; looked at {looked}. Install it again")])


def _roots() -> Iterator[Path]:
    package = Path(__file__).resolve().parent
    if (package.parent / "pyproject.toml").is_file():
        yield package.parent
    # the prefix of the running interpreter, of the scheme that pip used, of a per-user installation
    yield from dict.fromkeys(Path(prefix) / _SHARE for prefix in (sys.prefix, sysconfig.get_path("data"), site.getuserbase()))
    # "pip install --target DIR" puts share/ beside the package
    yield package.parent / _SHARE
