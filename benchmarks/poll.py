"""Polling Modbus TCP devices: values per second and CPU, from the wire through codec and table into the change ring.

N devices (125 registers each, 60 points of mixed types in them) in a process of their own are read ten times a second by
the shipped field, table and image; every register changes between two reads, so that every block is decoded and every
point is reported. In the same run a C program does the same reads with libmodbus (Debian: libmodbus-dev), without decoding
anything. Both are measured in turns. Prints one JSON object; CPU is that of the measured process, user and system.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.clock import SystemClock
from gateway.field.bus import FieldBus
from gateway.field.device_map import load_map
from gateway.field.device_points import device_points
from gateway.field.settings import DeviceSettings, FieldConfig, TransportSettings
from gateway.shared import ImageWriter, layout_hash
from gateway.table import Table

REGISTERS, POINTS = 125, 60
TYPES = ("int16", "uint16", "int32", "int16", "float32", "uint16")
FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "float32": "f"}
IDENTITY = 0x7E57
VARIANTS = 16
PERIOD_S = 0.1
TARGET_VALUES_PER_S, TARGET_CORES, TARGET_RATIO = 100_000, 0.25, 2.0
C_SOURCE = Path(__file__).with_name("poll_libmodbus.c")


def layout() -> list[tuple[int, str]]:
    """(address, type) of the points, spread over the registers; the last one ends at the last register."""
    places: list[tuple[int, str]] = []
    address = 0
    kinds = [TYPES[at % len(TYPES)] for at in range(POINTS)]
    spare = REGISTERS - sum(struct.calcsize(FORMATS[kind]) // 2 for kind in kinds)
    for at, kind in enumerate(kinds):
        places.append((address, kind))
        address += struct.calcsize(FORMATS[kind]) // 2 + (1 if at < spare else 0)
    return places


def map_text() -> str:
    """A device map of these points: scaled, half of them with a range."""
    head = """
[device]
vendor = "benchmark"
model = "125 registers"
role = "load"
language = "modbus"
source = "benchmarks/poll.py"
verified = false
identity = { register = "holding", address = 0, equals = %d }
[defaults]
register = "input"
"""
    points = [head % IDENTITY]
    for number, (address, kind) in enumerate(layout()):
        name = "power" if number == 0 else f"value_{number}"
        limits = "range = [-1e6, 1e6]\n" if number % 2 else ""
        points.append(f'[[point]]\nname = "{name}"\naddress = {address}\ntype = "{kind}"\nscale = 0.01\nunit = "W"\n{limits}')
    return "\n".join(points)


def answers() -> list[bytes]:
    """Answer PDUs to a read of all registers, each different from the one before at every point."""
    made: list[bytes] = []
    chance = random.Random(1)
    for _ in range(VARIANTS):
        data = bytearray(2 * REGISTERS)
        for address, kind in layout():
            value = chance.uniform(-1e4, 1e4) if kind == "float32" else chance.randrange(20_000)
            struct.pack_into(">" + FORMATS[kind], data, 2 * address, value)
        made.append(bytes([4, len(data)]) + data)
    return made


class Device(asyncio.Protocol):
    """Answers reads; encodes nothing while it is measured."""

    variants = answers()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._count = random.randrange(VARIANTS)

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), 12):
            if data[at + 7] == 4:
                self._count += 1
                pdu = self.variants[self._count % VARIANTS]
            else:
                pdu = bytes([3, 2]) + IDENTITY.to_bytes(2, "big")
            self._transport.write(data[at : at + 4] + (len(pdu) + 1).to_bytes(2, "big") + data[at + 6 : at + 7] + pdu)


async def serve(devices: int) -> None:
    """Listen for all devices, print their ports on one line, and stay until standard input ends."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Device, "127.0.0.1", 0) for _ in range(devices)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@dataclass
