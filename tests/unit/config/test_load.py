"""How a site file becomes points, limits and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import data
from gateway.config import LoadedSite, load, schema
from gateway.errors import ConfigError
from gateway.points import Access, Kind, Point

BASE = (data.sites_dir() / "testbed_sim.toml").read_text(encoding="utf-8")
IO_MAP = """
[device]
vendor = "Example"
model = "Relays"
role = "digital_io"
language = "modbus"
source = "User manual 1234, chapter 7"
verified = false
identity = { register = "input", address = 0, equals = 0x1234 }

[[point]]
name = "input.1"
register = "discrete"
type = "bool"
address = 0

[[point]]
name = "output.1"
register = "coil"
type = "bool"
address = 0
access = "write"
range = [0, 1]
safe = 0
"""


def loaded(tmp_path: Path, *changes: tuple[str, str], add: str = "") -> LoadedSite:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "site.toml").write_text(text + add, encoding="utf-8")
    return load(tmp_path / "site.toml")


def point(site: LoadedSite, name: str) -> Point:
    found = [p for p in (*site.site.device_points, *site.site.canonical_points) if p.name == name]
    assert len(found) == 1
    return found[0]


def test_fast_points_age_by_the_limit_of_their_place(tmp_path: Path) -> None:
    site = loaded(tmp_path, ('battery_age_max = "1.5 s"', 'battery_age_max = "2 s"'))
    cell, other = point(site, "string.A.battery.cell.1.voltage"), point(site, "string.B.battery.cell.1.voltage")
    assert (cell.uncertain_after_s, cell.bad_after_s) == (pytest.approx(0.6), 2.0)
    assert other.bad_after_s == 1.5
    converter = point(site, "string.A.converter.battery_current")
    assert (converter.uncertain_after_s, converter.bad_after_s) == (0.35, 1.0)
    assert point(site, "grid.voltage").bad_after_s == 3.0


def test_slow_points_age_by_their_own_period_and_settings_do_not_age(tmp_path: Path) -> None:
    site = loaded(tmp_path)
    temperature = point(site, "string.A.battery.temperature_max")
    assert (temperature.uncertain_after_s, temperature.bad_after_s) == (pytest.approx(6.0), pytest.approx(18.0))
    assert point(site, "device.dab_a.serial_number").bad_after_s is None
    assert point(site, "string.A.converter.current_setpoint").bad_after_s is None


def test_a_device_with_the_other_sign_is_turned_round_once(tmp_path: Path) -> None:
    site = loaded(tmp_path, ('id = "bms_a"\ntitle', 'id = "bms_a"\npositive = "charge"\ntitle')).site
    factors = {alias.target: alias.factor for alias in site.aliases}
    assert factors["string.A.battery.current"] == -1.0
    assert factors["string.A.battery.pack_voltage"] == 1.0
    assert factors["string.B.battery.current"] == 1.0
    assert factors["grid.current"] == -1.0, "the supply's own sign is positive while it charges the site"
    assert {device.id: device.current_factor for device in site.devices}["bms_a"] == -1.0


def test_ranges_are_mirrored_with_the_sign(tmp_path: Path) -> None:
    map_dir = tmp_path / "device_maps"
    map_dir.mkdir()
    text = (data.maps_dir() / "orion_jr.toml").read_text(encoding="utf-8")
    (map_dir / "orion_jr.toml").write_text(text.replace("range = [-1000.0, 1000.0]", "range = [-100.0, 300.0]"), encoding="utf-8")
    site = loaded(tmp_path, ('id = "bms_a"\ntitle', 'id = "bms_a"\npositive = "charge"\ntitle'))
    current = point(site, "string.A.battery.current")
    assert (current.low, current.high) == (-300.0, 100.0)


def test_canonical_points_carry_meaning_not_wire(tmp_path: Path) -> None:
    site = loaded(tmp_path)
    state, setpoint = point(site, "string.A.converter.state"), point(site, "string.A.converter.current_setpoint")
    assert state.kind is Kind.ENUM
    assert state.symbols[7] == "fault"
    assert state.source == "device.dab_a.state"
    assert setpoint.access is Access.WRITE
    assert (setpoint.low, setpoint.high, setpoint.unit) == (-6.25, 6.25, "A")
    assert point(site, "device.dab_a.battery_voltage").source == "dab_controlcard at input 311"


def test_what_the_law_needs_to_know_of_a_device(tmp_path: Path) -> None:
    device = loaded(tmp_path).site.device("dab_a")
    assert device is not None
    assert device.target == "string.A.converter"
    assert device.safe["mode_setpoint"] == 0.0
    assert device.safe["current_setpoint"] == 0.0
    assert device.writable["current_setpoint"] == (-6.25, 6.25)
    assert "battery_current" in device.points
    assert "reset" not in device.points, "it can only be written"


def test_a_read_only_device_offers_nothing_to_write(tmp_path: Path) -> None:
    site = loaded(tmp_path, ('id = "dab_a"\ntitle', 'id = "dab_a"\nread_only = true\ntitle'))
    device = site.site.device("dab_a")
    assert device is not None
    assert not device.writable
    assert not device.safe
    assert next(settings for settings in site.field.devices if settings.id == "dab_a").read_only


def test_limits_that_are_not_given_are_the_chemistrys_own(tmp_path: Path) -> None:
    site = loaded(
        tmp_path, ('cell_voltage_max = "3.65 V"\ncell_voltage_min = "2.50 V"\n', ""), ('charge_current_max = "6.5 A"', "")
    )
    limits = site.site.strings[0].limits
    assert (limits.cell_voltage_max_V, limits.cell_voltage_min_V) == (3.65, 2.50)


def test_a_limit_may_be_a_c_rate(tmp_path: Path) -> None:
    limits = loaded(tmp_path, ('discharge_current_max = "6.5 A"', 'discharge_current_max = "C/5"')).site.strings[0].limits
    assert limits.discharge_current_max_A == pytest.approx(5.0)


def test_a_contactor_is_a_canonical_point_of_its_string(tmp_path: Path) -> None:
    (tmp_path / "device_maps").mkdir()
    (tmp_path / "device_maps" / "relays.toml").write_text(IO_MAP, encoding="utf-8")
    io = '\n[[transport]]\nid = "io"\nkind = "modbus_tcp"\nport = "sim:io"\n\n'
    io += '[[device]]\nid = "io"\nmap = "relays"\ntransport = "io"\n'
    site = loaded(tmp_path, ('converter = "dab_a"', 'converter = "dab_a"\ncontactor = "io.output.1"'), add=io).site
    assert site.strings[0].contactor == "string.A.contactor.closed"
    assert {alias.target: alias.source for alias in site.aliases}["string.A.contactor.closed"] == "device.io.output.1"
    assert site.strings[0].feedback is None


def test_the_auxiliary_contact_of_a_contactor_is_a_canonical_point_too(tmp_path: Path) -> None:
    (tmp_path / "device_maps").mkdir()
    (tmp_path / "device_maps" / "relays.toml").write_text(IO_MAP, encoding="utf-8")
    io = '\n[[transport]]\nid = "io"\nkind = "modbus_tcp"\nport = "sim:io"\n\n'
    io += '[[device]]\nid = "io"\nmap = "relays"\ntransport = "io"\n'
    wired = 'converter = "dab_a"\ncontactor = "io.output.1"\ncontactor_feedback = "io.input.1"'
    site = loaded(tmp_path, ('converter = "dab_a"', wired), add=io)
    assert site.site.strings[0].feedback == "string.A.contactor.feedback"
    assert {alias.target: alias.source for alias in site.site.aliases}["string.A.contactor.feedback"] == "device.io.input.1"
    feedback = point(site, "string.A.contactor.feedback")
    assert feedback.access is Access.READ
    assert feedback.bad_after_s is not None, "a relay module that falls silent is noticed"


def test_a_map_beside_the_site_goes_before_ours_and_counts_in_the_hash(tmp_path: Path) -> None:
    plain = loaded(tmp_path).site.hash
    (tmp_path / "device_maps").mkdir()
    text = (data.maps_dir() / "orion_jr.toml").read_text(encoding="utf-8").replace('model = "Orion Jr"', 'model = "Orion Jr 9"')
    (tmp_path / "device_maps" / "orion_jr.toml").write_text(text, encoding="utf-8")
    site = loaded(tmp_path)
    assert site.field.devices[0].map.model == "Orion Jr 9"
    assert site.site.hash != plain


def test_a_schedule_is_resolved(tmp_path: Path) -> None:
    text = '\n[[schedule]]\nid = "weekly"\nprotocol = "hybrid_charge"\nstrings = ["A", "B"]\n'
    text += 'interval = "7 d"\nparameters = { charge_current = "4 A" }\n'
    schedule = loaded(tmp_path, add=text).site.schedules[0]
    assert (schedule.interval_s, schedule.cron, schedule.misfire_grace_s) == (7 * 86400.0, None, 900.0)
    assert schedule.parameters == {"charge_current": "4 A"}


def test_a_schedule_that_its_strings_cannot_run_is_refused_at_load(tmp_path: Path) -> None:
    text = '\n[[schedule]]\nid = "weekly"\nprotocol = "hybrid_charge"\nstrings = ["A", "B"]\n'
    text += 'interval = "7 d"\nparameters = { charge_current = "4 V" }\n'
    with pytest.raises(ConfigError, match="charge_current"):
        loaded(tmp_path, add=text)


def test_the_mistakes_of_the_file_and_of_its_maps_come_together(tmp_path: Path) -> None:
    (tmp_path / "device_maps").mkdir()
    (tmp_path / "device_maps" / "orion_jr.toml").write_text("[device]\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, ('bus_voltage_min = "22 V"', 'bus_voltage_min = "25 V"'))
    files = {Path(problem.file).name for problem in caught.value.problems}
    assert files == {"site.toml", "orion_jr.toml"}


def test_a_file_that_is_not_there_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.toml")


def test_the_schema_describes_every_table() -> None:
    found = schema()
    assert {"site", "transport", "device", "string", "grid", "opcua", "schedule"} == set(found["properties"])
    limits = found["$defs"]["LimitsTable"]["properties"]
    assert limits["cell_voltage_max"]["description"] == "highest voltage of any cell"
    assert found["$defs"]["SiteTable"]["additionalProperties"] is False
