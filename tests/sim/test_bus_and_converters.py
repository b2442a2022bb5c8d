"""Start, loss and regulation on the 24 V bus: what the physics and the converters' firmware do together."""

from __future__ import annotations

import pytest

from gateway.simulator import faults
from gateway.simulator.converter_data import Fault, Limit, State
from tests.sim.bench import Bench, signed

BUS_BITS = int(Fault.BUS_OV | Fault.BUS_UV)
CHARGE_5_A = -500


def test_supply_start_halts_the_converters_and_one_reset_makes_them_ready():
    bench = Bench()
    for unit in (1, 2):
        bench.write(unit, 110, 2700, 2100)
        assert bench.state(unit)[300] == State.OFF
    bench.supply_on()
    assert bench.plant.bus.voltage_V == pytest.approx(24.0, abs=0.01)
    for unit in (1, 2):
        state = bench.state(unit)
        assert (state[300], state[304], state[305]) == (State.FAULT, 0, BUS_BITS)
        bench.rtu(unit, "06 00 DC 52 53")
        bench.advance(0.1)
        state = bench.state(unit)
        assert (state[300], state[305], state[325]) == (State.OFF, 0, 1)
        assert bench.state(unit)[312] in {0, 0xFFFF, 1}, "a reset never energises"


def test_start_does_not_reach_the_supplys_own_over_voltage_protection():
    bench = Bench()
    bench.supply_on()
    assert bench.scpi("STAT:QUES1:COND?") == "0"
    assert bench.scpi("OUTP?") == "1"


def test_reset_is_refused_outside_fault_and_useless_while_a_fault_is_live():
    bench = Bench()
    assert bench.rtu(1, "06 00 DC 52 53") == bytes((0x86, 6))
    bench.ready()
    bench.plant.string("A").bms_enable_forced_off = True
    bench.advance(1.0)
    assert bench.state(1)[305] == Fault.BMS_ENABLE_MISSING
    bench.rtu(1, "06 00 DC 52 53")
    assert bench.state(1)[325] == 2
    assert bench.state(1)[300] == State.FAULT


def test_five_amperes_of_charge_ramp_in_and_cost_five_percent():
    bench = Bench()
    bench.ready()
    bench.command(1, centi_A=CHARGE_5_A)
    bench.advance(0.5)
    half = signed(bench.state(1)[312])
    assert -300 < half < -200, "5 A/s after half a second"
    bench.command(1, centi_A=CHARGE_5_A, beat=2)
    bench.advance(0.6)
    state = bench.state(1)
    assert state[300] == State.RUN_CC
    assert signed(state[312]) == pytest.approx(-500, abs=2)
    battery_W, bus_W = signed(state[315]) / 10, signed(state[316]) / 10
    assert battery_W / bus_W == pytest.approx(0.95, abs=0.01)
    assert signed(state[320]) < 0, "charging is a negative phase shift"
    assert bench.plant.bus.supply.current_A == pytest.approx(-bus_W / 24, abs=0.1)


def test_losing_the_supply_under_load_trips_the_converter_within_milliseconds():
    bench = Bench()
    bench.ready()
    for unit in (1, 2):
        bench.command(unit, centi_A=500)
    bench.advance(0.5)
    for unit in (1, 2):
        bench.command(unit, centi_A=500, beat=2)
    bench.advance(0.6)
    assert bench.plant.bus.supply.current_A < -4.5, "the supply sinks"
    bench.plant.bus.supply.settings.output = False
    bench.plant.advance(0.0008)
    assert 24.5 < bench.plant.bus.voltage_V < 27.0
    bench.plant.advance(0.0012)
    assert 26.9 < bench.plant.bus.voltage_V < 27.6
    for unit in (1, 2):
        assert bench.state(unit)[305] & Fault.BUS_OV or bench.state(unit)[300] == State.RUN_CC
    assert any(bench.state(unit)[300] == State.FAULT for unit in (1, 2))


def test_commanded_off_leaves_no_fault_behind():
    bench = Bench()
    bench.ready()
    bench.scpi("OUTP OFF")
    bench.advance(5.0)
    assert bench.plant.bus.voltage_V < 1.0
    assert bench.state(1)[300] == State.OFF
    assert bench.state(1)[305] == 0


def test_enable_needs_an_edge_after_a_reset():
    bench = Bench()
    bench.ready()
    bench.command(1, centi_A=CHARGE_5_A)
    bench.advance(0.3)
    bench.testbed.set_fault(bench_fault("dab_a", "trip"))
    bench.advance(0.1)
    assert bench.state(1)[305] == Fault.EMERGENCY_STOP
    bench.testbed.clear_faults("dab_a")
    bench.advance(0.05)
    bench.rtu(1, "06 00 DC 52 53")
    bench.command(1, centi_A=CHARGE_5_A, beat=3)
    bench.advance(0.3)
    assert bench.state(1)[300] == State.OFF
    bench.command(1, centi_A=0, enable=0, mode=0, beat=4)
    bench.command(1, centi_A=CHARGE_5_A, beat=5)
    bench.advance(0.3)
    assert bench.state(1)[300] in {State.RAMP_UP, State.RUN_CC}


