"""Where a running gateway keeps its files: the state directory outlives it, the run directory does not.

Verbs that talk to a running gateway find it by its state directory, which names the run directory in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SOCKET_PATH_MAX = 100
"""Unix socket paths end at 107 bytes (unix(7)); the longest name in a run directory needs a few of them."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one gateway."""

    state: Path
    run: Path

    @property
    def image(self) -> Path:
        """The shared-memory image."""
        return self.run / "image"

    @property
    def site(self) -> Path:
        """The resolved site that control publishes."""
        return self.run / "site.json"

    @property
    def control_socket(self) -> Path:
        """The door of the control process."""
        return self.run / "control.sock"

    @property
    def simulator(self) -> Path:
        """The ports that the simulator opened."""
        return self.run / "sim.json"

    @property
    def simulator_socket(self) -> Path:
        """The fault switches of the simulator."""
        return self.run / "sim.sock"

    @property
    def time_factor(self) -> Path:
        """Site seconds per real second, from control to the simulator."""
        return self.run / "time_factor"

    @property
    def journal(self) -> Path:
        """Events, trips, schedules, runs, counters."""
        return self.state / "state.db"

    @property
    def safe_frames(self) -> Path:
        """The frames that drive every device safe without the gateway."""
        return self.state / "safe_frames.json"

    @property
    def logs(self) -> Path:
        """What the processes printed."""
        return self.state / "log"


def create(state: Path, site_id: str) -> Paths:
    """Make the directories of a gateway that is about to start; notes the run directory in the state directory."""
    state = state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    unique = hashlib.sha256(os.fsencode(state)).hexdigest()[:8]  # several gateways of one site may run side by side
    run = Path(runtime) / f"bess-gateway-{site_id}-{unique}" if runtime else state / "run"
    if len(os.fsencode(run / "control.sock")) > _SOCKET_PATH_MAX:
        run = Path(tempfile.mkdtemp(prefix="bess-gateway-"))
    run.mkdir(parents=True, exist_ok=True, mode=0o750)
    paths = Paths(state, run)
    paths.logs.mkdir(exist_ok=True)
    (state / "gateway.json").write_text(json.dumps({"site": site_id, "run": str(run), "pid": os.getpid()}))
    return paths


def find(state: Path) -> Paths | None:
    """The paths of the gateway that last started with this state directory; None when there was none."""
    try:
        noted = json.loads((state / "gateway.json").read_text())
        return Paths(state.resolve(), Path(noted["run"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
