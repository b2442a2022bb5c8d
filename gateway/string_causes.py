"""The causes of a string: what its battery and its converter must not do.

Limits are those of the site file; delays, margins and sample counts are here, with their basis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.cause_rules import AnyOf, Disagreement, Faulted, High, Low, Overcurrent, TelemetryAge, UncommandedCurrent
from gateway.causes import Cause, Effect, Escalation, Inputs, offers
from gateway.device_roles import CONVERTER_STATES
from gateway.site import Chemistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.cause_rules import Rule
    from gateway.site import Site, StringSpec


@dataclass(frozen=True, slots=True)
class _Margins:
    """Per chemistry: cell voltage margins for a reset (V), and how many samples in a row a cell must be beyond."""

    high_V: float
    low_V: float
    samples: int


_MARGINS = {
    # LiFePO4: trips at 3.65 V after two samples and may be reset below 3.50 V; below, 2.50 V and 2.80 V (a cell that
    # rests above 2.80 V has left the steep end of its discharge curve).
    Chemistry.LFP: _Margins(0.15, 0.30, 2),
    # Lead-acid: three samples, the surface voltage decays by more than 0.1 V within minutes of an overcharge.
    Chemistry.LEAD_ACID: _Margins(0.10, 0.10, 3),
    Chemistry.ZINC: _Margins(0.05, 0.05, 2),
}

TEMPERATURE_MARGIN_K = 5.0
"""A string is resettable this far below its temperature limit; charging is free again this far above its minimum."""

UNCOMMANDED_A = 0.3
"""Current of a converter that is commanded off, above which it does not obey; three steps of a 0.1 A sensor."""

CONTACTOR_S = 1.0
"""Real seconds a contactor has to move (0.1 s at most) and its auxiliary contact to be read."""

UNCOMMANDED_S = 2.0
"""Real seconds a converter has for its own ramp to zero (at most 1 s) and the telemetry to show it."""

PACK_SHARE, PACK_V = 0.03, 0.4
CURRENT_SHARE, CURRENT_A = 0.05, 0.3
CROSS_CHECK_S = 3.0
"""Site seconds of disagreement; the shares and amounts above it are the sensors' errors, cable drop and resolution."""

_FAULT_STATE = frozenset(float(number) for number, name in CONVERTER_STATES.items() if name == "fault")


def string_causes(site: Site, string: StringSpec) -> Iterator[Cause]:
    """Every cause of one string."""
    # Telemetry first: a lost device makes all its causes unknown, and its loss is what people must read.
    yield from _battery_health_causes(site, string)
    yield from _cell_causes(string)
    yield from _current_causes(string)
    yield from _temperature_causes(site, string)
    if string.contactor is not None:
        yield from _contactor_causes(string)
    if string.converter is not None:
        yield from _converter_causes(site, string)


def _escalation(string: StringSpec) -> Escalation:
    # With neither converter nor contactor the string sits on the bus: only the grid converter can stop its current.
    return Escalation.NEVER if string.converter or string.contactor else Escalation.ALWAYS


def _cell_causes(string: StringSpec) -> Iterator[Cause]:
    limits, margins, battery = string.limits, _MARGINS[string.chemistry], f"{string.prefix}.battery"
    high, low = limits.cell_voltage_max_V, limits.cell_voltage_min_V
    yield Cause(
        id="cell_overvoltage",
        scope=string.prefix,
        title="Cell over-voltage",
        rule=High(f"{battery}.cell_voltage_max", high, high - margins.high_V, "V"),
        samples=margins.samples,
        grace_s=limits.battery_age_max_s,
        escalation=_escalation(string),
        consequence="Overcharge heats and damages the cell; it may vent.",
        action="Leave the string off, look at the cell with the highest voltage, discharge it before a reset.",
        priority=1,
    )
    yield Cause(
        id="cell_undervoltage",
        scope=string.prefix,
        title="Cell under-voltage",
        rule=Low(f"{battery}.cell_voltage_min", low, low + margins.low_V, "V"),
        samples=margins.samples,
        grace_s=limits.battery_age_max_s,
        escalation=_escalation(string),
        consequence="Deep discharge damages the cell; charging it afterwards may be dangerous.",
        action="Leave the string off, look at the cell with the lowest voltage, let it recover before a reset.",
    )


