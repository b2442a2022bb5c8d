"""The sites that come with the gateway load, and mean what they are meant to mean."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from gateway import data
from gateway.config import LoadedSite, load
from gateway.device_roles import DeviceRole
from gateway.site import Chemistry, Topology

if TYPE_CHECKING:
    from pathlib import Path

SITES = sorted(path.stem for path in data.sites_dir().glob("*.toml"))


def shipped(name: str) -> LoadedSite:
    return load(data.sites_dir() / f"{name}.toml")


def test_all_examples_are_there() -> None:
    assert {"testbed", "testbed_sim", "passive_sim", "semi_active_sim", "plant_sim"} <= set(SITES)


@pytest.mark.parametrize("name", SITES)
def test_a_shipped_site_loads_and_hangs_together(name: str) -> None:
    site, field = (loaded := shipped(name)).site, loaded.field
    assert site.simulated == name.endswith("_sim")
    assert {device.id for device in site.devices} == {device.id for device in field.devices}
    names = [point.name for point in (*site.device_points, *site.canonical_points)]
    assert len(names) == len(set(names))
    assert {alias.source for alias in site.aliases} <= {point.name for point in site.device_points}
    assert {alias.target for alias in site.aliases} == {point.name for point in site.canonical_points}
    for string in site.strings:
        battery = site.device_at(f"{string.prefix}.battery")
        assert battery is not None
        assert battery.role is DeviceRole.BATTERY
        cells = [n for n in names if n.startswith(f"{string.prefix}.battery.cell.")]
        assert len(cells) == string.cells


@pytest.mark.parametrize("name", SITES)
def test_no_shipped_site_lets_strangers_in_from_outside(name: str) -> None:
    opcua = shipped(name).site.opcua
    assert opcua is not None
    assert opcua.endpoint.startswith("opc.tcp://127.0.0.1:")


def leaves(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {k: v for number, item in enumerate(value) for k, v in leaves(item, f"{path}[{number}]").items()}
    return {path: value}


def document(name: str) -> dict[str, Any]:
    return tomllib.loads((data.sites_dir() / f"{name}.toml").read_text(encoding="utf-8"))


def test_simulation_and_hardware_differ_in_ports_and_addresses_only() -> None:
    simulated, hardware = leaves(document("testbed_sim")), leaves(document("testbed"))
    assert simulated.keys() == hardware.keys()
    different = {key for key, value in simulated.items() if hardware[key] != value}
    assert different == {f".transport[{number}].port" for number in range(4)}


def test_simulation_and_hardware_resolve_to_the_same_points() -> None:
    simulated, hardware = shipped("testbed_sim").site, shipped("testbed").site
    assert simulated.device_points == hardware.device_points
    assert simulated.canonical_points == hardware.canonical_points
    assert simulated.strings == hardware.strings
    assert simulated.grid == hardware.grid
    assert (simulated.simulated, hardware.simulated) == (True, False)


def test_the_testbed_has_the_normative_limits() -> None:
    site = shipped("testbed_sim").site
    lithium, lead = site.strings
    assert (lithium.limits.cell_voltage_max_V, lithium.limits.cell_voltage_min_V) == (3.65, 2.50)
    assert (lead.limits.cell_voltage_max_V, lead.limits.cell_voltage_min_V) == (2.60, 1.70)
    assert site.grid is not None
    assert (site.grid.overvoltage_protection_V, site.grid.source_current_limit_A, site.grid.sink_current_limit_A) == (28, 10, 10)
    assert site.grid.watchdog_s == 5.0
    for name in ("dab_a", "dab_b"):
        device = site.device(name)
        assert device is not None
        expected = {
            "bus_overvoltage_trip": 27.0,
            "bus_undervoltage_trip": 21.0,
            "communication_timeout": 1.0,
            "ramp_down_time": 0.5,
        }
        assert device.settings == expected


def test_periods_follow_from_the_wires() -> None:
    periods = {device.id: device.period_s for device in shipped("testbed_sim").site.devices}
    assert periods["dab_a"] == periods["dab_b"] == 0.1
    assert periods["bms_a"] == periods["bms_b"] == 0.2


@pytest.mark.parametrize(
    ("name", "topology", "with_converter"),
    [
        ("testbed_sim", Topology.ACTIVE, {"A", "B"}),
        ("semi_active_sim", Topology.SEMI_ACTIVE, {"B"}),
        ("passive_sim", Topology.PASSIVE, set[str]()),
    ],
)
def test_every_topology_is_expressible(name: str, topology: Topology, with_converter: set[str]) -> None:
    site = shipped(name).site
    assert site.topology is topology
    assert {string.id for string in site.strings if string.converter is not None} == with_converter


def test_the_plant_has_24_strings_of_three_chemistries_over_modbus_tcp() -> None:
    site, field = (loaded := shipped("plant_sim")).site, loaded.field
    assert len(site.strings) == 24
    counts = {chemistry: sum(string.chemistry is chemistry for string in site.strings) for chemistry in Chemistry}
    assert set(counts.values()) == {8}
    kinds = {transport.id: transport.kind for transport in field.transports}
    strings = [device for device in field.devices if device.id != "rps"]
    assert len(strings) == 48
    assert {kinds[device.transport] for device in strings} == {"modbus_tcp"}


def test_the_same_file_has_the_same_hash_and_another_file_another(tmp_path: Path) -> None:
    text = (data.sites_dir() / "testbed_sim.toml").read_text(encoding="utf-8")
    (tmp_path / "same.toml").write_text(text, encoding="utf-8")
    (tmp_path / "other.toml").write_text(text + "\n# a remark\n", encoding="utf-8")
    assert load(tmp_path / "same.toml").site.hash == shipped("testbed_sim").site.hash
    assert load(tmp_path / "other.toml").site.hash != shipped("testbed_sim").site.hash
