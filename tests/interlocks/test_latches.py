"""First-out, later causes, escalation, arming, time domains: what joins the causes to trips."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from gateway.cause_rules import CauseState
from gateway.interlocks import causes, forbids_charge, points
from gateway.points import Quality
from gateway.site import Chemistry
from tests.interlocks.rig import RUNNING, SCAN_S, Rig
from tests.unit.law.plant import site, string

if TYPE_CHECKING:
    from gateway.causes import Inputs

B, C = "string.A.battery", "string.A.converter"


def test_ids_and_points_are_unique() -> None:
    found = causes(site())
    assert len({(cause.scope, cause.id) for cause in found}) == len(found)
    names = [point.name for point in points(found, site())]
    assert len(set(names)) == len(names)
    assert {"site.trip.latched", "string.A.trip.first_out", "interlock.string.B.cell_overvoltage.state"} <= set(names)


def test_every_cause_tells_its_consequence_and_what_to_do() -> None:
    for cause in causes(site()):
        assert cause.title
        assert cause.consequence
        assert cause.action
        assert 1 <= cause.priority <= 4


class TestFirstOut:
    def test_two_causes_in_one_scan_are_both_first(self) -> None:
        rig = Rig()
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.fault_count", 1.0)
        rig.snapshot.set(f"{C}.faults_latched", 1.0)
        rig.scan()
        assert rig.latch is not None
        assert rig.latch.first_out == ("battery_fault", "converter_fault")
        assert "Fault reported by the BMS" in rig.latch.reason
        assert "Converter fault" in rig.latch.reason

    def test_later_causes_are_appended_once_and_the_first_stays(self) -> None:
        rig = Rig()
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.fault_count", 1.0)
        rig.scan()
        rig.snapshot.set(f"{B}.fault_count", 0.0)
        rig.snapshot.set(f"{B}.current", 7.0)
        rig.scan(1.0)
        rig.snapshot.set(f"{B}.current", 0.0)
        rig.scan(1.0)
        rig.snapshot.set(f"{B}.fault_count", 1.0)
        rig.scan(1.0)
        assert rig.latch is not None
        assert rig.latch.first_out == ("battery_fault",)
        assert rig.latch.causes == ("battery_fault", "discharge_overcurrent")
        assert rig.latched == [("battery_fault",), ("discharge_overcurrent",)]

    def test_the_reason_has_value_and_limit(self) -> None:
        rig = Rig()
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.cell_voltage_max", 3.661)
        rig.scan(1.0)
        assert rig.latch is not None
        assert rig.latch.reason == "Cell over-voltage: 3.661 V, limit 3.650 V"

    def test_a_device_never_heard_is_named_first_and_the_rest_is_counted(self) -> None:
        rig = Rig(inputs=replace(RUNNING, telemetry_armed=False))
        for name in rig.snapshot.names:
            rig.snapshot.forget(name)
        rig.scan()
        rig.inputs = RUNNING
        rig.scan()
        assert rig.latch is not None
        assert rig.latch.reason.startswith("Battery telemetry lost")
        assert rig.latch.reason.endswith(f"and {len(rig.latch.causes) - 3} more")


class TestArming:
    def test_latched_converter_faults_are_nothing_while_the_sequence_resets_them(self) -> None:
        rig = Rig(inputs=replace(RUNNING, faults_armed=False))
        rig.snapshot.set(f"{C}.faults_latched", 4.0)
        rig.snapshot.set(f"{C}.state", 7.0)
        rig.scan(60.0)
        assert rig.latch is None
        rig.inputs = RUNNING
        rig.scan()
        assert rig.latch is not None

    def test_the_bus_is_watched_when_armed(self) -> None:
        rig = Rig("site", inputs=replace(RUNNING, bus_armed=False))
        rig.snapshot.set("grid.voltage", 0.0)
        rig.snapshot.set("grid.output", 0.0)
        rig.scan(60.0)
        assert rig.latch is None
        rig.inputs = RUNNING
        rig.scan(2 * SCAN_S)
        assert rig.latch is not None
        assert set(rig.latch.causes) == {"bus_voltage", "grid_protection"}

    def test_current_is_welcome_while_commanded_on(self) -> None:
        rig = Rig()
        rig.snapshot.update({f"{B}.current": -5.0, f"{C}.battery_current": -5.0})
        rig.scan(60.0)
        assert rig.latch is None

    def test_stop_trips_at_once(self) -> None:
        rig = Rig("site", inputs=replace(RUNNING, stop=True))
        rig.evaluate()
        assert rig.latch is not None
        assert rig.latch.first_out == ("stop",)
        rig.inputs = RUNNING
        rig.scan(5.0)
        assert rig.latch.first_out == ("stop",)
        assert rig.obstacles() == ""


class TestCrossChecks:
    def test_a_commanded_step_excuses_the_current(self) -> None:
        rig = Rig(inputs=replace(RUNNING, stepping=True))
        rig.snapshot.update({f"{B}.current": 0.0, f"{C}.battery_current": -5.0})
        rig.scan(60.0)
        assert rig.latch is None

    def test_five_per_cent_are_allowed(self) -> None:
        rig = Rig(site=site(string("A")))
        rig.snapshot.update({f"{B}.current": -6.2, f"{C}.battery_current": -5.9})
        rig.scan(60.0)
        assert rig.latch is None

    def test_samples_far_apart_are_no_evidence(self) -> None:
        rig = Rig(site=site(string("A")))
        rig.scan(3.0)
        rig.snapshot.update({f"{B}.current": 0.0, f"{C}.battery_current": -5.0})
        rig.frozen.add(f"{C}.battery_current")
        rig.clock.advance(1.05)
        rig.snapshot.touch(f"{B}.current")
        rig.evaluate()
        assert rig.cause_state("current_mismatch") is CauseState.HEALTHY

    def test_the_delay_is_site_time_but_needs_three_samples_of_both(self) -> None:
        rig = Rig(factor=60.0)
        rig.scan(3.0)
        rig.snapshot.update({f"{B}.current": 0.0, f"{C}.battery_current": -1.0})
        rig.scan(2 * SCAN_S)
        assert rig.latch is None
        rig.scan(SCAN_S)
        assert rig.latch is not None
        assert rig.latch.first_out == ("current_mismatch",)


class TestCurrentWithoutCommand:
    OFF = replace(RUNNING, commanded_off=True)

    def test_it_demands_the_site(self) -> None:
        rig = Rig(inputs=self.OFF)
        rig.scan(3.0)
        rig.snapshot.update({f"{B}.current": -1.0, f"{C}.battery_current": -1.0})
        rig.scan(2.2)
        assert rig.latch is not None
        assert rig.latch.first_out == ("uncommanded_current",)
        assert rig.latch.escalated

    def test_a_lost_sensor_trips_the_string_alone(self) -> None:
        rig = Rig(inputs=self.OFF)
        rig.scan(3.0)
        rig.snapshot.update({f"{B}.current": -1.0, f"{C}.battery_current": 0.0})
        rig.frozen.add(f"{B}.current")
        rig.scan(20.0)
        assert rig.latch is not None
        assert not rig.latch.escalated

    def test_two_seconds_are_real(self) -> None:
        rig = Rig(inputs=self.OFF, factor=60.0)
        rig.scan(3.0)
        rig.snapshot.update({f"{B}.current": -1.0, f"{C}.battery_current": -1.0})
        rig.scan(1.9)
        assert rig.latch is None

    def test_a_string_without_a_converter_carries_what_it_carries(self) -> None:
        rig = Rig(site=site(string("A", converter=False)), inputs=self.OFF)
        rig.snapshot.set(f"{B}.current", -5.0)
        rig.scan(60.0)
        assert rig.latch is None


class TestContactor:
    """A string on the bus behind a contactor; its auxiliary contact is wired."""

    OPEN = replace(RUNNING, commanded_off=True, contactor_closed=False)
    CLOSED = replace(RUNNING, commanded_off=False, contactor_closed=True)
    FEEDBACK = "string.A.contactor.feedback"

    def rig(self, inputs: Inputs, feedback: float, *, converter: bool = False) -> Rig:
        rig = Rig(site=site(string("A", converter=converter, contactor=True, feedback=True)), inputs=inputs)
        rig.snapshot.update({self.FEEDBACK: feedback})
        rig.scan(3.0)
        return rig

    def test_its_trip_leaves_the_site_alone(self) -> None:
        rig = self.rig(self.CLOSED, 1.0)
        rig.snapshot.set(f"{B}.cell_voltage_max", 3.7)
        rig.scan(1.0)
        assert rig.latch is not None
        assert rig.latch.first_out == ("cell_overvoltage",)
        assert not rig.latch.escalated

    def test_current_through_an_open_contactor_demands_the_site(self) -> None:
        rig = self.rig(self.OPEN, 0.0)
        rig.snapshot.set(f"{B}.current", -1.0)
        rig.scan(1.8)
        assert rig.latch is None
        rig.scan(0.6)
        assert rig.latch is not None
        assert rig.latch.first_out == ("uncommanded_current",)
        assert rig.latch.escalated

    def test_a_closed_contactor_carries_what_it_carries(self) -> None:
        rig = self.rig(self.CLOSED, 1.0)
        rig.snapshot.set(f"{B}.current", -5.0)
        rig.scan(60.0)
        assert rig.latch is None

    def test_welded_contacts_demand_the_site_unless_a_converter_parts_the_string(self) -> None:
        for converter in (False, True):
            rig = self.rig(self.OPEN, 0.0, converter=converter)
            rig.snapshot.set(self.FEEDBACK, 1.0)
            rig.scan(0.8)
            assert rig.latch is None, "it takes its time to move"
            rig.scan(0.6)
            assert rig.latch is not None
            assert rig.latch.first_out == ("contactor_stuck",)
            assert rig.latch.escalated is not converter

    def test_one_that_has_dropped_out_trips_its_string(self) -> None:
        rig = self.rig(self.CLOSED, 1.0)
        rig.snapshot.set(self.FEEDBACK, 0.0)
        rig.scan(0.8)
        assert rig.latch is None
        rig.scan(0.6)
        assert rig.latch is not None
        assert rig.latch.first_out == ("contactor_dropped",)
        assert not rig.latch.escalated

    def test_a_feedback_that_is_not_known_trips_the_string_alone(self) -> None:
        rig = self.rig(self.CLOSED, 1.0)
        rig.snapshot.set(self.FEEDBACK, None)
        rig.scan(5.0)
        assert rig.latch is not None
        assert not rig.latch.escalated

    def test_without_feedback_nothing_is_said_about_the_contacts(self) -> None:
        names = [cause.id for cause in Rig(site=site(string("A", converter=False, contactor=True))).causes]
        assert "uncommanded_current" in names
        assert not [name for name in names if name.startswith("contactor")]


class TestEscalation:
    def test_a_string_on_the_bus_always_demands_the_site(self) -> None:
        rig = Rig(site=site(string("A", converter=False)))
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.cell_voltage_max", 3.7)
        rig.scan(1.0)
        assert rig.latch is not None
        assert rig.latch.escalated

    def test_a_string_with_a_converter_does_not(self) -> None:
        rig = Rig()
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.cell_voltage_max", 3.7)
        rig.scan(1.0)
        assert rig.latch is not None
        assert not rig.latch.escalated

    def test_the_site_hears_the_demand_and_is_not_resettable_before_the_string(self) -> None:
        rig = Rig("site", inputs=replace(RUNNING, demands=frozenset({"A"})))
        rig.scan()
        assert rig.latch is not None
        assert rig.latch.first_out == ("string_A",)
        rig.scan(60.0)
        assert "String A" in rig.obstacles()
        rig.inputs = RUNNING
        rig.scan(3.0)
        assert rig.obstacles() == ""


class TestColdCharge:
    def test_it_forbids_and_never_trips(self) -> None:
        rig = Rig()
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.temperature_min", -1.0)
        rig.scan(2 * SCAN_S)
        assert not forbids_charge(rig.causes, rig.state)
        rig.scan(SCAN_S)
        assert "Too cold to charge: -1.000 degC" in forbids_charge(rig.causes, rig.state)
        rig.scan(60.0)
        assert rig.latch is None
        assert rig.obstacles() == ""
        rig.snapshot.set(f"{B}.temperature_min", 10.0)
        rig.scan()
        assert not forbids_charge(rig.causes, rig.state)

    def test_a_temperature_never_read_forbids_at_once(self) -> None:
        rig = Rig(inputs=replace(RUNNING, telemetry_armed=False))
        rig.snapshot.forget(f"{B}.temperature_min")
        rig.scan()
        assert forbids_charge(rig.causes, rig.state)
        assert rig.latch is None

    def test_a_lost_temperature_forbids_after_its_grace(self) -> None:
        rig = Rig()
        rig.scan(3.0)
        rig.snapshot.set(f"{B}.temperature_min", None)
        rig.scan(1.4)
        assert not forbids_charge(rig.causes, rig.state)
        rig.scan(0.3)
        assert "not known" in forbids_charge(rig.causes, rig.state)


def test_lead_acid_needs_three_samples_and_has_its_own_margin() -> None:
    rig = Rig(site=site(string("A", chemistry=Chemistry.LEAD_ACID)))
    rig.scan(3.0)
    rig.snapshot.set(f"{B}.cell_voltage_max", 3.66)
    rig.scan(2 * SCAN_S)
    assert rig.latch is None
    rig.scan(SCAN_S)
    assert rig.latch is not None
    rig.snapshot.set(f"{B}.cell_voltage_max", 3.54)
    rig.scan(3.0)
    assert rig.obstacles() == ""


def test_nothing_new_is_the_same_object() -> None:
    rig = Rig()
    rig.scan(3.0)
    before = rig.state
    rig.scan(1.0)
    assert rig.state is before


def test_a_flapping_input_cannot_hide() -> None:
    """Unknown, active, unknown, ...: never healthy, so the count goes on and the grace is not renewed."""
    rig = Rig()
    rig.scan(3.0)
    for _ in range(2):
        rig.snapshot.set(f"{B}.cell_voltage_max", 3.7)
        rig.scan()
        rig.snapshot.set(f"{B}.cell_voltage_max", 3.7, Quality.UNCERTAIN_LAST_USABLE_VALUE)
        rig.scan()
    assert rig.latch is not None
    assert rig.latch.first_out == ("cell_overvoltage",)


VALUES = st.sampled_from([3.3, 3.55, 3.66, 9.0, 2.4, -1.0, float("nan"), float("inf"), None])


@given(st.lists(st.tuples(VALUES, st.sampled_from(list(Quality)), st.sampled_from([0.1, 0.5, 3.0])), max_size=12))
def test_a_latch_never_goes_by_itself(history: list[tuple[float | None, Quality, float]]) -> None:
    rig = Rig()
    rig.scan(1.0)
    seen: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    for value, quality, seconds in history:
        good = None if value is None and not quality.is_bad else quality
        rig.snapshot.set(f"{B}.cell_voltage_max", value, good)
        rig.scan(seconds)
        if seen:
            assert rig.latch is not None
            assert rig.latch.first_out == first
            assert rig.latch.causes[: len(seen)] == seen
        if rig.latch is not None:
            seen, first = rig.latch.causes, rig.latch.first_out