def _current_causes(string: StringSpec) -> Iterator[Cause]:
    limits = string.limits
    sensors = (f"{string.prefix}.battery.current",)
    if string.converter is not None:
        sensors = (*sensors, f"{string.prefix}.converter.battery_current")
    for direction, limit_A, sign in (
        ("charge", limits.charge_current_max_A, -1.0),
        ("discharge", limits.discharge_current_max_A, 1.0),
    ):
        yield Cause(
            id=f"{direction}_overcurrent",
            scope=string.prefix,
            title=f"Over-current in {direction}",
            rule=Overcurrent(sensors, limit_A, sign),
            grace_s=limits.battery_age_max_s,
            escalation=_escalation(string),
            consequence="Cells, wiring and converter overheat.",
            action="Find out what drove the current before a reset.",
        )


def _temperature_causes(site: Site, string: StringSpec) -> Iterator[Cause]:
    limits, battery = string.limits, f"{string.prefix}.battery"
    yield Cause(
        id="overtemperature",
        scope=string.prefix,
        title="Over-temperature",
        rule=High(
            f"{battery}.temperature_max", limits.temperature_max_degC, limits.temperature_max_degC - TEMPERATURE_MARGIN_K, "degC"
        ),
        samples=3,
        grace_s=limits.battery_age_max_s,
        escalation=_escalation(string),
        consequence="A hot cell ages, vents, or runs away.",
        action="Keep people away, do not open the enclosure, watch the temperature fall.",
        priority=1,
    )
    coldest = "temperature_min" if offers(site, string.battery, "temperature_min") else "temperature_max"
    coldest_degC = limits.charge_temperature_min_degC
    yield Cause(
        id="cold_charge",
        scope=string.prefix,
        title="Too cold to charge",
        rule=Low(f"{battery}.{coldest}", coldest_degC, coldest_degC + TEMPERATURE_MARGIN_K, "degC"),
        samples=3,
        grace_s=limits.battery_age_max_s,
        effect=Effect.NO_CHARGE,
        consequence="Charging a cold cell plates metal and damages it; charging is refused.",
        action="Warm the string up; charging is free again by itself.",
        priority=3,
    )


def _battery_health_causes(site: Site, string: StringSpec) -> Iterator[Cause]:
    limits, battery = string.limits, f"{string.prefix}.battery"
    cells = tuple(f"{battery}.cell.{number}.voltage" for number in range(1, string.cells + 1))
    yield Cause(
        id="battery_telemetry",
        scope=string.prefix,
        title="Battery telemetry lost",
        rule=TelemetryAge((*cells, f"{battery}.current"), limits.battery_age_max_s),
        grace_s=limits.battery_age_max_s,
        escalation=_escalation(string),
        consequence="Nobody watches the cells.",
        action="Check the BMS, its supply and its wiring.",
        priority=1,
    )
    yield Cause(
        id="pack_mismatch",
        scope=string.prefix,
        title="Pack voltage differs from the sum of its cells",
        rule=Disagreement(
            f"{battery}.cell_voltage_mean", f"{battery}.pack_voltage", float(string.cells), PACK_SHARE, PACK_V, "V"
        ),
        samples=3,
        site_delay_s=CROSS_CHECK_S,
        grace_s=limits.battery_age_max_s,
        escalation=_escalation(string),
        consequence="One of the two measurements is wrong, or a connection is bad; cell limits may not protect.",
        action="Measure the pack and its cells by hand.",
    )
    faults = next((name for name in ("fault_count", "fault_flags") if offers(site, string.battery, name)), None)
    if faults is not None:
        yield Cause(
            id="battery_fault",
            scope=string.prefix,
            title="Fault reported by the BMS",
            rule=Faulted((f"{battery}.{faults}",)),
            grace_s=limits.battery_age_max_s,
            escalation=_escalation(string),
            consequence="The BMS no longer vouches for the battery.",
            action="Read the BMS's trouble codes and clear their cause.",
        )


def _faults_armed(inputs: Inputs) -> bool:
    return inputs.faults_armed


def _commanded_off(inputs: Inputs) -> bool:
    return inputs.commanded_off


def _not_stepping(inputs: Inputs) -> bool:
    return not inputs.stepping


def _contactor_open(inputs: Inputs) -> bool:
    return not inputs.contactor_closed


def _contactor_closed(inputs: Inputs) -> bool:
    return inputs.contactor_closed


