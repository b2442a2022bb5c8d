"""Resident memory of the whole control process on a plant of about 100,000 points. Prints one JSON object.

    python benchmarks/memory_control.py [--strings 556] [--seconds 10]

The site is generated: strings of four LiFePO4 cells behind a rack BMS and a DC-DC converter, six strings to a Modbus TCP
gateway. No device answers (their ports are closed), so points, table, image, rules, drivers and journal are there in full,
and the last bytes of each device are not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TARGET_MB = 300.0
PER_GATEWAY = 6
HEAD = """
[site]
id = "large"
title = "Generated plant"
topology = "active"
scan = "100 ms"
[[transport]]
id = "rps"
kind = "visa"
port = "TCPIP0::127.0.0.1::9::SOCKET"
[[device]]
id = "rps"
map = "keysight_rp793x"
transport = "rps"
[grid]
converter = "rps"
bus_voltage = "24 V"
bus_voltage_min = "22 V"
bus_voltage_max = "26 V"
overvoltage_protection = "28 V"
source_current_limit = "100 A"
sink_current_limit = "100 A"
watchdog = "5 s"
age_max = "3 s"
"""
PROTECTION = """[device.settings]
communication_timeout = "1 s"
ramp_down_time = "0.5 s"
bus_overvoltage_trip = "27 V"
bus_undervoltage_trip = "21 V"
"""


def site_text(strings: int) -> str:
    parts = [HEAD]
    for number in range(strings):
        gateway, place = divmod(number, PER_GATEWAY)
        if place == 0:
            port = f"127.{1 + gateway // 250}.{gateway % 250}.9:9"  # the discard port of a loopback address: closed
            parts.append(f'[[transport]]\nid = "plant{gateway}"\nkind = "modbus_tcp"\nport = "{port}"\n')
        for kind, map_id, unit in (("bms", "rack_bms_modbus", 1 + place), ("dab", "dab_controlcard", 11 + place)):
            parts.append(f'[[device]]\nid = "{kind}_{number}"\nmap = "{map_id}"\ntransport = "plant{gateway}"\nunit = {unit}\n')
        parts.append(PROTECTION)
        parts.append(
            f'[[string]]\nid = "{number}"\nchemistry = "lfp"\ncells = 4\ncapacity = "25 Ah"\n'
            f'battery = "bms_{number}"\nconverter = "dab_{number}"\n'
        )
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=556)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site, run = Path(folder) / "site.toml", Path(folder) / "run"
        run.mkdir()
        site.write_text(site_text(options.strings))
        command = [sys.executable, "-m", "gateway", "control", str(site), "--state", folder, "--run-dir", str(run)]
        started = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as control:
            published = run / "site.json"
            while not published.exists() and control.poll() is None and time.monotonic() - started < 120:
                time.sleep(0.1)
            start_s = time.monotonic() - started
            time.sleep(options.seconds)
            memory_MB = psutil.Process(control.pid).memory_info().rss / 1e6
            points = len(json.loads(published.read_text())["points"])
            control.kill()
    result = {
        "benchmark": "memory_control",
        "strings": options.strings,
        "points": points,
        "start_s": round(start_s, 1),
        "rss_MB": round(memory_MB, 1),
        "target_MB": TARGET_MB,
        "ok": memory_MB < TARGET_MB,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
