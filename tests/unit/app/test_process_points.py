"""What processes report about themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway import process_points
from gateway.points import Quality
from gateway.process_points import ProcessReports
from gateway.table import Table

if TYPE_CHECKING:
    from tests.manual_clock import ManualClock


@pytest.fixture
def table(clock: ManualClock) -> Table:
    return Table(process_points.points(), (), clock)


@pytest.fixture
def reports(table: Table) -> ProcessReports:
    return ProcessReports(table)


def test_what_a_process_reports_are_its_points(table: Table, reports: ProcessReports) -> None:
    reports.report("opcua", {"memory": 81.5, "lag": 0.02, "sessions": 3, "drops": 0})
    assert [table.number(f"process.opcua.{name}") for name in ("memory", "lag", "sessions", "drops")] == [81.5, 0.02, 3.0, 0.0]


@pytest.mark.parametrize(
    ("process", "values"),
    [
        ("stranger", {"memory": 1.0}),
        ("control", {"memory": 1.0}),
        ("opcua", {"colour": 1.0}),
        ("opcua", {"memory": "much"}),
        ("opcua", {"memory": True}),
        ("opcua", {"memory": None}),
        ("opcua", {"memory": [1.0]}),
    ],
)
def test_what_makes_no_sense_is_ignored(table: Table, reports: ProcessReports, process: str, values: dict[str, object]) -> None:
    reports.report(process, values)
    assert all(table.sample(point.name).value is None for point in process_points.points())


def test_one_bad_value_does_not_spoil_the_others(table: Table, reports: ProcessReports) -> None:
    reports.report("opcua", {"memory": "much", "sessions": 2})
    assert table.number("process.opcua.sessions") == 2.0


def test_a_number_that_is_none_is_a_bad_value(table: Table, reports: ProcessReports) -> None:
    reports.report("opcua", {"lag": float("nan")})
    assert table.sample("process.opcua.lag").quality.is_bad


def test_a_process_that_falls_silent_is_seen(table: Table, reports: ProcessReports, clock: ManualClock) -> None:
    reports.report("opcua", {"sessions": 1})
    clock.advance(4.0)
    table.age()
    assert table.sample("process.opcua.sessions").quality is Quality.UNCERTAIN_LAST_USABLE_VALUE
    clock.advance(10.0)
    table.age()
    assert table.sample("process.opcua.sessions").quality is Quality.BAD_NO_COMMUNICATION


def test_the_control_process_reports_itself(table: Table, reports: ProcessReports) -> None:
    reports.report_own()
    memory_MB = table.number("process.control.memory")
    assert memory_MB is not None
    assert 10.0 < memory_MB < 10_000.0
    assert table.number("process.control.cpu") is not None
