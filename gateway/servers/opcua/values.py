"""From a point's sample to the parts of an OPC UA DataValue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gateway.servers.opcua.stack import ua

if TYPE_CHECKING:
    from asyncua.ua.uatypes import Variant, VariantType

_UINT32_MAX = 2**32 - 1
_INT64_MAX = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_variant(value: float | str | None, data_type: VariantType) -> Variant | None:
    """A point's value in the data type of its node; None when that type cannot carry it."""
    if data_type is ua.VariantType.String:
        return ua.Variant(value, data_type) if isinstance(value, str) else None
    if not isinstance(value, float | int):
        return None
    if data_type is ua.VariantType.Double:
        return ua.Variant(float(value), data_type)
    if data_type is ua.VariantType.Boolean:
        return ua.Variant(value != 0.0, data_type)
    low, high = (0, _UINT32_MAX) if data_type is ua.VariantType.UInt32 else (-_INT64_MAX, _INT64_MAX)
    whole = round(value)
    return ua.Variant(whole, data_type) if low <= whole <= high else None


def to_datetime(time_ns: int) -> datetime | None:
    """UTC in whole microseconds; None when there is no time, which is 0."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000) if time_ns > 0 else None
