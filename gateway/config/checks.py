"""References between tables: who is where, who is bound to what, and whether it can be.

What a table that could not be read was meant to say is taken from its raw text, so that one mistake makes one message.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gateway.device_roles import DeviceRole
from gateway.site import Topology

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gateway.config import model
    from gateway.config.reader import Draft, Entry
    from gateway.field.map_model import DeviceMap

SPOKEN_OVER: Mapping[str, frozenset[str]] = {
    "modbus": frozenset({"modbus_rtu", "modbus_tcp"}),
    "orion": frozenset({"serial"}),
    "scpi": frozenset({"visa"}),
}
"""Transport kinds that carry each built-in wire language; a language of another package may use any."""

MAX_SERIAL_UNIT = 247
"""Largest unit on a serial line; 0 is the broadcast, which nobody answers (MODBUS over Serial Line V1.02, 2.2)."""

ROLE_NAMES: Mapping[DeviceRole, str] = {
    DeviceRole.BATTERY: "battery management system",
    DeviceRole.DCDC: "DC-DC converter",
    DeviceRole.DCAC: "DC-AC converter",
    DeviceRole.METER: "meter",
    DeviceRole.GENERATION: "generator",
    DeviceRole.LOAD: "load",
    DeviceRole.DIGITAL_IO: "digital I/O unit",
}
_BOUND = (DeviceRole.BATTERY, DeviceRole.DCDC, DeviceRole.DCAC)
"""Roles of devices that are of no use, and may do harm, outside a string or the grid."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A device's place in the site: `target` is its canonical prefix; `path` and `key` say where the file binds it."""

    device: str
    role: DeviceRole
    target: str
    path: str
    key: str


