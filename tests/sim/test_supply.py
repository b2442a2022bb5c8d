"""The supply over SCPI: settings, errors, status, protections, watchdog."""

from __future__ import annotations

import pytest

from tests.sim.bench import Bench


def test_identity_and_power_up_state():
    bench = Bench()
    assert bench.scpi("*IDN?").startswith("Keysight Technologies,RP793")
    assert bench.scpi("OUTP?") == "0"
    assert float(bench.scpi("VOLT?")) == 0.0
    assert bench.scpi("OUTP:PROT:WDOG?;:OUTP:PROT:WDOG:DEL?") == "0;60"
    assert bench.scpi("SYST:ERR?") == '+0,"No error"'


@pytest.mark.parametrize("form", ["VOLT", "volt", "SOUR:VOLT", ":SOURce:VOLTage:LEVel:IMMediate:AMPLitude", "VOLTage:LEV"])
def test_long_short_and_optional_forms_are_one_command(form: str):
    bench = Bench()
    bench.scpi(f"{form} 24.5")
    assert float(bench.scpi(f"{form}?")) == 24.5


def test_the_sink_limit_takes_the_sign_that_its_range_shows():
    bench = Bench()
    low, high = float(bench.scpi("CURR:LIM:NEG? MIN")), float(bench.scpi("CURR:LIM:NEG? MAX"))
    assert low < 0.0 == high
    bench.scpi("CURR:LIM:NEG 10")
    assert bench.scpi("SYST:ERR?").startswith("-222,")
    bench.scpi("CURR:LIM:NEG -10")
    assert float(bench.scpi("CURR:LIM:NEG?")) == -10.0


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("FOO", -113),
        ("VOLT", -109),
        ("VOLT 1,2", -108),
        ("VOLT 500", -222),
        ("VOLT abc", -102),
        ("VOLT 3 A", -131),
        ("OUTP MAYBE", -224),
        ("FUNC CURR", -221),
        ("OUTP:PROT:WDOG:DEL 0", -222),
    ],
)
def test_errors_are_queued_with_their_standard_numbers(line: str, number: int):
    bench = Bench()
    assert bench.scpi(line) == ""
    assert bench.scpi("SYST:ERR?").startswith(f"{number},")
    assert bench.scpi("SYST:ERR?") == '+0,"No error"'


def test_the_error_queue_is_first_in_first_out_and_overflows_with_350():
    bench = Bench()
    bench.scpi("VOLT 500")
    for _ in range(30):
        bench.scpi("FOO")
    assert bench.scpi("SYST:ERR?").startswith("-222")
    rest = [bench.scpi("SYST:ERR?") for _ in range(19)]
    assert rest[-1].startswith("-350")
    bench.scpi("*CLS")
    assert bench.scpi("SYST:ERR?").startswith("+0")


def test_output_comes_on_after_its_delay_and_reports_voltage_priority():
    bench = Bench()
    bench.scpi("VOLT 24;:OUTP ON")
    bench.plant.advance(0.010)
    assert bench.plant.bus.voltage_V == 0.0
    bench.advance(0.2)
    assert float(bench.scpi("MEAS:VOLT?")) == pytest.approx(24.0, abs=0.01)
    assert bench.scpi("STAT:OPER:COND?") == "1"


def test_measured_current_is_negative_while_the_batteries_discharge_into_it():
    bench = Bench()
    bench.ready()
    bench.command(1, centi_A=500)
    bench.advance(0.9)
    assert float(bench.scpi("MEAS:CURR?")) < -2.0
    assert float(bench.scpi("MEAS:POW?")) < -48.0


def test_over_voltage_latches_and_clearing_energises_again():
    bench = Bench()
    bench.supply_on()
    bench.scpi("VOLT:PROT 23")
    bench.advance(0.1)
    assert bench.scpi("STAT:QUES1:COND?") == "1"
    assert bench.scpi("OUTP?") == "1", "the programmed state stays"
    assert bench.scpi("STAT:OPER:COND?") == "4"
    bench.scpi("VOLT:PROT 28;:OUTP:PROT:CLE")
    bench.advance(0.2)
    assert float(bench.scpi("MEAS:VOLT?")) == pytest.approx(24.0, abs=0.05)


def test_clearing_after_output_off_stays_off():
    bench = Bench()
    bench.supply_on()
    bench.scpi("VOLT:PROT 23")
    bench.advance(0.1)
    bench.scpi("VOLT:PROT 28;:OUTP 0;:OUTP:PROT:CLE")
    bench.advance(5.0)
    assert bench.scpi("STAT:QUES1:COND?") == "0"
    assert float(bench.scpi("MEAS:VOLT?")) < 1.0


@pytest.mark.parametrize("factor", [1.0, 60.0])
def test_watchdog_acts_in_real_time_on_silence_and_any_query_feeds_it(factor: float):
    bench = Bench()
    bench.supply_on()
    bench.scpi("OUTP:PROT:WDOG:DEL 5;:OUTP:PROT:WDOG ON")
    for _ in range(4):
        bench.advance(3.0, factor=factor)
        assert bench.scpi("STAT:QUES1:COND?") == "0"
    bench.advance(5.2, factor=factor)
    assert bench.scpi("STAT:QUES1:COND?") == str(1 << 11)
    assert bench.scpi("OUTP?") == "1"
    assert bench.plant.bus.supply.current_A == 0.0


def test_event_register_is_cleared_by_reading_and_summarised():
    bench = Bench()
    bench.scpi("STAT:QUES1:ENAB 1;*SRE 8")
    bench.supply_on()
    bench.scpi("VOLT:PROT 23")
    bench.advance(0.1)
    assert int(bench.scpi("*STB?")) & 0x48 == 0x48
    assert bench.scpi("STAT:QUES1?") == "1"
    assert bench.scpi("STAT:QUES1?") == "0"


def test_source_limit_shows_as_constant_current():
    bench = Bench()
    bench.ready()
    bench.scpi("CURR:LIM 1")
    for beat in (1, 2):
        bench.command(1, centi_A=-500, beat=beat)
        bench.advance(0.9)
    assert bench.state(1)[305] != 0, "the bus sags until the converter trips"
