"""Reading one `[[point]]` of a device map, for each wire language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.device_roles import DeviceRole, RolePoint, role_point
from gateway.field.map_model import (
    INTEGER_LIMITS,
    MAX_ADDRESS,
    ORDERS,
    PLACEHOLDER,
    TYPE_BYTES,
    MapPoint,
    PointTemplate,
    Register,
    ScanClass,
)
from gateway.field.toml_reader import TableReader, is_number, shown
from gateway.points import Access, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS = frozenset(
    [
        "",
        "V",
        "A",
        "W",
        "VA",
        "var",
        "Hz",
        "degC",
        "K",
        "%",
        "s",
        "h",
        "Ah",
        "Wh",
        "ohm",
        "H",
        "F",
        "A/s",
        "V/s",
        "W/s",
        "rad",
        "Pa",
    ]
)
"""Units a point may have; anything else is scaled to one of them in the map."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.([a-z0-9_]+|<n>))*")
_PID = re.compile(r"([0-9A-F]{2}){1,4}")
_MEANING = (
    *("name", "description", "source", "unit", "access", "scan", "range", "safe", "symbols", "bits", "translate", "readback"),
    *("deadband", "count", "max", "type", "scale", "offset", "not_available"),
)
_WIRE: Mapping[str, tuple[str, ...]] = {
    "modbus": ("register", "address", "order", "length", "stride", "bit", "barrier"),
    "orion": ("request", "byte", "per_request", "bit"),
    "scpi": ("query", "command", "sign_from"),
    "": ("wire",),
}
_DEFAULTS = ("type", "scan", "access", "source", "scale", "unit")
DEFAULT_KEYS: Mapping[str, tuple[str, ...]] = {
    "modbus": (*_DEFAULTS, "register", "order"),
    "orion": _DEFAULTS,
    "scpi": _DEFAULTS,
    "": _DEFAULTS,
}
"""Keys that `[defaults]` may hold, by wire language; "" is any language that an installed package adds."""

_TYPES: Mapping[str, tuple[str, ...]] = {
    "modbus": (*(name for name in TYPE_BYTES if not name.endswith("int8")), "bool", "string"),
    "orion": tuple(name for name in TYPE_BYTES if "64" not in name and "float" not in name),
    "scpi": ("number", "bool", "string"),
    "": (*TYPE_BYTES, "number", "bool", "string"),
}


def read_template(reader: TableReader, language: str, role: DeviceRole) -> PointTemplate:
    """The point or points that one `[[point]]` stands for; mistakes are noted in the reader."""
    language = language if language in _WIRE else ""
    reader.known((*_MEANING, *_WIRE[language]))
    name = _name(reader)
    canonical = role_point(role, name)
    value_type = _type(reader, language)
    access = reader.choice("access", Access, Access.READ)
    limits = reader.pair("range")
    meaning = _Meaning(reader, canonical, value_type)
    point = MapPoint(
        name=name,
        kind=meaning.kind(),
        unit=_unit(reader),
        description=reader.text("description", canonical.description if canonical is not None else ""),
        source=reader.text("source", ""),
        access=access,
        scan=reader.choice("scan", ScanClass, ScanClass.FAST),
        type=value_type,
        order=reader.word("order", ORDERS, "ABCD"),
        scale=_scale(reader),
        offset=reader.number("offset", 0.0) or 0.0,
        low=limits[0] if limits else None,
        high=limits[1] if limits else None,
        safe=_safe(reader, access),
        not_available=_sentinel(reader, value_type),
        symbols=meaning.symbols(),
        translate=_translation(reader, language),
        bit=reader.integer("bit", None, 0, 63) if reader.has("bit") else None,
        barrier=reader.boolean("barrier"),
        readback=_readback(reader, access, name, language),
        deadband=reader.number("deadband", 0.0) or 0.0,
        register=_register(reader, language, value_type),
        address=_address(reader, language),
        length=_length(reader, language, value_type),
        request=_request(reader, language, access),
        command=_command(reader, language, access),
        sign_from=reader.texts("sign_from"),
        wire=_wire(reader, language),
    )
    return _counted(reader, language, point)


def _name(reader: TableReader) -> str:
    name = reader.text("name")
    if name and not _NAME.fullmatch(name):
        reader.note("name", f"expected lower-case words joined by dots, such as cell.<n>.voltage, got {shown(name)}")
    return name


def _type(reader: TableReader, language: str) -> str:
    if language == "modbus" and reader.get("register") in {"coil", "discrete"}:
        return "bool"
    return reader.word("type", _TYPES[language], "number" if language == "scpi" else "uint16")


def _unit(reader: TableReader) -> str:
    unit = reader.get("unit") if reader.has("unit") else ""
    if unit not in UNITS:
        reader.note("unit", f"expected one of {', '.join(sorted(UNITS - {''}))}, got {shown(unit)}")
    return str(unit)


def _scale(reader: TableReader) -> float:
    scale = reader.number("scale", 1.0)
    if scale == 0.0:
        reader.note("scale", "scale 0 would make every value 0")
    return scale or 1.0


def _safe(reader: TableReader, access: Access) -> float | None:
    if access is Access.READ:
        if reader.has("safe"):
            reader.note("safe", 'only a point with access = "write" has a safe value')
        return None
    reader.require("range", ": a write point needs the range of values that may be written")
    if not reader.require("safe", ': a write point needs the value that a trip writes, or "unchanged"'):
        return None
    if reader.get("safe") == "unchanged":
        return None
    return reader.number("safe")


