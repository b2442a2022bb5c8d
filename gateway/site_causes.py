"""The causes of the site: STOP, the bus, the grid converter, and strings that cannot be stopped by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cause_rules import AnyOf, Faulted, Outside, TelemetryAge
from gateway.causes import SITE, Cause, Inputs, offers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.cause_rules import Rule
    from gateway.site import GridSpec, Site

BUS_MARGIN_V = 0.2
"""How far inside its window the bus voltage must be for a reset."""

INFORMING_FLAGS = frozenset(("positive limit", "negative limit", "unregulated"))
"""Names of fault bits that say how a grid converter regulates, and do not switch its output off."""


def _bus_armed(inputs: Inputs) -> bool:
    return inputs.bus_armed


def _stop(inputs: Inputs) -> bool:
    return inputs.stop


def _demanded_by(string_id: str) -> Callable[[Inputs], bool]:
    return lambda inputs: string_id in inputs.demands


def site_causes(site: Site) -> Iterator[Cause]:
    """Every cause of the site as a whole."""
    yield Cause(
        id="stop",
        scope=SITE,
        title="STOP (software)",
        rule=None,
        armed=_stop,
        grace_s=0.0,
        consequence="Everything is switched off.",
        action="Reset the site when the reason for the stop is gone, then start it again.",
        priority=1,
    )
    for string in site.strings:
        yield Cause(
            id=f"string_{string.id}",
            scope=SITE,
            title=f"String {string.id} cannot be stopped by itself",
            rule=None,
            armed=_demanded_by(string.id),
            grace_s=0.0,
            consequence="The whole site is switched off, because nothing else stops that string's current.",
            action=f"Clear and reset the trip of string {string.id}, then reset the site.",
            priority=1,
        )
    if site.grid is not None:
        yield from _grid_causes(site, site.grid)


def _grid_causes(site: Site, grid: GridSpec) -> Iterator[Cause]:
    yield Cause(
        id="bus_voltage",
        scope=SITE,
        title="Bus voltage outside its window",
        rule=Outside("grid.voltage", grid.bus_voltage_min_V, grid.bus_voltage_max_V, BUS_MARGIN_V, "V"),
        samples=2,
        armed=_bus_armed,
        grace_s=grid.age_max_s,
        consequence="Converters leave their working range or are damaged.",
        action="Find out what moved the bus before a reset.",
        priority=1,
    )
    yield Cause(
        id="grid_telemetry",
        scope=SITE,
        title="Grid converter telemetry lost",
        rule=TelemetryAge(("grid.voltage", "grid.current", "grid.output"), grid.age_max_s),
        grace_s=grid.age_max_s,
        consequence="The bus is not under control; the converter's own watchdog switches it off.",
        action="Check the grid converter, its supply and its wiring.",
        priority=1,
    )
    yield Cause(
        id="grid_protection",
        scope=SITE,
        title="Grid converter off or faulted",
        rule=_protection_rule(site, grid),
        armed=_bus_armed,
        grace_s=grid.age_max_s,
        consequence="The grid converter has switched itself off, or is about to.",
        action="Read the protection that acted; starting the site clears it when its cause is gone.",
        priority=1,
    )


def _protection_rule(site: Site, grid: GridSpec) -> Rule:
    off = Faulted(("grid.output",), values=frozenset((0.0,)))
    if not offers(site, grid.converter, "fault_flags"):
        return off
    raw = f"device.{grid.converter}.fault_flags"
    flags = next((point for point in site.device_points if point.name == raw), None)
    bits = flags.symbols.items() if flags is not None else ()
    informing = sum(1 << bit for bit, name in bits if name in INFORMING_FLAGS)
    return AnyOf((off, Faulted(("grid.fault_flags",), ignore=informing)))
