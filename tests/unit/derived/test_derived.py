"""Derived points as a user sees them: extremes, sums, power, counters, and what bad inputs do to them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.derived import COUNTERS, Derived, areas, points, restored
from gateway.device_roles import DeviceRole
from gateway.points import Point, Quality
from gateway.site import Chemistry, DeviceSpec, Site, StringLimits, StringSpec, Topology
from gateway.table import Table
from tests.manual_clock import ManualClock

PERIOD_S = 0.1
LIMITS = StringLimits(
    cell_voltage_max_V=3.65,
    cell_voltage_min_V=2.5,
    charge_current_max_A=6.5,
    discharge_current_max_A=6.5,
    temperature_max_degC=55.0,
    charge_temperature_min_degC=0.0,
    battery_age_max_s=1.0,
    converter_age_max_s=1.0,
)


def string(name: str, cells: int = 4) -> StringSpec:
    return StringSpec(
        id=name,
        title=name,
        chemistry=Chemistry.LFP,
        cells=cells,
        capacity_Ah=25.0,
        battery=f"bms_{name}",
        converter=None,
        contactor=None,
        limits=LIMITS,
    )


def make_site(*names: str) -> Site:
    strings = tuple(string(name) for name in names)
    inputs = [
        Point(name=f"{one.prefix}.battery.{end}", unit=unit, uncertain_after_s=0.5, bad_after_s=1.0)
        for one in strings
        for end, unit in (*((f"cell.{n}.voltage", "V") for n in range(1, 5)), ("current", "A"), ("pack_voltage", "V"))
    ]
    devices = tuple(
        DeviceSpec(
            id=one.battery,
            role=DeviceRole.BATTERY,
            map_id="m",
            title="",
            target=f"{one.prefix}.battery",
            current_factor=1.0,
            safe={},
            points=frozenset(),
            writable={},
            period_s=PERIOD_S,
        )
        for one in strings
    )
    return Site(
        id="s",
        title="",
        topology=Topology.PASSIVE,
        scan_s=PERIOD_S,
        simulated=True,
        file="",
        hash="",
        strings=strings,
        grid=None,
        devices=devices,
        device_points=(),
        canonical_points=tuple(inputs),
        aliases=(),
        opcua=None,
        schedules=(),
    )


class Plant:
    """A table with the inputs of string A (and B), and what is derived from them."""

    def __init__(self, clock: ManualClock, *names: str, counters: dict[str, dict[str, object]] | None = None) -> None:
        self.clock = clock
        self.site = make_site(*(names or ("A",)))
        self.table = Table([*self.site.canonical_points, *points(self.site)], [], clock)
        self.derived = Derived(self.site, self.table, clock, counters or {})
        self.inputs = self.table.claim([point.name for point in self.site.canonical_points], "test")

    def read(
        self,
        cells: tuple[float, ...] = (3.3, 3.3, 3.3, 3.3),
        current: float = 0.0,
        pack: float | None = None,
        name: str = "A",
        quality: Quality = Quality.GOOD,
    ) -> None:
        prefix = f"string.{name}.battery"
        for number, volts in enumerate(cells, 1):
            self.inputs.put(f"{prefix}.cell.{number}.voltage", volts, quality)
        self.inputs.put(f"{prefix}.current", current, quality)
        self.inputs.put(f"{prefix}.pack_voltage", sum(cells) if pack is None else pack, quality)
        self.derived.update(name)

    def number(self, end: str, name: str = "A") -> float | None:
        return self.table.number(f"string.{name}.battery.{end}")


def test_extremes_and_which_cell(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read((3.30, 3.42, 3.25, 3.31), current=-5.0, pack=13.30)
    expected = {
        "cell_voltage_max": 3.42,
        "cell_voltage_max_cell": 2.0,
        "cell_voltage_min": 3.25,
        "cell_voltage_min_cell": 3.0,
        "cell_voltage_mean": 3.32,
        "cell_voltage_spread": 0.17,
        "pack_mismatch": -0.02,
        "power": -66.4,  # of the cells, not of the slower and coarser pack voltage
    }
    assert {end: plant.number(end) for end in expected} == pytest.approx(expected)
    assert plant.table.number("site.power") == pytest.approx(-66.4)


def test_one_bad_cell_leaves_no_extreme(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read()
    clock.advance(0.1)
    plant.inputs.put("string.A.battery.cell.3.voltage", None, Quality.BAD_SENSOR_FAILURE)
    plant.derived.update("A")
    for end in (
        "cell_voltage_max",
        "cell_voltage_min_cell",
        "cell_voltage_mean",
        "cell_voltage_spread",
        "pack_mismatch",
        "power",
    ):
        sample = plant.table.sample(f"string.A.battery.{end}")
        assert (sample.value, sample.quality) == (None, Quality.BAD_SENSOR_FAILURE), end


def test_worst_quality_and_oldest_time(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read()
    first_ns = clock.utc_ns()
    clock.advance(0.2)
    for number in (1, 2, 4):
        plant.inputs.put(f"string.A.battery.cell.{number}.voltage", 3.4)
    plant.inputs.put("string.A.battery.cell.2.voltage", 3.5, Quality.UNCERTAIN_SUBSTITUTE_VALUE)
    plant.derived.update("A")
    sample = plant.table.sample("string.A.battery.cell_voltage_max")
    assert (sample.value, sample.quality, sample.time_ns) == (3.5, Quality.UNCERTAIN_SUBSTITUTE_VALUE, first_ns)


def test_derived_points_age_with_their_inputs(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read(current=1.0)
    clock.advance(1.1)
    plant.table.age()
    assert plant.table.sample("string.A.battery.cell_voltage_max").quality is Quality.BAD_NO_COMMUNICATION
    assert plant.table.sample("string.A.battery.power").value is None
    assert plant.table.sample("site.power").quality is Quality.BAD_NO_COMMUNICATION
    assert plant.table.sample("string.A.battery.charge_out").quality is Quality.UNCERTAIN_LAST_USABLE_VALUE


def test_recomputing_from_an_old_input_does_not_make_it_young(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read()
    for _ in range(4):
        clock.advance(0.2)
        plant.inputs.put("string.A.battery.cell.1.voltage", 3.4)
        plant.derived.update("A")
    assert plant.table.age_s("string.A.battery.cell_voltage_max") == pytest.approx(0.8)


def test_counts_by_the_trapezoidal_rule_in_site_time() -> None:
    clock = ManualClock(time_factor=60.0)
    plant = Plant(clock)
    plant.read(current=-5.0)
    for _ in range(600):
        clock.advance(PERIOD_S)
        plant.read(current=-5.0)
    # 60 real seconds are one site hour.
    assert plant.number("charge_in") == pytest.approx(5.0)
    assert plant.number("energy_in") == pytest.approx(66.0)
    assert (plant.number("charge_out"), plant.number("energy_out"), plant.number("unmeasured_time")) == (0.0, 0.0, 0.0)


def test_a_gap_is_counted_and_not_guessed(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read(current=5.0)
    clock.advance(30.0)
    plant.read(current=5.0)
    assert (plant.number("charge_out"), plant.number("unmeasured_time")) == (0.0, pytest.approx(30.0))
    clock.advance(PERIOD_S)
    plant.read(current=5.0)
    assert plant.number("charge_out") == pytest.approx(5.0 * PERIOD_S / 3600.0)
    assert plant.number("unmeasured_time") == pytest.approx(30.0)


@pytest.mark.parametrize("quality", [Quality.BAD_NO_COMMUNICATION, Quality.UNCERTAIN_LAST_USABLE_VALUE])
def test_counts_stand_still_while_inputs_are_not_good(clock: ManualClock, quality: Quality) -> None:
    plant = Plant(clock)
    plant.read(current=5.0)
    clock.advance(PERIOD_S)
    plant.read(current=5.0)
    before = plant.number("charge_out")
    for _ in range(10):
        clock.advance(PERIOD_S)
        plant.read(current=5.0, quality=quality)
    sample = plant.table.sample("string.A.battery.charge_out")
    assert (sample.value, sample.quality) == (before, Quality.UNCERTAIN_LAST_USABLE_VALUE)
    clock.advance(PERIOD_S)
    plant.read(current=5.0)
    assert plant.number("charge_out") == before
    assert plant.number("unmeasured_time") == pytest.approx(1.1)


def test_the_same_reading_is_counted_once(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read(current=5.0)
    clock.advance(PERIOD_S)
    plant.read(current=5.0)
    before = plant.derived.counters()
    plant.derived.update("A")
    plant.inputs.put("string.A.battery.pack_voltage", 13.0)
    plant.derived.update("A")
    assert plant.derived.counters() == before


def test_counters_survive_a_restart(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read(current=5.0)
    clock.advance(PERIOD_S)
    plant.read(current=5.0)
    saved = plant.derived.counters()
    again = Plant(clock, counters={"A": dict(saved["A"])})
    assert again.number("charge_out") is None
    again.read(current=5.0)
    assert again.number("charge_out") == saved["A"]["charge_out"] > 0.0
    assert again.derived.counters() == saved


def test_saved_nonsense_starts_at_zero() -> None:
    assert restored({"charge_in": math.nan, "charge_out": -1.0, "energy_in": "7", "energy_out": 2}).as_dict() == {
        "charge_in": 0.0,
        "charge_out": 0.0,
        "energy_in": 0.0,
        "energy_out": 2.0,
        "unmeasured_time": 0.0,
    }


def test_a_step_of_the_wall_clock_changes_no_count(clock: ManualClock) -> None:
    plant = Plant(clock)
    plant.read(current=5.0)
    for step_s in (3600.0, -7200.0, 0.0):
        clock.step_wall(step_s)
        clock.advance(PERIOD_S)
        plant.read(current=5.0)
    assert plant.number("charge_out") == pytest.approx(3 * 5.0 * PERIOD_S / 3600.0)
    assert plant.number("unmeasured_time") == 0.0


def test_site_power_needs_every_string(clock: ManualClock) -> None:
    plant = Plant(clock, "A", "B")
    plant.read(current=5.0)
    assert plant.table.number("site.power") is None
    plant.read(current=-2.0, name="B")
    assert plant.table.number("site.power") == pytest.approx(3.0 * 13.2)


@given(
    first=st.floats(-100.0, 100.0),
    second=st.floats(-100.0, 100.0),
    duration=st.floats(0.0, 1000.0),
)
def test_areas_add_up_to_the_integral(first: float, second: float, duration: float) -> None:
    above, below = areas(first, second, duration)
    assert above >= 0.0
    assert below >= 0.0
    assert above - below == pytest.approx((first + second) / 2.0 * duration, abs=1e-6)


@given(
    readings=st.lists(
        st.tuples(st.floats(-7.0, 7.0), st.floats(0.0, 2.0), st.sampled_from([Quality.GOOD, Quality.BAD_NO_COMMUNICATION])),
        max_size=30,
    )
)
def test_counts_never_fall_and_no_time_is_lost(readings: list[tuple[float, float, Quality]]) -> None:
    """Counters only rise, and an interval is either measured or counted as unmeasured."""
    clock = ManualClock(time_factor=7.0)
    plant = Plant(clock)
    plant.read(current=1.0)
    start_s, previous = clock.site(), plant.derived.counters()["A"]
    measured_s, was_good = 0.0, True
    for current, pause_s, quality in readings:
        clock.advance(pause_s)
        plant.read(current=current, quality=quality)
        counts = plant.derived.counters()["A"]
        assert all(counts[name] >= previous[name] for name in COUNTERS)
        good = quality is Quality.GOOD
        if good and was_good and pause_s <= 5.0 * PERIOD_S:
            measured_s += pause_s * 7.0
        was_good, previous = good, counts
    assert measured_s + previous["unmeasured_time"] == pytest.approx(clock.site() - start_s, abs=1e-4)
