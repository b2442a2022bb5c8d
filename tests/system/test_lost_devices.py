"""Devices that fall silent or talk nonsense: what depends on them trips, and nothing else notices."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from gateway.points import Quality
from tests.system.gateway_process import Plant, Watch

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

BATTERY_AGE_MAX_S = 1.5
"""sites/testbed_sim.toml"""
SCAN_S = 0.1
SLACK_S = 0.4
"""A machine that is busy with other tests, and the period of the looks."""


async def test_a_bms_that_hangs_trips_its_own_string_within_the_stated_age(plant: Plant):
    run = await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    await asyncio.sleep(1.0)
    before_A = await plant.current_A("B")
    async with Watch(lambda: plant.current_A("B")) as neighbour:
        os.kill(plant.process.wire("bms_a"), signal.SIGSTOP)
        try:
            silent_s = time.monotonic()
            await plant.tripped("string.A", within_s=BATTERY_AGE_MAX_S + SCAN_S + SLACK_S)
            tripped_s = time.monotonic() - silent_s
            await plant.current("A", 0.0, within_s=1.0, tolerance_A=0.05)
            print(f"tripped after {tripped_s:.2f} s, without current after {time.monotonic() - silent_s:.2f} s")
            assert tripped_s > BATTERY_AGE_MAX_S - 2 * SCAN_S
            assert (await plant.trips())["string.A"]["first_out"] == ["battery_telemetry"]
            assert "bms_a" in (await plant.alarm("device.bms_a.communication", within_s=4.0))["text"]
            await plant.until(lambda: _has(plant, "string.A.battery.cell.1.voltage", bad=True), 5.0, "bad cell voltages")
            assert set(await plant.trips()) == {"string.A"}
            refused = await plant.ask("reset", scope="string.A")
            assert (refused["code"], "Battery telemetry" in refused["reason"]) == ("not_permitted", True)
        finally:
            os.kill(plant.process.wire("bms_a"), signal.SIGCONT)
        await plant.until(lambda: _has(plant, "string.A.battery.cell.1.voltage", bad=False), 5.0, "good cell voltages")
        assert "string.A" in await plant.trips()  # one good sample resets nothing
        await plant.reset("string.A")
        await plant.ready("A")
        await asyncio.sleep(1.0)
    assert max(abs(current_A - before_A) for current_A in neighbour.seen) < 0.01 * 5.0
    assert await plant.current_A("A") == pytest.approx(0.0, abs=0.05)
    assert not (await plant.alarms())["device.bms_a.communication"]["active"]
    tracks = {track["string"]: track["state"] for track in (await plant.run(run))["tracks"]}
    assert (tracks["A"], tracks["B"]) == ("aborted", "running")


async def _has(plant: Plant, point: str, *, bad: bool) -> bool:
    return plant.quality(point) is (Quality.BAD_NO_COMMUNICATION if bad else Quality.GOOD)


async def test_a_silent_converter_does_not_slow_its_neighbour_on_the_same_line(plant: Plant):
    await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)

    async def age() -> float:
        return plant.age_s("string.A.converter.battery_current")

    async with Watch(age) as usual:
        await asyncio.sleep(1.5)
    async with Watch(age) as beside:
        await plant.sim.fault("dab_b", "silence")
        await plant.tripped("string.B", within_s=1.0 + SCAN_S + SLACK_S)
        assert (await plant.trips())["string.B"]["first_out"] == ["converter_telemetry"]
        await plant.current("B", 0.0, within_s=2.0, tolerance_A=0.05)  # by its own communication time-out
        await plant.alarm("device.dab_b.communication", within_s=4.0)
        assert (await plant.alarm("string.B.unconfirmed", within_s=4.0))["priority"] == 1
        await asyncio.sleep(2.0)
    print(f"dab_a: at most {max(usual.seen):.2f} s old before, {max(beside.seen):.2f} s beside a silent dab_b")
    assert max(beside.seen) < 0.7
    assert set(await plant.trips()) == {"string.B"}
    assert await plant.current_A("A") == pytest.approx(-5.0, abs=0.05)

    await plant.sim.clear("dab_b")
    await plant.until(lambda: _has(plant, "string.B.converter.battery_current", bad=False), 5.0, "good values of dab_b")
    await plant.reset("string.B")
    await plant.ready("B")
    assert (await plant.truth("B"))["converter"]["latched"] == 0
    assert await plant.current_A("B") == pytest.approx(0.0, abs=0.05)
    assert await plant.current_A("A") == pytest.approx(-5.0, abs=0.05)


@pytest.mark.parametrize("kind", ["corrupt", "late", "wrong_unit"])
async def test_nonsense_ages_and_names_its_device_and_heals_by_itself(plant: Plant, kind: str):
    mine = ("string.A.battery.cell.1.voltage", "string.B.converter.battery_current")
    others = ("string.B.battery.cell.1.voltage", "string.A.converter.battery_current")
    seen: dict[str, list[Quality]] = {name: [] for name in mine}

    async def age() -> float:
        for name in mine:
            quality = plant.quality(name)
            if not seen[name] or seen[name][-1] is not quality:
                seen[name].append(quality)
        return max(plant.age_s(name) for name in others)

    async with Watch(age) as neighbours:
        await plant.sim.fault("bms_a", kind)
        await plant.sim.fault("dab_b", kind)
        for device in ("bms_a", "dab_b"):
            text = (await plant.alarm(f"device.{device}.communication", within_s=6.0))["text"]
            assert f"({device}):" in text, text
        await plant.until(lambda: _all_bad(seen), 8.0, f"bad values: {seen}")
        assert set(await plant.trips()) == {"string.A", "string.B"}
        await plant.sim.clear()
        for name in mine:
            await plant.until(lambda name=name: _has(plant, name, bad=False), 6.0, f"good {name}")
    print(f"{kind}: neighbours at most {max(neighbours.seen):.2f} s old")
    assert max(neighbours.seen) < 0.9
    for qualities in seen.values():
        assert qualities[:2] == [Quality.GOOD, Quality.UNCERTAIN_LAST_USABLE_VALUE], qualities
        assert qualities[2].is_bad, qualities
    for scope in ("string.A", "string.B"):
        await plant.reset(scope)
    await plant.ready("A", "B")


async def _all_bad(seen: dict[str, list[Quality]]) -> bool:
    return all(qualities[-1].is_bad for qualities in seen.values())
