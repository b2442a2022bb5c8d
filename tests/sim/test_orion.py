"""The Orion BMS on its serial line: texts, scales, signs."""

from __future__ import annotations

import pytest

from gateway.simulator.faults import Fault
from tests.sim.bench import Bench


def data_of(answer: bytes, pid: str) -> bytes:
    assert answer.startswith(b":")
    assert answer.endswith(b"\n")
    body = bytes.fromhex(answer[1:-1].decode())
    assert body[0] == len(body) - 1
    assert body[1:4] == bytes.fromhex("62" + pid)
    return body[4:]


def ask(bench: Bench, pid: str, wire: str = "bms_b") -> bytes:
    return data_of(bench.ask(wire, f":0322{pid}\n".encode()), pid)


def test_state_of_charge_in_half_percent_like_the_documented_answer():
    bench = Bench()
    plant = bench.plant
    plant.cells.soc[:] = 0.5
    assert bench.ask("bms_a", b":0322F00F\n") == b":0562F00F0064\n"


def test_identity_and_trouble_codes():
    bench = Bench()
    assert bench.ask("bms_a", b":02090B\n") == b":0A490B" + b"ORIONBMS".hex().upper().encode() + b"\n"
    assert bench.ask("bms_a", b":0103\n") == b":024300\n"
    bench.testbed.set_fault(Fault("bms_a", "open_wire", 1.0, 2))
    assert bench.ask("bms_a", b":0103\n") == b":0443010A04\n"


def test_cells_come_twelve_to_a_block_in_tenths_of_a_millivolt():
    bench = Bench()
    block = ask(bench, "F100")
    cells = [int.from_bytes(block[i : i + 2], "big") for i in range(0, 24, 2)]
    true = bench.plant.voltage[bench.plant.string("B").cells]
    assert cells[:6] == pytest.approx((true * 1e4).tolist(), abs=2)
    assert cells[6:] == [0] * 6
    assert max(range(6), key=cells.__getitem__) == 3


def test_current_is_signed_positive_in_discharge_and_coarse():
    bench = Bench()
    bench.ready()
    bench.command(2, centi_A=-500)
    bench.advance(0.9)
    bench.command(2, centi_A=-500, beat=2)
    bench.advance(0.9)
    assert int.from_bytes(ask(bench, "F00C"), "big", signed=True) == pytest.approx(-50, abs=1)


def test_pack_voltages_agree_with_the_cells():
    bench = Bench()
    total = float(bench.plant.voltage[bench.plant.string("B").cells].sum())
    assert int.from_bytes(ask(bench, "F00D"), "big") == round(total * 10)
    assert int.from_bytes(ask(bench, "F014"), "big") == pytest.approx(total * 100, abs=1)


def test_temperatures_are_signed_whole_degrees():
    bench = Bench()
    cells = bench.plant.string("B").cells
    bench.plant.cells.temperature[cells] = -7.0
    assert ask(bench, "F028") == (-7).to_bytes(1, "big", signed=True)
    assert ask(bench, "F029") == (-7).to_bytes(1, "big", signed=True)


@pytest.mark.parametrize("request_line", [b":0322F1F1\n", b":0322ABCD\n"])
def test_an_unknown_parameter_gets_a_negative_answer(request_line: bytes):
    assert Bench().ask("bms_a", request_line) == b":037F2231\n"


@pytest.mark.parametrize("noise", [b"\n", b"0322F00F\n", b":0422F00F\n", b":03ZZF00F\n", b"x" * 200, b":0322F00F"])
def test_what_is_no_request_gets_no_answer(noise: bytes):
    bench = Bench()
    assert bench.ask("bms_a", noise) == b""


def test_a_request_in_pieces_is_answered_once():
    bench = Bench()
    assert bench.ask("bms_a", b":0322") == b""
    assert bench.ask("bms_a", b"F00F\n").startswith(b":0562F00F")
