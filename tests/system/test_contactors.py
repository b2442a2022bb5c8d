"""Strings that sit on the bus behind contactors: connected, parted by a trip, brought back, left open."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.gateway_process import Plant, Watch, connected, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def contactors(plant: Plant) -> list[bool]:
    return [(await plant.truth(string))["connected"] for string in "AB"]


async def overvoltage(plant: Plant, battery: str, string: str) -> None:
    cells = (await plant.truth(string))["cell_V"]
    await plant.sim.fault(battery, "offset", cell=1, value=4.0 - cells[0])


async def test_a_passive_site_connects_parts_and_reconnects_its_strings(tmp_path: Path):
    with running(tmp_path, "passive_sim.toml") as process:
        async with connected(process) as plant:
            async with Watch(lambda: plant.current_A("A")) as starting:
                await plant.ready("A", "B")
            assert await contactors(plant) == [True, True]
            assert [plant.value(f"string.{s}.contactor.feedback") for s in "AB"] == [1.0, 1.0]
            assert max(map(abs, starting.seen)) < 10.5, "the supply's own limits carry the batteries to its voltage"
            texts = [event["text"] for event in await plant.events()]
            order = [
                next(n for n, text in enumerate(texts) if needle in text)
                for needle in ("site connect", "string.A.contactor", "string.B.contactor", "output_enable = 1")
            ]
            assert order == sorted(order), texts

            await overvoltage(plant, "bms_a", "A")
            await plant.tripped("string.A", within_s=3.0)

            async def parted() -> bool:
                return await plant.current_A("A") == 0.0

            await plant.until(parted, 1.0, "string A without current")
            assert await contactors(plant) == [False, True]
            assert set(await plant.trips()) == {"string.A"}, "the other string stays"
            assert await plant.supply() != "off"
            assert plant.symbol("site.state") == "ready"

            await plant.sim.clear()
            await plant.reset("string.A")

            async def waits() -> bool:
                status = await plant.ask("status")
                return "start the site" in status["site"]["reason"]

            await plant.until(waits, 5.0, "string A waits for a start")
            assert await contactors(plant) == [False, True], "a reset starts nothing"
            async with Watch(lambda: plant.current_A("A")) as joining:
                await plant.accepted("start_site")
                await plant.ready("A", "B", within_s=10.0)
            assert await contactors(plant) == [True, True]
            assert max(map(abs, joining.seen)) < 6.0, "no surge: it joined at the voltage of the bus"
            assert await plant.trips() == {}

            await plant.accepted("stop_site")
            await plant.state("stopped", within_s=10.0)
            assert await contactors(plant) == [False, False]
            assert await plant.supply() == "off"


async def test_a_stopped_gateway_leaves_contactors_open(tmp_path: Path):
    with running(tmp_path, "passive_sim.toml") as process:
        async with connected(process, "A", "B") as plant:
            os.kill(process.pid("control"), signal.SIGTERM)

            async def open_and_off() -> bool:
                return await contactors(plant) == [False, False] and await plant.supply() == "off"

            await plant.until(open_and_off, 10.0, "contactors open and the supply off")


async def test_a_contactor_that_does_not_open_takes_the_site_along(tmp_path: Path):
    with running(tmp_path, "passive_sim.toml") as process:
        async with connected(process, "A", "B") as plant:
            await plant.sim.fault("relays", "stuck_output")
            await overvoltage(plant, "bms_a", "A")
            await plant.tripped("string.A", within_s=3.0)
            await plant.tripped("site", within_s=5.0)

            async def off() -> bool:
                return await plant.supply() == "off"

            await plant.until(off, 2.0, "supply off")
            await plant.alarm("string.A.contactor_stuck", within_s=1.0)


async def test_strings_at_different_voltages_are_not_put_on_one_bus(tmp_path: Path):
    with running(tmp_path, "passive_sim.toml") as process:
        async with connected(process) as plant:
            await plant.sim.request({"do": "set", "string": "B", "soc": 0.2})
            await plant.ready("A", within_s=60.0)
            assert await contactors(plant) == [True, False]
            reason = (await plant.site())["reason"]
            assert reason.startswith("string B: not connected: the bus is at 26."), reason
            assert await plant.current_A("B") == 0.0


async def test_a_semi_active_site_opens_the_contactor_of_the_string_on_the_bus(tmp_path: Path):
    with running(tmp_path, "semi_active_sim.toml") as process:
        async with connected(process, "A", "B") as plant:
            await plant.charge("lead_acid_cc_cv", ("B",))
            await plant.current("B", -5.0, within_s=5.0)
            assert (await plant.truth("A"))["connected"]
            await overvoltage(plant, "bms_a", "A")
            await plant.tripped("string.A", within_s=3.0)

            async def parted() -> bool:
                return not (await plant.truth("A"))["connected"]

            await plant.until(parted, 1.0, "string A parted")
            assert await plant.current_A("A") == 0.0
            assert await plant.current_A("B") == pytest.approx(-5.0, abs=0.2), "the other string goes on"
            assert set(await plant.trips()) == {"string.A"}
