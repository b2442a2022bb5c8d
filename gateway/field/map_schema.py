"""JSON schema of device map files, for editors. The loader checks more than a schema can say."""

from __future__ import annotations

from typing import Any

from gateway.device_roles import DeviceRole
from gateway.field.map_model import MAX_ADDRESS, ORDERS, TYPE_BYTES, Register, ScanClass
from gateway.field.map_points import UNITS
from gateway.points import Access

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_BOOL = {"type": "boolean"}
_ADDRESS = {"type": "integer", "minimum": 0, "maximum": MAX_ADDRESS}
_NAMES = {"type": "object", "additionalProperties": _TEXT}


def schema() -> dict[str, Any]:
    """The schema, JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bess-gateway device map",
        **_table(
            {
                "device": _device(),
                "defaults": {"type": "object", "description": "Values for keys that a point does not give."},
                "point": {"type": "array", "minItems": 1, "items": _point()},
                "write_block": {"type": "array", "items": _write_block()},
            },
            required=("device", "point"),
        ),
    }


def _device() -> dict[str, Any]:
    verified = {"oneOf": [{"const": False}, _TEXT], "description": "false, or where and how it was proven on hardware."}
    properties: dict[str, Any] = {
        **dict.fromkeys(("vendor", "model", "description", "error_query"), _TEXT),
        **{key: {"type": "number", "exclusiveMinimum": 0} for key in ("period_s", "slow_period_s", "timeout_s")},
        "role": {"enum": [str(role) for role in DeviceRole]},
        "language": {"type": "string", "description": "modbus, orion, scpi, or one that an installed package adds."},
        "source": {"type": "string", "description": "Manual, edition, chapter that every address comes from."},
        "verified": verified,
        "positive": {"enum": ["discharge", "charge"], "description": "Direction in which the device's values are positive."},
        "identity": _identity(),
        "max_registers": {"type": "integer", "minimum": 1, "maximum": 125},
        "max_write_registers": {"type": "integer", "minimum": 1, "maximum": 123},
        "gap": {"type": "integer", "minimum": 0, "maximum": 124, "description": "Unmapped registers a read may include."},
        "read_only": _BOOL,
    }
    return _table(properties, required=("vendor", "model", "role", "language", "source", "verified", "identity"))


def _identity() -> dict[str, Any]:
    register = _table(
        {
            "register": {"enum": ["input", "holding"]},
            "address": _ADDRESS,
            "type": {"enum": ["uint16", "int16", "uint32", "int32", "uint64", "int64"]},
            "order": {"enum": list(ORDERS)},
            "equals": {"type": "integer"},
            "one_of": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        },
        required=("register", "address"),
    )
    return {"oneOf": [register, _table({"query": _TEXT, "matches": _TEXT}, required=("query", "matches"))]}


def _point() -> dict[str, Any]:
    properties: dict[str, Any] = {
        **dict.fromkeys(("description", "source", "query", "command"), _TEXT),
        **dict.fromkeys(("scale", "offset", "deadband", "not_available"), _NUMBER),
        **dict.fromkeys(("symbols", "bits"), _NAMES),
        **{key: {"type": "integer", "minimum": 1} for key in ("max", "length", "stride", "per_request")},
        "name": {"type": "string", "description": "The role's canonical name where it has one; <n> with a count."},
        "unit": {"enum": sorted(UNITS)},
        "access": {"enum": [str(access) for access in Access]},
        "scan": {"enum": [str(scan) for scan in ScanClass]},
        "range": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
        "safe": {"oneOf": [_NUMBER, {"const": "unchanged"}], "description": "What a trip writes."},
        "translate": {"type": "object", "additionalProperties": _NUMBER},
        "readback": {"oneOf": [_BOOL, _TEXT], "description": "The point that shows the effect; false for none."},
        "count": {"oneOf": [{"type": "integer", "minimum": 1}, {"const": "cells"}]},
        "type": {"enum": [*TYPE_BYTES, "number", "bool", "string"]},
        "register": {"enum": [str(register) for register in Register if register]},
        "address": _ADDRESS,
        "order": {"enum": list(ORDERS)},
        "bit": {"type": "integer", "minimum": 0, "maximum": 63},
        "barrier": {**_BOOL, "description": "No read reaches across the start of this point."},
        "request": {"type": "string", "pattern": "^([0-9A-F]{2}){1,4}$"},
        "byte": {"type": "integer", "minimum": 0, "maximum": 255},
        "sign_from": {"type": "array", "items": _TEXT},
        "wire": {"type": "object"},
    }
    return _table(properties, required=("name",))


def _write_block() -> dict[str, Any]:
    properties = {"name": _TEXT, "points": {"type": "array", "items": _TEXT, "minItems": 1}, "heartbeat": _ADDRESS}
    return _table(properties, required=("name", "points"))


def _table(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}
