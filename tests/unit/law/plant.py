"""A small site, a table without a table, a journal that remembers, and devices that obey, refuse, or hang."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.device_roles import DeviceRole
from gateway.errors import TransportTimeout
from gateway.points import Kind, Point
from gateway.site import Chemistry, DeviceSpec, GridSpec, Site, StringLimits, StringSpec, Topology
from tests.snapshots import FakeSnapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.errors import FieldError
    from gateway.points import Quality

LIMITS = StringLimits(
    cell_voltage_max_V=3.65,
    cell_voltage_min_V=2.50,
    charge_current_max_A=6.5,
    discharge_current_max_A=6.0,
    temperature_max_degC=55.0,
    charge_temperature_min_degC=0.0,
    battery_age_max_s=1.5,
    converter_age_max_s=1.0,
)

DAB_SAFE = {"mode_setpoint": 0.0, "current_setpoint": 0.0, "enable": 0.0, "charge_current_limit": 0.0}
DAB_WRITABLE = {
    "mode_setpoint": (0.0, 3.0),
    "current_setpoint": (-6.25, 6.25),
    "voltage_setpoint": (0.0, 20.0),
    "enable": (0.0, 1.0),
    "charge_current_limit": (0.0, 6.25),
    "discharge_current_limit": (0.0, 6.25),
    "reset": (0.0, 1.0),
}


def string(
    name: str,
    *,
    converter: bool = True,
    contactor: bool = False,
    feedback: bool = False,
    chemistry: Chemistry = Chemistry.LFP,
) -> StringSpec:
    return StringSpec(
        id=name,
        title=f"String {name}",
        chemistry=chemistry,
        cells=2,
        capacity_Ah=25.0,
        battery=f"bms_{name.lower()}",
        converter=f"dab_{name.lower()}" if converter else None,
        contactor=f"device.io.output.{ord(name) - 64}" if contactor else None,
        feedback=f"string.{name}.contactor.feedback" if feedback else None,
        limits=LIMITS,
    )


def _device(device_id: str, role: DeviceRole, target: str | None, **others: object) -> DeviceSpec:
    values = {
        "map_id": "any",
        "title": device_id.upper(),
        "current_factor": 1.0,
        "safe": {},
        "points": frozenset(),
        "writable": {},
        "period_s": 0.1,
    }
    return DeviceSpec(id=device_id, role=role, target=target, **{**values, **others})


def battery(name: str) -> DeviceSpec:
    points = frozenset({"fault_count", "temperature_min", "current", "temperature_max"})
    return _device(f"bms_{name.lower()}", DeviceRole.BATTERY, f"string.{name}.battery", points=points)


def converter(name: str, factor: float = 1.0) -> DeviceSpec:
    points = frozenset({"battery_current", "battery_voltage", "state", "faults_latched", "faults_live", *DAB_WRITABLE})
    return _device(
        f"dab_{name.lower()}",
        DeviceRole.DCDC,
        f"string.{name}.converter",
        current_factor=factor,
        safe=DAB_SAFE,
        writable=DAB_WRITABLE,
        points=points,
    )


def rps() -> DeviceSpec:
    writable = {"output_enable": (0.0, 1.0), "voltage_setpoint": (0.0, 40.0), "overvoltage_protection": (0.0, 40.0)}
    points = frozenset({"voltage", "current", "output", "fault_flags", *writable})
    return _device("rps", DeviceRole.DCAC, "grid", safe={"output_enable": 0.0}, writable=writable, points=points)


def digital_io(strings: Sequence[StringSpec]) -> DeviceSpec:
    names = [spec.contactor.removeprefix("device.io.") for spec in strings if spec.contactor is not None]
    return _device("io", DeviceRole.DIGITAL_IO, None, safe=dict.fromkeys(names, 0.0), writable=dict.fromkeys(names, (0.0, 1.0)))


def site(*strings: StringSpec, factor: float = 1.0, grid: bool = True) -> Site:
    chosen = strings or (string("A"), string("B"))
    devices = [device for spec in chosen for device in (battery(spec.id), converter(spec.id, factor)) if _used(device, spec)]
    if grid:
        devices.append(rps())
    if any(spec.contactor for spec in chosen):
        devices.append(digital_io(chosen))
    comm = {0: "offline", 2: "online", 3: "retrying"}
    raw = [Point(name=f"device.{device.id}.comm.state", kind=Kind.ENUM, symbols=comm) for device in devices]
    bits = {0: "over-voltage", 7: "positive limit", 10: "unregulated"}
    raw.append(Point(name="device.rps.fault_flags", kind=Kind.FLAGS, symbols=bits))
    return Site(
        id="test",
        title="Test",
        topology=Topology.ACTIVE,
        scan_s=0.1,
        simulated=True,
        file="test.toml",
        hash="0" * 64,
        strings=tuple(chosen),
        grid=_grid() if grid else None,
        devices=tuple(devices),
        device_points=tuple(raw),
        canonical_points=(),
        aliases=(),
        opcua=None,
        schedules=(),
    )


def _used(device: DeviceSpec, spec: StringSpec) -> bool:
    return device.role is not DeviceRole.DCDC or spec.converter is not None


def _grid() -> GridSpec:
    return GridSpec(
        converter="rps",
        bus_voltage_V=24.0,
        bus_voltage_min_V=22.0,
        bus_voltage_max_V=26.0,
        overvoltage_protection_V=28.0,
        source_current_limit_A=10.0,
        sink_current_limit_A=10.0,
        watchdog_s=5.0,
        age_max_s=3.0,
    )


def healthy(of: Site) -> dict[str, float | str | None]:
    """Every point that the law looks at, in good order."""
    values: dict[str, float | str | None] = {}
    for spec in of.strings:
        values |= {
            f"{spec.prefix}.battery.cell.1.voltage": 3.30,
            f"{spec.prefix}.battery.cell.2.voltage": 3.30,
            f"{spec.prefix}.battery.cell_voltage_max": 3.30,
            f"{spec.prefix}.battery.cell_voltage_min": 3.30,
            f"{spec.prefix}.battery.cell_voltage_mean": 3.30,
            f"{spec.prefix}.battery.pack_voltage": 6.60,
            f"{spec.prefix}.battery.current": 0.0,
            f"{spec.prefix}.battery.temperature_max": 25.0,
            f"{spec.prefix}.battery.temperature_min": 24.0,
            f"{spec.prefix}.battery.fault_count": 0.0,
        }
        if spec.converter is not None:
            values |= {
                f"{spec.prefix}.converter.battery_current": 0.0,
                f"{spec.prefix}.converter.battery_voltage": 6.60,
                f"{spec.prefix}.converter.state": 1.0,
                f"{spec.prefix}.converter.faults_latched": 0.0,
                f"{spec.prefix}.converter.faults_live": 0.0,
            }
    if of.grid is not None:
        values |= {"grid.voltage": 24.0, "grid.current": 0.0, "grid.output": 1.0, "grid.fault_flags": 0.0}
    for device in of.devices:
        values |= {f"device.{device.id}.comm.state": 2.0, f"device.{device.id}.comm.last_error": ""}
    return values


@dataclass
class FakeBlock:
    published: dict[str, float | str | None]

    def put(self, name: str, value: float | str | None, quality: Quality | None = None, time_ns: int | None = None) -> None:
        self.published[name] = value


class FakeTable:
    """What the guard needs of a table: the given snapshot, and what was published."""

    def __init__(self, snapshot: FakeSnapshot) -> None:
        self.snapshot = snapshot
        self.published: dict[str, float | str | None] = {}
        self.claimed: set[str] = set()

    def view(self) -> FakeSnapshot:
        return self.snapshot

    def claim(self, names: Sequence[str], writer: str) -> FakeBlock:
        assert not self.claimed & set(names)
        self.claimed |= set(names)
        return FakeBlock(self.published)


@dataclass
class FakeJournal:
    records: list[dict[str, object]] = field(default_factory=list)
    documents: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)

    def record(
        self,
        kind: str,
        text: str,
        *,
        severity: str = "info",
        source: str = "",
        origin: object = None,
        data: Mapping[str, object] | None = None,
    ) -> int:
        self.records.append(
            {"kind": kind, "text": text, "severity": severity, "source": source, "origin": origin, "data": dict(data or {})}
        )
        return len(self.records)

    def save(self, table: str, key: str, document: Mapping[str, object]) -> None:
        self.documents[table, key] = dict(document)

    def delete(self, table: str, key: str) -> None:
        self.documents.pop((table, key), None)

    def kinds(self, *chosen: str) -> list[str]:
        return [str(record["kind"]) for record in self.records if not chosen or record["kind"] in chosen]

    def texts(self, kind: str) -> list[str]:
        return [str(record["text"]) for record in self.records if record["kind"] == kind]


class FakeWriter:
    """Devices behind a wire. `holds` is what they hold, `log` every write that they received, in order.

    `fail` maps a device to the error that its accesses raise; `deaf` devices acknowledge and do
    nothing; the wire to a device in `slow` waits for its event before a write arrives, that of one in `slow_answer` before
    the acknowledgement does. `unreadable` names cannot be read back.
    """

    def __init__(self) -> None:
        self.holds: dict[str, dict[str, float]] = {}
        self.log: list[tuple[str, dict[str, float]]] = []
        self.fail: dict[str, FieldError] = {}
        self.attempts: Counter[str] = Counter()
        self.deaf: set[str] = set()
        self.slow: dict[str, asyncio.Event] = {}
        self.slow_answer: dict[str, asyncio.Event] = {}
        self.unreadable: set[str] = set()
        self.received: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def write(self, device: str, values: Mapping[str, float]) -> None:
        self.attempts[device] += 1
        if device in self.fail:
            raise self.fail[device]
        if device in self.slow:
            await self.slow[device].wait()
        self.log.append((device, dict(values)))
        if device not in self.deaf:
            self.holds.setdefault(device, {}).update(values)
        self.received[device].set()
        if device in self.slow_answer:
            await self.slow_answer[device].wait()
        await asyncio.sleep(0)

    async def read_back(self, device: str, names: Collection[str]) -> Mapping[str, float]:
        if device in self.fail:
            raise self.fail[device]
        held = self.holds.get(device, {})
        return {name: held[name] for name in names if name in held and name not in self.unreadable}

    def silence(self, device: str) -> None:
        self.fail[device] = TransportTimeout(f"{device} does not answer")

    def written(self, device: str) -> list[dict[str, float]]:
        return [values for name, values in self.log if name == device]


async def settle(rounds: int = 50) -> None:
    """Let every task that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def snapshot_of(of: Site, clock: Clock) -> FakeSnapshot:
    return FakeSnapshot(healthy(of), clock)
