"""How often each device is read: as the file says, else as fast as its wire, its map and the control cycle allow."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, cast

from gateway.config.quantities import duration
from gateway.config.wire import LINE_SHARE, SERIAL_KINDS, Line, load_of, shortest_period_s, slow_every_s, step_up_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.config import model
    from gateway.config.reader import Draft
    from gateway.config.wire import Load
    from gateway.field.map_model import DeviceMap

AGE_PERIODS = 3
"""An age limit below so many periods would trip at a single lost answer."""

DEFAULT_LINES: Mapping[str, tuple[int, str]] = {"modbus_rtu": (19200, "E"), "serial": (9600, "N")}
"""Baud and parity of a serial line whose file names none (MODBUS over Serial Line V1.02, 2.5.1 and 3.2 for the former)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One device on a line, and what its readings take."""

    path: str
    device: model.DeviceTable
    map: DeviceMap
    load: Load
    period_s: float

    @property
    def share(self) -> float:
        """The part of the line's time that it takes."""
        return self.load.share(self.period_s, self.map.slow_period_s)

    @property
    def slow_share(self) -> float:
        """The part that its slow readings take."""
        return self.load.slow_s / slow_every_s(self.period_s, self.map.slow_period_s)


def line_of(transport: model.TransportTable) -> Line:
    """What decides the speed of a transport; defaults where its keys are absent or make no sense."""
    extra = cast("Mapping[str, object]", transport.model_extra or {})
    default_baud, default_parity = DEFAULT_LINES.get(transport.kind, (9600, "N"))
    baud, parity, stop_bits = extra.get("baud"), extra.get("parity"), extra.get("stop_bits")
    return Line(
        kind=transport.kind,
        baud=baud if isinstance(baud, int) and baud > 0 else default_baud,
        parity=parity if isinstance(parity, str) else default_parity,
        stop_bits=stop_bits if isinstance(stop_bits, int) else 1,
    )


def readings(draft: Draft, maps: Mapping[str, DeviceMap], cells: Mapping[str, int], scan_s: float) -> tuple[Reading, ...]:
    """Every device that could be read from the file, with its period; `cells` by device id."""
    lines = {entry.id: line_of(entry.table) for entry in draft.transports if entry.table is not None}
    found: dict[str, list[Reading]] = defaultdict(list)
    for entry in draft.devices:
        device, device_map = entry.table, maps.get(entry.text("map") or "")
        line = lines.get(device.transport) if device is not None else None
        if device is None or device_map is None or line is None:
            continue
        load = load_of(device_map, cells.get(device.id, 0), line)
        found[device.transport].append(Reading(entry.path, device, device_map, load, device.period or 0.0))
    return tuple(item for group in found.values() for item in _with_periods(group, scan_s))


def _with_periods(group: Sequence[Reading], scan_s: float) -> list[Reading]:
    """The devices of one line, with a period for those that the file gives none."""
    loads = [item.load for item in group]
    slow = sum(item.load.slow_s / slow_every_s(scan_s, item.map.slow_period_s) for item in group)
    chosen = step_up_s(max(scan_s, shortest_period_s(loads, min(slow, LINE_SHARE / 2))))
    return [
        Reading(item.path, item.device, item.map, item.load, item.device.period or max(chosen, item.map.period_s or 0.0))
        for item in group
    ]


def check(draft: Draft, found: Sequence[Reading]) -> None:
    """Note every period that a serial line cannot meet, and say what it can."""
    lines = {entry.id: line_of(entry.table) for entry in draft.transports if entry.table is not None}
    for name, line in lines.items():
        group = [item for item in found if item.device.transport == name]
        share = sum(item.share for item in group)
        if line.kind not in SERIAL_KINDS or share <= LINE_SHARE:
            continue
        busy = sum(item.load.fast_s + item.load.write_s for item in group)
        least = shortest_period_s([item.load for item in group], min(sum(item.slow_share for item in group), LINE_SHARE / 2))
        for item in group:
            if item.period_s < least:
                text = (
                    f"line '{name}' cannot meet {duration(item.period_s)}: at {line.baud} baud the fast values of its "
                    f"devices take {duration(busy)} per period, and the slow ones come on top; "
                    f"at least {duration(ceil(least * 100) / 100)}"
                )
                draft.note(item.path, "period" if item.device.period else "transport", text)


def check_age(draft: Draft, path: str, key: str, age_s: float, reading: Reading) -> None:
    """Note an age limit that one lost answer could exceed."""
    least_s = AGE_PERIODS * reading.period_s
    if age_s < least_s - 1e-9:
        text = f"{duration(age_s)} is less than {AGE_PERIODS} periods of '{reading.device.id}' ({duration(least_s)})"
        draft.note(path, key, f"{text}: a single lost answer would trip")