def _sentinel(reader: TableReader, value_type: str) -> float | None:
    value = reader.number("not_available")
    if value is None or value_type not in INTEGER_LIMITS:
        return value
    low, high = INTEGER_LIMITS[value_type]
    if high < value <= high - low:
        value -= high - low + 1  # a bit pattern such as 0x8000 for a signed number
    if not low <= value <= high or value != int(value):
        reader.note("not_available", f"{shown(reader.get('not_available'))} cannot occur in {value_type}")
    return value


def _translation(reader: TableReader, language: str) -> dict[int | str, float]:
    table = reader.sub_table("translate")
    result: dict[int | str, float] = {}
    for key in table.table if table is not None else ():
        number = _integer_key(key)
        if number is None and language != "scpi":
            reader.note("translate", f"'{key}' is not a whole number")
            continue
        value = table.number(key) if table is not None else None
        result[key if number is None else number] = value if value is not None else 0.0
    return result


def _integer_key(key: str) -> int | None:
    try:
        return int(key, 0)
    except ValueError:
        return None


class _Meaning:
    """Kind and symbols of a point: the role's where the name is canonical, else what the keys say."""

    def __init__(self, reader: TableReader, canonical: RolePoint | None, value_type: str) -> None:
        self._reader = reader
        self._canonical = canonical
        self._type = value_type

    def kind(self) -> Kind:
        if self._canonical is not None:
            return self._canonical.kind
        if self._type == "string":
            return Kind.TEXT
        if self._reader.has("bits"):
            return Kind.FLAGS
        if self._reader.has("symbols"):
            return Kind.ENUM
        if self._reader.has("bit") or self._type == "bool":
            return Kind.BOOLEAN
        scaled = any(self._reader.has(key) for key in ("scale", "offset", "unit"))
        return Kind.INTEGER if self._type in INTEGER_LIMITS and not scaled else Kind.ANALOG

    def symbols(self) -> dict[int, str]:
        result: dict[int, str] = {}
        for key in ("bits", "symbols"):
            table = self._reader.sub_table(key)
            for name in table.table if table is not None else ():
                number = _integer_key(name)
                if table is None or number is None or number < 0 or (key == "bits" and number > 63):
                    self._reader.note(key, f"'{name}' is not a whole number" + (" from 0 to 63" if key == "bits" else ""))
                else:
                    result[number] = table.text(name)
        return result or dict(self._canonical.symbols if self._canonical is not None else {})


def _readback(reader: TableReader, access: Access, name: str, language: str) -> str | None:
    if access is Access.READ:
        if reader.has("readback"):
            reader.note("readback", 'only a point with access = "write" has a readback')
        return None
    value = reader.get("readback")
    if value is False:
        return None
    if value is None or value is True:
        return name if language != "scpi" or reader.has("query") else None
    return reader.text("readback")


def _register(reader: TableReader, language: str, value_type: str) -> Register:
    if language != "modbus":
        return Register.NONE
    register = reader.choice("register", Register)
    if value_type == "bool" and register in {Register.INPUT, Register.HOLDING} and not reader.has("bit"):
        reader.note("type", "bool in a register needs 'bit'; use uint16 for a register that is 0 or 1")
    return register


def _address(reader: TableReader, language: str) -> int:
    if language == "modbus":
        return reader.integer("address", None, 0, MAX_ADDRESS)
    return reader.integer("byte", 0, 0, 255) if language == "orion" else 0


def _length(reader: TableReader, language: str, value_type: str) -> int:
    if language == "orion":
        return TYPE_BYTES.get(value_type, 1)
    if value_type == "string" and language == "modbus":
        return reader.integer("length", None, 1, 125)
    if reader.has("length"):
        reader.note("length", "only a string has a length; the width of a number follows from its type")
    return max(1, TYPE_BYTES.get(value_type, 2) // 2)


def _request(reader: TableReader, language: str, access: Access) -> str:
    if language == "orion":
        request = reader.text("request")
        if request and not _PID.fullmatch(request):
            reader.note("request", f"expected mode and PID as pairs of upper-case hexadecimal digits, got {shown(request)}")
            return "00"
        if access is Access.WRITE:
            reader.note("access", "an Orion BMS takes no commands over this port")
        return request
    if language == "scpi":
        query = reader.text("query", "" if access is Access.WRITE else None)
        if query and "?" not in query:
            reader.note("query", f"expected a query with '?', got {shown(query)}")
        return query
    return ""


def _command(reader: TableReader, language: str, access: Access) -> str:
    if language != "scpi":
        return ""
    if access is Access.READ:
        if reader.has("command"):
            reader.note("command", 'only a point with access = "write" has a command')
        return ""
    return reader.text("command")


def _wire(reader: TableReader, language: str) -> Mapping[str, object]:
    table = reader.sub_table("wire") if language == "" else None
    return table.table if table is not None else {}


def _counted(reader: TableReader, language: str, point: MapPoint) -> PointTemplate:
    count = reader.get("count")
    if (PLACEHOLDER in point.name) != (count is not None):
        reader.note("name", f"a name with {PLACEHOLDER} needs 'count', and a count needs {PLACEHOLDER} in the name")
    if count is None:
        return PointTemplate(point=point)
    maximum = reader.integer("max", 64, 1, 4096)
    if count != "cells" and not (is_number(count) and isinstance(count, int) and count >= 1):
        reader.note("count", f'expected a whole number above 0 or "cells", got {shown(count)}')
        count = 1
    if count == "cells" and "max" not in reader.table:
        reader.note("max", "'max' is missing: the most cells that the device can show")
    per_request = reader.integer("per_request", 255, 1, 255) if language == "orion" else 0
    return PointTemplate(
        point=point,
        count="cells" if count == "cells" else int(str(count)),
        maximum=maximum if count == "cells" else int(str(count)),
        stride=reader.integer("stride", point.length, point.length, 1024),
        per_request=per_request,
    )
