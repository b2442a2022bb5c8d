"""The site file as the simulator needs it: wires, devices, strings, grid; and the optional plant file.

It reads the TOML with its own few lines, independent of the gateway's configuration, and trusts `bess-gateway check` for
the rest. The plant file overrides what no site file says:

    ambient = 25.0                  # degC, all strings
    seed = 1                        # of the sensor noise
    [string.B]
    soc = 0.8                       # mean state of charge
    soc_offset = [0, 0, 0, 0.035]   # per cell, added to it
    r0_factor = [1, 1, 1, 1.1]      # per cell, times the chemistry's resistance
    capacity_factor = [1, 1, 1, 0.93]
    temperature = 25.0              # degC at the start
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from gateway.simulator.chemistry import CHEMISTRY, CellSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Table = Mapping[str, object]

_NUMBER = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(m?)(.*)")
_RESISTANCE_SPREAD = (1.0, 0.97, 1.02, 1.03, 0.98, 1.01)
_DIRECT_LFP_SOC = 0.80
"""A LiFePO4 string on the bus starts where it is in balance with 3.325 V per cell."""


class SiteError(Exception):
    """The site or plant file lacks what the simulator needs."""


@dataclass(frozen=True, slots=True)
class WireSpec:
    """A transport with a simulated port."""

    name: str
    """What follows "sim:" in its port; the key in `sim.json`."""
    transport: str
    kind: str
    character_s: float
    """Time of one character on the line, s; 0 where nothing is paced."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device behind a simulated port."""

    id: str
    map: str
    transport: str
    unit: int
    reversed: bool
    """The current sensor is mounted the other way round."""


@dataclass(frozen=True, slots=True)
class StringPlan:
    """A string: its cells and the ids of its devices."""

    id: str
    chemistry: str
    cells: tuple[CellSpec, ...]
    capacity_Ah: float
    battery: str
    converter: str | None
    contactor: tuple[str, int] | None = None
    """Device and channel (from 1) of the output that closes its contactor; None without a contactor."""
    feedback: tuple[str, int] | None = None
    """Device and channel of the input that its auxiliary contact is wired to."""


@dataclass(frozen=True, slots=True)
class SimSite:
    """What the simulator builds."""

    wires: tuple[WireSpec, ...]
    devices: tuple[DeviceSpec, ...]
    strings: tuple[StringPlan, ...]
    bus_voltage_V: float
    grid: str | None
    seed: int


def quantity(text: object) -> float:
    """The number in "25 Ah", "24 V" or "500 mV"; a bare number is taken as it is."""
    if isinstance(text, int | float):
        return float(text)
    match = _NUMBER.fullmatch(str(text))
    if match is None:
        raise SiteError(f"not a quantity: {text!r}")
    return float(match[1]) * (1e-3 if match[2] and match[3].strip() else 1.0)


def _tables(document: Table, key: str) -> Sequence[Table]:
    return cast("Sequence[Table]", document.get(key, ()))


def load(site: Path, plant: Path | None = None) -> SimSite:
    """Read the site file and the plant file. SiteError, OSError or tomllib.TOMLDecodeError when they cannot be used."""
    document = cast("Table", tomllib.loads(site.read_text(encoding="utf-8")))
    extra = cast("Table", tomllib.loads(plant.read_text(encoding="utf-8") if plant else ""))
    try:
        grid = cast("Table", document.get("grid", {}))
        wires = [_wire(row) for row in _tables(document, "transport") if str(row["port"]).startswith("sim:")]
        simulated = {wire.transport for wire in wires}
        devices = [_device(row) for row in _tables(document, "device") if row["transport"] in simulated]
        return SimSite(
            wires=tuple(wires),
            devices=tuple(devices),
            strings=tuple(_string(row, extra) for row in _tables(document, "string")),
            bus_voltage_V=quantity(grid.get("bus_voltage", 24.0)),
            grid=None if "converter" not in grid else str(grid["converter"]),
            seed=int(cast("int", extra.get("seed", 1))),
        )
    except KeyError as missing:
        raise SiteError(f"{site}: the key {missing} is missing") from missing


def _wire(row: Table) -> WireSpec:
    kind = str(row["kind"])
    character_s = 0.0
    if kind in {"serial", "modbus_rtu"}:
        parity = 0 if str(row.get("parity", "N")).upper() == "N" else 1
        bits = 1 + 8 + parity + int(quantity(row.get("stop_bits", 1)))
        character_s = bits / quantity(row.get("baud", 9600))
    return WireSpec(str(row["port"]).removeprefix("sim:"), str(row["id"]), kind, character_s)


def _device(row: Table) -> DeviceSpec:
    return DeviceSpec(
        id=str(row["id"]),
        map=str(row["map"]),
        transport=str(row["transport"]),
        unit=int(cast("int", row.get("unit", 1))),
        reversed=row.get("positive") == "charge" and "rp793" not in str(row["map"]),
    )


def _string(row: Table, extra: Table) -> StringPlan:
    chemistry = str(row["chemistry"])
    if chemistry not in CHEMISTRY:
        raise SiteError(f"string {row['id']}: no model of chemistry {chemistry!r}; known: {', '.join(CHEMISTRY)}")
    capacity_Ah, count = quantity(row["capacity"]), int(cast("int", row["cells"]))
    own = cast("Table", cast("Table", extra.get("string", {})).get(str(row["id"]), {}))
    converter = row.get("converter")
    common = CHEMISTRY[chemistry]
    start = _DIRECT_LFP_SOC if converter is None and chemistry == "lfp" else common.soc_start
    mean = quantity(own.get("soc", start))
    offsets = _per_cell(own.get("soc_offset"), common.soc_spread, count)
    resistances = _per_cell(own.get("r0_factor"), _RESISTANCE_SPREAD, count)
    capacities = _per_cell(own.get("capacity_factor"), (1.0,), count)
    ambient = quantity(extra.get("ambient", 25.0))
    cells = tuple(
        CellSpec(
            chemistry=chemistry,
            capacity_Ah=capacity_Ah * capacities[index],
            soc=mean + offsets[index],
            r0_Ohm=common.r0_Ohm * 25.0 / capacity_Ah * resistances[index],
            temperature_degC=quantity(own.get("temperature", ambient)),
            ambient_degC=ambient,
        )
        for index in range(count)
    )
    return StringPlan(
        id=str(row["id"]),
        chemistry=chemistry,
        cells=cells,
        capacity_Ah=capacity_Ah,
        battery=str(row["battery"]),
        converter=None if converter is None else str(converter),
        contactor=_channel(row.get("contactor")),
        feedback=_channel(row.get("contactor_feedback")),
    )


def _channel(place: object) -> tuple[str, int] | None:
    """Device and number of "relays.output.1"."""
    if place is None:
        return None
    device, _, point = str(place).partition(".")
    return device, int(point.rpartition(".")[2])


def _per_cell(given: object, pattern: Sequence[float], count: int) -> list[float]:
    """One number per cell: those given, then the pattern's (repeated); given ones that are too few end with 0 or 1 alike."""
    if given is None:
        return [pattern[index % len(pattern)] for index in range(count)]
    values = [float(value) for value in cast("Sequence[float]", given)]
    neutral = 1.0 if pattern[0] == 1.0 else 0.0
    return [values[index] if index < len(values) else neutral for index in range(count)]