def bench_fault(device: str, kind: str, value: float = 1.0, cell: int | None = None):
    return faults.Fault(device, kind, value, cell)


@pytest.mark.parametrize("factor", [1.0, 60.0])
def test_command_timeout_runs_in_real_time_and_ramps_down(factor: float):
    bench = Bench()
    bench.ready()
    bench.write(1, 142, 5)
    bench.command(1, centi_A=CHARGE_5_A)
    bench.advance(0.9, factor=factor)
    assert signed(bench.state(1)[312]) < -400
    assert bench.state(1)[310] <= 1, "tenths of a second left"
    bench.read(1, 300, 30)
    bench.advance(0.2, factor=factor)  # polls do not feed it
    bench.advance(0.6, factor=factor)
    state = bench.state(1)
    assert (state[300], state[305]) == (State.FAULT, Fault.COMMUNICATION)
    assert abs(signed(state[312])) <= 1


def test_a_heartbeat_that_changes_feeds_the_timeout_and_one_that_does_not_does_not():
    bench = Bench()
    bench.ready()
    for beat in range(1, 8):
        bench.command(1, centi_A=CHARGE_5_A, beat=beat)
        bench.advance(0.5)
    assert bench.state(1)[300] == State.RUN_CC
    for _ in range(4):
        bench.command(1, centi_A=CHARGE_5_A, beat=7)
        bench.advance(0.5)
    assert bench.state(1)[305] == Fault.COMMUNICATION


def test_voltage_mode_starts_without_a_jump_and_holds_the_pack():
    bench = Bench()
    bench.ready()
    beat = 1
    bench.command(2, centi_A=CHARGE_5_A, beat=beat)
    bench.write(2, 140, 50)
    bench.advance(2.0)
    held = bench.state(2)[311]
    beat += 1
    bench.command(2, mode=3, centi_A=0, centi_V=held, beat=beat)
    bench.advance(0.5)
    state = bench.state(2)
    assert state[300] == State.RUN_CV
    assert -500 <= signed(state[312]) < -400
    for _ in range(3):
        beat += 1
        bench.command(2, mode=3, centi_V=held, beat=beat)
        bench.advance(4.0, factor=60.0)
    state = bench.state(2)
    assert state[311] == pytest.approx(held, abs=1)
    assert signed(state[312]) > -480, "the current tapers"


def test_voltage_mode_obeys_its_current_ceiling_and_says_so():
    bench = Bench()
    bench.ready()
    bench.command(2, mode=3, centi_V=1400, limit=300)
    bench.advance(0.9)
    state = bench.state(2)
    assert signed(state[312]) == pytest.approx(-300, abs=2)
    assert state[303] & Limit.CHARGE_CURRENT


def test_voltage_mode_without_limits_does_nothing():
    bench = Bench()
    bench.ready()
    bench.command(2, mode=3, centi_V=1400, limit=0)
    bench.advance(0.9)
    assert abs(signed(bench.state(2)[312])) <= 1


def test_one_strings_voltage_step_does_not_move_the_other():
    bench = Bench()
    bench.ready()
    for unit in (1, 2):
        bench.write(unit, 140, 50)
        bench.command(unit, centi_A=CHARGE_5_A)
    bench.advance(2.0)
    before = bench.plant.string("A").current_A
    bench.command(2, mode=3, centi_V=1330, beat=2)
    for _ in range(50):
        bench.advance(0.02)
        assert bench.plant.string("A").current_A == pytest.approx(before, rel=0.01)


def test_a_battery_on_the_bus_shares_its_current_with_the_supply():
    bench = Bench("semi_active_sim")
    bench.close_contactor(1)
    assert bench.plant.bus.voltage_V == pytest.approx(26.6, abs=0.4), "the battery alone holds the bus"
    for line in ("VOLT 26.6", "CURR:LIM 10", "CURR:LIM:NEG -10", "VOLT:PROT 29.2", "OUTP ON"):
        bench.scpi(line)
    bench.advance(1.0)
    string, supply = bench.plant.string("A"), bench.plant.bus.supply
    assert bench.plant.bus.voltage_V == pytest.approx(26.6, abs=0.01)
    assert string.current_A == pytest.approx(-supply.current_A, abs=0.05)
    bench.scpi("VOLT 28")
    bench.advance(0.5)
    assert supply.current_A == pytest.approx(10.0, abs=0.05), "the source limit holds"
    assert string.current_A == pytest.approx(-10.0, abs=0.05)


def test_open_contactor_takes_the_current_to_zero():
    bench = Bench("semi_active_sim")
    bench.close_contactor(1)
    for line in ("VOLT 27", "CURR:LIM 5", "CURR:LIM:NEG -5", "OUTP ON"):
        bench.scpi(line)
    bench.advance(0.5)
    assert bench.plant.string("A").current_A < -1.0
    bench.testbed.set_fault(bench_fault("bms_a", "open_contactor"))
    bench.advance(0.5)
    assert bench.plant.string("A").current_A == 0.0
    bench.testbed.clear_faults(None)
    bench.advance(0.5)
    assert bench.plant.string("A").current_A < -1.0
