"""The engine, step by step: what ends a step, what a pause does, what a voltage phase asks for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from gateway.device_roles import ConverterMode
from gateway.protocols import engine
from gateway.protocols.ends import CAUTIOUS_ETA_S, SETTLE_S, TAPER_BLANKING_S
from gateway.protocols.state import IDLE, OFF, Advance, Inputs, Now, Reading, Status, TrackState
from tests.protocols.running import program_of, written

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.protocols.program import Program

HEAD = 'title = "T"\nchemistry = ["lfp"]\n'
CHARGE = """
[[step]]
id = "bulk"
do = "charge"
at = "5 A"
until = [{until}]
timeout = {timeout}
"""
HOLD = """
[[step]]
id = "absorb"
do = "hold"
at = "{at}"
current_max = "5 A"
until = [{until}]
timeout = "4 h"
"""
REST = """
[[step]]
id = "relax"
do = "rest"
until = ["step_time >= 1 h"]
"""
GOOD = {
    "cell_voltage_max": 3.3,
    "cell_voltage_mean": 3.28,
    "cell_voltage_spread": 0.02,
    "converter_voltage": 13.1,
    "converter_current": 0.0,
    "temperature_max": 25.0,
}


class Bench:
    """One track under the test's control; every `go` is a new sample unless `time_ns` says otherwise."""

    def __init__(self, folder: Path, text: str, **parameters: str) -> None:
        self.program: Program = program_of(written(folder, HEAD + text), **parameters)
        self.state = TrackState()
        self.site_s = 0.0
        self.real_s = 0.0
        self.last: Advance | None = None
        self.events: list[str] = []

    def go(
        self,
        dt_s: float = 1.0,
        *,
        mode: bool = False,
        limiter: bool | None = False,
        time_ns: int | None = None,
        drop: tuple[str, ...] = (),
        real_s: float | None = None,
        **values: float,
    ) -> Advance:
        self.site_s += dt_s
        self.real_s += dt_s if real_s is None else real_s
        stamp = round(self.site_s * 1e9) if time_ns is None else time_ns
        readings = {name: Reading(value, stamp) for name, value in {**GOOD, **values}.items() if name not in drop}
        self.last = engine.advance(self.program, self.state, Inputs(readings, mode, limiter), Now(self.site_s, self.real_s))
        self.state = self.last.state
        self.events += [event.text for event in self.last.events]
        return self.last

    @property
    def ended_by(self) -> list[str]:
        return [result.ended_by for result in self.state.results]


def charge(until: str = '"cell_voltage_max >= 3.6 V"', timeout: str = '"1 h"') -> str:
    return CHARGE.format(until=until, timeout=timeout)


def hold(until: str = '"current <= C/50"', at: str = "pack_voltage_at_entry") -> str:
    return HOLD.format(until=until, at=at)


def test_a_charge_asks_for_negative_current_and_ends_at_its_condition(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + REST)
    demand = bench.go().demand
    assert demand is not None
    assert (demand.mode, demand.enable, demand.current_A) == (ConverterMode.CURRENT, True, -5.0)
    assert (demand.charge_limit_A, demand.discharge_limit_A) == (5.0, 0.0)
    bench.go(100.0, converter_current=-5.0)
    assert bench.go(1.0, cell_voltage_max=3.6012, converter_current=-5.0).demand == IDLE
    result = bench.state.results[0]
    assert (result.ended_by, result.value, result.unit) == ("cell_voltage_max >= 3.6 V", 3.6012, "V")
    assert result.elapsed_s == 101.0
    assert result.charge_Ah == pytest.approx((2.5 * 100 + 5 * 1) / 3600)


def test_a_condition_that_already_holds_ends_the_step_before_anything_moves(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + REST)
    assert bench.go(cell_voltage_max=3.7).demand == IDLE
    assert bench.ended_by == ["cell_voltage_max >= 3.6 V"]


def test_missing_data_ends_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    bench.go()
    bench.go(drop=("cell_voltage_max",))
    bench.go(cell_voltage_max=math.nan)
    assert bench.ended_by == []


def test_blindness_aborts_after_five_real_seconds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    bench.go()
    bench.go(300.0, real_s=5.0, drop=("cell_voltage_max",))
    assert bench.state.status is Status.RUNNING
    result = bench.go(0.1, drop=("cell_voltage_max",))
    assert bench.state.status is Status.STOPPING
    assert result.demand == OFF
    assert bench.state.reason == "no good cell_voltage_max for 5 s"
    assert bench.go().state.status is Status.ABORTED


