"""The plant in one document: what `status`, the demonstration and every at-a-glance view show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.derived import cell_names
from gateway.device_roles import CONVERTER_MODES

if TYPE_CHECKING:
    from gateway.parts import Parts
    from gateway.site import StringSpec
    from gateway.table import Table

Document = dict[str, object]


def status_document(parts: Parts) -> Document:
    """Site, grid, strings, devices, alarms, trips and endpoints. A value that is not good is None."""
    table, site = parts.table, parts.site
    state = table.sample("site.state")
    alarms = parts.guard.alarm_rows()
    return {
        "site": {
            "id": site.id,
            "title": site.title,
            "state": _symbol(table, "site.state"),
            "reason": table.sample("site.state_reason").value or "",
            "time_factor": table.number("site.time_factor") or 1.0,
            "since_ns": state.time_ns,
        },
        "grid": {name: table.number(f"grid.{name}") for name in ("voltage", "current", "power", "output")},
        "strings": [_string(table, string) for string in site.strings],
        "devices": [
            {
                "id": device.id,
                "state": _symbol(table, f"device.{device.id}.comm.state"),
                "error": table.sample(f"device.{device.id}.comm.last_error").value or "",
            }
            for device in site.devices
        ],
        "alarms": alarms,
        "trips": parts.guard.trip_rows(),
        "endpoints": dict(parts.endpoints()),
    }


def _string(table: Table, string: StringSpec) -> Document:
    prefix = string.prefix
    battery = ("pack_voltage", "current", "soc", "temperature_max", "cell_voltage_max", "cell_voltage_min", "power")
    mode = table.number(f"{prefix}.converter.mode")
    return {
        "id": string.id,
        "title": string.title,
        "ready": table.number(f"{prefix}.ready") == 1.0,
        "tripped": table.number(f"{prefix}.trip.latched") == 1.0 or table.number("site.trip.latched") == 1.0,
        "first_out": table.sample(f"{prefix}.trip.first_out").value or table.sample("site.trip.first_out").value or "",
        **{name: table.number(f"{prefix}.battery.{name}") for name in battery},
        "cells": [table.number(name) for name in cell_names(string)],
        "converter_mode": CONVERTER_MODES.get(int(mode)) if mode is not None else None,
        "converter_current": table.number(f"{prefix}.converter.battery_current"),
        "run_state": _symbol(table, f"{prefix}.run.state"),
        **{f"run_{name}": table.sample(f"{prefix}.run.{name}").value for name in ("protocol", "step", "nearest_end", "progress")},
        "run_step_elapsed": table.number(f"{prefix}.run.step_elapsed"),
    }


def _symbol(table: Table, name: str) -> str | None:
    number = table.number(name)
    return None if number is None else table.points[table.index[name]].symbols.get(int(number))
