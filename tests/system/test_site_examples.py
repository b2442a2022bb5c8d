"""The other sites that are shipped reach ready and do what they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from gateway.published import read_site
from tests.system.gateway_process import connected, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def test_a_passive_site_is_watched_and_guarded(tmp_path: Path):
    with running(tmp_path, "passive_sim.toml") as process:
        async with connected(process, "A", "B") as plant:
            status = await plant.ask("status")
            assert [row["state"] for row in status["devices"]] == ["online"] * len(status["devices"])
            refused = await plant.ask("start_run", protocol="lfp_cc_rest", strings=["A"], parameters={})
            assert refused["code"] == "invalid", refused
            cells = (await plant.truth("A"))["cell_V"]
            await plant.sim.fault("bms_a", "offset", cell=1, value=4.0 - cells[0])
            await plant.tripped("string.A", within_s=3.0)

            async def parted() -> bool:
                return await plant.current_A("A") == 0.0

            await plant.until(parted, 2.0, "the contactor of string A open")
            assert set(await plant.trips()) == {"string.A"}


async def test_a_semi_active_site_charges_the_string_that_has_a_converter(tmp_path: Path):
    with running(tmp_path, "semi_active_sim.toml") as process:
        async with connected(process, "A", "B") as plant:
            await plant.charge("lead_acid_cc_cv", ("B",))
            await plant.current("B", -5.0, within_s=5.0)
            refused = await plant.ask("start_run", protocol="lfp_cc_rest", strings=["A"], parameters={})
            assert refused["code"] == "invalid", refused
            assert await plant.trips() == {}


async def test_a_plant_of_24_strings_runs_protocols_on_three_chemistries(tmp_path: Path):
    with running(tmp_path, "plant_sim.toml") as process:
        async with connected(process) as plant:
            status = await plant.ask("status")
            names = [row["id"] for row in status["strings"]]
            assert len(names) == 24
            took_s = await plant.ready(*names)
            print(f"24 strings ready after {took_s:.1f} s")
            first = {}
            for string in read_site(process.paths.site).strings:
                first.setdefault(str(string.chemistry), string.id)
            protocols = {"lfp": "lfp_cc_rest", "lead_acid": "lead_acid_cc_cv", "zinc": "zinc_cc_rest_cc_rest"}
            assert set(first) == set(protocols)
            control = psutil.Process(plant.process.pid("control"))
            control.cpu_percent()
            for chemistry, string in first.items():
                await plant.charge(protocols[chemistry], (string,))
            for string in first.values():

                async def charging(string: str = string) -> bool:
                    return await plant.current_A(string) < -0.5

                await plant.until(charging, 8.0, f"string {string} charging")
            print(f"control: {control.cpu_percent():.0f} % of a core, {control.memory_info().rss / 1e6:.0f} MB")
            idle = [name for name in names if name not in first.values()]
            for string in idle[:3]:
                assert await plant.current_A(string) == pytest.approx(0.0, abs=0.05)
            assert await plant.trips() == {}
            assert plant.symbol("site.state") == "ready"
