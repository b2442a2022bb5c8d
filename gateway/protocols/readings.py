"""From the snapshot to what the engine looks at: good values of one string, with their source times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.device_roles import CONVERTER_MODES, CONVERTER_STATES, ConverterMode
from gateway.protocols.state import Inputs, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.points import Snapshot
    from gateway.site import Site, StringSpec

_BATTERY = {
    "cell_voltage_max": "cell_voltage_max",
    "cell_voltage_min": "cell_voltage_min",
    "cell_voltage_mean": "cell_voltage_mean",
    "cell_voltage_spread": "cell_voltage_spread",
    "pack_voltage": "pack_voltage",
    "battery_current": "current",
    "temperature_max": "temperature_max",
    "temperature_min": "temperature_min",
    "soc": "soc",
    "charge_limit": "charge_current_limit",
    "discharge_limit": "discharge_current_limit",
}
_CONVERTER = {"converter_current": "battery_current", "converter_voltage": "battery_voltage"}

_VOLTAGE_MODE = next(number for number, name in CONVERTER_MODES.items() if name == ConverterMode.VOLTAGE)
_VOLTAGE_STATE = next(number for number, name in CONVERTER_STATES.items() if name == ConverterMode.VOLTAGE)


class StringReader:
    """Reads one string. Which limiter bits mean the battery's voltage is told by their names in the device map."""

    def __init__(self, site: Site, string: StringSpec) -> None:
        prefix = string.prefix
        self._points = {name: f"{prefix}.battery.{point}" for name, point in _BATTERY.items()}
        self._points |= {name: f"{prefix}.converter.{point}" for name, point in _CONVERTER.items()}
        converter = site.device_at(f"{prefix}.converter")
        offered = converter.points if converter is not None else frozenset[str]()
        self._mode = (f"{prefix}.converter.mode", _VOLTAGE_MODE)
        if "mode" not in offered:
            self._mode = (f"{prefix}.converter.state", _VOLTAGE_STATE)
        self._limiter = f"{prefix}.converter.limiter_flags" if "limiter_flags" in offered else None
        self._own_bits = _voltage_bits(_symbols(site, f"{prefix}.converter.limiter_flags", string.converter))

    def read(self, snapshot: Snapshot) -> Inputs:
        """What the engine may know now: values of good quality only."""
        readings: dict[str, Reading] = {}
        for name, point in self._points.items():
            sample = snapshot.sample(point)
            number = sample.number
            if number is not None:
                readings[name] = Reading(number, sample.time_ns)
        point, value = self._mode
        return Inputs(readings, snapshot.number(point) == value, self._foreign_limiter(snapshot))

    def _foreign_limiter(self, snapshot: Snapshot) -> bool | None:
        if self._limiter is None:
            return False
        flags = snapshot.number(self._limiter)
        return None if flags is None else bool(int(flags) & ~self._own_bits)


def _symbols(site: Site, canonical: str, converter: str | None) -> Mapping[int, str]:
    wanted = {canonical, f"device.{converter}.limiter_flags"}
    points = (*site.device_points, *site.canonical_points)
    named = [point.symbols for point in points if point.name in wanted and point.symbols]
    return named[0] if named else {}


def _voltage_bits(symbols: Mapping[int, str]) -> int:
    """The bits that say "the battery voltage is what limits"; those of the bus are somebody else's."""
    names = {bit: name.lower().replace("_", " ") for bit, name in symbols.items()}
    own = [bit for bit, name in names.items() if ("volt" in name or name.startswith(("v", "battery v"))) and "bus" not in name]
    return sum(1 << bit for bit in own)
