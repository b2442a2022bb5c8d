"""The plant is made safe by stored frames alone, when nothing of the gateway is left to do it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.gateway_process import REPO, GatewayProcess, Plant, connected, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

WATCHDOG_S = 5.0
"""Of the supply in these sites: what is off sooner was told to be."""


async def _killed_and_replayed(process: GatewayProcess) -> tuple[int, dict]:
    """Control dies, its supervisor does nothing, the stored frames are replayed before any watchdog acts."""
    begin_s = time.monotonic()
    os.kill(process.pid("control"), signal.SIGKILL)
    command = [sys.executable, "-m", "gateway.safe_state", str(process.state / "safe_frames.json"), "--json"]
    replaying = await asyncio.create_subprocess_exec(*command, cwd=REPO, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(replaying.communicate(), 30.0)
    assert time.monotonic() - begin_s < WATCHDOG_S - 1.0
    assert replaying.returncode is not None
    return replaying.returncode, json.loads(printed)


async def _at_rest(plant: Plant) -> None:
    """The truth, at most the converter's own ramp after the command."""
    deadline_s = time.monotonic() + 0.7
    while True:
        truth = await plant.sim.truth()
        currents = {name: string["current_A"] for name, string in truth["strings"].items()}
        if truth["bus"]["supply"] == "off" and all(abs(current) < 0.02 for current in currents.values()):
            return
        assert time.monotonic() < deadline_s, (truth["bus"], currents)
        await asyncio.sleep(0.02)


async def test_every_device_of_the_testbed_confirms(tmp_path: Path):
    with running(tmp_path) as process:
        async with connected(process, "A", "B") as plant:
            await plant.charge()
            for string in "AB":
                await plant.current(string, -5.0, within_s=5.0)
            with process.suspended():
                code, answer = await _killed_and_replayed(process)
                await _at_rest(plant)
            assert (code, answer["ok"]) == (0, True), answer
            details = {row["device"]: row["detail"] for row in answer["devices"]}
            assert details == dict.fromkeys(("dab_a", "dab_b", "rps"), "1 frames confirmed")


async def test_a_supply_that_stays_on_is_not_called_safe(tmp_path: Path):
    with running(tmp_path) as process:
        async with connected(process, "A", "B") as plant:
            await plant.sim.fault("rps", "stuck_output")
            with process.suspended():
                code, answer = await _killed_and_replayed(process)
            assert (code, answer["ok"]) == (1, False), answer
            assert {row["device"]: row["ok"] for row in answer["devices"]} == {"dab_a": True, "dab_b": True, "rps": False}


async def test_contactors_open(tmp_path: Path):
    with running(tmp_path, "passive_sim.toml") as process:
        async with connected(process, "A", "B") as plant:
            with process.suspended():
                code, answer = await _killed_and_replayed(process)
                await _at_rest(plant)
                assert not any([(await plant.truth(string))["connected"] for string in "AB"])
            assert code == 0, answer
            assert {row["device"]: row["ok"] for row in answer["devices"]} == {"relays": True, "rps": True}


async def test_frames_are_there_before_the_plant_may_start_and_follow_the_ports(tmp_path: Path):
    with running(tmp_path) as process:
        async with connected(process) as plant:
            frames = process.state / "safe_frames.json"
            await plant.state("protect", "energise", "settle", "reset_converters", "ready")
            ports = {name: entry["port"] for name, entry in json.loads(frames.read_text()).items()}
            real = json.loads(process.paths.simulator.read_text())["ports"]
            assert ports == {"dab_a": real["rs485"], "dab_b": real["rs485"], "rps": real["rps"]}
            await plant.ready("A", "B")

            os.kill(process.pid("simulator"), signal.SIGKILL)

            async def moved() -> bool:
                stored = json.loads(frames.read_text())["rps"]["port"]
                try:
                    return stored == json.loads(process.paths.simulator.read_text())["ports"]["rps"] != real["rps"]
                except FileNotFoundError:
                    return False

            await plant.until(moved, 30.0, "frames with the new ports")
