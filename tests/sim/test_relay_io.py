"""The simulated relay module and the contactors behind it, byte for byte."""

from __future__ import annotations

import pytest

from gateway.simulator.faults import Fault
from tests.sim.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench("passive_sim")


def contacts(bench: Bench) -> int:
    answer = bench.rtu(10, "02 00 00 00 08")
    assert answer[:2] == b"\x02\x01"
    return answer[2]


def test_contactors_are_open_at_power_up(bench: Bench) -> None:
    assert bench.rtu(10, "04 00 00 00 04") == bytes.fromhex("04 08 10 C8 01 00 00 08 00 08")
    assert bench.rtu(10, "01 00 00 00 08") == bytes.fromhex("01 01 00")
    assert contacts(bench) == 0
    assert bench.plant.bus.voltage_V == pytest.approx(0.0, abs=0.01)
    assert [string.current_A for string in bench.plant.strings] == [0.0, 0.0]


def test_a_contactor_follows_its_coil_and_reports_it(bench: Bench) -> None:
    assert bench.rtu(10, "05 00 01 FF 00") == bytes.fromhex("05 00 01 FF 00")
    assert contacts(bench) == 0, "it takes its time"
    bench.advance(0.1)
    assert contacts(bench) == 0b10
    assert bench.plant.string("B").connected
    assert not bench.plant.string("A").connected
    assert bench.plant.bus.voltage_V == pytest.approx(bench.plant.string("B").emf_V, abs=0.05)
    assert bench.rtu(10, "05 00 01 00 00") == bytes.fromhex("05 00 01 00 00")
    bench.advance(0.1)
    assert contacts(bench) == 0
    bench.advance(5.0)
    assert bench.plant.bus.voltage_V < 1.0, "the bus bleeds"


def test_several_coils_at_once(bench: Bench) -> None:
    assert bench.rtu(10, "0F 00 00 00 02 01 03") == bytes.fromhex("0F 00 00 00 02")
    assert bench.rtu(10, "01 00 00 00 08") == bytes.fromhex("01 01 03")
    bench.advance(0.1)
    assert contacts(bench) == 0b11


def test_two_strings_on_one_bus_settle_between_them(bench: Bench) -> None:
    bench.plant.cells.soc[bench.plant.string("B").cells] = 0.5
    bench.advance(1.0)
    bench.close_contactor(1)
    bench.close_contactor(2)
    a, b = bench.plant.strings
    assert a.current_A > 1.0
    assert a.current_A == pytest.approx(-b.current_A, abs=0.01)


@pytest.mark.parametrize(
    ("request_pdu", "answer"),
    [
        ("01 00 00 00 09", "81 02"),
        ("02 00 08 00 01", "82 02"),
        ("05 00 08 FF 00", "85 02"),
        ("05 00 00 12 34", "85 03"),
        ("0F 00 00 00 02 02 03 00", "8F 03"),
        ("01 00 00 00 00", "81 03"),
        ("03 00 00 00 01", "83 02"),
        ("06 00 00 00 01", "86 02"),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, request_pdu: str, answer: str) -> None:
    assert bench.rtu(10, request_pdu) == bytes.fromhex(answer)


def test_devices_without_coils_do_not_know_the_function() -> None:
    assert Bench().rtu(1, "01 00 00 00 01") == bytes.fromhex("81 01")


def test_welded_contacts_stay_and_power_loss_opens(bench: Bench) -> None:
    bench.close_contactor(1)
    bench.testbed.set_fault(Fault("relays", "stuck_output", 1.0))
    bench.rtu(10, "05 00 00 00 00")
    bench.advance(0.5)
    assert contacts(bench) == 1
    assert bench.rtu(10, "01 00 00 00 08") == bytes.fromhex("01 01 00"), "the coil obeys, the contact does not"
    bench.testbed.clear_faults("relays")
    bench.advance(0.1)
    assert contacts(bench) == 0
    bench.close_contactor(2)
    bench.testbed.set_fault(Fault("relays", "restart", 1.0))
    bench.advance(0.1)
    assert contacts(bench) == 0
    bench.testbed.set_fault(Fault("relays", "refuse", 1.0))
    assert bench.rtu(10, "05 00 00 FF 00") == bytes.fromhex("85 04")
