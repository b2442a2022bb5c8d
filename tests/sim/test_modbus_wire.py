"""Framing and register maps, byte for byte: frames as printed in the register map and the specifications."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator import modbus_wire as wire
from tests.sim.bench import Bench, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

POLL = bytes.fromhex("01 04 01 2C 00 1E B0 37")
RESET = bytes.fromhex("01 06 00 DC 52 53 35 6D")
CHARGE = bytes.fromhex("01 10 00 C8 00 08 10 00 02 FF 06 05 A0 00 C8 00 64 00 01 00 11 00 00 EC 65")


def test_published_frames_carry_our_crc():
    for frame in (POLL, RESET, CHARGE):
        assert wire.rtu_frame(frame[0], frame[1:-2]) == frame


def test_published_poll_is_answered_with_thirty_registers():
    bench = Bench()
    answer = bench.ask("rs485", POLL)
    assert answer[:3] == bytes.fromhex("01 04 3C")
    assert len(answer) == 65


def test_published_charge_frame_is_accepted_whole():
    bench = Bench()
    assert bench.ask("rs485", CHARGE)[:6] == bytes.fromhex("01 10 00 C8 00 08")
    assert bench.read(1, 200, 10, function=3) == [2, 0xFF06, 1440, 200, 100, 1, 17, 0, 0, 0]
    assert signed(0xFF06) == -250


def test_published_reset_frame_is_understood():
    bench = Bench()
    bench.supply_on()
    assert bench.ask("rs485", RESET) == RESET
    assert bench.state(1)[305] == 0


@given(st.integers(1, 7), st.integers(0, 3))
def test_rtu_requests_survive_any_cut(cut: int, gap: int):
    receiver = wire.RtuReceiver()
    data = POLL + CHARGE + RESET
    found = [r for i in range(0, len(data), cut) for r in receiver.feed(data[i : i + cut], 1.0 + gap * 1e-6 * i)]
    assert [r.pdu for r in found] == [POLL[1:-2], CHARGE[1:-2], RESET[1:-2]]


def test_a_damaged_request_is_dropped_and_the_next_one_understood():
    receiver = wire.RtuReceiver()
    assert receiver.feed(b"\x01\x04\x01\x2d\x00\x1e\xb0\x37", 1.0) == []
    assert receiver.crc_errors == 1
    assert len(receiver.feed(POLL, 2.0)) == 1


def test_half_a_request_is_forgotten_after_a_silence():
    receiver = wire.RtuReceiver()
    assert receiver.feed(POLL[:5], 1.0) == []
    assert len(receiver.feed(POLL, 2.0)) == 1


def test_tcp_requests_survive_any_cut_and_foreign_bytes_break_the_connection():
    receiver = wire.TcpReceiver()
    data = wire.tcp_frame(7, 3, POLL[1:-2]) * 3
    found = [request for i in range(0, len(data), 5) for request in receiver.feed(data[i : i + 5])]
    assert [(r.transaction, r.unit, r.pdu) for r in found] == [(7, 3, POLL[1:-2])] * 3
    assert receiver.feed(b"GET / HTTP/1.1\r\n") == []
    assert receiver.broken


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ("04 00 20 00 01", 2),  # between identity and capability
        ("04 01 2C 00 1F", 2),  # beyond 329
        ("03 01 2C 00 01", 2),  # an input register read as holding
        ("04 01 2C 00 7E", 3),  # more than 125
        ("04 01 2C 00 00", 3),
        ("06 00 C9 02 72", 3),  # 6.26 A, beyond 6.25 A
        ("06 00 CA 07 D0", 3),  # 20 V, outside the battery window
        ("06 00 CA 02 BC", 3),  # 7 V, below it
        ("06 00 8C 00 00", 3),  # time-out 0
        ("06 00 64 07 D0", 3),  # battery limit beyond the rating
        ("06 00 DC 12 34", 3),  # wrong magic
        ("06 00 DE 52 42", None),  # restart in OFF
        ("2B 0E 01 00", 1),  # function not implemented
    ],
)
def test_refusals_have_the_exception_codes_of_the_map(pdu: str, code: int | None):
    bench = Bench()
    answer = bench.rtu(1, pdu)
    asked = bytes.fromhex(pdu)[0]
    assert answer[0] == (asked if code is None else asked | 0x80)
    assert code is None or answer[1:] == bytes((code,))


def test_a_refused_block_changes_nothing():
    bench = Bench()
    before = bench.read(1, 200, 10, function=3)
    assert bench.command(1, centi_A=-900) == bytes((0x90, 3))
    assert bench.read(1, 200, 10, function=3) == before
    assert bench.read(1, 366, 1) == [1], "counted"


def test_voltage_outside_the_configured_window_is_refused():
    bench = Bench()
    bench.write(2, 100, 1440, 1050)
    assert bench.command(2, mode=3, centi_V=1441)[0] == 0x90
    assert bench.command(2, mode=3, centi_V=0)[0] == 0x90
    assert bench.command(2, mode=3, centi_V=1410)[0] == 0x10


def test_identity_and_capability_registers():
    bench = Bench()
    identity = bench.read(2, 0, 31)
    assert identity[:4] == [0xDAB1, 0x0102, 0x0304, 0x0100]
    assert struct.pack(">8H", *identity[4:12]).rstrip(b"\0") == b"bess-gateway"
    assert bench.read(1, 40, 15)[1:11] == [1600, 800, 3200, 1600, 625, 625, 500, 750, 1000, 10000]
    assert bench.read(1, 52, 3) == [15708, 500, 1330]


def test_set_values_are_zero_and_limits_are_kept_after_a_restart_as_stored():
    bench = Bench()
    bench.write(1, 110, 2700)
    bench.rtu(1, "06 00 DD 53 56")  # store
    bench.write(1, 110, 2800)
    bench.command(1, mode=1, enable=0)
    bench.rtu(1, "06 00 DE 52 42")  # restart
    assert bench.read(1, 110, 1, function=3) == [2700]
    bench.advance(0.3)
    assert bench.rtu(1, "06 00 DE 52 42")[0] == 0x06
    assert bench.read(1, 200, 10, function=3) == [0] * 10
    assert bench.read(1, 368, 1) == [2]


def test_a_unit_that_is_not_there_stays_silent_on_the_line_and_gets_0B_on_tcp():
    assert Bench().rtu(9, "04 01 2C 00 1E") == b""
    plant = Bench("plant_sim")
    answer = plant.ask("plant1", wire.tcp_frame(5, 99, bytes.fromhex("04 00 00 00 01")))
    assert answer == wire.tcp_frame(5, 99, bytes((0x84, 0x0B)))


def test_rack_bms_registers():
    plant = Bench("plant_sim")

    def read(address: int, count: int) -> Sequence[int]:
        answer = plant.ask("plant1", wire.tcp_frame(1, 1, struct.pack(">BHH", 4, address, count)))
        return struct.unpack_from(f">{count}H", answer, 9)

    values = read(0, 22)
    assert values[:4] == (0xB355, 0x0100, 4, 4)
    assert values[12] == pytest.approx(900, abs=10)
    assert (values[14], values[15]) == (250, 250)
    cells = read(100, 64)
    assert all(33000 < cell < 34500 for cell in cells[:4])
    assert cells[4:] == (0xFFFF,) * 60
    assert values[11] == pytest.approx(sum(cells[:4]) / 100, abs=2)
