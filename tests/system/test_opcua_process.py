"""The OPC UA process as it is shipped, on an image and a control socket that the test keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
from asyncua import Client, ua

from gateway.control_socket import ControlServer
from gateway.points import Point
from tests.unit.opcua.plant import POINTS, Writer, free_port

pytestmark = pytest.mark.system

REPO = Path(__file__).parents[2]
VOLTAGE = "string.A.battery.cell.1.voltage"


class Process:
    """`python -m gateway.servers.opcua`, and what it printed."""

    def __init__(self, run: Path, *arguments: str) -> None:
        self._arguments = ("-m", "gateway.servers.opcua", "--run-dir", str(run), *arguments)
        self._run = run

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, cwd=REPO, stderr=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def listening(self) -> str:
        """Its endpoint, once it has announced it."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    announced = json.loads((self._run / "opcua.json").read_text())
                    if announced["pid"] == self.process.pid:
                        return announced["endpoint"]
                assert self.process.returncode is None, (await self.process.communicate())[1].decode()
                await asyncio.sleep(0.05)

    async def ended(self) -> tuple[int, str]:
        """Exit code and what was printed."""
        async with asyncio.timeout(30):
            _, errors = await self.process.communicate()
        return self.process.returncode, errors.decode()


@contextlib.asynccontextmanager
async def alive(writer: Writer):
    """The writer's heartbeat."""
    task = asyncio.create_task(writer.live())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def read(client: Client, name: str) -> ua.DataValue:
    namespace = await client.get_namespace_index("urn:bess-gateway")
    return await client.get_node(ua.NodeId(name, namespace)).read_data_value(raise_on_bad_status=False)


async def until(client: Client, name: str, status: str, value: object = ...) -> ua.DataValue:
    async with asyncio.timeout(10):
        while True:
            data = await read(client, name)
            if data.StatusCode.name == status and value in (..., data.Value.Value):
                return data
            await asyncio.sleep(0.05)


async def test_values_survive_the_death_of_the_writer_and_of_the_server(tmp_path):
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}"
    writer = Writer(tmp_path, endpoint=endpoint)
    writer.set(VOLTAGE, 3.3)
    async with alive(writer):
        async with Process(tmp_path) as server:
            assert await server.listening() == endpoint
            assert psutil.Process(server.process.pid).memory_info().rss < 250e6
            async with Client(endpoint) as client:
                await until(client, VOLTAGE, "Good", 3.3)
            server.process.kill()
        async with Process(tmp_path) as server:  # kill -9 has left nothing that is in the way of the next one
            await server.listening()
            async with Client(endpoint) as client:
                await until(client, VOLTAGE, "Good", 3.3)
            server.process.send_signal(signal.SIGTERM)
            code, _ = await server.ended()
            assert code == 0
    assert not (tmp_path / "opcua.json").exists()


async def test_a_silent_control_makes_values_bad_and_a_new_one_of_the_same_site_brings_them_back(tmp_path):
    writer = Writer(tmp_path)
    writer.set(VOLTAGE, 3.3)
    async with Process(tmp_path) as server:
        async with alive(writer):
            endpoint = await server.listening()
        async with Client(endpoint) as client:
            data = await until(client, VOLTAGE, "BadNoCommunication")
            assert data.Value.Value is None
            assert await client.get_node(ua.ObjectIds.Server_ServiceLevel).read_value() == 0
            again = Writer(tmp_path)
            again.set(VOLTAGE, 3.35)
            async with alive(again):
                await until(client, VOLTAGE, "Good", 3.35)
                assert await client.get_node(ua.ObjectIds.Server_ServiceLevel).read_value() == 255
        assert server.process.returncode is None


async def test_another_site_ends_the_process_so_that_it_is_started_again(tmp_path):
    async with Process(tmp_path) as server:
        async with alive(Writer(tmp_path)):
            await server.listening()
        async with alive(Writer(tmp_path, (*POINTS, Point(name="site.more")))):
            code, printed = await server.ended()
    assert code == 75
    assert "starting again" in printed


async def test_it_waits_for_control_and_stops_while_waiting(tmp_path):
    async with Process(tmp_path) as server:
        await asyncio.sleep(2.0)
        assert server.process.returncode is None
        server.process.send_signal(signal.SIGTERM)
        code, printed = await server.ended()
    assert code == 0
    assert "waiting for the control process" in printed


async def test_an_endpoint_for_other_machines_is_refused_with_what_to_write_instead(tmp_path):
    Writer(tmp_path)
    async with Process(tmp_path, "--endpoint", "opc.tcp://0.0.0.0:4840") as server:
        code, printed = await server.ended()
    assert code == 78
    assert 'endpoint = "opc.tcp://127.0.0.1:4840"' in printed


async def test_a_taken_port_ends_the_process_with_a_reason(tmp_path):
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, alive(Writer(tmp_path)), Process(tmp_path, "--endpoint", f"opc.tcp://127.0.0.1:{port}") as server:
        code, printed = await server.ended()
    assert code == 69
    assert "cannot listen" in printed


async def test_methods_and_reports_reach_the_control_socket(tmp_path):
    started: list[dict] = []
    reports: asyncio.Queue[tuple[dict, str]] = asyncio.Queue()

    async def start_run(arguments, origin):
        started.append(dict(arguments))
        return {"code": "owned", "reason": f"string A is busy, {origin.process}", "record": 5}

    async def report(arguments, origin):
        reports.put_nowait((dict(arguments), origin.process))

    async with (
        ControlServer(tmp_path / "control.sock", {"start_run": start_run, "report": report}),
        alive(Writer(tmp_path)),
        Process(tmp_path) as server,
        Client(await server.listening()) as client,
    ):
        namespace = await client.get_namespace_index("urn:bess-gateway")
        site = client.get_node(ua.NodeId("site", namespace))
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await site.call_method(f"{namespace}:StartRun", "lfp_cccv", ["A"], '{"at": "5 A"}')
        assert refused.value.code == ua.StatusCodes.BadLocked
        refusal = await client.get_node(ua.NodeId("method.LastRefusal", namespace)).read_value()
        async with asyncio.timeout(10):
            while (entry := await reports.get())[0]["sessions"] != 1:
                pass
    assert refusal == "StartRun: owned: string A is busy, opcua"
    assert started == [{"protocol": "lfp_cccv", "strings": ["A"], "parameters": {"at": "5 A"}}]
    values, process = entry
    assert process == "opcua"
    assert values["lag"] < 1.0
    assert 20 < values["memory"] < 250
    assert values["drops"] == 0
