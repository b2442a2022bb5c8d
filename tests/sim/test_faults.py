"""Faults: what each looks like from the wire, and that clearing it brings the device back."""

from __future__ import annotations

import pytest

from gateway.simulator import modbus_wire as wire
from gateway.simulator.faults import KINDS, Fault
from tests.sim.bench import Bench, signed

POLL = bytes.fromhex("01 04 01 2C 00 1E B0 37")
SOC = b":0322F00F\n"


def broken(bench: Bench, device: str, kind: str, value: float | None = None, cell: int | None = None) -> Bench:
    bench.testbed.set_fault(Fault(device, kind, KINDS[kind].default if value is None else value, cell))
    return bench


def test_every_kind_has_a_sentence_and_a_device_to_apply_to():
    for kind in KINDS.values():
        assert kind.text.endswith(".")
        assert kind.roles


def test_silence_concerns_one_unit_only_and_ends():
    bench = broken(Bench(), "dab_a", "silence")
    assert bench.ask("rs485", POLL) == b""
    assert bench.state(2)[300] == 1
    bench.testbed.clear_faults("dab_a")
    assert len(bench.ask("rs485", POLL)) == 65


def test_silence_of_a_device_means_it_does_not_act_either():
    bench = broken(Bench(), "rps", "silence")
    assert bench.scpi("OUTP ON") == ""
    bench.testbed.clear_faults(None)
    assert bench.scpi("OUTP?") == "0"


@pytest.mark.parametrize(
    ("device", "port", "request_bytes"), [("dab_a", "rs485", POLL), ("bms_a", "bms_a", SOC), ("rps", "rps", b"*IDN?\n")]
)
def test_corrupt_answers_differ_from_sound_ones(device: str, port: str, request_bytes: bytes):
    bench = broken(Bench(), device, "corrupt")
    for _ in range(20):
        answer = bench.ask(port, request_bytes)
        assert answer
        assert answer != Bench().ask(port, request_bytes)
        if port == "rs485":
            assert wire.crc16(answer[:-2]).to_bytes(2, "little") != answer[-2:]


def test_corrupt_may_be_a_fraction():
    bench = broken(Bench(), "bms_a", "corrupt", 0.5)
    answers = [bench.ask("bms_a", b":02090B\n") for _ in range(100)]
    assert 20 < answers.count(b":0A490B4F52494F4E424D53\n") < 80


def test_late_answers_are_late_in_real_time():
    bench = broken(Bench(), "bms_a", "late", 0.7)
    (reply,) = bench.testbed.endpoints["bms_a"].feed(0, SOC, bench.now_s)
    assert reply.late_s == 0.7


def test_wrong_unit_answers_carry_another_address_with_a_good_checksum():
    bench = broken(Bench(), "dab_a", "wrong_unit")
    answer = bench.ask("rs485", POLL)
    assert answer[0] == 2
    assert wire.crc16(answer[:-2]).to_bytes(2, "little") == answer[-2:]


def test_wrong_unit_of_a_bms_is_another_parameter():
    answer = broken(Bench(), "bms_a", "wrong_unit").ask("bms_a", SOC)
    assert bytes.fromhex(answer[1:-1].decode())[2:4] != bytes.fromhex("F00F")


def test_frozen_values_stand_still_while_the_device_still_obeys():
    bench = Bench()
    bench.ready()
    frozen = bench.state(1)
    broken(bench, "dab_a", "freeze")
    frozen = bench.state(1)
    bench.command(1, centi_A=-500)
    bench.advance(0.9)
    assert bench.state(1) == frozen
    assert bench.plant.string("A").current_A < -4.0
    bench.testbed.clear_faults("dab_a")
    assert signed(bench.state(1)[312]) < -400


