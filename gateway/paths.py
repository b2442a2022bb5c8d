"""Where a running gateway keeps its files: the state directory outlives it, the run directory does not.

Verbs that talk to a running gateway find it by its state directory, which names the run directory in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Generator

_SOCKET_PATH_MAX = 100
"""Unix socket paths end at 107 bytes (unix(7)); the longest name in a run directory needs a few of them."""
_LOOK_S = 0.1


class StateInUse(GatewayError):
    """Another process works with this state directory."""


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


def create(state: Path, site_id: str, run: Path | None = None) -> Paths:
    """Make the directories of a gateway that is about to start; notes the run directory in the state directory.

    Call it while the state directory is `held`. Without `run` a run directory is chosen.
    """
    state = state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    run = run.resolve() if run is not None else _run_directory(state, site_id)
    run.mkdir(parents=True, exist_ok=True, mode=0o750)
    paths = Paths(state, run)
    paths.logs.mkdir(exist_ok=True)
    note = state / "gateway.json"
    new = note.with_suffix(".new")
    new.write_text(json.dumps({"site": site_id, "run": str(run), "pid": os.getpid()}))
    new.replace(note)
    return paths


def _run_directory(state: Path, site_id: str) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    unique = hashlib.sha256(os.fsencode(state)).hexdigest()[:8]  # several gateways of one site may run side by side
    run = Path(runtime) / f"bess-gateway-{site_id}-{unique}" if runtime else state / "run"
    if len(os.fsencode(run / "control.sock")) > _SOCKET_PATH_MAX:
        return Path(tempfile.mkdtemp(prefix="bess-gateway-"))
    return run


@contextlib.contextmanager
def held(state: Path, what: str, *, patience_s: float = 0.0) -> Generator[None]:
    """Be the only `what` ("gateway" or "control") of a state directory, which is made when it is missing.

    Raises StateInUse when another process still is after `patience_s` real seconds. The kernel lets go of the lock when
    the process ends, however it ends (flock(2)); programs that it starts do not inherit it. The file stays.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / f"{what}.lock").open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + patience_s
        while not _locked(file.fileno()):
            if time.monotonic() >= deadline:
                file.seek(0)
                raise StateInUse(f"a {what} already runs with state directory {state} (process {file.read().strip() or '?'})")
            time.sleep(_LOOK_S)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find(state: Path) -> Paths | None:
    """The paths of the gateway that last started with this state directory; None when there was none."""
    try:
        noted = json.loads((state / "gateway.json").read_text())
        return Paths(state.resolve(), Path(noted["run"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
