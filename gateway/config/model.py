"""The site file as a person writes it: one frozen model per table, unknown keys refused.

A field's docstring is what `schema` shows and what an error about a missing key says. Quantities are held in SI units;
where a value is None, the chemistry, the map or the wire decides (see build).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.config.quantities import CurrentText, Unit
from gateway.site import Chemistry, Topology

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=40)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Volts = Annotated[float, Unit("V")]
Amperes = Annotated[float, Unit("A")]
Seconds = Annotated[float, Unit("s")]
AmpereHours = Annotated[float, Unit("Ah")]
Celsius = Annotated[float, Unit("degC", signed=True)]
Current = Annotated[str, CurrentText()]
TopologyWord = Annotated[Topology, Field(strict=False)]
ChemistryWord = Annotated[Chemistry, Field(strict=False)]
Texts = Annotated[tuple[Id, ...], Field(strict=False, min_length=1)]


class Table(BaseModel):
    """What all tables have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class SiteTable(Table):
    """The site as a whole."""

    id: Id
    """short name of the site: letters, digits, '_' and '-'"""
    title: Text = "Battery storage"
    """what people call the site"""
    topology: TopologyWord
    """which strings have a converter of their own: active (all), semi_active (some) or passive (none)"""
    scan: Seconds = 0.1
    """the control cycle"""


class TransportTable(Table):
    """One line, socket or instrument resource. Further keys are the kind's own: baud, parity, stop_bits, read_only."""

    model_config = ConfigDict(extra="allow")

    id: Id
    """name by which devices refer to this line"""
    kind: Text
    """modbus_rtu, modbus_tcp, serial, visa, or one that an installed package adds"""
    port: Text
    """serial device, "host:port", VISA resource, or "sim:<name>" for a line of the simulator"""


class DeviceTable(Table):
    """One device on a transport."""

    id: Id
    """name by which strings and the grid refer to this device"""
    title: Text | None = None
    """what people call the device"""
    map: Text
    """device map: the name of a file of device_maps without its ending"""
    transport: Id
    """id of the [[transport]] on which the device is"""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """address on a shared line"""
    positive: Literal["discharge", "charge"] | None = None
    """direction in which the device's currents and powers are positive, where this unit differs from its map"""
    period: Seconds | None = None
    """time between two reads of the fast values; follows from the wire when not given"""
    timeout: Seconds | None = None
    """longest wait for one answer"""
    read_only: bool = False
    """true for a device that may be watched but never written"""
    settings: dict[str, str] = Field(default_factory=dict)
    """protective settings in the device itself, written and read back before the site is ready"""


class LimitsTable(Table):
    """Trip limits of a string. What is not given is the chemistry's own."""

    cell_voltage_max: Volts | None = None
    """highest voltage of any cell"""
    cell_voltage_min: Volts | None = None
    """lowest voltage of any cell"""
    charge_current_max: Current | None = None
    """largest charge current"""
    discharge_current_max: Current | None = None
    """largest discharge current"""
    temperature_max: Celsius | None = None
    """highest temperature of any sensor"""
    charge_temperature_min: Celsius | None = None
    """no charging below this temperature (not a trip)"""
    battery_age_max: Seconds = 1.5
    """longest time without good values of the battery"""
    converter_age_max: Seconds = 1.0
    """longest time without good values of the converter"""


class StringTable(Table):
    """One battery string."""

    id: Id
    """name of the string, part of every point name"""
    title: Text | None = None
    """what people call the string"""
    chemistry: ChemistryWord
    """cell chemistry: lfp, lead_acid or zinc"""
    cells: Annotated[int, Field(ge=1, le=1000)]
    """number of cells in series"""
    capacity: AmpereHours
    """rated capacity; 1C is this in amperes"""
    battery: Id
    """id of the device that measures the cells: a string without a battery cannot be guarded"""
    converter: Id | None = None
    """id of the string's DC-DC converter; none for a string straight on the bus"""
    contactor: Text | None = None
    """digital output that opens the string, such as "io.output.1" with the device's id in front"""
    contactor_feedback: Text | None = None
    """digital input of the contactor's auxiliary contact, such as "io.input.1": 1 while it is closed"""
    limits: LimitsTable = Field(default_factory=LimitsTable)
    """trip limits"""


class GridTable(Table):
    """The DC bus and its converter to the grid."""

    converter: Id
    """id of the DC-AC converter that holds the bus"""
    bus_voltage: Volts
    """voltage that the converter holds"""
    bus_voltage_min: Volts
    """lower end of the bus window; a trip when armed"""
    bus_voltage_max: Volts
    """upper end of the bus window; a trip when armed"""
    overvoltage_protection: Volts
    """over-voltage protection in the converter itself"""
    source_current_limit: Amperes
    """largest current into the bus"""
    sink_current_limit: Amperes
    """largest current out of the bus"""
    watchdog: Seconds = 5.0
    """the converter switches off when nobody talks to it for this long"""
    age_max: Seconds = 3.0
    """longest time without good values of the converter"""


class OpcuaTable(Table):
    """The OPC UA server."""

    endpoint: Annotated[str, Field(pattern=r"^opc\.tcp://[^\s/:]+:\d{1,5}(/\S*)?$")] = "opc.tcp://127.0.0.1:4840"
    """where the server listens: opc.tcp://host:port"""
    anonymous: bool = False
    """true admits sessions without user and encryption; on the loopback address only"""
    anonymous_role: Literal["observer", "operator", "engineer", "admin"] = "observer"
    """role of anonymous sessions"""
    namespace: Text | None = None
    """URI of the namespace in which the points are"""


class ScheduleTable(Table):
    """Runs that start by the clock: exactly one of cron, interval, at."""

    id: Id
    """name of the schedule"""
    protocol: Text
    """id of the charge protocol"""
    strings: Texts
    """ids of the strings to run it on"""
    parameters: dict[str, str] = Field(default_factory=dict)
    """values of the protocol's parameters"""
    cron: Text | None = None
    """five fields: minute, hour, day of month, month, day of week"""
    interval: Seconds | None = None
    """time between two starts"""
    at: Text | None = None
    """one start, ISO 8601 with its UTC offset"""
    misfire_grace: Seconds = 900.0
    """a start that is later than this is skipped"""
    timezone: Text = "UTC"
    """IANA name of the time zone of `cron`"""


class SiteFile(Table):
    """A site file of bess-gateway."""

    site: SiteTable
    """the [site] table: id, title, topology, scan"""
    transport: Annotated[tuple[TransportTable, ...], Field(strict=False, min_length=1)]
    """at least one [[transport]]"""
    device: Annotated[tuple[DeviceTable, ...], Field(strict=False, min_length=1)]
    """at least one [[device]]"""
    string: Annotated[tuple[StringTable, ...], Field(strict=False, min_length=1)]
    """at least one [[string]]"""
    grid: GridTable | None = None
    """the DC bus and its converter"""
    opcua: OpcuaTable | None = None
    """the OPC UA server; none when absent"""
    schedule: Annotated[tuple[ScheduleTable, ...], Field(strict=False)] = ()
    """runs that start by the clock"""
