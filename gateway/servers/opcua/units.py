"""Engineering units as OPC UA wants them: UNECE Recommendation 20 codes (OPC 10000-8, 5.6.4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.servers.opcua.stack import ua

if TYPE_CHECKING:
    from asyncua.ua.uaprotocol_auto import EUInformation

NAMESPACE = "http://www.opcfoundation.org/UA/units/un/cefact"
NO_CODE = -1
"""The UnitId of a unit for which the recommendation has no code, such as ampere per second (OPC 10000-8, 5.6.4.3)."""

_UNITS: dict[str, tuple[str, str, str]] = {
    # our text: (UNECE code, symbol, name)
    "V": ("VLT", "V", "volt"),
    "mV": ("2Z", "mV", "millivolt"),
    "kV": ("KVT", "kV", "kilovolt"),
    "A": ("AMP", "A", "ampere"),
    "mA": ("4K", "mA", "milliampere"),
    "W": ("WTT", "W", "watt"),
    "kW": ("KWT", "kW", "kilowatt"),
    "MW": ("MAW", "MW", "megawatt"),
    "VA": ("D46", "V·A", "volt - ampere"),
    "kVA": ("KVA", "kV·A", "kilovolt - ampere"),
    "var": ("D44", "var", "var"),
    "kvar": ("KVR", "kvar", "kilovar"),
    "Wh": ("WHR", "W·h", "watt hour"),
    "kWh": ("KWH", "kW·h", "kilowatt hour"),
    "MWh": ("MWH", "MW·h", "megawatt hour"),
    "J": ("JOU", "J", "joule"),
    "Ah": ("AMH", "A·h", "ampere hour"),
    "C": ("COU", "C", "coulomb"),
    "%": ("P1", "%", "percent"),
    "degC": ("CEL", "°C", "degree Celsius"),
    "K": ("KEL", "K", "kelvin"),
    "Hz": ("HTZ", "Hz", "hertz"),
    "ohm": ("OHM", "Ω", "ohm"),
    "mohm": ("E45", "mΩ", "milliohm"),
    "us": ("B98", "µs", "microsecond"),
    "ms": ("C26", "ms", "millisecond"),
    "s": ("SEC", "s", "second"),
    "min": ("MIN", "min", "minute"),
    "h": ("HUR", "h", "hour"),
    "d": ("DAY", "d", "day"),
    "1/s": ("C97", "s⁻¹", "reciprocal second"),
    "1/min": ("C94", "min⁻¹", "reciprocal minute"),
    "rpm": ("RPM", "r/min", "revolutions per minute"),
    "V/s": ("H46", "V/s", "volt per second"),
    "mV/min": ("H62", "mV/min", "millivolt per minute"),
    "mV/K": ("D49", "mV/K", "millivolt per kelvin"),
    "degC/min": ("H13", "°C/min", "degree Celsius per minute"),
    "degC/h": ("H12", "°C/h", "degree Celsius per hour"),
    "K/min": ("F11", "K/min", "kelvin per minute"),
    "B": ("AD", "byte", "byte"),
    "kB": ("2P", "kbyte", "kilobyte"),
    "MB": ("4L", "Mbyte", "megabyte"),
    "MiB": ("E63", "Mibyte", "mebibyte"),
}


def unit_id(code: str) -> int:
    """The UnitId of a UNECE code: its ASCII characters read as one big-endian number (OPC 10000-8, 5.6.4.3)."""
    return int.from_bytes(code.encode("ascii"), "big")


def engineering_units(unit: str) -> EUInformation:
    """The EUInformation of a point's unit; one without a UNECE code keeps its text and gets UnitId -1."""
    code, symbol, name = _UNITS.get(unit, ("", unit, unit))
    return ua.EUInformation(
        NamespaceUri=NAMESPACE,
        UnitId=unit_id(code) if code else NO_CODE,
        DisplayName=ua.LocalizedText(symbol),
        Description=ua.LocalizedText(name),
    )