@pytest.mark.parametrize(("device", "ask"), [("bms_b", b":0322F100\n"), ("rps", b"MEAS:VOLT?\n")])
def test_frozen_texts_are_identical(device: str, ask: bytes):
    bench = broken(Bench(), device, "freeze")
    assert len({bench.ask(device, ask) for _ in range(20)}) == 1
    bench.testbed.clear_faults(device)
    assert len({bench.ask(device, ask) for _ in range(20)}) > 1


def test_refused_commands_name_the_devices_own_error():
    bench = Bench()
    broken(broken(bench, "dab_a", "refuse"), "rps", "refuse")
    assert bench.command(1, centi_A=-500) == bytes((0x90, 4))
    assert bench.command(2, centi_A=0) != bytes((0x90, 4))
    bench.scpi("VOLT 24")
    assert bench.scpi("SYST:ERR?").startswith("-221")


def test_stuck_output_keeps_its_current_whatever_is_commanded():
    bench = Bench()
    bench.ready()
    for beat in (1, 2):
        bench.command(1, centi_A=-500, beat=beat)
        bench.advance(0.9)
    broken(bench, "dab_a", "stuck_output")
    assert bench.command(1, mode=0, centi_A=0, enable=0)[0] == 0x10
    bench.advance(3.0)
    assert bench.plant.string("A").current_A == pytest.approx(-5.0, abs=0.05)
    bench.testbed.clear_faults("dab_a")
    bench.advance(2.0)
    assert bench.plant.string("A").current_A == 0.0


def test_offset_shows_in_the_sensor_and_not_in_the_plant():
    bench = broken(Bench(), "bms_b", "offset", 0.05, 2)
    block = bytes.fromhex(bench.ask("bms_b", b":0322F100\n")[9:-1].decode())
    true = bench.plant.voltage[bench.plant.string("B").first + 1]
    assert int.from_bytes(block[2:4], "big") / 1e4 == pytest.approx(true + 0.05, abs=5e-4)


def test_a_heater_warms_one_cell():
    bench = broken(Bench(), "bms_b", "heat", 60.0, 3)
    bench.advance(8.0)
    temperatures = bench.plant.cells.temperature[bench.plant.string("B").cells]
    assert temperatures[2] == pytest.approx(60.0, abs=0.5)
    assert temperatures[1] < 27.0
    assert int.from_bytes(bytes.fromhex(bench.ask("bms_b", b":0322F028\n")[-3:-1].decode()), "big") == 60


def test_a_missing_bms_enable_halts_the_converter_with_its_own_fault_bit():
    bench = Bench()
    bench.ready()
    broken(bench, "bms_a", "bms_enable")
    bench.advance(1.0)
    assert bench.state(1)[305] == 1 << 14
    assert bench.state(2)[305] == 0


def test_a_restarted_converter_has_no_set_values_and_stands_still():
    bench = Bench()
    bench.ready()
    bench.command(1, centi_A=-500)
    bench.advance(0.9)
    broken(bench, "dab_a", "restart")
    bench.advance(0.5)
    assert bench.read(1, 200, 10, function=3) == [0] * 10
    assert bench.plant.string("A").current_A == 0.0


def test_a_tripped_supply_is_latched_until_cleared():
    bench = Bench()
    bench.supply_on()
    broken(bench, "rps", "trip")
    bench.advance(5.0)
    assert bench.scpi("STAT:QUES1:COND?") == str(1 << 9)
    assert float(bench.scpi("MEAS:VOLT?")) < 1.0


@pytest.mark.parametrize(
    ("device", "kind", "cell", "part"),
    [
        ("dab_a", "melt", None, "no fault of kind"),
        ("dab_c", "silence", None, "no simulated device"),
        ("dab_a", "heat", None, "does not apply"),
        ("bms_a", "open_wire", None, "needs the number of a cell"),
        ("bms_a", "open_wire", 5, "has no cell 5"),
    ],
)
def test_impossible_faults_are_refused_with_the_reason(device: str, kind: str, cell: int | None, part: str):
    with pytest.raises(ValueError, match=part):
        Bench().testbed.set_fault(Fault(device, kind, 1.0, cell))