def _contactor_causes(string: StringSpec) -> Iterator[Cause]:
    age_s = string.limits.battery_age_max_s
    # A string on the bus that its contactor does not part from it can only be stopped by taking the bus away.
    escalation = Escalation.NEVER if string.converter is not None else Escalation.ACTIVE
    if string.converter is None:
        yield Cause(
            id="uncommanded_current",
            scope=string.prefix,
            title="Current through an open contactor",
            rule=UncommandedCurrent((f"{string.prefix}.battery.current",), UNCOMMANDED_A, age_s),
            samples=3,
            delay_s=UNCOMMANDED_S,
            armed=_commanded_off,
            grace_s=age_s,
            escalation=escalation,
            consequence="The contactor does not part the string from the bus; the whole site is switched off.",
            action="Isolate the string by hand and find the current's path.",
            priority=1,
        )
    if string.feedback is None:
        return
    yield Cause(
        id="contactor_stuck",
        scope=string.prefix,
        title="Contactor does not open",
        rule=Faulted((string.feedback,), frozenset({1.0})),
        samples=2,
        delay_s=CONTACTOR_S,
        armed=_contactor_open,
        grace_s=age_s,
        escalation=escalation,
        consequence="The string cannot be parted from the bus: its contacts are welded, or nobody hears the command.",
        action="Isolate the string by hand and check the contactor.",
        priority=1,
    )
    yield Cause(
        id="contactor_dropped",
        scope=string.prefix,
        title="Contactor does not close, or has opened by itself",
        rule=Faulted((string.feedback,), frozenset({0.0})),
        samples=2,
        delay_s=CONTACTOR_S,
        armed=_contactor_closed,
        grace_s=age_s,
        consequence="The string is not on the bus although it should be; it would come back at any voltage.",
        action="Check the contactor, its coil supply and its wiring.",
    )


def _converter_causes(site: Site, string: StringSpec) -> Iterator[Cause]:
    limits, converter, battery = string.limits, f"{string.prefix}.converter", f"{string.prefix}.battery"
    age_s = limits.converter_age_max_s
    yield Cause(
        id="converter_telemetry",
        scope=string.prefix,
        title="Converter telemetry lost",
        rule=TelemetryAge((f"{converter}.battery_current", f"{converter}.battery_voltage"), age_s),
        grace_s=age_s,
        consequence="The string's current is not under control; the converter's own time-out stops it.",
        action="Check the converter, its supply and its wiring.",
    )
    fault = _converter_fault_rule(site, string)
    if fault is not None:
        yield Cause(
            id="converter_fault",
            scope=string.prefix,
            title="Converter fault",
            rule=fault,
            armed=_faults_armed,
            grace_s=age_s,
            consequence="The converter has stopped itself.",
            action="Read the converter's latched faults; a reset clears them when their cause is gone.",
        )
    sensors = (f"{battery}.current", f"{converter}.battery_current")
    yield Cause(
        id="uncommanded_current",
        scope=string.prefix,
        title="Current without command",
        rule=UncommandedCurrent(sensors, UNCOMMANDED_A, max(limits.battery_age_max_s, age_s)),
        samples=3,
        delay_s=UNCOMMANDED_S,
        armed=_commanded_off,
        grace_s=max(limits.battery_age_max_s, age_s),
        # A converter that does not obey can only be stopped from the other side: by taking the bus away.
        escalation=Escalation.ACTIVE,
        consequence="The converter does not obey; the whole site is switched off.",
        action="Isolate the string by hand and find the current's path.",
        priority=1,
    )
    yield Cause(
        id="current_mismatch",
        scope=string.prefix,
        title="BMS and converter disagree about the current",
        rule=Disagreement(sensors[0], sensors[1], 1.0, CURRENT_SHARE, CURRENT_A, "A"),
        samples=3,
        site_delay_s=CROSS_CHECK_S,
        armed=_not_stepping,
        grace_s=max(limits.battery_age_max_s, age_s),
        consequence="One of the two measurements is wrong, or current takes another path.",
        action="Compare both with a clamp meter.",
    )


def _converter_fault_rule(site: Site, string: StringSpec) -> Rule | None:
    converter = string.converter or ""
    rules: list[Faulted] = []
    if offers(site, converter, "faults_latched"):
        rules.append(Faulted((f"{string.prefix}.converter.faults_latched",)))
    if offers(site, converter, "state"):
        rules.append(Faulted((f"{string.prefix}.converter.state",), _FAULT_STATE))
    return AnyOf(tuple(rules)) if rules else None