def test_a_debounce_needs_its_time_and_three_distinct_samples(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge('{ when = "cell_voltage_max >= 3.5 V", for = "3 s" }'))
    bench.go()
    bench.go(60.0, cell_voltage_max=3.55, time_ns=7)
    bench.go(60.0, cell_voltage_max=3.55, time_ns=7)
    assert bench.ended_by == [], "one sample, however long it stays in the table, is one sample"
    bench.go(1.0, cell_voltage_max=3.45)
    for _ in range(3):
        bench.go(1.0, cell_voltage_max=3.55)
    assert bench.ended_by == [], "one sample below starts the time anew"
    bench.go(1.0, cell_voltage_max=3.55)
    assert bench.ended_by == ["cell_voltage_max >= 3.5 V"]


def test_a_nested_list_needs_all_of_its_items(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge('["cell_voltage_max >= 3.4 V", "step_time >= 10 min"]'))
    bench.go()
    bench.go(599.0, cell_voltage_max=3.5)
    assert bench.ended_by == []
    bench.go(1.0, cell_voltage_max=3.3)
    assert bench.ended_by == []
    bench.go(1.0, cell_voltage_max=3.5)
    assert bench.ended_by == ["cell_voltage_max >= 3.4 V and step_time >= 10 min"]


def test_an_end_can_jump_forward_end_or_abort(tmp_path: Path) -> None:
    more = REST.replace("relax", "last")
    jump = Bench(tmp_path, charge('{ when = "soc >= 50 %", then = "last" }, "cell_voltage_max >= 3.6 V"') + REST + more)
    jump.go(soc=55.0)
    assert jump.program.steps[jump.state.index].id == "last"
    end = Bench(tmp_path, charge('{ when = "soc >= 50 %", then = "end" }, "cell_voltage_max >= 3.6 V"') + REST)
    end.go(soc=55.0)
    assert end.go().state.status is Status.COMPLETED
    abort = Bench(tmp_path, charge('{ when = "soc >= 50 %", then = "abort" }, "cell_voltage_max >= 3.6 V"') + REST)
    abort.go(soc=55.0)
    assert abort.go().state.status is Status.ABORTED
    assert abort.state.reason == "step bulk ended by soc >= 50 %"


def test_a_timeout_aborts_unless_told_to_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + REST)
    bench.go()
    bench.go(3600.0, real_s=1.0)
    assert (bench.state.status, bench.ended_by) == (Status.STOPPING, ["timeout 1 h"])
    onward = Bench(tmp_path, charge(timeout='{ after = "1 h", then = "next" }') + REST)
    onward.go()
    onward.go(3600.0, real_s=1.0)
    assert onward.program.steps[onward.state.index].id == "relax"


def test_min_time_keeps_early_values_from_ending_a_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge().replace("do =", 'min_time = "5 min"\ndo ='))
    bench.go(cell_voltage_max=3.7)
    bench.go(299.0, real_s=1.0, cell_voltage_max=3.7)
    assert bench.ended_by == []
    bench.go(1.0, cell_voltage_max=3.7)
    assert bench.ended_by == ["cell_voltage_max >= 3.6 V"]


def test_constant_voltage_starts_at_the_measured_voltage_and_holds_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + hold())
    bench.go()
    demand = bench.go(converter_voltage=14.07, cell_voltage_max=3.6, converter_current=-5.0).demand
    assert demand is not None
    assert (demand.mode, demand.voltage_V) == (ConverterMode.VOLTAGE, 14.07)
    assert (demand.charge_limit_A, demand.discharge_limit_A, demand.current_A) == (5.0, 0.0, 0.0)
    later = bench.go(60.0, converter_voltage=14.0, converter_current=-3.0, mode=True).demand
    assert later is not None
    assert later.voltage_V == 14.07


def test_an_absolute_voltage_is_approached_by_a_ramp(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hold(at="14.2 V"))
    first = bench.go(converter_voltage=13.1).demand
    assert first is not None
    assert first.voltage_V == 13.1
    second = bench.go(5.0, converter_voltage=13.2).demand
    assert second is not None
    assert second.voltage_V == pytest.approx(13.3)
    last = bench.go(600.0, converter_voltage=14.1).demand
    assert last is not None
    assert last.voltage_V == 14.2


def _absorb(bench: Bench) -> None:
    bench.go()
    bench.go(cell_voltage_max=3.6, converter_current=-5.0, converter_voltage=14.0)


