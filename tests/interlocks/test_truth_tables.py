"""Each cause, with each kind of input, with and without a latch, up to its reset."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from gateway.cause_rules import CauseState
from gateway.interlocks import HOLD_S, Inputs
from gateway.points import Quality
from tests.interlocks.rig import RUNNING, SCAN_S, Rig

OFF = replace(RUNNING, commanded_off=True)


@dataclass(frozen=True)
class Row:
    """One cause and the input that drives it. `acts_at_limit` says on which side the limit itself lies.

    `near` is healthy, but too close to the limit for a reset; None where there is no such value.
    """

    cause: str
    point: str
    good: float
    near: float | None
    limit: float
    beyond: float
    acts_at_limit: bool
    scans: int
    scope: str = "string.A"
    inputs: Inputs = RUNNING

    def __str__(self) -> str:
        return f"{self.cause}-{self.point.rsplit('.', 1)[-1]}"


B, C = "string.A.battery", "string.A.converter"

ROWS = (
    Row("cell_overvoltage", f"{B}.cell_voltage_max", 3.30, 3.55, 3.65, 3.66, acts_at_limit=True, scans=2),
    Row("cell_undervoltage", f"{B}.cell_voltage_min", 3.30, 2.70, 2.50, 2.49, acts_at_limit=True, scans=2),
    Row("charge_overcurrent", f"{B}.current", 0.0, None, -6.5, -6.6, acts_at_limit=False, scans=1),
    Row("charge_overcurrent", f"{C}.battery_current", 0.0, None, -6.5, -6.6, acts_at_limit=False, scans=1),
    Row("discharge_overcurrent", f"{B}.current", 0.0, None, 6.0, 6.1, acts_at_limit=False, scans=1),
    Row("discharge_overcurrent", f"{C}.battery_current", 0.0, None, 6.0, 6.1, acts_at_limit=False, scans=1),
    Row("overtemperature", f"{B}.temperature_max", 25.0, 52.0, 55.0, 56.0, acts_at_limit=True, scans=3),
    Row("battery_fault", f"{B}.fault_count", 0.0, None, 0.0, 1.0, acts_at_limit=False, scans=1),
    Row("converter_fault", f"{C}.faults_latched", 0.0, None, 0.0, 4.0, acts_at_limit=False, scans=1),
    Row("converter_fault", f"{C}.state", 4.0, None, 6.0, 7.0, acts_at_limit=False, scans=1),
    Row("pack_mismatch", f"{B}.pack_voltage", 6.60, None, 6.99, 7.01, acts_at_limit=False, scans=31),
    Row("pack_mismatch", f"{B}.cell_voltage_mean", 3.30, None, 3.49, 3.51, acts_at_limit=False, scans=31),
    Row("current_mismatch", f"{B}.current", 0.0, None, 0.3, 0.4, acts_at_limit=False, scans=31),
    Row("current_mismatch", f"{C}.battery_current", 0.0, None, -0.3, -0.4, acts_at_limit=False, scans=31),
    Row("uncommanded_current", f"{B}.current", 0.0, None, 0.3, 0.31, acts_at_limit=False, scans=21, inputs=OFF),
    Row("uncommanded_current", f"{C}.battery_current", 0.0, None, -0.3, -0.31, acts_at_limit=False, scans=21, inputs=OFF),
    Row("bus_voltage", "grid.voltage", 24.0, 25.9, 26.0, 26.1, acts_at_limit=True, scans=2, scope="site"),
    Row("bus_voltage", "grid.voltage", 24.0, 22.1, 22.0, 21.9, acts_at_limit=True, scans=2, scope="site"),
    Row("grid_protection", "grid.output", 1.0, None, 1.0, 0.0, acts_at_limit=False, scans=1, scope="site"),
    Row("grid_protection", "grid.fault_flags", 0.0, None, 128.0, 1.0, acts_at_limit=False, scans=1, scope="site"),
    Row("grid_protection", "grid.fault_flags", 0.0, None, 1152.0, 1153.0, acts_at_limit=False, scans=1, scope="site"),
)

PARAMETERS = pytest.mark.parametrize("row", ROWS, ids=str)


def healthy_rig(row: Row) -> Rig:
    rig = Rig(row.scope, inputs=row.inputs)
    rig.snapshot.set(row.point, row.good)
    rig.scan(3.0)
    assert rig.latch is None
    assert rig.cause_state(row.cause) is CauseState.HEALTHY
    return rig


@PARAMETERS
def test_good_is_healthy(row: Row) -> None:
    rig = healthy_rig(row)
    rig.scan(60.0)
    assert rig.latch is None
    assert rig.latched == []


@PARAMETERS
def test_the_limit_itself(row: Row) -> None:
    rig = healthy_rig(row)
    rig.snapshot.set(row.point, row.limit)
    rig.scan(10.0)
    assert (rig.cause_state(row.cause) is CauseState.ACTIVE) is row.acts_at_limit
    assert (rig.latch is not None and row.cause in rig.latch.causes) is row.acts_at_limit


@PARAMETERS
def test_beyond_trips_after_its_samples_and_delay_and_not_before(row: Row) -> None:
    rig = healthy_rig(row)
    rig.snapshot.set(row.point, row.beyond)
    rig.scan((row.scans - 1) * SCAN_S)
    assert row.scans == 1 or rig.cause_state(row.cause) is CauseState.ACTIVE
    assert rig.latch is None or row.cause not in rig.latch.causes
    rig.scan(2 * SCAN_S)
    assert rig.latch is not None
    assert row.cause in rig.latch.causes
    if rig.latch.first_out == (row.cause,):
        assert rig.cause(row.cause).title in rig.latch.reason


@pytest.mark.parametrize("row", [row for row in ROWS if row.scans > 1], ids=str)
def test_a_healthy_sample_in_between_starts_the_count_anew(row: Row) -> None:
    rig = healthy_rig(row)
    for _ in range(4):
        rig.snapshot.set(row.point, row.beyond)
        rig.scan((row.scans - 1) * SCAN_S)
        rig.snapshot.set(row.point, row.good)
        rig.scan()
    assert rig.latch is None or row.cause not in rig.latch.causes


@PARAMETERS
def test_a_frozen_sample_counts_once(row: Row) -> None:
    rig = healthy_rig(row)
    cause = rig.cause(row.cause)
    rig.snapshot.set(row.point, row.beyond)
    rig.frozen.add(row.point)
    rig.scan(0.9)
    assert rig.memory(row.cause).samples <= 1
    assert rig.memory(row.cause).acting is (cause.samples == 1 and cause.delay_s == 0.0)


@PARAMETERS
@pytest.mark.parametrize(
    "quality", [Quality.UNCERTAIN_LAST_USABLE_VALUE, Quality.BAD_NO_COMMUNICATION, Quality.BAD_SENSOR_FAILURE], ids=str
)
def test_doubtful_or_bad_trips_after_its_grace(row: Row, quality: Quality) -> None:
    rig = healthy_rig(row)
    grace_s = rig.cause(row.cause).grace_s
    rig.snapshot.set(row.point, row.good, quality)
    rig.scan(grace_s - SCAN_S)
    assert rig.cause_state(row.cause) is CauseState.UNKNOWN
    assert not rig.memory(row.cause).acting
    rig.scan(3 * SCAN_S)
    assert rig.latch is not None
    assert row.cause in rig.latch.causes


@PARAMETERS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_a_number_is_unknown_and_trips(row: Row, value: float) -> None:
    rig = healthy_rig(row)
    rig.snapshot.set(row.point, value)
    rig.scan()
    assert rig.cause_state(row.cause) is CauseState.UNKNOWN
    rig.scan(rig.cause(row.cause).grace_s + SCAN_S)
    assert rig.latch is not None
    assert row.cause in rig.latch.causes


@PARAMETERS
def test_never_read_trips_nothing_until_telemetry_is_armed(row: Row) -> None:
    rig = Rig(row.scope, inputs=replace(row.inputs, telemetry_armed=False))
    rig.snapshot.forget(row.point)
    rig.scan(60.0)
    assert rig.cause_state(row.cause) is CauseState.UNKNOWN
    assert rig.latch is None
    rig.inputs = row.inputs
    rig.scan()
    assert rig.latch is not None
    assert row.cause in rig.latch.first_out


@PARAMETERS
def test_the_latch_outlives_the_cause_and_the_reset_needs_a_healthy_while(row: Row) -> None:
    rig = healthy_rig(row)
    rig.snapshot.set(row.point, row.beyond)
    rig.scan((row.scans + 1) * SCAN_S)
    assert rig.cause(row.cause).title in rig.obstacles()
    rig.snapshot.set(row.point, row.good)
    rig.scan()
    assert rig.latch is not None
    assert row.cause in rig.latch.causes
    assert f"{rig.cause(row.cause).title} has been healthy for less than" in rig.obstacles()
    rig.scan(HOLD_S - 2 * SCAN_S)
    assert rig.obstacles()
    rig.scan(2 * SCAN_S)
    assert rig.obstacles() == ""
    assert rig.latch is not None  # being resettable is not a reset


@PARAMETERS
def test_unhealthy_in_the_hold_time_starts_it_anew(row: Row) -> None:
    rig = healthy_rig(row)
    rig.snapshot.set(row.point, row.beyond)
    rig.scan((row.scans + 1) * SCAN_S)
    rig.snapshot.set(row.point, row.good)
    rig.scan(HOLD_S - SCAN_S)
    rig.snapshot.set(row.point, None)
    rig.scan()
    assert rig.obstacles()
    rig.snapshot.set(row.point, row.good)
    rig.scan(HOLD_S)
    assert rig.obstacles()
    rig.scan(2 * SCAN_S)
    assert rig.obstacles() == ""


@pytest.mark.parametrize("row", [row for row in ROWS if row.near is not None], ids=str)
def test_too_close_to_the_limit_is_no_reset(row: Row) -> None:
    rig = healthy_rig(row)
    rig.snapshot.set(row.point, row.near)
    rig.scan(10.0)
    assert rig.latch is None  # the margin is for the reset only
    rig.snapshot.set(row.point, row.beyond)
    rig.scan((row.scans + 1) * SCAN_S)
    rig.snapshot.set(row.point, row.near)
    rig.scan(60.0)
    assert f"{rig.cause(row.cause).title} is still too close to its limit" in rig.obstacles()


AGES = [
    ("battery_telemetry", f"{B}.cell.1.voltage", "string.A", 1.5),
    ("battery_telemetry", f"{B}.cell.2.voltage", "string.A", 1.5),
    ("battery_telemetry", f"{B}.current", "string.A", 1.5),
    ("converter_telemetry", f"{C}.battery_current", "string.A", 1.0),
    ("converter_telemetry", f"{C}.battery_voltage", "string.A", 1.0),
    ("grid_telemetry", "grid.voltage", "site", 3.0),
    ("grid_telemetry", "grid.current", "site", 3.0),
    ("grid_telemetry", "grid.output", "site", 3.0),
]


@pytest.mark.parametrize(("cause", "point", "scope", "limit_s"), AGES)
def test_telemetry_that_ceases_trips_within_its_age(cause: str, point: str, scope: str, limit_s: float) -> None:
    rig = Rig(scope)
    rig.scan(3.0)
    rig.frozen.add(point)
    rig.scan(limit_s - SCAN_S)
    assert rig.latch is None
    rig.scan(2 * SCAN_S)
    assert rig.latch is not None
    assert rig.latch.first_out == (cause,)
    assert "no good telemetry" in rig.latch.reason
    rig.frozen.clear()
    rig.scan(HOLD_S + SCAN_S)
    assert rig.obstacles() == ""


@pytest.mark.parametrize(("cause", "point", "scope", "limit_s"), AGES)
def test_telemetry_that_turns_bad_trips_within_its_age_too(cause: str, point: str, scope: str, limit_s: float) -> None:
    rig = Rig(scope)
    rig.scan(3.0)
    rig.snapshot.set(point, None)
    rig.scan(limit_s - SCAN_S)
    assert rig.latch is None
    rig.scan(3 * SCAN_S)
    assert rig.latch is not None
    assert cause in rig.latch.first_out


@pytest.mark.parametrize(("cause", "point", "scope", "limit_s"), AGES)
def test_ages_run_in_real_time(cause: str, point: str, scope: str, limit_s: float) -> None:
    rig = Rig(scope, factor=60.0)
    rig.scan(3.0)
    rig.frozen.add(point)
    rig.scan(limit_s - SCAN_S)
    assert rig.latch is None
    rig.scan(2 * SCAN_S)
    assert rig.latch is not None
    assert cause in rig.latch.first_out
