"""Whether a protocol suits the strings of a site: chemistry, capabilities, limits, margins, setpoints.

A protocol can only be tighter than its site. Everything is refused here, before anything moves; nothing is ever scaled
down to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.chemistries import CHEMISTRIES
from gateway.protocols import lint
from gateway.protocols.build import Builder, Pack
from gateway.protocols.program import StepKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.errors import Problem
    from gateway.protocols.build import TrackView
    from gateway.protocols.library import ChargeProtocol
    from gateway.protocols.program import Program, ProgramStep
    from gateway.site import DeviceSpec, Site, StringLimits, StringSpec

    Report = Callable[[str, str], None]

_TOLERANCE = 1e-9

# limit key of a protocol -> (the site's limit, in the unit of LIMIT_RULES; whether a larger protocol limit is the looser one)
_SITE_LIMITS: Mapping[str, tuple[Callable[[StringLimits], float], bool]] = {
    "cell_voltage_max": (lambda limits: limits.cell_voltage_max_V, True),
    "cell_voltage_min": (lambda limits: limits.cell_voltage_min_V, False),
    "charge_current_max": (lambda limits: limits.charge_current_max_A, True),
    "discharge_current_max": (lambda limits: limits.discharge_current_max_A, True),
    "temperature_max": (lambda limits: limits.temperature_max_degC, True),
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A track and the string it is to run on."""

    track: TrackView
    string: StringSpec


class BindingError(ValueError):
    """The strings named do not fit the protocol's tracks; the text says how."""


def bind(protocol: ChargeProtocol, site: Site, strings: Sequence[str] | None) -> tuple[Bound, ...]:
    """Which track runs on which string.

    A protocol with plain steps runs them on every string named. One with tracks takes its own strings when none, or just
    those, are named; else the strings in the order of the tracks. Raises BindingError.
    """
    names = list(strings or [])
    own = [track.string for track in protocol.tracks]
    if len(set(names)) != len(names):
        raise BindingError(f"a string is named twice: {', '.join(names)}")
    if not protocol.document.track:
        if not names:
            raise BindingError(f"{protocol.id} needs to be told which string to run on")
        return tuple(Bound(protocol.tracks[0], _string(site, name)) for name in names)
    if not names or set(names) == set(own):
        names = own
    if len(names) != len(own):
        raise BindingError(f"{protocol.id} has {len(own)} tracks, but {len(names)} strings are named")
    return tuple(Bound(track, _string(site, name)) for track, name in zip(protocol.tracks, names, strict=True))


def _string(site: Site, name: str) -> StringSpec:
    string = site.string(name)
    if string is None:
        raise BindingError(f"there is no string '{name}'; strings: {', '.join(known.id for known in site.strings)}")
    return string


def check_against(
    protocol: ChargeProtocol, site: Site, strings: Sequence[str] | None = None, parameters: Mapping[str, str] | None = None
) -> list[Problem]:
    """Everything that keeps the protocol from running on these strings.

    Without strings, a protocol of plain steps is checked on every string of its chemistry. `parameters` replace defaults.
    """
    if not strings and not protocol.document.track:
        strings = [string.id for string in site.strings if string.chemistry in protocol.chemistry and string.converter]
        if not strings:
            text = f"the site has no string with a converter whose cells are {' or '.join(protocol.chemistry)}"
            return [protocol.index.problem("chemistry", text)]
    try:
        bound = bind(protocol, site, strings)
    except BindingError as error:
        return [protocol.index.problem("track" if protocol.document.track else "step", str(error))]
    return arm(protocol, site, bound, parameters or {})[1]


def arm(
    protocol: ChargeProtocol, site: Site, bound: Sequence[Bound], parameters: Mapping[str, str]
) -> tuple[tuple[Program, ...], list[Problem]]:
    """The programs of the tracks, and all that is wrong with them; run them only when nothing is."""
    problems: dict[Problem, None] = {}
    programs: list[Program] = []
    for item in bound:

        def report(key: str, text: str, string: StringSpec = item.string) -> None:
            problems[protocol.index.problem(key, f"on string {string.id}: {text}")] = None

        values = _parameters(protocol, item.string, parameters, report)
        pack = Pack(item.string.id, item.string.cells, item.string.capacity_Ah)
        program = Builder(pack, values, report).program(protocol.document, item.track)
        programs.append(program)
        check_string(protocol, site, item, program, report)
    return tuple(programs), list(problems)


def _parameters(protocol: ChargeProtocol, string: StringSpec, given: Mapping[str, str], report: Report) -> dict[str, str]:
    values = {name: parameter.default for name, parameter in protocol.parameters.items()}
    for name, text in given.items():
        if name not in protocol.parameters:
            report("parameters", f"unknown parameter '{name}'; parameters: {', '.join(protocol.parameters) or 'none'}")
            continue
        fault = lint.out_of_range(name, protocol.parameters[name], text, capacity_Ah=string.capacity_Ah)
        if fault is not None:
            report(f"parameters.{name}", fault)
        values[name] = text
    return values


