"""Processes that are killed or hang: the plant goes on, or goes safe, and everything comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time

import pytest
from asyncua import Client, ua

from tests.system.gateway_process import Plant, Watch, connected

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]


def _endpoint(plant: Plant) -> str | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        announced = json.loads((plant.process.paths.run / "opcua.json").read_text())
        return announced["endpoint"] if announced["pid"] == plant.process.pid("opcua") else None
    return None


async def _listening(plant: Plant, within_s: float = 40.0) -> str:
    async def there() -> bool:
        with contextlib.suppress(AssertionError):
            return _endpoint(plant) is not None
        return False

    await plant.until(there, within_s, "OPC UA endpoint")
    endpoint = _endpoint(plant)
    assert endpoint is not None
    return endpoint


async def _namespace(client: Client) -> int:
    return await client.get_namespace_index("urn:bess-gateway:testbed")


async def _node(client: Client, name: str):
    return client.get_node(ua.NodeId(name, await _namespace(client)))


async def _read(client: Client, name: str) -> ua.DataValue:
    return await (await _node(client, name)).read_data_value(raise_on_bad_status=False)


async def _browse(client: Client) -> set[str]:
    """The ids of everything below the site's strings."""
    found: set[str] = set()
    left = [await _node(client, "string.A")]
    while left:
        for child in await left.pop().get_children():
            if child.nodeid.to_string() not in found:
                found.add(child.nodeid.to_string())
                left.append(child)
    return found


async def test_the_death_of_the_opcua_process_changes_nothing_in_control(plant: Plant):
    async with Client(await _listening(plant)) as client:
        ids = await _browse(client)
        assert (await _read(client, "site.state")).Value.Value == plant.value("site.state")
    assert len(ids) > 50
    run = await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    control, overruns = plant.process.pid("control"), plant.value("site.cycle_overruns")
    async with Watch(lambda: plant.current_A("A")) as charging:
        os.kill(plant.process.pid("opcua"), signal.SIGKILL)
        killed_s = time.monotonic()
        await asyncio.sleep(0.2)
        endpoint = await _listening(plant)
        async with Client(endpoint) as client:
            back_s = time.monotonic() - killed_s
            assert (await _read(client, "string.A.battery.current")).Value.Value == pytest.approx(-5.0, abs=0.15)
            assert await _browse(client) == ids
    print(f"OPC UA answers again after {back_s:.1f} s")
    assert back_s < 20.0  # 10 s on a machine that has nothing else to do
    assert plant.process.pid("control") == control
    assert plant.value("site.cycle_overruns") - overruns <= 2  # the start of an interpreter on a machine with two processors
    assert [current for current in charging.seen if abs(current + 5.0) > 0.05] == []
    assert (await plant.run(run))["state"] == "running"
    assert await plant.trips() == {}


async def test_the_death_of_control_stops_the_current_and_nothing_resumes(plant: Plant):
    run = await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    control, after = plant.process.pid("control"), await plant.last_event()
    os.kill(control, signal.SIGKILL)
    killed_s = time.monotonic()
    for string in "AB":
        await plant.current(string, 0.0, within_s=3.0, tolerance_A=0.05)
    print(f"without current {time.monotonic() - killed_s:.2f} s after the death of control")
    assert time.monotonic() - killed_s < 3.0

    async with connected(plant.process) as again:
        await again.ready("A", "B")
        print(f"ready {time.monotonic() - killed_s:.1f} s after the death of control")
        assert again.process.pid("control") != control
        ended = await again.run(run)
        assert (ended["state"], ended["reason"]) == ("aborted", "the gateway restarted")
        events = [event for event in await again.events(after) if event["kind"] in {"sequence", "command", "run"}]
        texts = [event["text"] for event in events]
        assert any("was interrupted" in text for text in texts)
        energised = next(place for place, text in enumerate(texts) if "output_enable = 1" in text)
        assert texts.index("site monitor: waiting for good values of every device") < energised, texts
        await asyncio.sleep(1.0)
        assert [await again.current_A(string) for string in "AB"] == pytest.approx([0.0, 0.0], abs=0.05)
        assert all(row["state"] not in {"running", "paused"} for row in (await again.ask("runs"))["runs"])


async def test_a_hung_control_is_outlived_by_the_devices_own_watchdogs(plant: Plant):
    await plant.charge()
    for string in "AB":
        await plant.current(string, -5.0, within_s=5.0)
    after = await plant.last_event()
    async with Client(await _listening(plant)) as client:
        control = plant.process.pid("control")
        os.kill(control, signal.SIGSTOP)
        hung_s = time.monotonic()
        try:
            for string in "AB":  # communication time-out 1 s, ramp 0.5 s
                await plant.current(string, 0.0, within_s=2.5, tolerance_A=0.05)
            stopped_s = time.monotonic() - hung_s
            await plant.until(lambda: _in_fault(plant), 0.5, "the converter's own time-out latched")
            await plant.until(lambda: _is_bad(client, "string.A.battery.current"), 5.0, "a bad status at the OPC UA client")
            await plant.until(lambda: _off(plant), 7.0, "the supply's watchdog")
            off_s = time.monotonic() - hung_s
        finally:
            os.kill(control, signal.SIGCONT)
        print(f"no current after {stopped_s:.2f} s, supply off after {off_s:.2f} s")
        assert 0.9 < stopped_s < 2.5
        assert 4.5 < off_s < 7.5

        async def told() -> bool:
            return "site" in await plant.trips()

        await plant.until(told, 5.0, "a trip")
        await asyncio.sleep(0.5)
        reasons = [event["text"] for event in await plant.events(after) if event["kind"] == "trip"]
        assert any(text.startswith("site tripped: ") for text in reasons), reasons
        assert all(row["state"] != "running" for row in (await plant.ask("runs"))["runs"])
        assert await plant.supply() == "off"
        await plant.calm()
        data = await _read(client, "string.A.battery.current")
        assert (data.StatusCode.is_good(), data.Value.Value) == (True, pytest.approx(0.0, abs=0.1))


async def _in_fault(plant: Plant) -> bool:
    return (await plant.truth("A"))["converter"]["state"] == "FAULT"


async def _off(plant: Plant) -> bool:
    return await plant.supply() == "off"


async def _is_bad(client: Client, name: str) -> bool:
    return (await _read(client, name)).StatusCode.name == "BadNoCommunication"


async def test_opcua_methods_command_the_plant(plant: Plant):
    async with Client(await _listening(plant)) as client:
        namespace = await _namespace(client)
        site = await _node(client, "site")

        async def call(method: str, *arguments: object) -> list:
            return await site.call_method(f"{namespace}:{method}", *arguments)

        code, _, _, run = await call("StartRun", "hybrid_charge", ["A", "B"], '{"charge_current": "3 A"}')
        assert code == "accepted"
        await plant.current("A", -3.0, within_s=5.0)
        with pytest.raises(ua.UaStatusCodeError):
            await call("StartRun", "lfp_cc_rest", ["A"], "")
        assert (await call("StopRun", run))[0] == "accepted"
        await plant.current("A", 0.0, within_s=1.0, tolerance_A=0.05)
        assert (await call("Stop"))[0] == "accepted"
        assert await plant.supply() == "off"
        assert (await _read(client, "site.trip.latched")).Value.Value is True
        await asyncio.sleep(2.2)
        assert (await call("Reset", "site"))[0] == "accepted"
        await plant.state("stopped", within_s=2.0)
