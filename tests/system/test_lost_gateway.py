"""A gateway of a large plant that falls silent: the converters behind the others must not notice."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.gateway_process import Watch, connected, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

OUTAGE_S = 6.0
"""Several times the converters' communication time-out of 1 s, and attempts to reach each of the twelve lost devices."""


async def test_heartbeats_of_other_gateways_go_on(tmp_path: Path):
    with running(tmp_path, "plant_sim.toml") as process:
        async with connected(process, "07", "13") as plant:
            await plant.charge("lfp_cc_rest", ("13",))
            await plant.current("13", -5.0, within_s=8.0)
            async with Watch(lambda: plant.current_A("13")) as neighbour:
                os.kill(process.wire("plant1"), signal.SIGSTOP)
                await asyncio.sleep(OUTAGE_S)
                os.kill(process.wire("plant1"), signal.SIGCONT)
            assert set(await plant.trips()) == {f"string.{number:02}" for number in range(1, 7)}
    assert max(abs(current_A + 5.0) for current_A in neighbour.seen) < 0.1
