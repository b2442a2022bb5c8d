"""When a schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.protocols.triggers import ScheduleError, first_due, spec_from

NOON = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)  # a Monday


def due(after: datetime = NOON, now: datetime = NOON, **fields: object) -> datetime | None:
    return first_due(spec_from({"id": "s", "protocol": "p", "strings": ["A"], **fields}), after, now)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 2 * * *", datetime(2027, 3, 2, 2, 0, tzinfo=UTC)),
        ("0 2 * * 0", datetime(2027, 3, 7, 2, 0, tzinfo=UTC)),
        ("0 2 * * 7", datetime(2027, 3, 7, 2, 0, tzinfo=UTC)),
        ("0 2 * * 6", datetime(2027, 3, 6, 2, 0, tzinfo=UTC)),
        ("0 2 * * 1-5", datetime(2027, 3, 2, 2, 0, tzinfo=UTC)),
        ("0 2 * * 0-1", datetime(2027, 3, 7, 2, 0, tzinfo=UTC)),
        ("0 2 * * wed,5", datetime(2027, 3, 3, 2, 0, tzinfo=UTC)),
        ("*/20 * * * *", datetime(2027, 3, 1, 12, 20, tzinfo=UTC)),
        ("0 2 * * */3", datetime(2027, 3, 3, 2, 0, tzinfo=UTC)),
    ],
)
def test_cron_counts_days_as_cron_does(cron: str, expected: datetime) -> None:
    assert due(cron=cron) == expected


def test_times_are_those_of_the_zone() -> None:
    assert due(cron="0 14 * * *", timezone="Europe/Berlin") == datetime(2027, 3, 1, 13, 0, tzinfo=UTC)
    assert due(at="2027-03-01T14:00", timezone="Europe/Berlin") == datetime(2027, 3, 1, 13, 0, tzinfo=UTC)
    assert due(at="2027-03-01T14:00:00Z", timezone="Europe/Berlin") == datetime(2027, 3, 1, 14, 0, tzinfo=UTC)


def test_a_date_is_due_once() -> None:
    assert due(at="2027-03-01T14:00") == datetime(2027, 3, 1, 14, 0, tzinfo=UTC)
    assert due(at="2027-03-01T12:00") is None


def test_an_interval_owes_only_its_latest_start() -> None:
    assert due(interval_s=3600) == NOON + timedelta(hours=1)
    assert due(interval_s=10, now=NOON + timedelta(days=400, seconds=7)) == NOON + timedelta(days=400)


def test_a_cron_start_that_was_missed_is_still_owed() -> None:
    assert due(cron="0 13 * * *", now=NOON + timedelta(hours=5)) == NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of cron, interval and at"),
        ({"cron": "0 2 * * *", "at": "2027-03-01T14:00"}, "exactly one of cron, interval and at"),
        ({"cron": "0 2 * *"}, "not five cron fields"),
        ({"cron": "99 2 * * *"}, "not a cron expression"),
        ({"cron": "0 2 * * 9"}, "not a cron expression"),
        ({"at": "tomorrow"}, "not an ISO 8601 date"),
        ({"interval_s": 0}, "at least 1 s"),
        ({"interval_s": "often"}, "cannot be read"),
        ({"interval_s": float("nan")}, "at least 1 s"),
        ({"cron": "0 2 * * *", "timezone": "Mars/Base"}, "not a time zone"),
        ({"cron": "0 2 * * *", "protocol": ""}, "needs an id and a protocol"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        due(**fields)