def hint(name: str, known: Iterable[str]) -> str:
    """The closest known name, or all of them."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(names)}" if names else "there is none"


def check(draft: Draft, maps: Mapping[str, DeviceMap], languages: Collection[str]) -> None:
    """Note every reference that leads nowhere or to the wrong thing."""
    _ids(draft)
    _devices(draft, maps, languages)
    _addresses(draft)
    _bindings(draft, maps)
    _contactors(draft, maps)
    _feedbacks(draft, maps)
    _topology(draft)


def bindings(draft: Draft) -> tuple[Binding, ...]:
    """Every binding that the file writes, whether or not it makes sense."""
    found: list[Binding] = []
    for string in draft.strings:
        for key, role in (("battery", DeviceRole.BATTERY), ("converter", DeviceRole.DCDC)):
            device = string.text(key)
            if device is not None:
                found.append(Binding(device, role, f"string.{string.id}.{key}", string.path, key))
    if draft.grid is not None and (converter := draft.grid.text("converter")) is not None:
        found.append(Binding(converter, DeviceRole.DCAC, "grid", draft.grid.path, "converter"))
    return tuple(found)


def _ids(draft: Draft) -> None:
    groups: tuple[tuple[Entry[model.Table], ...], ...] = (draft.transports, draft.devices, draft.strings, draft.schedules)
    for group in groups:
        first: dict[str, str] = {}
        for entry in group:
            if entry.id in first:
                draft.note(entry.path, "id", f"'{entry.id}' is already the id of {first[entry.id]}")
            elif entry.id:
                first[entry.id] = entry.path


def _devices(draft: Draft, maps: Mapping[str, DeviceMap], languages: Collection[str]) -> None:
    kinds = {entry.id: entry.text("kind") or "" for entry in draft.transports}
    for entry in draft.devices:
        transport, device_map = entry.text("transport"), maps.get(entry.text("map") or "")
        if transport and transport not in kinds:
            draft.note(entry.path, "transport", f"unknown transport '{transport}'; {hint(transport, kinds)}")
        if device_map is None:
            continue
        if device_map.language not in languages:
            text = f"no driver speaks '{device_map.language}', the language of this map; {hint(device_map.language, languages)}"
            draft.note(entry.path, "map", text)
        kind, carriers = kinds.get(transport or ""), SPOKEN_OVER.get(device_map.language)
        if kind and carriers and kind in set().union(*SPOKEN_OVER.values()) - carriers:
            text = (
                f"'{device_map.id}' speaks {device_map.language}, which needs a transport of kind {' or '.join(sorted(carriers))}"
            )
            draft.note(entry.path, "transport", f"{text}; '{transport}' is {kind}")


def _addresses(draft: Draft) -> None:
    kinds = {entry.id: entry.text("kind") for entry in draft.transports}
    first: dict[tuple[str, int], str] = {}
    for entry in draft.devices:
        unit = entry.raw.get("unit", 1)
        transport = entry.text("transport")
        if transport is None or not isinstance(unit, int):
            continue
        if kinds.get(transport) == "modbus_rtu" and not 1 <= unit <= MAX_SERIAL_UNIT:
            draft.note(entry.path, "unit", f"{unit} is no address on a serial line, expected 1 to {MAX_SERIAL_UNIT}")
        if (transport, unit) in first:
            text = f"unit {unit} on '{transport}' is already '{first[transport, unit]}'; two devices cannot share an address"
            draft.note(entry.path, "unit", text)
        first.setdefault((transport, unit), entry.id)


def _bindings(draft: Draft, maps: Mapping[str, DeviceMap]) -> None:
    found = bindings(draft)
    map_of = {entry.id: maps.get(entry.text("map") or "") for entry in draft.devices}
    first: dict[str, Binding] = {}
    for binding in found:
        if binding.device not in map_of:
            draft.note(binding.path, binding.key, f"unknown device '{binding.device}'; {hint(binding.device, map_of)}")
            continue
        if binding.device in first:
            text = f"'{binding.device}' is already {first[binding.device].target}; a device can be in one place only"
            draft.note(binding.path, binding.key, text)
        first.setdefault(binding.device, binding)
        device_map = map_of[binding.device]
        if device_map is not None and device_map.role is not binding.role:
            text = f"'{binding.device}' is no {ROLE_NAMES[binding.role]}"
            draft.note(binding.path, binding.key, f"{text}: its map '{device_map.id}' is for a {ROLE_NAMES[device_map.role]}")
    _unbound(draft, map_of, {binding.device for binding in found})


def _unbound(draft: Draft, map_of: Mapping[str, DeviceMap | None], bound: Collection[str]) -> None:
    owners = (*draft.strings, *([draft.grid] if draft.grid is not None else []))
    if any(owner.table is None for owner in owners) or not set(bound) <= map_of.keys():
        return  # what is wrong there may be the very binding that is missed here
    for entry in draft.devices:
        device_map = map_of.get(entry.id)
        if entry.id and entry.id not in bound and device_map is not None and device_map.role in _BOUND:
            text = f"no string and no grid uses '{entry.id}', a {ROLE_NAMES[device_map.role]}; bind it or remove it"
            draft.note(entry.path, "", text)


def _contactors(draft: Draft, maps: Mapping[str, DeviceMap]) -> None:
    map_of = {entry.id: maps.get(entry.text("map") or "") for entry in draft.devices}
    first: dict[str, str] = {}
    for string in draft.strings:
        contactor = string.text("contactor")
        if contactor is None:
            continue
        device, _, point = contactor.partition(".")
        device_map = map_of.get(device)
        if device not in map_of:
            draft.note(string.path, "contactor", f"unknown device '{device}'; {hint(device, map_of)}")
        elif device_map is not None:
            outputs = [item.name for item in device_map.points(0) if item.writable and item.name.startswith("output.")]
            if point not in outputs:
                text = f"'{device}' has no digital output '{point}'; {hint(point, outputs)}"
                draft.note(string.path, "contactor", text)
        if any(entry.id == device and entry.raw.get("read_only") is True for entry in draft.devices):
            draft.note(string.path, "contactor", f"'{device}' is read-only: its outputs cannot be moved")
        if contactor in first:
            draft.note(string.path, "contactor", f"'{contactor}' is already the contactor of string '{first[contactor]}'")
        first.setdefault(contactor, string.id)


def _feedbacks(draft: Draft, maps: Mapping[str, DeviceMap]) -> None:
    map_of = {entry.id: maps.get(entry.text("map") or "") for entry in draft.devices}
    key = "contactor_feedback"
    for string in draft.strings:
        feedback = string.text(key)
        if feedback is None:
            continue
        if string.text("contactor") is None:
            draft.note(string.path, key, f"string '{string.id}' has no contactor that '{feedback}' could report")
        device, _, point = feedback.partition(".")
        device_map = map_of.get(device)
        if device not in map_of:
            draft.note(string.path, key, f"unknown device '{device}'; {hint(device, map_of)}")
        elif device_map is not None:
            inputs = [item.name for item in device_map.points(0) if not item.writable and item.name.startswith("input.")]
            if point not in inputs:
                draft.note(string.path, key, f"'{device}' has no digital input '{point}'; {hint(point, inputs)}")


def _topology(draft: Draft) -> None:
    site = draft.site.table
    # a string that could not be read may have meant to have a converter
    if site is None or any(string.table is None for string in draft.strings):
        return
    with_converter = Counter(string.text("converter") is not None for string in draft.strings)
    if site.topology is Topology.SEMI_ACTIVE and not (with_converter[True] and with_converter[False]):
        text = "semi_active needs at least one string with a converter and one without"
        draft.note(draft.site.path, "topology", f"{text}; here {with_converter[True]} with, {with_converter[False]} without")
    for string in draft.strings:
        has = string.text("converter") is not None
        if site.topology is Topology.ACTIVE and not has:
            text = f"string '{string.id}' has no converter, but the topology is active; name its converter or use semi_active"
            draft.note(string.path, "converter", text)
        if site.topology is Topology.PASSIVE and has:
            text = f"string '{string.id}' has a converter, but the topology is passive; remove it or use semi_active"
            draft.note(string.path, "converter", text)