def test_a_taper_needs_voltage_mode_its_blanking_time_and_no_other_limiter(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + hold())
    _absorb(bench)
    for _ in range(50):
        bench.go(1.0, converter_current=-0.3)
    assert len(bench.ended_by) == 1, "not in voltage mode"
    for _ in range(int(TAPER_BLANKING_S)):
        bench.go(1.0, converter_current=-0.3, mode=True)
    assert len(bench.ended_by) == 1, "blanking"
    bench.go(1.0, converter_current=-0.3, mode=True, limiter=True)
    bench.go(1.0, converter_current=-0.3, mode=True, limiter=None)
    bench.go(1.0, converter_current=0.3, mode=True)
    bench.go(1.0, mode=True, drop=("converter_current",), battery_current=-0.3)
    assert len(bench.ended_by) == 1, "another limiter, an unknown one, the wrong sign, the coarse sensor"


def test_a_taper_in_voltage_mode_ends_the_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + hold())
    _absorb(bench)
    for _ in range(int(TAPER_BLANKING_S) + 2):
        bench.go(1.0, converter_current=-0.5, mode=True)
    assert bench.ended_by == ["cell_voltage_max >= 3.6 V", "current <= C/50"]
    assert bench.state.results[1].value == 0.5


def test_a_pause_cannot_end_a_step_by_its_missing_current(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + hold())
    _absorb(bench)
    for _ in range(40):
        bench.go(1.0, converter_current=-3.0, mode=True)
    bench.state = engine.pause(bench.state, "held")
    assert bench.go(1.0, converter_current=0.0, mode=True).demand == IDLE
    bench.state = engine.resume(bench.state)
    demand = bench.go(1.0, converter_current=0.0, mode=True).demand
    assert demand is not None
    assert demand.voltage_V == 13.1, "again from the measured voltage"
    for _ in range(int(TAPER_BLANKING_S) - 2):
        bench.go(1.0, converter_current=0.0, mode=True)
    assert len(bench.ended_by) == 1, "the blanking time starts anew"
    assert bench.last is not None
    assert bench.last.demand is not None
    assert bench.last.demand.voltage_V == 14.0, "back at the voltage captured at the end of the charge"


def test_the_step_clock_stands_still_while_paused_and_counters_do_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    bench.go()
    bench.go(10.0, converter_current=-5.0)
    bench.state = engine.pause(bench.state, "held by the operator")
    bench.go(100.0, converter_current=-5.0)
    step = bench.state.step
    assert step is not None
    assert step.elapsed_s == 10.0
    assert step.charge_Ah == pytest.approx((2.5 * 10 + 5 * 100) / 3600)
    assert (bench.state.status, bench.state.reason) == (Status.PAUSED, "held by the operator")


def test_the_bms_ceiling_reduces_the_current_and_is_told_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    bench.go()
    for _ in range(3):
        demand = bench.go(charge_limit=3.0).demand
        assert demand is not None
        assert demand.current_A == -3.0
    assert [text for text in bench.events if "allows" in text] == ["the battery allows 3 A of the 5 A of step bulk"]
    demand = bench.go(charge_limit=25.0).demand
    assert demand is not None
    assert demand.current_A == -5.0


def test_a_limit_with_a_delay_pauses_when_told_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path, '[limits]\ntemperature_max = { value = "45 degC", delay = "5 s", action = "pause" }\n' + charge())
    bench.go()
    for _ in range(5):
        bench.go(1.0, temperature_max=50.0)
    assert bench.state.status is Status.RUNNING
    bench.go(1.0, temperature_max=50.0)
    assert bench.state.status is Status.PAUSED
    assert bench.state.reason == "limit temperature_max 45 degC passed at 50"
    bench.state = engine.resume(bench.state)
    bench.go(1.0, temperature_max=50.0)
    assert bench.state.status is Status.PAUSED, "still too hot"
    bench.state = engine.resume(bench.state)
    bench.go(1.0)
    assert bench.state.status is Status.RUNNING


def test_an_abort_gives_the_step_a_result_and_ends_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge() + REST)
    bench.go()
    bench.state = engine.abort(bench.program, bench.state, "stopped by the operator")
    result = bench.go()
    assert result.demand == OFF
    assert (bench.state.status, bench.ended_by) == (Status.ABORTED, ["abort: stopped by the operator"])
    assert bench.go().demand is None


def test_finally_may_watch_the_pack_at_rest(tmp_path: Path) -> None:
    bench = Bench(tmp_path, '[finally]\nrest = "10 min"\n' + charge())
    bench.go()
    bench.go(cell_voltage_max=3.65)
    assert bench.go(599.0).demand == OFF
    assert bench.state.status is Status.STOPPING
    bench.go(1.0)
    assert bench.state.status is Status.COMPLETED


