"""The field on uvloop, whose transports and timers are not asyncio's own."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.unit.field import test_bus_serial, test_bus_tcp


@pytest.mark.parametrize(
    "scenario",
    [
        test_bus_tcp.test_values_arrive_scaled_with_sign_quality_and_time,
        test_bus_tcp.test_a_silent_unit_goes_bad_and_its_neighbour_keeps_its_cadence_and_it_recovers,
        test_bus_tcp.test_garbage_instead_of_a_header_makes_a_new_connection,
        test_bus_tcp.test_setpoints_of_a_block_go_out_together_with_a_new_heartbeat,
        test_bus_serial.test_two_units_on_one_line_and_a_corrupted_one_does_not_harm_the_other,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_on_uvloop(scenario: object) -> None:
    assert callable(scenario)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
