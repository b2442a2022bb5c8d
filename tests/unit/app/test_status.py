"""The plant in one document, from the table of the simulated testbed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest

from gateway import config, data
from gateway.app import site_points
from gateway.points import Quality
from gateway.status import status_document
from gateway.table import Table

if TYPE_CHECKING:
    from tests.manual_clock import ManualClock

GUARD = SimpleNamespace(alarm_rows=lambda: [{"id": "a"}], trip_rows=lambda: [{"scope": "string.A"}])


class Bench:
    """A table in which a test writes what it likes; what it does not write was never read."""

    def __init__(self, clock: ManualClock) -> None:
        loaded = config.load(data.sites_dir() / "testbed_sim.toml")
        self.site = loaded.site
        self.table = Table(site_points(loaded), self.site.aliases, clock)
        self.sources = {alias.target: alias for alias in self.site.aliases}

    def put(self, name: str, value: float | str | None, quality: Quality = Quality.GOOD) -> None:
        """Canonical value of a point; those of devices are written at their source."""
        alias = self.sources.get(name)
        if alias is None:
            self.table.claim([name], "test").put(name, value, quality)
        else:
            raw = value / alias.factor if isinstance(value, float) else value
            self.table.claim([alias.source], "test").put(alias.source, raw, quality)

    def document(self) -> dict:
        parts = SimpleNamespace(site=self.site, table=self.table, guard=GUARD, endpoints=lambda: {"opcua": "opc.tcp://x"})
        return status_document(parts)

    def string(self, identifier: str) -> dict:
        return next(row for row in self.document()["strings"] if row["id"] == identifier)


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(clock)


def numbers(value: object) -> list[float]:
    """Every number anywhere in a document."""
    if isinstance(value, dict):
        return [found for item in value.values() for found in numbers(item)]
    if isinstance(value, list):
        return [found for item in value for found in numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_before_anything_was_read_there_is_no_number(bench: Bench) -> None:
    document = bench.document()
    assert document["site"]["time_factor"] == 1.0
    assert document["site"]["state"] is None
    assert numbers(document["strings"]) == numbers(document["grid"]) == []
    assert [row["id"] for row in document["strings"]] == ["A", "B"]
    assert not any(row["ready"] or row["tripped"] for row in document["strings"])
    assert {row["state"] for row in document["devices"]} == {None}


def test_it_can_be_sent(bench: Bench) -> None:
    document = bench.document()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(document)) == document


def test_good_values_are_shown_in_canonical_signs(bench: Bench) -> None:
    bench.put("string.A.battery.pack_voltage", 13.4)
    bench.put("string.A.battery.current", -5.0)
    bench.put("string.A.battery.cell.2.voltage", 3.35)
    bench.put("string.A.converter.mode", 3.0)
    bench.put("grid.voltage", 24.0)
    row = bench.string("A")
    assert (row["pack_voltage"], row["current"], row["converter_mode"]) == (13.4, -5.0, "voltage")
    assert row["cells"] == [None, 3.35, None, None]
    assert bench.document()["grid"]["voltage"] == 24.0


@pytest.mark.parametrize("quality", [Quality.UNCERTAIN_LAST_USABLE_VALUE, Quality.UNCERTAIN_SUBSTITUTE_VALUE])
def test_a_value_that_is_not_good_is_none(bench: Bench, quality: Quality) -> None:
    bench.put("string.A.battery.pack_voltage", 13.4, quality)
    assert bench.string("A")["pack_voltage"] is None


def test_states_are_words(bench: Bench) -> None:
    point = bench.table.points[bench.table.index["site.state"]]
    ready = next(float(number) for number, word in point.symbols.items() if word == "ready")
    bench.put("site.state", ready)
    bench.put("site.state_reason", "every string is ready")
    bench.put("device.bms_a.comm.last_error", "no answer")
    document = bench.document()
    assert (document["site"]["state"], document["site"]["reason"]) == ("ready", "every string is ready")
    assert next(row["error"] for row in document["devices"] if row["id"] == "bms_a") == "no answer"


def test_a_trip_of_a_string_is_its_own(bench: Bench) -> None:
    bench.put("string.A.trip.latched", 1.0)
    bench.put("string.A.trip.first_out", "overtemperature")
    assert (bench.string("A")["tripped"], bench.string("A")["first_out"]) == (True, "overtemperature")
    assert (bench.string("B")["tripped"], bench.string("B")["first_out"]) == (False, "")


def test_a_trip_of_the_site_is_every_strings(bench: Bench) -> None:
    bench.put("site.trip.latched", 1.0)
    bench.put("site.trip.first_out", "stop")
    assert [(row["tripped"], row["first_out"]) for row in bench.document()["strings"]] == [(True, "stop")] * 2


def test_alarms_trips_and_endpoints_are_as_their_parts_say(bench: Bench) -> None:
    document = bench.document()
    assert document["alarms"] == [{"id": "a"}]
    assert document["trips"] == [{"scope": "string.A"}]
    assert document["endpoints"] == {"opcua": "opc.tcp://x"}
