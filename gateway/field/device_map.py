"""Device maps: from a TOML file to a frozen `DeviceMap`, with every check that needs no device.

Addresses are zero-based as on the wire. All mistakes of a file are reported at once, with line and key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.device_roles import DeviceRole
from gateway.errors import ConfigError
from gateway.field.map_checks import check
from gateway.field.map_model import (
    INTEGER_LIMITS,
    MAX_ADDRESS,
    ORDERS,
    DeviceMap,
    Identity,
    MapPoint,
    PointTemplate,
    Register,
    ScanClass,
    WriteBlock,
)
from gateway.field.map_points import DEFAULT_KEYS, read_template
from gateway.field.map_schema import schema
from gateway.field.toml_reader import TableReader, as_list, shown
from gateway.toml_lines import load_toml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.errors import Problem
    from gateway.toml_lines import LineIndex

__all__ = ["DeviceMap", "Identity", "MapPoint", "PointTemplate", "ScanClass", "WriteBlock", "load_map", "schema"]

_DEVICE_KEYS = (
    *("vendor", "model", "role", "language", "source", "verified", "positive", "description", "identity", "read_only"),
    *("max_registers", "max_write_registers", "gap", "error_query", "period_s", "slow_period_s", "timeout_s"),
)
_REGISTER_IDENTITY_KEYS = ("register", "address", "type", "order", "equals", "one_of")
_QUERY_IDENTITY_KEYS = ("query", "matches")
_BLOCK_KEYS = ("name", "points", "heartbeat")

_POINT_KEY = re.compile(r"point\[(\d+)\]")
_APART = ("device.source", "device.verified", "device.vendor", "device.model", "device.identity", "device.timeout_s")
"""Keys whose mistakes change nothing about the points."""


def load_map(path: Path, name: str | None = None) -> DeviceMap:
    """The device map in a file; its id is the file's stem. `name` is the file name to be used in problems.

    Raises ConfigError with all the problems of the file.
    """
    table, index = load_toml(path, name)
    root = TableReader(table, "", index)
    device_map = _read(root, path.stem, index)
    broken = _broken_points(root.problems)
    if broken is not None:
        root.problems += check(device_map, index, broken)
    if root.problems:
        raise ConfigError(sorted(root.problems, key=lambda problem: (problem.line, problem.key)))
    return device_map


def _broken_points(problems: Sequence[Problem]) -> set[int] | None:
    """The numbers of the [[point]] tables that are not well-formed; None when more than these cannot be trusted."""
    found: set[int] = set()
    for problem in problems:
        table = _POINT_KEY.match(problem.key)
        if table is not None:
            found.add(int(table[1]))
        elif not problem.key.startswith(_APART):
            return None
    return found


def _read(root: TableReader, map_id: str, index: LineIndex) -> DeviceMap:
    root.known(("device", "defaults", "point", "write_block"))
    device = root.sub_table("device") or TableReader({}, "device", index, root.problems)
    device.known(_DEVICE_KEYS)
    language = device.text("language")
    role = device.choice("role", DeviceRole)
    defaults = root.sub_table("defaults")
    if defaults is not None:
        defaults.known(DEFAULT_KEYS.get(language, DEFAULT_KEYS[""]))
    tables = root.tables("point", defaults.table if defaults is not None else None)
    templates = tuple(read_template(table, language, role) for table in tables)
    if not templates and not root.has("point"):
        root.note("point", "a map needs at least one [[point]]")
    return DeviceMap(
        id=map_id,
        file=index.file,
        vendor=device.text("vendor"),
        model=device.text("model"),
        role=role,
        language=language,
        source=device.text("source"),
        verified=_verified(device),
        identity=_identity(device, language),
        templates=templates,
        write_blocks=tuple(_write_block(table) for table in root.tables("write_block")),
        positive=device.word("positive", ("discharge", "charge"), "discharge"),
        description=device.text("description", ""),
        max_registers=device.integer("max_registers", 125, 1, 125),
        max_write_registers=device.integer("max_write_registers", 123, 1, 123),
        gap=device.integer("gap", 8, 0, 124),
        read_only=device.boolean("read_only"),
        error_query=device.text("error_query", ""),
        period_s=device.positive("period_s"),
        slow_period_s=device.positive("slow_period_s"),
        timeout_s=device.positive("timeout_s"),
    )


def _verified(device: TableReader) -> str | None:
    if not device.require("verified", ": false, or where and how the map was proven on hardware"):
        return None
    value = device.get("verified")
    if isinstance(value, str) and value.strip():
        return value
    if value is not False:
        device.note("verified", f"expected false, or where and how the map was proven on hardware, got {shown(value)}")
    return None


def _identity(device: TableReader, language: str) -> Identity:
    if not device.require("identity", ": without it a stranger at the same address would be polled"):
        return Identity()
    reader = device.sub_table("identity")
    if reader is None:
        return Identity()
    return _register_identity(reader) if language == "modbus" else _query_identity(reader)


def _register_identity(reader: TableReader) -> Identity:
    reader.known(_REGISTER_IDENTITY_KEYS)
    register = reader.choice("register", Register)
    if register not in {Register.INPUT, Register.HOLDING}:
        reader.note("register", f"expected input or holding, got {shown(str(register))}")
    integers = tuple(name for name in INTEGER_LIMITS if not name.endswith("int8"))
    return Identity(
        register=register,
        address=reader.integer("address", None, 0, MAX_ADDRESS),
        type=reader.word("type", integers, "uint16"),
        order=reader.word("order", ORDERS, "ABCD"),
        one_of=_expected(reader),
    )


def _expected(reader: TableReader) -> tuple[int, ...]:
    if reader.has("equals") == reader.has("one_of"):
        reader.note("", "expected either 'equals' or 'one_of'")
        return ()
    key = "equals" if reader.has("equals") else "one_of"
    value = reader.get(key)
    items = as_list(value) if key == "one_of" else [value]
    numbers = tuple(item for item in items or () if isinstance(item, int) and not isinstance(item, bool))
    if not numbers or len(numbers) != len(items or ()):
        reader.note(key, f"expected {'whole numbers' if key == 'one_of' else 'a whole number'}, got {shown(value)}")
    return numbers


def _query_identity(reader: TableReader) -> Identity:
    reader.known(_QUERY_IDENTITY_KEYS)
    query, matches = reader.text("query"), reader.text("matches")
    try:
        re.compile(matches)
    except re.error as error:
        reader.note("matches", f"is not a regular expression: {error}")
    return Identity(query=query, matches=matches)


def _write_block(reader: TableReader) -> WriteBlock:
    reader.known(_BLOCK_KEYS)
    reader.require("points")
    return WriteBlock(
        name=reader.text("name"),
        points=reader.texts("points"),
        heartbeat=reader.integer("heartbeat", None, 0, MAX_ADDRESS) if reader.has("heartbeat") else None,
    )
