"""From the snapshot to what the engine may know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.points import NEVER, Point, Quality, Sample
from gateway.protocols.readings import StringReader
from tests.protocols.small_site import site, with_device

if TYPE_CHECKING:
    from gateway.protocols.state import Inputs


class View:
    def __init__(self, **samples: Sample) -> None:
        self._samples = {f"string.A.{name.replace('__', '.')}": sample for name, sample in samples.items()}

    def sample(self, name: str) -> Sample:
        return self._samples.get(name, NEVER)

    def number(self, name: str) -> float | None:
        return self.sample(name).number

    def age_s(self, name: str) -> float:
        return 0.0


def good(value: float, time_ns: int = 5) -> Sample:
    return Sample(value, Quality.GOOD, time_ns)


def read(plant=None, **samples: Sample) -> Inputs:
    plant = plant or site()
    return StringReader(plant, plant.strings[0]).read(View(**samples))


def test_only_good_values_are_known_with_their_source_time() -> None:
    inputs = read(
        battery__cell_voltage_max=good(3.3, 77),
        battery__pack_voltage=Sample(13.2, Quality.UNCERTAIN_LAST_USABLE_VALUE, 5),
        battery__current=Sample(None, Quality.BAD_NO_COMMUNICATION, 5),
    )
    assert inputs.readings.keys() == {"cell_voltage_max"}
    assert inputs.readings["cell_voltage_max"].time_ns == 77


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(0.0, False), (8.0, False), (2.0, True), (10.0, True), (32.0, True), (128.0, True), (1024.0, True)],
)
def test_any_limiter_but_the_battery_voltage_is_foreign(flags: float, expected: bool) -> None:
    assert read(converter__limiter_flags=good(flags)).foreign_limiter is expected


def test_limiters_that_are_not_known_are_not_taken_for_none() -> None:
    assert read().foreign_limiter is None
    assert read(converter__limiter_flags=Sample(0.0, Quality.UNCERTAIN_LAST_USABLE_VALUE, 5)).foreign_limiter is None


def test_a_converter_without_limiter_flags_has_no_foreign_limiter() -> None:
    plain = with_device(site(), "dab_a", points=frozenset({"battery_current", "battery_voltage", "state"}))
    assert read(plain).foreign_limiter is False


def test_limiters_without_names_are_all_foreign() -> None:
    plant = replace(site(), device_points=(Point(name="device.dab_a.limiter_flags"),))
    assert read(plant, converter__limiter_flags=good(8.0)).foreign_limiter is True


def test_voltage_mode_is_what_the_converter_reports() -> None:
    assert read(converter__mode=good(3.0)).voltage_mode
    assert not read(converter__mode=good(2.0)).voltage_mode
    assert not read().voltage_mode
    assert not read(converter__mode=Sample(3.0, Quality.UNCERTAIN_LAST_USABLE_VALUE, 5)).voltage_mode
    plain = with_device(site(), "dab_a", points=frozenset({"battery_current", "battery_voltage", "state"}))
    assert read(plain, converter__state=good(5.0)).voltage_mode
    assert not read(plain, converter__state=good(3.0)).voltage_mode
