"""The tag database: one writer per point, mirrors, bad means no number, ageing in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gateway.points import NEVER, TEXT_BYTES, Kind, Point, Quality, Sample
from gateway.site import Alias
from gateway.table import Table

if TYPE_CHECKING:
    from tests.manual_clock import ManualClock

POINTS = (
    Point(name="device.bms.current", unit="A", uncertain_after_s=0.5, bad_after_s=2.0),
    Point(name="device.bms.voltage", unit="V", uncertain_after_s=0.5, bad_after_s=2.0),
    Point(name="device.bms.serial", kind=Kind.TEXT),
    Point(name="string.A.battery.current", unit="A"),
    Point(name="string.A.battery.pack_voltage", unit="V"),
    Point(name="site.state", kind=Kind.TEXT),
)
ALIASES = (
    Alias(source="device.bms.current", target="string.A.battery.current", factor=-1.0),
    Alias(source="device.bms.voltage", target="string.A.battery.pack_voltage", factor=1.0),
)
CURRENT, VOLTAGE, SERIAL, OUR_CURRENT, OUR_VOLTAGE, STATE = (point.name for point in POINTS)


@pytest.fixture
def table(clock: ManualClock) -> Table:
    return Table(POINTS, ALIASES, clock)


def test_a_point_that_was_never_read_has_no_value(table: Table) -> None:
    assert table.sample(CURRENT) == NEVER
    assert table.sample("no.such.point") == NEVER
    assert table.number(CURRENT) is None
    assert table.view().age_s(CURRENT) == math.inf
    assert table.view().age_s("no.such.point") == math.inf


def test_publish_sets_value_quality_and_source_time(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    read_ns = clock.utc_ns() - 50_000_000
    block.publish(np.array([5.0, 13.2]), Quality.GOOD, read_ns)
    assert table.sample(VOLTAGE) == Sample(13.2, Quality.GOOD, read_ns)
    assert table.view().age_s(VOLTAGE) == pytest.approx(0.05)


def test_mirrors_follow_in_the_same_call_with_their_sign(table: Table, clock: ManualClock) -> None:
    block = table.claim([VOLTAGE, CURRENT], "bms")
    view = table.view()
    block.publish(np.array([13.2, 5.0]), Quality.GOOD, clock.utc_ns())
    assert (view.number(OUR_CURRENT), view.number(OUR_VOLTAGE)) == (-5.0, 13.2)
    block.put(CURRENT, 0.0)
    assert str(view.number(OUR_CURRENT)) == "0.0"
    block.publish(np.array([13.2, 0.0]), Quality.GOOD, clock.utc_ns() + 1)
    assert str(view.number(OUR_CURRENT)) == "0.0"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("quality", [Quality.GOOD, Quality.UNCERTAIN_SUBSTITUTE_VALUE])
def test_no_number_is_a_failed_sensor(table: Table, clock: ManualClock, number: float, quality: Quality) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    block.publish(np.array([number, 13.2]), quality, clock.utc_ns())
    assert table.sample(OUR_CURRENT) == Sample(None, Quality.BAD_SENSOR_FAILURE, clock.utc_ns())
    assert table.sample(OUR_VOLTAGE) == Sample(13.2, quality, clock.utc_ns())
    block.put(VOLTAGE, number, quality)
    assert table.sample(OUR_VOLTAGE).quality is Quality.BAD_SENSOR_FAILURE


def test_a_value_under_a_bad_quality_is_dropped(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    qualities = np.array([Quality.GOOD, Quality.BAD_OUT_OF_RANGE], dtype=np.uint8)
    block.publish(np.array([5.0, 99.0]), qualities, clock.utc_ns())
    assert table.sample(CURRENT).value == 5.0
    assert table.sample(VOLTAGE) == Sample(None, Quality.BAD_OUT_OF_RANGE, clock.utc_ns())
    assert math.isnan(table.values[table.index[OUR_VOLTAGE]])
    block.put(CURRENT, 7.0, Quality.BAD_DEVICE_FAILURE)
    assert table.sample(CURRENT).value is None


def test_publishing_keeps_nothing_of_the_callers_arrays(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    values = np.array([5.0, math.nan])
    block.publish(values, Quality.GOOD, clock.utc_ns())
    assert math.isnan(values[1])
    values[0] = 6.0
    assert table.number(CURRENT) == 5.0


def test_samples_age_to_uncertain_then_bad_and_keep_their_source_time(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    read_ns = clock.utc_ns()
    block.publish(np.array([5.0, 13.2]), Quality.GOOD, read_ns)
    clock.advance(0.5)
    table.age()
    assert table.sample(CURRENT).quality is Quality.GOOD
    clock.advance(0.1)
    table.age()
    assert table.sample(CURRENT) == Sample(5.0, Quality.UNCERTAIN_LAST_USABLE_VALUE, read_ns)
    assert table.number(CURRENT) is None
    clock.advance(1.5)
    table.age()
    assert table.sample(CURRENT) == Sample(None, Quality.BAD_NO_COMMUNICATION, read_ns)
    assert math.isnan(table.values[table.index[CURRENT]])
    assert table.sample(OUR_CURRENT) == table.sample(CURRENT)


def test_a_cause_of_badness_is_not_replaced_by_age(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT], "bms")
    block.put(CURRENT, None, Quality.BAD_SENSOR_FAILURE)
    clock.advance(10.0)
    table.age()
    assert table.sample(CURRENT).quality is Quality.BAD_SENSOR_FAILURE


def test_age_counts_from_the_last_value(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    block.publish(np.array([5.0, 13.2]), Quality.GOOD, clock.utc_ns())
    clock.advance(1.0)
    block.publish(np.full(2, math.nan), Quality.BAD_NO_COMMUNICATION, clock.utc_ns())
    assert table.view().age_s(CURRENT) == pytest.approx(1.0)
    block.put(VOLTAGE, None, Quality.BAD_DEVICE_FAILURE)
    assert table.view().age_s(OUR_VOLTAGE) == pytest.approx(1.0)


def test_publishing_the_same_reading_again_does_not_make_it_young(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    read_ns = clock.utc_ns()
    for _ in range(7):
        block.publish(np.array([5.0, 13.2]), Quality.GOOD, read_ns)
        clock.advance(0.4)
    block.publish(np.array([5.0, 13.2]), Quality.GOOD, read_ns)
    assert table.sample(OUR_CURRENT) == Sample(None, Quality.BAD_NO_COMMUNICATION, read_ns)
    block.put(CURRENT, 5.0, time_ns=read_ns)
    assert table.sample(CURRENT).value is None


def test_a_reading_that_arrives_late_is_as_old_as_it_is(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    clock.advance(100.0)
    block.publish(np.array([5.0, 13.2]), Quality.GOOD, clock.utc_ns() - 1_000_000_000)
    assert table.sample(CURRENT).quality is Quality.UNCERTAIN_LAST_USABLE_VALUE
    block.put(VOLTAGE, 13.0, time_ns=clock.utc_ns() - 3_000_000_000)
    assert table.sample(VOLTAGE).quality is Quality.BAD_NO_COMMUNICATION


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_step_of_the_wall_clock_ages_nothing(table: Table, clock: ManualClock, step_s: float) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    block.publish(np.array([5.0, 13.2]), Quality.GOOD, clock.utc_ns())
    asked_ns = clock.utc_ns()
    clock.advance(0.1)
    clock.step_wall(step_s)
    table.age()
    assert table.number(CURRENT) == 5.0
    clock.advance(0.1)
    block.publish(np.array([6.0, 13.2]), Quality.GOOD, asked_ns + 1)
    assert table.number(CURRENT) == 6.0


def test_late_readings_are_judged_again_after_a_step(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT], "bms")
    clock.step_wall(3600.0)
    table.age()
    for _ in range(11):
        clock.advance(1.0)
        table.age()
    block.put(CURRENT, 5.0, time_ns=clock.utc_ns() - 10_000_000_000)
    assert table.sample(CURRENT).value is None


def test_a_mirror_is_no_more_patient_than_its_source(clock: ManualClock) -> None:
    patient = Point(name="canonical", uncertain_after_s=60.0, bad_after_s=60.0)
    table = Table([POINTS[0], patient], [Alias(source=CURRENT, target="canonical", factor=1.0)], clock)
    table.claim([CURRENT], "bms").put(CURRENT, 1.0)
    clock.advance(2.5)
    table.age()
    assert table.sample("canonical").quality is Quality.BAD_NO_COMMUNICATION


def test_one_writer_per_point(table: Table) -> None:
    table.claim([CURRENT], "bms")
    table.claim([CURRENT], "bms")
    with pytest.raises(ValueError, match=r"other cannot claim .*device\.bms\.current belongs to bms"):
        table.claim([VOLTAGE, CURRENT], "other")
    table.claim([VOLTAGE], "third")
    with pytest.raises(ValueError, match=r"string\.A\.battery\.current mirrors another point"):
        table.claim([OUR_CURRENT], "bms")
    with pytest.raises(ValueError, match="nothing does not exist"):
        table.claim(["nothing"], "bms")
    with pytest.raises(ValueError, match="given twice"):
        table.claim([CURRENT, CURRENT], "bms")


def test_wrong_use_of_a_block_is_refused(table: Table, clock: ManualClock) -> None:
    block = table.claim([CURRENT, VOLTAGE], "bms")
    texts = table.claim([STATE], "site")
    now_ns = clock.utc_ns()
    with pytest.raises(ValueError, match=r"has 2 points, got 1"):
        block.publish(np.array([1.0]), Quality.GOOD, now_ns)
    with pytest.raises(ValueError, match=r"has 2 points, got 3"):
        block.publish(np.array([1.0, 2.0]), np.zeros(3, np.uint8), now_ns)
    with pytest.raises(ValueError, match="has text points"):
        texts.publish(np.array([1.0]), Quality.GOOD, now_ns)
    with pytest.raises(ValueError, match="is not in this block"):
        block.put(STATE, "ready")
    with pytest.raises(ValueError, match="is a number, got 'ready'"):
        block.put(CURRENT, "ready")
    with pytest.raises(ValueError, match=r"is text, got 1\.0"):
        texts.put(STATE, 1.0)
    with pytest.raises(ValueError, match="no value and a quality that is not bad"):
        block.put(CURRENT, None)
    assert table.sample(CURRENT) == NEVER


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ([("nothing", OUR_CURRENT, 1.0)], "nothing does not exist"),
        ([(CURRENT, OUR_CURRENT, 1.0), (VOLTAGE, OUR_CURRENT, 1.0)], "mirrors two points"),
        ([(CURRENT, OUR_CURRENT, 1.0), (OUR_CURRENT, OUR_VOLTAGE, 1.0)], "is itself a source"),
        ([(CURRENT, STATE, 1.0)], "one is text"),
        ([(CURRENT, OUR_CURRENT, math.nan)], "the factor is nan"),
    ],
)
def test_aliases_that_make_no_sense(clock: ManualClock, aliases: list[tuple[str, str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table(POINTS, [Alias(source=source, target=target, factor=factor) for source, target, factor in aliases], clock)


def test_names_are_unique(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match=r"more than once: site\.state"):
        Table([*POINTS, POINTS[-1]], [], clock)


def test_texts(table: Table, clock: ManualClock) -> None:
    block = table.claim([STATE], "site")
    block.put(STATE, "ready")
    assert table.sample(STATE) == Sample("ready", Quality.GOOD, clock.utc_ns())
    assert table.number(STATE) is None
    version = table.values[table.index[STATE]]
    block.put(STATE, "ready")
    assert table.values[table.index[STATE]] == version
    block.put(STATE, "fault")
    assert table.values[table.index[STATE]] > version
    block.put(STATE, None, Quality.BAD_CONFIGURATION_ERROR)
    assert table.sample(STATE).value is None
    block.put(STATE, "")
    assert table.sample(STATE).value == ""


@pytest.mark.parametrize(
    ("text", "kept", "truncated"),
    [
        ("a" * TEXT_BYTES, "a" * TEXT_BYTES, 0),
        ("a" * (TEXT_BYTES + 1), "a" * TEXT_BYTES, 1),
        ("é" * 128, "é" * 128, 0),
        ("a" + "é" * 128, "a" + "é" * 127, 1),
        ("a" * 254 + "€", "a" * 254, 1),
    ],
)
def test_long_texts_are_cut_at_a_character_and_counted(table: Table, text: str, kept: str, truncated: int) -> None:
    table.claim([STATE], "site").put(STATE, text)
    assert (table.sample(STATE).value, table.texts_truncated) == (kept, truncated)


def test_an_empty_table(clock: ManualClock) -> None:
    table = Table([], [], clock)
    table.claim([], "nobody").publish(np.zeros(0), Quality.GOOD, 1)
    table.age()
    assert table.sample("x") == NEVER
