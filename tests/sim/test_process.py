"""The simulator as it is shipped: its own process, a relay per wire, the control socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import serial

from gateway.simulator.control import SimClient
from tests.sim.bench import SITES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system
POLL = bytes.fromhex("01 04 01 2C 00 1E B0 37")
POLL_2 = bytes.fromhex("02 04 01 2C 00 1E B0 04")


class Running:
    """A simulator process and what it announced."""

    def __init__(self, run_dir: Path, site: str) -> None:
        self.run_dir = run_dir
        command = [sys.executable, "-m", "gateway.simulator", str(SITES / f"{site}.toml"), "--run-dir", str(run_dir)]
        self.log = run_dir / "stderr"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        deadline = time.monotonic() + 15
        while not (run_dir / "sim.json").exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "no sim.json"
            time.sleep(0.02)
        self.document = json.loads((run_dir / "sim.json").read_text())
        self.ports, self.pids = self.document["ports"], self.document["pids"]

    def serial(self, name: str, timeout_s: float = 0.5) -> serial.Serial:
        if name == "rs485":
            return serial.Serial(self.ports[name], 115200, timeout=timeout_s)
        return serial.Serial(self.ports[name], 9600, parity=serial.PARITY_EVEN, timeout=timeout_s)

    def tcp(self, name: str) -> socket.socket:
        host, port = self.ports[name].split(":")
        return socket.create_connection((host, int(port)), timeout=2.0)

    def set_factor(self, factor: float) -> None:
        (self.run_dir / "time_factor").write_bytes(struct.pack("<d", factor))

    def stop(self) -> str:
        self.process.terminate()
        self.process.wait(10)
        return self.log.read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    run_dir = tmp_path_factory.mktemp("sim")
    started = Running(run_dir, "testbed_sim")
    yield started
    with socket.socket(socket.AF_UNIX) as still_connected:
        still_connected.connect(started.document["control"])
        still_connected.sendall(b'{"do": "list"}\n')
        assert still_connected.recv(10)
        errors = started.stop()
    assert started.process.returncode == 0, errors
    assert "ERROR" not in errors
    assert "Traceback" not in errors
    assert not (run_dir / "sim.json").exists()
    assert not any(psutil.pid_exists(pid) for pid in started.pids.values())


def test_announcement_names_ports_relays_and_itself(running: Running):
    assert set(running.ports) == set(running.pids) == {"rs485", "bms_a", "bms_b", "rps"}
    assert running.document["pid"] == running.process.pid
    assert Path(running.document["control"]).is_socket()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", running.ports["rps"])


def test_two_converters_answer_on_one_line(running: Running):
    with running.serial("rs485") as port:
        for request in (POLL, POLL_2):
            port.write(request)
            answer = port.read(65)
            assert (len(answer), answer[0]) == (65, request[0])


def test_a_port_can_be_closed_and_opened_again(running: Running):
    for _ in range(3):
        with running.serial("bms_a") as port:
            port.write(b":02090B\n")
            assert port.readline() == b":0A490B4F52494F4E424D53\n"


def test_bytes_are_paced_at_9600_baud_8e1(running: Running):
    with running.serial("bms_a") as port:
        times = []
        for _ in range(5):
            start = time.monotonic()
            port.write(b":0322F100\n")
            assert len(port.readline()) == 58
            times.append(time.monotonic() - start)
    least = 68 * 11 / 9600
    assert min(times) >= least - 0.002
    assert statistics.median(times) < least + 0.06


async def test_sigstop_of_a_relay_silences_that_port_alone_and_physics_goes_on(running: Running):
    pid = running.pids["bms_a"]
    with running.serial("bms_a", 0.3) as stopped, running.serial("bms_b") as other:
        os.kill(pid, signal.SIGSTOP)
        try:
            async with SimClient(Path(running.document["control"])) as sim:
                before = (await sim.truth())["site_s"]
                stopped.write(b":02090B\n")
                other.write(b":02090B\n")
                assert stopped.readline() == b""
                assert other.readline().endswith(b"\n")
                assert (await sim.truth())["site_s"] > before
        finally:
            os.kill(pid, signal.SIGCONT)
        assert stopped.readline().endswith(b"\n"), "the late answer comes when it goes on"


async def test_supply_on_a_socket_with_two_connections(running: Running):
    with running.tcp("rps") as one, running.tcp("rps") as two:
        one.sendall(b"*IDN?\n")
        two.sendall(b"SYST:ERR?\n")
        assert one.recv(200).startswith(b"Keysight")
        assert two.recv(200) == b'+0,"No error"\n'


async def test_control_socket_sets_lists_and_clears_faults(running: Running):
    async with SimClient(Path(running.document["control"])) as sim:
        listed = await sim.request({"do": "list"})
        assert listed["devices"] == {
            "bms_a": "battery",
            "bms_b": "battery",
            "dab_a": "converter",
            "dab_b": "converter",
            "rps": "supply",
        }
        assert "silence" in listed["kinds"]
        await sim.fault("dab_a", "silence")
        with running.serial("rs485", 0.15) as port:
            port.write(POLL)
            assert port.read(65) == b""
            port.write(POLL_2)
            assert len(port.read(65)) == 65
        await sim.clear()
        assert (await sim.request({"do": "list"}))["active"] == []
        with pytest.raises(ValueError, match="no fault of kind"):
            await sim.fault("dab_a", "melt")
        assert (await sim.request({"do": "nonsense"}))["ok"] is False


async def test_truth_and_time_factor(running: Running):
    async with SimClient(Path(running.document["control"])) as sim:
        truth = await sim.truth()
        strings = truth["strings"]
        assert [len(strings[s]["cell_V"]) for s in ("A", "B")] == [4, 6]
        assert strings["B"]["cell_V"].index(max(strings["B"]["cell_V"])) == 3
        assert strings["A"]["soc"][0] == pytest.approx(0.90, abs=0.01)
        running.set_factor(60.0)
        await asyncio.sleep(0.7)
        first, at = (await sim.truth())["site_s"], time.monotonic()
        await asyncio.sleep(0.5)
        second = (await sim.truth())["site_s"]
        assert (second - first) / (time.monotonic() - at) == pytest.approx(60.0, rel=0.15)
        running.set_factor(1.0)


async def test_late_answers_are_late(running: Running):
    async with SimClient(Path(running.document["control"])) as sim:
        await sim.fault("bms_b", "late", value=0.4)
        with running.serial("bms_b", 1.5) as port:
            start = time.monotonic()
            port.write(b":02090B\n")
            assert port.readline().endswith(b"\n")
            assert time.monotonic() - start > 0.4
        await sim.clear("bms_b")


def test_relays_die_with_the_plant_even_when_stopped(tmp_path: Path):
    started = Running(tmp_path, "testbed_sim")
    os.kill(started.pids["rs485"], signal.SIGSTOP)
    relays = [psutil.Process(pid) for pid in started.pids.values()]
    assert max(relay.memory_info().rss for relay in relays) < 20e6
    started.process.kill()
    started.process.wait()
    _, alive = psutil.wait_procs(relays, timeout=5)
    assert not alive


def test_a_site_without_a_model_ends_with_a_readable_error(tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text((SITES / "testbed_sim.toml").read_text().replace('chemistry = "lfp"', 'chemistry = "cheese"'))
    command = [sys.executable, "-m", "gateway.simulator", str(site), "--run-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert b"no model of chemistry 'cheese'" in ended.stderr
    assert b"Traceback" not in ended.stderr