class Window:
    """What one measured stretch of time took."""

    reads: int
    failed: int
    cpu_s: float
    real_s: float


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def gateway_windows(ports: list[int], seconds: float, folder: Path, windows: int) -> list[Window]:
    """The field, the table and the ring, in one process as in the control process."""
    path = folder / "benchmark_device.toml"
    path.write_text(map_text(), encoding="utf-8")
    device_map = load_map(path)
    transports = tuple(TransportSettings(id=f"t{n}", kind="modbus_tcp", port=f"127.0.0.1:{p}") for n, p in enumerate(ports))
    devices = tuple(
        DeviceSettings(id=f"d{n}", map=device_map, transport=f"t{n}", period_s=PERIOD_S, timeout_s=1.0) for n in range(len(ports))
    )
    clock = SystemClock()
    table = Table([point for device in devices for point in device_points(device)], (), clock)
    image = ImageWriter(folder / "image", layout_hash(table.points), table.points, clock=clock)
    reads = 0

    def on_block(device: str, scan: str) -> None:
        nonlocal reads
        del device, scan
        reads += 1

    async def as_is(port: str) -> str:
        return port

    async def commit() -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            table.age()
            image.commit(table)

    def errors() -> int:
        return int(sum(table.number(f"device.{device.id}.comm.errors") or 0 for device in devices))

    bus = FieldBus(FieldConfig(transports=transports, devices=devices), table.claim, clock, on_block=on_block, resolve_port=as_is)
    tasks = [asyncio.create_task(bus.run()), asyncio.create_task(commit())]
    await asyncio.sleep(1.5)
    found: list[Window] = []
    for _ in range(windows):
        before = (reads, errors(), cpu_s(), time.perf_counter())
        await asyncio.sleep(seconds)
        after = (reads, errors(), cpu_s(), time.perf_counter())
        found.append(Window(*(late - early for early, late in zip(before, after, strict=True))))
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return found


def build_c_client(folder: Path) -> tuple[Path | None, str]:
    """The compiled C client, or why there is none."""
    compiler, config = shutil.which("cc") or shutil.which("gcc"), shutil.which("pkg-config")
    if compiler is None or config is None:
        return None, "no C compiler or pkg-config"
    flags = subprocess.run([config, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False)
    if flags.returncode != 0:
        return None, "libmodbus is not installed (Debian: libmodbus-dev)"
    program = folder / "poll_libmodbus"
    built = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(C_SOURCE), *flags.stdout.split()], capture_output=True, check=False
    )
    return (program, "") if built.returncode == 0 else (None, built.stderr.decode(errors="replace")[:300])


def c_window(program: Path, ports: list[int], seconds: float) -> Window:
    arguments = [str(program), str(round(PERIOD_S * 1000)), str(seconds), str(REGISTERS), *map(str, ports)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    reads, failed, used = done.stdout.split()
    return Window(int(reads), int(failed), float(used), seconds)


def summary(windows: list[Window]) -> dict[str, float]:
    """Medians over the windows."""
    per_read = statistics.median(window.cpu_s / window.reads for window in windows)
    return {
        "values_per_s": round(statistics.median(window.reads * POINTS / window.real_s for window in windows)),
        "cores": round(statistics.median(window.cpu_s / window.real_s for window in windows), 4),
        "cpu_us_per_read": round(per_read * 1e6, 2),
        "cpu_us_per_register": round(per_read / REGISTERS * 1e6, 4),
        "failed_reads": sum(window.failed for window in windows),
    }


def measure(devices: int, seconds: float, rounds: int) -> dict[str, object]:
    gateway: list[Window] = []
    c_client: list[Window] = []
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(devices)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        ports = [int(port) for port in (server.stdout.readline() if server.stdout else "").split()]
        with tempfile.TemporaryDirectory() as name:
            program, reason = build_c_client(Path(name))
            for _ in range(rounds):
                gateway += uvloop.run(gateway_windows(ports, seconds, Path(name), 1))
                if program is not None:
                    c_client.append(c_window(program, ports, seconds))
    finally:
        if server.stdin is not None:
            server.stdin.close()
        server.wait(timeout=10)
        if server.stdout is not None:
            server.stdout.close()
    result: dict[str, object] = {
        "benchmark": "poll",
        "devices": devices,
        "registers_per_device": REGISTERS,
        "points_per_device": POINTS,
        "period_s": PERIOD_S,
        "windows": rounds,
        "window_s": seconds,
        "gateway": summary(gateway),
        "libmodbus": summary(c_client) if c_client else {"skipped": reason},
        "target": {"values_per_s": TARGET_VALUES_PER_S, "cores": TARGET_CORES, "cpu_ratio_to_libmodbus": TARGET_RATIO},
    }
    if c_client:
        ratio = summary(gateway)["cpu_us_per_register"] / summary(c_client)["cpu_us_per_register"]
        result["cpu_ratio_to_libmodbus"] = round(ratio, 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=170, help="170 devices are 102,000 values/s")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measured window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
    else:
        print(json.dumps(measure(options.devices, options.seconds, options.rounds)))


if __name__ == "__main__":
    main()
