"""A plant for the sequence: devices that obey, halt and keep silent as told, behind a gate without wires."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gateway.commands import Code, Command, Verdict
from gateway.device_roles import DeviceRole
from gateway.points import Kind, Point
from gateway.sequence import Sequence
from gateway.site import Chemistry, DeviceSpec, GridSpec, Site, StringLimits, StringSpec, Topology
from tests.manual_clock import ManualClock
from tests.snapshots import FakeSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

BITS = {0: "battery over-voltage", 2: "bus over-voltage", 3: "bus under-voltage", 10: "command time-out"}
GRID_BITS = {0: "over-voltage", 7: "positive limit", 11: "watchdog"}
CONVERTER = {
    "mode_setpoint": (0, 3), "enable": (0, 1), "current_setpoint": (-6.25, 6.25), "charge_current_limit": (0, 6.25),
    "discharge_current_limit": (0, 6.25), "reset": (0, 1), "bus_overvoltage_trip": (20, 32), "bus_undervoltage_trip": (0, 24),
    "communication_timeout": (0.3, 5), "ramp_down_time": (0.1, 10),
}  # fmt: skip
GRID = {
    "output_enable": (0, 1), "voltage_setpoint": (0, 80), "source_current_limit": (0, 255), "sink_current_limit": (0, 255),
    "overvoltage_protection": (0, 96), "watchdog_delay": (1, 3600), "watchdog_enable": (0, 1), "clear_protection": (0, 1),
}  # fmt: skip


CELLS = 4


def string(identifier: str, *, converter: bool = True, contactor: bool = False) -> StringSpec:
    limits = StringLimits(
        cell_voltage_max_V=3.65, cell_voltage_min_V=2.5, charge_current_max_A=6.5, discharge_current_max_A=6.5,
        temperature_max_degC=55, charge_temperature_min_degC=0, battery_age_max_s=1.5, converter_age_max_s=1,
    )  # fmt: skip
    lower = identifier.lower()
    return StringSpec(
        id=identifier, title=identifier, chemistry=Chemistry.LFP, cells=4, capacity_Ah=25, battery=f"bms_{lower}",
        converter=f"dab_{lower}" if converter else None, limits=limits,
        contactor=f"string.{identifier}.contactor.closed" if contactor else None,
        feedback=f"string.{identifier}.contactor.feedback" if contactor else None,
    )  # fmt: skip


def device(identifier: str, role: DeviceRole, target: str, writable: Mapping[str, tuple[float, float]], **more) -> DeviceSpec:
    points = {"faults_live", "faults_latched", "state"} if role is DeviceRole.DCDC else {"fault_flags"}
    given = {
        "map_id": "m", "title": identifier, "current_factor": 1.0, "safe": {}, "points": frozenset(points), "period_s": 0.1,
    } | more  # fmt: skip
    return DeviceSpec(id=identifier, role=role, target=target, writable=writable, **given)


def site(*strings: StringSpec, watchdog_s: float = 5.0, converter: Mapping[str, tuple[float, float]] = CONVERTER, **more) -> Site:
    settings = {"bus_overvoltage_trip": 27.0, "bus_undervoltage_trip": 21.0}
    devices = [device("rps", DeviceRole.DCAC, "grid", GRID)]
    for each in strings:
        devices.append(device(each.battery, DeviceRole.BATTERY, f"{each.prefix}.battery", {}))
        if each.converter is not None:
            given = {"settings": settings} | more
            devices.append(device(each.converter, DeviceRole.DCDC, f"{each.prefix}.converter", converter, **given))
    device_points = [Point(name="device.rps.fault_flags", kind=Kind.FLAGS, symbols=GRID_BITS)]
    device_points += [
        Point(name=f"device.{s.converter}.faults_latched", kind=Kind.FLAGS, symbols=BITS) for s in strings if s.converter
    ]
    grid = GridSpec(
        converter="rps", bus_voltage_V=24.0, bus_voltage_min_V=22.0, bus_voltage_max_V=26.0, overvoltage_protection_V=28.0,
        source_current_limit_A=10.0, sink_current_limit_A=10.0, watchdog_s=watchdog_s, age_max_s=3.0,
    )  # fmt: skip
    return Site(
        id="s", title="s", topology=Topology.ACTIVE, scan_s=0.1, simulated=True, file="", hash="", strings=strings, grid=grid,
        devices=tuple(devices), device_points=tuple(device_points), canonical_points=(), aliases=(), opcua=None, schedules=(),
    )  # fmt: skip


class Plant:
    """A site under its sequence. Switches: `silent` devices never confirm or report, `refuses` maps (target, name) to why."""

    def __init__(self, plant_site: Site) -> None:
        self.site = plant_site
        self.clock = ManualClock()
        self.snapshot = FakeSnapshot({}, self.clock)
        self.trips: dict[str, str] = {}
        self.silent: set[str] = set()
        self.refuses: dict[tuple[str, str], str] = {}
        self.hangs: set[str] = set()
        self.halts = 0b1000
        """Fault bits that the start of the bus latches in each converter."""
        self.live = 0
        self.bus_V = 24.0
        """What the bus comes to."""
        self.current_A = 0.0
        self.latched = {s.id: 0 for s in plant_site.strings}
        self.grid_flags = 0
        self.output = False
        self.pack_V = {s.id: 13.2 for s in plant_site.strings}
        self.left_over_V = 0.0
        """What is on a bus that nothing holds."""
        self.closed: dict[str, bool] = {s.id: False for s in plant_site.strings if s.contactor}
        self.stuck: set[str] = set()
        """Contactors that stay as they are."""
        self.confirmed: set[str] = set()
        self.owners: dict[str, str] = {}
        self.log: list[tuple[str, Mapping[str, float]]] = []
        self.records: list[str] = []
        self.shown: dict[str, float | str | None] = {}
        self.arming = SimpleNamespace(telemetry=False, converter_faults=False, bus=False)
        self.history: list[str] = []
        self.sequence = Sequence(plant_site, lambda: self.snapshot, self, self, self.clock, lambda _, __: self, self.arming)

    # The gate

    def trip_reason(self, scope: str) -> str:
        return self.trips.get(scope, "") or self.trips.get("site", "")

    def confirmed_safe(self, scope: str) -> bool:
        return self.confirmed.issuperset(target for target in self._targets() if target.startswith(f"{scope}."))

    def _targets(self) -> list[str]:
        strings = self.site.strings
        contactors = (f"{s.prefix}.contactor" for s in strings if s.contactor)
        return ["grid", *(f"{s.prefix}.converter" for s in strings if s.converter), *contactors]

    async def submit(self, command: Command, *, confirm: bool = False) -> Verdict:
        target = command.target
        if target in self.hangs:
            await asyncio.Event().wait()
        scope = target.rpartition(".")[0] if target != "grid" else "site"
        if self.trip_reason(scope):
            return Verdict(Code.TRIPPED, "tripped")
        for name in command.values:
            if (target, name) in self.refuses:
                return Verdict(Code.NOT_CONFIRMED, self.refuses[target, name])
        self.log.append((target, dict(command.values)))
        self.owners[target] = command.owner
        self.confirmed.discard(target)
        if target == "grid":
            self._tell_grid(command.values)
        elif target.endswith(".contactor"):
            self._move(target, closed=bool(command.values["closed"]))
        elif "reset" in command.values and not self.live:
            self.latched[target.split(".")[1]] = 0
        return Verdict(Code.ACCEPTED)

    def _tell_grid(self, values: Mapping[str, float]) -> None:
        if values.get("output_enable"):
            self.output = True
            self.latched = dict.fromkeys(self.latched, self.halts)
        if "clear_protection" in values:
            self.grid_flags = 0

    def release(self, target: str, owner: str) -> bool:
        if self.owners.get(target) != owner:
            return False
        del self.owners[target]
        self._safe(target)
        return True

    def make_safe(self, scope: str) -> None:
        self.log.append(("site", {"safe": 1.0}))
        self.owners.clear()
        for target in self._targets():
            self._safe(target)

    def _safe(self, target: str) -> None:
        self.confirmed.discard(target)
        if target not in self.silent:
            self.confirmed.add(target)
        if target == "grid":
            self.output = False
        elif target.endswith(".contactor"):
            self._move(target, closed=False)

    def _move(self, target: str, *, closed: bool) -> None:
        identifier = target.split(".")[1]
        if target not in self.silent and identifier not in self.stuck:
            self.closed[identifier] = closed

    def trip(self, scope: str, reason: str) -> None:
        """What the guard has the gate do."""
        self.trips[scope] = reason
        for target in self._targets():
            if scope == "site" or target.startswith(f"{scope}."):
                self.owners.pop(target, None)
                self._safe(target)

    def _on_the_bus(self) -> float:
        held = [self.pack_V[s.id] for s in self.site.strings if not s.converter and self.closed.get(s.id)]
        return self.bus_V if self.output else max(held, default=self.left_over_V)

    # Journal and points

    def record(self, kind: str, text: str, **_: object) -> int:
        self.records.append(text)
        return len(self.records)

    def put(self, name: str, value: float | str | None) -> None:
        self.shown[name] = value

    # Time

    def report(self) -> None:
        """Every device that is not silent reports."""
        values: dict[str, float] = {
            "grid.voltage": self._on_the_bus(), "grid.current": 0.0, "grid.output": float(self.output),
            "grid.fault_flags": float(self.grid_flags),
        } if "grid" not in self.silent else {}  # fmt: skip
        for each in self.site.strings:
            if f"{each.prefix}.battery" not in self.silent:
                names = ("cell_voltage_max", "cell_voltage_min", "current", "temperature_max")
                values |= {f"{each.prefix}.battery.{name}": 3.3 for name in names}
                values |= {f"{each.prefix}.battery.fault_flags": 0.0}
                values |= {f"{each.prefix}.battery.cell_voltage_mean": self.pack_V[each.id] / CELLS}
            if each.contactor and f"{each.prefix}.contactor" not in self.silent:
                values |= {f"{each.prefix}.contactor.feedback": float(self.closed[each.id])}
            converter = f"{each.prefix}.converter"
            if each.converter and converter not in self.silent:
                latched = self.latched[each.id]
                values |= {
                    f"{converter}.battery_current": self.current_A, f"{converter}.battery_voltage": 13.2,
                    f"{converter}.faults_live": float(self.live), f"{converter}.faults_latched": float(latched),
                    f"{converter}.state": 7.0 if latched else 1.0,
                }  # fmt: skip
        self.snapshot.update(values)
        self.snapshot.set("grid.safe_confirmed", float("grid" in self.confirmed))

    async def run(self, seconds: float, until: str = "") -> None:
        """Let cycles of 0.1 s pass, or until the site is in a state."""
        for _ in range(round(seconds / 0.1)):
            self.report()
            await self.sequence.cycle()
            for _ in range(3):
                await asyncio.sleep(0)
            self.snapshot.set("grid.safe_confirmed", float("grid" in self.confirmed))
            name = self.sequence.state.name.lower()
            if not self.history or self.history[-1] != name:
                self.history.append(name)
            if name == until:
                return
            self.clock.advance(0.1)
        if until:
            raise AssertionError(f"{until} not reached: {self.sequence.state.name} {self.sequence.reason}")

    def written(self, target: str) -> dict[str, float]:
        """Everything written to a target, the last value of each name."""
        return {name: value for of, values in self.log if of == target for name, value in values.items()}
