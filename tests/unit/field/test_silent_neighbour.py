"""A device that has fallen silent, and the one beside it on the same line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time

import pytest

from gateway.clock import SystemClock
from gateway.errors import FieldError, TransportClosed
from gateway.field.bus import FieldBus
from tests.unit.field.fakes import Board, Pty, Registers, RtuDevice
from tests.unit.field.test_bus_serial import dab_line
from tests.unit.field.test_bus_tcp import as_is, dab_registers, running

TIMEOUT_S = 0.1
"""Of both devices on the line."""


async def insist(bus: FieldBus, until_s: float) -> None:
    """Someone who tells the silent device again and again, as a trip does."""
    while time.monotonic() < until_s:
        with contextlib.suppress(FieldError):
            await bus.write("dab_1", {"current_setpoint": 0.0})
        await asyncio.sleep(0.01)


async def test_commands_to_a_silent_device_leave_its_neighbour_its_cadence() -> None:
    with Pty() as pty:
        units: dict[int, Registers] = {1: dab_registers(), 2: dab_registers()}
        device = RtuDevice(pty, units)
        board = Board()
        read_s: list[float] = []

        def on_block(name: str, scan_class: str) -> None:
            board.on_block(name, scan_class)
            if (name, scan_class) == ("dab_2", "fast"):
                read_s.append(time.monotonic())

        bus = FieldBus(dab_line(pty), board.claim, SystemClock(), on_block=on_block, resolve_port=as_is)
        async with running(bus):
            await board.until(lambda: bus.online("dab_1") and bus.online("dab_2") and bool(read_s))
            device.mangle = lambda unit, frame: b"" if unit == 1 else frame
            until_s = time.monotonic() + 2.0
            await asyncio.gather(*(insist(bus, until_s) for _ in range(3)))
            told_s = time.monotonic()
            await bus.write("dab_2", {"current_setpoint": 1.5})
            assert time.monotonic() - told_s < 2 * TIMEOUT_S
            assert not bus.online("dab_1")
            with pytest.raises(TransportClosed):
                await bus.write("dab_1", {"current_setpoint": 0.0})
    gaps = [later - earlier for earlier, later in itertools.pairwise(read_s)]
    assert max(gaps) < 3 * TIMEOUT_S
