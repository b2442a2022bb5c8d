"""`python -m gateway.simulator SITE.toml --run-dir DIR [--plant FILE.toml]`: the simulated plant of a site, until SIGTERM.

Opens every `sim:` port of the site, then writes DIR/sim.json (ports, relay pids, control socket, own pid) in one piece; removes
it at a clean end. The plant runs at the time factor in DIR/time_factor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.simulator import site_file
from gateway.simulator.control import ControlDoor
from gateway.simulator.simulated_site import SimulatedSite
from gateway.simulator.time_factor import TimeFactorFile
from gateway.simulator.wires import join, open_wire

if TYPE_CHECKING:
    from gateway.simulator.wires import Wire

_log = logging.getLogger(__name__)
_TICK_S = 0.015
_TICK_LARGE_S = 0.025
_LARGE_STRINGS = 8
_CATCH_UP_S = 1.0
"""A pause of this process longer than this is not caught up: the plant stood still meanwhile."""
_CONFIG_ERROR = 2


async def _tick(testbed: SimulatedSite, factor: TimeFactorFile) -> None:
    """Advance the plant in step with real time until cancelled."""
    period_s = _TICK_LARGE_S if len(testbed.plant.strings) > _LARGE_STRINGS else _TICK_S
    last_s = time.monotonic()
    while True:
        await asyncio.sleep(period_s)
        now_s = time.monotonic()
        testbed.advance(min(now_s - last_s, _CATCH_UP_S) * factor.read())
        last_s = now_s


def _announce(path: Path, document: dict[str, object]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    partial.replace(path)


async def _run(testbed: SimulatedSite, run_dir: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    announced, control = run_dir / "sim.json", run_dir / "sim.sock"
    factor = TimeFactorFile(run_dir / "time_factor")
    wires: dict[str, Wire] = {}
    control.unlink(missing_ok=True)
    announced.unlink(missing_ok=True)
    try:
        for spec in testbed.site.wires:
            wires[spec.name] = open_wire(spec)
        await asyncio.gather(*(join(wire, testbed.endpoints[name]) for name, wire in wires.items()))
        door = ControlDoor(testbed, lambda: factor.factor)
        async with await asyncio.start_unix_server(door.opened, control):
            _announce(
                announced,
                {
                    "ports": {name: wire.address for name, wire in wires.items()},
                    "pids": {name: wire.relay.pid for name, wire in wires.items()},
                    "control": str(control),
                    "pid": os.getpid(),
                },
            )
            _log.info("%d strings, %d devices on %d wires", len(testbed.plant.strings), len(testbed.devices), len(wires))
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(_tick(testbed, factor))
                await stop.wait()
                ticking.cancel()
            await door.close()
    finally:
        announced.unlink(missing_ok=True)
        control.unlink(missing_ok=True)
        for wire in wires.values():
            wire.close()


def main() -> None:
    """Entry point. Exit code 2 when the site file cannot be simulated."""
    parser = argparse.ArgumentParser(prog="python -m gateway.simulator", description="The simulated plant of a site.")
    parser.add_argument("site", type=Path, help="site file")
    parser.add_argument("--run-dir", type=Path, required=True, help="folder for sim.json, sim.sock and time_factor")
    parser.add_argument("--plant", type=Path, help="TOML file with start values and spreads of the cells")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s simulator %(levelname)s %(message)s")
    try:
        testbed = SimulatedSite(site_file.load(arguments.site, arguments.plant))
    except (site_file.SiteError, OSError, tomllib.TOMLDecodeError) as error:
        _log.error("%s", error)
        sys.exit(_CONFIG_ERROR)
    arguments.run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(testbed, arguments.run_dir))


if __name__ == "__main__":
    main()
