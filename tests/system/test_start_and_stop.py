"""Starting and stopping a gateway: outputs safe first, in order, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gateway.simulator.control import SimClient
from tests.system.gateway_process import GatewayProcess, Plant, connected, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

STARTING = ["safe_outputs", "monitor", "protect", "energise", "settle", "reset_converters", "ready"]


async def _last_truth(process: GatewayProcess) -> dict:
    """The last that the simulator tells of its plant while it goes down; it outlives control."""
    last: dict = {}
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: what a stream says after its other end has gone
        async with SimClient(process.paths.simulator_socket) as sim:
            while True:
                last = await sim.truth()
                await asyncio.sleep(0.02)
    return last


async def _stopped(process: GatewayProcess) -> dict:
    """Stop it, and tell the plant's last truth."""
    watching = asyncio.create_task(_last_truth(process))
    await asyncio.sleep(0.2)
    code = await asyncio.to_thread(process.stop)
    assert code == 0, process.output
    return await watching


async def test_start_stop_and_start_again_beside_another_gateway(plant: Plant, tmp_path: Path):
    charging = await plant.charge()  # the other gateway, which must not notice
    process = GatewayProcess(tmp_path)
    began_s = time.monotonic()
    process.start()
    async with connected(process, "A", "B") as second:
        took_s = time.monotonic() - began_s
        print(f"ready {took_s:.1f} s after the command")
        states = [event["text"].split(":")[0] for event in await second.events() if event["text"].startswith("site ")]
        assert states == [f"site {state}" for state in STARTING[1:]]
        texts = [event["text"] for event in await second.events()]
        assert next(place for place, text in enumerate(texts) if "output_enable = 1" in text) > texts.index(
            "site monitor: waiting for good values of every device"
        )
        await second.charge()
        await second.current("A", -5.0, within_s=5.0)
        due = datetime.now(UTC) + timedelta(seconds=4)
        at = due.isoformat()
        await second.accepted(
            "schedule_add", id="missed", protocol="lfp_cc_rest", strings=["A"], at=at, misfire_grace_s=1.0, timezone="UTC"
        )
    truth = await _stopped(process)
    for string in truth["strings"].values():
        assert string["current_A"] == pytest.approx(0.0, abs=0.05)
        assert string["converter"]["state"] == "OFF"
        assert string["converter"]["latched"] == 0
    assert truth["bus"]["supply"] == "off"
    assert (await plant.run(charging))["state"] == "running"

    await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds() + 1.5))
    process.start()
    async with connected(process, "A", "B") as second:
        assert not any(row["state"] == "running" for row in (await second.ask("runs"))["runs"])
        texts = [event["text"] for event in await second.events()]
        assert any(text.startswith("schedule missed did not start lfp_cc_rest: it was due at") for text in texts), texts
        assert await second.trips() == {}
        assert [await second.current_A(string) for string in "AB"] == pytest.approx([0.0, 0.0], abs=0.05)
    assert await asyncio.to_thread(process.stop) == 0
    assert (await plant.run(charging))["state"] == "running"
    assert await plant.trips() == {}


async def test_a_bms_that_is_not_there_keeps_only_its_own_string_from_ready(tmp_path: Path):
    with running(tmp_path) as process:
        while not (tmp_path / "state" / "gateway.json").exists() or not process.paths.simulator.exists():  # noqa: ASYNC110 -- another process makes them
            await asyncio.sleep(0.02)
        os.kill(process.wire("bms_a"), signal.SIGSTOP)
        async with connected(process, "B") as plant:
            assert not (await plant.string("A"))["ready"]
            assert "string A" in (await plant.site())["reason"]
            assert (await plant.alarm("device.bms_a.communication", within_s=5.0))["priority"] == 2
            refused = await plant.ask("start_run", protocol="lfp_cc_rest", strings=["A"], parameters={})
            assert refused["code"] in {"tripped", "not_permitted"}
            await plant.charge("lead_acid_cc_cv", ("B",))
            await plant.current("B", -5.0, within_s=5.0)
            os.kill(process.wire("bms_a"), signal.SIGCONT)
            await plant.reset("string.A", within_s=30.0)
            await plant.ready("A")
            assert await plant.current_A("B") == pytest.approx(-5.0, abs=0.05)
