"""`python -m gateway.servers.opcua --run-dir DIR [--state DIR] [--endpoint URL]`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import uvloop

from gateway.servers.opcua.app import Options, serve

NICENESS = 10
"""Where cores are few, a flood of clients must not keep the control process from its cycle (nice(1))."""


def main() -> int:
    """Run the OPC UA process; its exit code."""
    os.nice(NICENESS)
    parser = argparse.ArgumentParser(
        prog="python -m gateway.servers.opcua", description="The OPC UA server of a running gateway."
    )
    parser.add_argument(
        "--run-dir", type=Path, required=True, help="run directory of the gateway (site.json, image, control.sock)"
    )
    parser.add_argument("--state", type=Path, default=None, help="state directory of the gateway; reserved for certificates")
    parser.add_argument(
        "--endpoint", default="", help="listen here instead of where the site file says, opc.tcp://127.0.0.1:4840"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncua").setLevel(logging.WARNING)  # it tells of every session and call
    return uvloop.run(serve(Options(arguments.run_dir, arguments.endpoint)))


if __name__ == "__main__":
    sys.exit(main())
