"""An error in what consumes the readings ends the field, and with it the process: no line falls silent in silence."""

from __future__ import annotations

import asyncio

import pytest

from gateway.clock import SystemClock
from gateway.field.bus import FieldBus
from tests.unit.field.fakes import Board, TcpDevice
from tests.unit.field.test_bus_tcp import as_is, dab, dab_registers, one_line


async def test_an_error_after_a_reading_is_not_lost_with_its_callback(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def on_block(device: str, scan: str) -> None:
        del scan
        seen.append(device)
        if len(seen) == 20:  # by then the task rests, and readings are handled in callbacks
            raise ZeroDivisionError

    async with TcpDevice({1: dab_registers()}) as device:
        bus = FieldBus(one_line(device.port, dab()), Board().claim, SystemClock(), on_block=on_block, resolve_port=as_is)
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(bus.run(), 10.0)
    assert ended.group_contains(RuntimeError, match="line line failed inside the gateway")
    assert "ZeroDivisionError" in caplog.text
    assert len(seen) == 20
