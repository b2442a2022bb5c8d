"""Composition of the simulator: the plant of a site file and the devices on each of its wires."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.simulator import dab
from gateway.simulator.bus import Bus
from gateway.simulator.chemistry import CHEMISTRY
from gateway.simulator.converter import Converter
from gateway.simulator.converter_data import factory_limits
from gateway.simulator.devices.controlcard import Clocks, ControlCard
from gateway.simulator.devices.orion import Orion
from gateway.simulator.devices.rack_bms import RackBms
from gateway.simulator.devices.relay_io import RelayIo
from gateway.simulator.devices.sensors import BatterySensors
from gateway.simulator.devices.supply import ScpiSupply
from gateway.simulator.devices.truconvert import TruConvert
from gateway.simulator.endpoints import LineOfText, ModbusLine, ModbusPort, ScpiPort
from gateway.simulator.faults import KINDS, DeviceFaults, Fault
from gateway.simulator.plant import Plant, StringSpec
from gateway.simulator.site_file import SiteError
from gateway.simulator.supply import Protection, Supply, SupplySettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.simulator.endpoints import Endpoint
    from gateway.simulator.modbus_wire import RegisterDevice
    from gateway.simulator.plant import StringState
    from gateway.simulator.site_file import DeviceSpec, SimSite, StringPlan

    Device = Orion | RackBms | ControlCard | TruConvert | ScpiSupply | RelayIo

_BATTERY_MAPS = {"orion_jr", "rack_bms_modbus"}
_CONVERTER_MAPS = {"dab_controlcard", "trumpf_truconvert_dc1000"}
_SUPPLY_MAPS = {"keysight_rp793x"}
_RELAY_MAPS = {"relay_io_modbus"}


@dataclass(slots=True)
class SimDevice:
    """A device as the fault switches see it."""

    spec: DeviceSpec
    role: str
    device: Device
    faults: DeviceFaults
    string: StringState | None = None
    converter: Converter | None = None


@dataclass(slots=True)
class SimulatedSite:
    """Plant, devices and the endpoint of every wire. `advance` is the only way that time passes."""

    site: SimSite
    real_s: Callable[[], float] = time.monotonic
    plant: Plant = field(init=False)
    devices: dict[str, SimDevice] = field(init=False)
    endpoints: dict[str, Endpoint] = field(init=False)
    active: list[Fault] = field(default_factory=list[Fault])
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.site.seed)  # noqa: S311 - sensor noise, no secrets
        converters = {plan.id: self._converter(plan) for plan in self.site.strings}
        specs = [StringSpec(plan.id, plan.chemistry, plan.cells, converters[plan.id]) for plan in self.site.strings]
        self.plant = Plant(specs, Bus(Supply()))
        self.devices = {spec.id: self._device(spec) for spec in self.site.devices}
        self.endpoints = {wire.name: self._endpoint(wire.transport, wire.kind) for wire in self.site.wires}

    def _converter(self, plan: StringPlan) -> Converter | None:
        if plan.converter is None:
            return None
        chemistry, count = CHEMISTRY[plan.chemistry], len(plan.cells)
        rating = dab.rating_for(chemistry.full_V * count, chemistry.nominal_V * count, plan.capacity_Ah, self.site.bus_voltage_V)
        return Converter(rating, factory_limits(rating))

    def _device(self, spec: DeviceSpec) -> SimDevice:
        faults = DeviceFaults()
        if spec.map in _BATTERY_MAPS:
            string = self._string_of(spec.id, "battery")
            sensors = BatterySensors(self.plant, string, faults, self._random, -1.0 if spec.reversed else 1.0)
            battery = Orion(sensors, faults) if spec.map == "orion_jr" else RackBms(sensors, faults, self.real_s)
            return SimDevice(spec, "battery", battery, faults, string)
        if spec.map in _CONVERTER_MAPS:
            string = self._string_of(spec.id, "converter")
            converter = string.spec.converter
            if converter is None:
                raise SiteError(f"device {spec.id} is a converter, but its string {string.spec.id} has none")
            if spec.map == "dab_controlcard":
                clocks = Clocks(self.real_s, lambda: self.plant.site_s)
                card: Device = ControlCard(converter, faults, clocks, self._random, f"SIM-{spec.id}")
            else:
                card = TruConvert(converter, faults, self.real_s)
            return SimDevice(spec, "converter", card, faults, string, converter)
        if spec.map in _SUPPLY_MAPS:
            return SimDevice(spec, "supply", ScpiSupply(self.plant.bus, faults, self._random, self.real_s), faults)
        if spec.map in _RELAY_MAPS:
            return SimDevice(spec, "relays", self._relays(spec.id, faults), faults)
        raise SiteError(f"device {spec.id}: no simulated device of map {spec.map!r}")

    def _relays(self, device: str, faults: DeviceFaults) -> RelayIo:
        plans = self.site.strings
        strings = {p.contactor[1]: self.plant.string(p.id) for p in plans if p.contactor and p.contactor[0] == device}
        feedbacks = {p.feedback[1]: self.plant.string(p.id) for p in plans if p.feedback and p.feedback[0] == device}
        return RelayIo(strings, feedbacks, faults, self.real_s)

    def _string_of(self, device: str, role: str) -> StringState:
        for plan in self.site.strings:
            if device == (plan.battery if role == "battery" else plan.converter):
                return self.plant.string(plan.id)
        raise SiteError(f"device {device} is the {role} of no string")

    def _endpoint(self, transport: str, kind: str) -> Endpoint:
        here = [device for device in self.devices.values() if device.spec.transport == transport]
        if kind in {"modbus_rtu", "modbus_tcp"}:
            units: dict[int, tuple[RegisterDevice, DeviceFaults]] = {}
            for device in here:
                if isinstance(device.device, Orion | ScpiSupply):
                    raise SiteError(f"device {device.spec.id} does not speak Modbus, but is on {transport}")
                units[device.spec.unit] = (device.device, device.faults)
            return ModbusLine(units, self._random) if kind == "modbus_rtu" else ModbusPort(units, self._random)
        if len(here) != 1:
            raise SiteError(f"transport {transport} of kind {kind} takes exactly one device, it has {len(here)}")
        only = here[0]
        if isinstance(only.device, Orion):
            return LineOfText(only.device, only.faults, self._random)
        if isinstance(only.device, ScpiSupply):
            return ScpiPort(only.device, only.faults, self._random)
        raise SiteError(f"device {only.spec.id} speaks Modbus, but {transport} is of kind {kind}")

    # ---- time

    def advance(self, plant_s: float) -> None:
        """Time-outs in real time, then the physics in plant time."""
        self.plant.watch(self.real_s())
        for device in self.devices.values():
            if isinstance(device.device, RelayIo):
                device.device.move()
        if plant_s > 0.0:
            self.plant.advance(plant_s)

    # ---- faults

    def set_fault(self, fault: Fault) -> None:
        """Let a fault act. ValueError with the reason when it cannot."""
        kind, device = KINDS.get(fault.kind), self.devices.get(fault.device)
        if kind is None:
            raise ValueError(f"no fault of kind {fault.kind!r}; known: {', '.join(KINDS)}")
        if device is None:
            raise ValueError(f"no simulated device {fault.device!r}; known: {', '.join(self.devices)}")
        if device.role not in kind.roles:
            raise ValueError(f"{fault.kind} does not apply to {fault.device}, a {device.role}")
        if kind.cell and fault.cell is None:
            raise ValueError(f"{fault.kind} needs the number of a cell")
        if fault.cell is not None and (device.string is None or not 1 <= fault.cell <= device.string.count):
            raise ValueError(f"{fault.device} has no cell {fault.cell}")
        self.active.append(fault)
        device.faults.set(fault)
        if device.role == "battery":
            self._set_in_battery(device, fault)
        elif isinstance(device.device, RelayIo):
            self._set_in_relays(device.device, fault)
        else:
            self._set_in_power(device, fault)

    def _set_in_battery(self, device: SimDevice, fault: Fault) -> None:
        string = device.string
        if string is None:
            return
        place = string.cells if fault.cell is None else slice(string.first + fault.cell - 1, string.first + fault.cell)
        if fault.kind == "heat":
            self.plant.cells.heater_degC[place] = fault.value
        elif fault.kind == "internal_short":
            self.plant.cells.short_S[place] = 1.0 / max(fault.value, 1e-4)
        elif fault.kind == "bms_enable":
            string.bms_enable_forced_off = True
        elif fault.kind == "open_contactor":
            string.forced_open = True

    def _set_in_relays(self, relays: RelayIo, fault: Fault) -> None:
        if fault.kind == "stuck_output":
            relays.stuck = True
        elif fault.kind == "restart":
            relays.power_cycle()

    def _set_in_power(self, device: SimDevice, fault: Fault) -> None:
        supply, converter = self.plant.bus.supply, device.converter
        if fault.kind == "stuck_output":
            (converter or supply).stuck = True
        elif fault.kind == "trip":
            if converter is None:
                supply.trip(Protection.INHIBIT)
            else:
                converter.emergency_stop = True
        elif fault.kind == "restart":
            if isinstance(device.device, ControlCard):
                device.device.power_cycle()
            elif converter is not None:
                converter.restart()
            else:
                supply.settings.reset_to(SupplySettings())
                supply.clear_protection()
                supply.switch_off()

    def clear_faults(self, device_id: str | None) -> None:
        """Clear the faults of one device, or of all. A protection that acted stays latched in its device."""
        if device_id is not None and device_id not in self.devices:
            raise ValueError(f"no simulated device {device_id!r}; known: {', '.join(self.devices)}")
        for device in self.devices.values():
            if device_id is None or device.spec.id == device_id:
                self._clear(device)
        self.active = [fault for fault in self.active if device_id is not None and fault.device != device_id]

    def _clear(self, device: SimDevice) -> None:
        device.faults.clear()
        string = device.string
        if device.role == "battery" and string is not None:
            self.plant.cells.heater_degC[string.cells] = float("nan")
            self.plant.cells.short_S[string.cells] = 0.0
            string.bms_enable_forced_off = False
            string.forced_open = False
        if device.converter is not None:
            device.converter.stuck = device.converter.emergency_stop = False
        if isinstance(device.device, RelayIo):
            device.device.stuck = False
        if device.role == "supply":
            self.plant.bus.supply.stuck = False