def check_string(protocol: ChargeProtocol, site: Site, bound: Bound, program: Program, report: Report) -> None:
    """All checks of one track on one string."""
    string, track = bound.string, bound.track
    if string.chemistry not in track.chemistry:
        report(f"{track.path}chemistry", f"the string is {string.chemistry}, the steps are for {', '.join(track.chemistry)}")
        return
    converter = site.device_at(f"{string.prefix}.converter")
    if converter is None:
        report(f"{track.path}step", "the string has no converter of its own, so its current cannot be set")
        return
    _check_capabilities(protocol, site, string, converter, program, report)
    lint.check_program(program, track, report)
    for limit in program.limits:
        rule = _SITE_LIMITS.get(limit.key)
        if rule is None:
            continue
        site_bound = rule[0](string.limits)
        if (limit.bound > site_bound + _TOLERANCE) if rule[1] else (limit.bound < site_bound - _TOLERANCE):
            path = _limit_path(bound, limit.key)
            report(path, f"{limit.text} is looser than the site's {site_bound:g}; a protocol can only be tighter")
    for step in program.steps:
        _check_current(string, converter, step, report)
        _check_voltage(string, converter, program, step, report)


def _limit_path(bound: Bound, key: str) -> str:
    """Where the limit in force is written: in the track's own table, or in the file's."""
    own = [path for path, limits in bound.track.limits if getattr(limits, key) is not None]
    return f"{own[-1]}.{key}"


def _check_capabilities(
    protocol: ChargeProtocol, site: Site, string: StringSpec, converter: DeviceSpec, program: Program, report: Report
) -> None:
    battery = site.device(string.battery)
    has = {
        "dcdc.current_mode": "current_setpoint" in converter.writable,
        "dcdc.voltage_mode": {"voltage_setpoint", "charge_current_limit"} <= converter.writable.keys(),
        "bms.cell_voltages": battery is not None and "cell.1.voltage" in battery.points,
        "bms.soc": battery is not None and "soc" in battery.points,
    }
    for position, need in enumerate(protocol.document.requires):
        if not has[need]:
            report(f"requires[{position}]", f"the string's devices do not offer {need}")
    for step in program.steps:
        if step.target is not None and not has["dcdc.voltage_mode"]:
            text = f"step '{step.id}' holds a voltage, but converter {converter.id} offers no voltage mode with a current ceiling"
            report(f"{step.path}.do", text)
        signals = {condition.signal for end in step.ends for condition in end.conditions}
        if "soc" in signals and not has["bms.soc"]:
            report(f"{step.path}.until", f"battery {string.battery} does not report a state of charge")


def _check_current(string: StringSpec, converter: DeviceSpec, step: ProgramStep, report: Report) -> None:
    if not step.is_controlled:
        return
    limits = string.limits
    highest = limits.discharge_current_max_A if step.direction > 0 else limits.charge_current_max_A
    key = f"{step.path}.{lint.current_key(step)}"
    if step.current_A > highest + _TOLERANCE:
        report(key, f"{step.current_A:g} A is above the string's limit of {highest:g} A")
    low, high = converter.writable.get("current_setpoint", (0.0, 0.0))
    wanted = step.direction * step.current_A * converter.current_factor
    if step.kind in {StepKind.CHARGE, StepKind.DISCHARGE, StepKind.CHARGE_CCCV} and not low <= wanted <= high:
        text = f"{step.current_A:g} A is outside what converter {converter.id} takes ({low:g} to {high:g} A)"
        report(key, text)
    _check_ceiling(converter, step, key, report)


def _check_ceiling(converter: DeviceSpec, step: ProgramStep, key: str, report: Report) -> None:
    low, high = converter.writable.get("charge_current_limit", (0.0, step.current_A))
    if step.target is not None and not low <= step.current_A <= high:
        report(key, f"{step.current_A:g} A is outside the ceiling that converter {converter.id} takes ({low:g} to {high:g} A)")


def _check_voltage(string: StringSpec, converter: DeviceSpec, program: Program, step: ProgramStep, report: Report) -> None:
    """Every charge target keeps its distance from the trip; every voltage is one that the converter takes."""
    margin_V = CHEMISTRIES[string.chemistry].target_margin_V
    trip_V = string.limits.cell_voltage_max_V
    targets = [(key, condition.bound, condition.text) for key, condition in lint.end_targets(step)]
    held_V = lint.target_cell_V(step.target, program.cells)
    if held_V is not None:
        targets.append((lint.voltage_path(step), held_V, f"{held_V:g} V per cell"))
    for key, value_V, text in targets if step.direction < 0 else []:
        if value_V > trip_V - margin_V + _TOLERANCE:
            report(key, f"'{text}' must stay at least {margin_V * 1000:g} mV below the {trip_V:g} V at which the string trips")
    low, high = converter.writable.get("voltage_setpoint", (0.0, 0.0))
    pack_V = step.target.pack_V if step.target is not None else None
    if pack_V is not None and not low <= pack_V <= high:
        text = f"{pack_V:g} V is outside what converter {converter.id} takes ({low:g} to {high:g} V)"
        report(lint.voltage_path(step), text)
