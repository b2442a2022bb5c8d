"""Where `sim:` ports really are."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from gateway.errors import TransportClosed
from gateway.sim_ports import SimPorts

if TYPE_CHECKING:
    from pathlib import Path

PORTS = {"ports": {"rs485": "/dev/pts/5", "rps": "127.0.0.1:40123", "tcp": "127.0.0.1:502"}}


def announce(file: Path, content: str) -> None:
    file.write_text(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sim.json"
    path.write_text(json.dumps(PORTS))
    return path


async def test_a_simulated_port_is_where_the_simulator_says(file: Path) -> None:
    ports = SimPorts(file, ["sim:rps"])
    assert await ports.resolve("sim:rs485") == "/dev/pts/5"
    assert await ports.resolve("sim:tcp") == "127.0.0.1:502"


async def test_an_instrument_is_spelt_as_a_visa_resource(file: Path) -> None:
    assert await SimPorts(file, ["sim:rps"]).resolve("sim:rps") == "TCPIP0::127.0.0.1::40123::SOCKET"


@pytest.mark.parametrize("port", ["/dev/ttyUSB0", "10.0.0.7:502", "TCPIP0::10.0.0.8::5025::SOCKET"])
async def test_a_real_port_is_what_it_says_without_any_simulator(tmp_path: Path, port: str) -> None:
    assert await SimPorts(tmp_path / "none", [port], patience_s=0.0).resolve(port) == port


async def test_it_waits_for_a_simulator_that_is_still_starting(tmp_path: Path) -> None:
    file = tmp_path / "sim.json"
    waiting = asyncio.create_task(SimPorts(file, [], patience_s=30.0).resolve("sim:rs485"))
    await asyncio.sleep(0)
    assert not waiting.done()
    announce(file, json.dumps(PORTS))
    assert await waiting == "/dev/pts/5"


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"ports": 5}', json.dumps(PORTS)])
async def test_a_port_that_no_simulator_offers_is_closed(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "sim.json"
    if content is not None:
        announce(file, content)
    with pytest.raises(TransportClosed, match="offers no port 'bms_z'"):
        await SimPorts(file, [], patience_s=0.0).resolve("sim:bms_z")


async def test_a_simulator_that_was_started_again_is_found_anew(file: Path) -> None:
    ports = SimPorts(file, [])
    assert await ports.resolve("sim:rs485") == "/dev/pts/5"
    announce(file, json.dumps({"ports": {"rs485": "/dev/pts/9"}}))
    assert await ports.resolve("sim:rs485") == "/dev/pts/9"