def test_dv_dt_ends_a_charge_past_its_peak(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge('{ when = "dv_dt <= -5 mV/min", for = "60 s" }'))
    mean = 3.2
    for _ in range(120):
        mean += 0.0001
        bench.go(5.0, cell_voltage_mean=mean, converter_current=-5.0)
    assert bench.ended_by == []
    for _ in range(60):
        mean -= 0.010 / 60 * 5
        bench.go(5.0, cell_voltage_mean=mean, converter_current=-5.0)
    assert bench.ended_by == ["dv_dt <= -5 mV/min"]
    assert bench.state.results[0].value == pytest.approx(-0.01, abs=0.005)


def test_temperature_rise_counts_from_the_start_of_the_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge('"temperature_rise >= 5 K"'))
    bench.go(temperature_max=30.0)
    bench.go(temperature_max=34.9)
    assert bench.ended_by == []
    bench.go(temperature_max=35.0)
    assert bench.ended_by == ["temperature_rise >= 5 K"]


def test_the_eta_is_short_at_the_start_then_follows_the_slope_on_the_early_side(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    volts = 3.3
    bench.go(cell_voltage_max=volts)
    assert engine.time_to_end_s(bench.state) <= CAUTIOUS_ETA_S
    for _ in range(60):
        volts += 0.001
        bench.go(1.0, cell_voltage_max=volts)
    true_s = (3.6 - volts) / 0.001
    assert 0.7 * true_s < engine.time_to_end_s(bench.state) < true_s
    nearest = bench.state.step.nearest if bench.state.step else None
    assert nearest is not None
    assert (nearest.text, nearest.unit) == ("cell_voltage_max >= 3.6 V", "V")
    assert nearest.distance == pytest.approx(3.6 - volts)


def test_the_eta_of_a_rest_is_the_time_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path, REST)
    bench.go()
    assert engine.time_to_end_s(bench.state) <= CAUTIOUS_ETA_S
    bench.go(SETTLE_S)
    assert engine.time_to_end_s(bench.state) == 3600.0 - SETTLE_S


def test_a_signal_that_does_not_move_is_not_in_sight_but_the_timeout_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    for _ in range(20):
        bench.go(1.0)
    nearest = bench.state.step.nearest if bench.state.step else None
    assert nearest is not None
    assert nearest.text == "timeout 1 h"
    assert nearest.eta_s == 3600.0 - 19.0


def test_progress_goes_from_where_the_step_began_to_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, charge())
    shares = []
    for volts in (3.2, 3.3, 3.25, 3.4):
        bench.go(1.0, cell_voltage_max=volts)
        shares.append(bench.state.step.progress if bench.state.step else None)
    assert shares == pytest.approx([0.0, 0.25, 0.25, 0.5])


def test_a_current_limit_watches_its_own_direction(tmp_path: Path) -> None:
    limited = '[limits]\ncharge_current_max = "5.5 A"\ndischarge_current_max = "1 A"\n' + charge()
    bench = Bench(tmp_path, limited)
    bench.go()
    bench.go(converter_current=-5.4)
    assert bench.state.status is Status.RUNNING
    bench.go(converter_current=-5.6)
    assert bench.state.reason == "limit charge_current_max 5.5 A passed at 5.6"
    other = Bench(tmp_path, limited)
    other.go()
    other.go(converter_current=1.1)
    assert other.state.reason == "limit discharge_current_max 1 A passed at 1.1"


def test_a_run_has_a_longest_duration_pauses_included(tmp_path: Path) -> None:
    bench = Bench(tmp_path, '[limits]\nduration_max = "2 h"\n' + REST)
    bench.go()
    bench.state = engine.pause(bench.state, "held")
    bench.go(7200.0)
    assert bench.state.status is Status.PAUSED
    bench.go(1.0)
    assert bench.state.status is Status.STOPPING


def test_a_discharge_ends_at_its_lowest_cell_and_counts_what_it_took(tmp_path: Path) -> None:
    discharge = charge('"cell_voltage_min <= 2.8 V"').replace('"charge"', '"discharge"')
    bench = Bench(tmp_path, discharge)
    demand = bench.go(cell_voltage_min=3.2).demand
    assert demand is not None
    assert (demand.current_A, demand.charge_limit_A, demand.discharge_limit_A) == (5.0, 0.0, 5.0)
    bench.go(360.0, real_s=1.0, cell_voltage_min=3.1, converter_current=5.0)
    bench.go(360.0, real_s=1.0, cell_voltage_min=2.79, converter_current=5.0)
    assert bench.ended_by == ["cell_voltage_min <= 2.8 V"]
    assert bench.state.results[0].charge_Ah == pytest.approx(0.75)
    assert bench.state.results[0].energy_Wh == pytest.approx(0.75 * 13.1)
