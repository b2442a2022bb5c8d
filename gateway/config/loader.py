"""Loading a site file: every mistake in it and in the maps it uses at once, or a site that makes sense as a whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway import data
from gateway.config import checks, grid, limits, model, periods, services, transports
from gateway.config.build import build
from gateway.config.quantities import duration
from gateway.config.reader import read
from gateway.errors import ConfigError, Problem
from gateway.field.device_map import load_map
from gateway.field.registry import languages, transport_kinds
from gateway.toml_lines import load_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gateway.config.reader import Draft
    from gateway.field.map_model import DeviceMap
    from gateway.field.settings import FieldConfig
    from gateway.site import Site

SCAN_RANGE_S = (0.02, 10.0)
"""Control cycles that make sense: below, the loop itself takes too long; above, nothing is guarded."""


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A site file that may be used: the resolved site, the settings of its field, and where its protocols are.

    A protocol in an earlier folder replaces one of the same file name in a later folder.
    """

    site: Site
    field: FieldConfig
    protocol_folders: tuple[Path, ...]


def load(path: Path, *, map_dirs: Sequence[Path] = (), protocol_dirs: Sequence[Path] = (), name: str | None = None) -> LoadedSite:
    """The site in a file. `name` is the file name to be used in problems, by default the path as given.

    Maps and protocols are looked for in the given folders, in `device_maps` and `protocols` beside the site file, and
    among those that come with the gateway. Raises ConfigError with all the problems of the file and of its maps.
    """
    document, index = load_toml(path, name)
    draft = read(document, index)
    map_files = _files([*map_dirs, path.parent / "device_maps", data.maps_dir()])
    maps = _maps(draft, map_files)
    cells = {entry.table.battery: entry.table.cells for entry in draft.strings if entry.table is not None}
    found = _check(draft, maps, cells)
    folders = (*protocol_dirs, path.parent / "protocols", data.protocols_dir())
    protocols = _files(folders)
    services.check(draft, protocols)
    _raise(draft.problems)
    used = [path, *(map_files[device_map] for device_map in sorted(maps))]
    site, field = build(draft, found, cells, _digest(used))
    _raise(services.check_runs(draft, site, protocols))
    return LoadedSite(site, field, folders)


def schema() -> dict[str, Any]:
    """The JSON schema of site files, for editors."""
    document = model.SiteFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": "bess-gateway site"}


def _check(draft: Draft, maps: Mapping[str, DeviceMap], cells: Mapping[str, int]) -> tuple[periods.Reading, ...]:
    """Every check of the whole; gives what the devices' readings take."""
    scan_s = draft.site.table.scan if draft.site.table is not None else 0.1
    if not SCAN_RANGE_S[0] <= scan_s <= SCAN_RANGE_S[1]:
        draft.note("site", "scan", f"{duration(scan_s)} is outside 20 ms to 10 s")
    transports.check(draft, maps, transport_kinds())
    checks.check(draft, maps, languages())
    found = periods.readings(draft, maps, cells, scan_s)
    periods.check(draft, found)
    grid.check_settings(draft, found)
    grid.check(draft, found)
    by_id = {reading.device.id: reading for reading in found}
    for entry in draft.strings:
        if entry.table is None:
            continue
        battery = by_id.get(entry.table.battery)
        limits.check(draft, entry.path, entry.table, battery.map if battery is not None else None)
        ages = (entry.table.limits.battery_age_max, entry.table.limits.converter_age_max)
        for device, key, age_s in zip((entry.table.battery, entry.table.converter), ("battery", "converter"), ages, strict=True):
            if device in by_id:
                periods.check_age(draft, entry.path, f"limits.{key}_age_max", age_s, by_id[device])
    if draft.grid is not None and draft.grid.table is not None and draft.grid.table.converter in by_id:
        periods.check_age(draft, "grid", "age_max", draft.grid.table.age_max, by_id[draft.grid.table.converter])
    return found


def _files(folders: Iterable[Path]) -> dict[str, Path]:
    """TOML files by their name without its ending; an earlier folder goes before a later one."""
    found: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, file)
    return found


def _maps(draft: Draft, files: Mapping[str, Path]) -> dict[str, DeviceMap]:
    """The maps that the devices name; notes those that do not exist or cannot be used."""
    maps: dict[str, DeviceMap] = {}
    refused: set[str] = set()
    for entry in draft.devices:
        map_id = entry.text("map")
        if not map_id or map_id in maps or map_id in refused:
            continue
        if map_id not in files:
            draft.note(entry.path, "map", f"unknown map '{map_id}'; {checks.hint(map_id, files)}")
            continue
        try:
            maps[map_id] = load_map(files[map_id])
        except ConfigError as error:
            refused.add(map_id)
            draft.problems += error.problems
    return maps


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        first: dict[str, int] = {}
        for problem in problems:
            first.setdefault(problem.file, len(first))
        unique = dict.fromkeys(problems)
        raise ConfigError(sorted(unique, key=lambda problem: (first[problem.file], problem.line)))


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
