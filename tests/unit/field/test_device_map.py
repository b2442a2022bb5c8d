"""A device map with mistakes is refused as a whole: every mistake, with its line and key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway.data import maps_dir
from gateway.errors import ConfigError
from gateway.field.device_map import load_map, schema
from gateway.field.device_points import device_points
from gateway.field.map_points import UNITS
from gateway.field.settings import DeviceSettings
from gateway.points import Kind

HEAD = """[device]
vendor = "V"
model = "M"
role = "meter"
language = "modbus"
source = "manual"
verified = false
identity = { register = "input", address = 0, equals = 1 }
[defaults]
register = "input"
type = "int16"
"""
POWER = """[[point]]
name = "power"
address = 10
unit = "W"
"""
WRITE = """[[point]]
name = "limit"
register = "holding"
address = 20
unit = "A"
access = "write"
range = [0, 10]
safe = 0
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "map.toml"
    path.write_text(text, encoding="utf-8")
    try:
        load_map(path, "map.toml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_small_map_is_fine(tmp_path: Path) -> None:
    assert problems(tmp_path, HEAD + POWER + WRITE) == []


def test_everything_is_reported_at_once(tmp_path: Path) -> None:
    text = (HEAD + POWER + WRITE).replace("source =", "sorce =").replace('unit = "W"', 'unit = "kW"').replace("safe = 0\n", "")
    assert problems(tmp_path, text) == [
        "map.toml:1: device.source: 'source' is missing",
        "map.toml:6: device.sorce: unknown key 'sorce'; did you mean 'source'?",
        f'map.toml:15: point[0].unit: expected one of {", ".join(sorted(UNITS - {""}))}, got "kW"',
        "map.toml:16: point[1].safe: 'safe' is missing: a write point needs the value that a trip writes, or \"unchanged\"",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("verified = false\n", "", "map.toml:1: device.verified: 'verified' is missing: false, or where and how"),
        ("verified = false", "verified = true", "7: device.verified: expected false, or where and how"),
        ('identity = { register = "input", address = 0, equals = 1 }\n', "", "1: device.identity: 'identity' is missing"),
        ("equals = 1", "matches = 1", "8: device.identity.matches: unknown key 'matches'"),
        ('role = "meter"', 'role = "metre"', "4: device.role: expected one of battery, dcdc"),
        ('language = "modbus"', "language = 3", "5: device.language: expected a text, got 3"),
        ('name = "power"', 'name = "pwr"', "4: device.role: a meter must have the point 'power'"),
        ('name = "power"', 'name = "Power"', "13: point[0].name: expected lower-case words"),
        ('unit = "W"', 'unit = "V"', "15: point[0].unit: 'power' of a meter has 'W', not 'V'"),
        ('unit = "W"', 'unit = "W"\nscal = 2', "16: point[0].scal: unknown key 'scal'; did you mean 'scale'?"),
        ('unit = "W"', 'unit = "W"\nscale = 0', "16: point[0].scale: scale 0 would make every value 0"),
        ('unit = "W"', 'unit = "W"\ntype = "int17"', "16: point[0].type: expected one of uint16"),
        ('unit = "W"', 'unit = "W"\norder = "ACBD"', "16: point[0].order: expected one of ABCD, DCBA, BADC, CDAB"),
        ('unit = "W"', 'unit = "W"\nrange = [5, 5]', "16: point[0].range: expected [low, high] with low below high"),
        ('unit = "W"', 'unit = "W"\nscan = "often"', "16: point[0].scan: expected one of fast, slow, once"),
        ('unit = "W"', 'unit = "W"\nnot_available = 1.5', "16: point[0].not_available: 1.5 cannot occur in int16"),
        ('unit = "W"', 'unit = "W"\naccess = "write"\nrange = [0, 1]\nsafe = 0', "'power' of a meter has access \"read\""),
        ('unit = "W"', 'unit = "W"\nsafe = 0', '16: point[0].safe: only a point with access = "write" has a safe value'),
        ("address = 10", "", "12: point[0].address: 'address' is missing"),
        ("address = 10", "address = 65536", "14: point[0].address: 65536 is outside 0 to 65535"),
        ("address = 10", 'address = 65535\ntype = "int32"', "point[0].address: 'power' reaches beyond address 65535"),
        ("range = [0, 10]\n", "", "16: point[1].range: 'range' is missing"),
        ("safe = 0", "safe = 11", "point[1].safe: 11 is outside the range 0 to 10"),
        ("range = [0, 10]", "range = [0, 40000]", "point[1].range: 0 to 40000 does not fit int16 with scale 1"),
        ('register = "holding"', 'register = "input"', "point[1].register: input registers cannot be written"),
        ("safe = 0", 'safe = 0\nreadback = "x"', "point[1].readback: there is no point 'x'"),
        ("address = 20", "address = 20\ncount = 2", "point[1].name: a name with <n> needs 'count'"),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    found = problems(tmp_path, (HEAD + POWER + WRITE).replace(old, new, 1))
    assert any(message in text for text in found), found


def test_overlap_names_both_points(tmp_path: Path) -> None:
    text = HEAD + POWER + '[[point]]\nname = "energy"\naddress = 9\ntype = "uint32"\n'
    assert problems(tmp_path, text) == ["map.toml:18: point[1].address: 'energy' overlaps 'power' (line 13) at input register 10"]


def test_bits_of_one_word_do_not_overlap_but_the_same_bit_does(tmp_path: Path) -> None:
    bit = '[[point]]\nname = "b{0}"\naddress = 5\ntype = "uint16"\nbit = {1}\n'
    assert problems(tmp_path, HEAD + POWER + bit.format(1, 0) + bit.format(2, 1)) == []
    assert "overlaps 'b1'" in problems(tmp_path, HEAD + POWER + bit.format(1, 0) + bit.format(2, 0))[0]


def test_duplicate_names(tmp_path: Path) -> None:
    text = HEAD + POWER + '[[point]]\nname = "power"\naddress = 30\nunit = "W"\n'
    assert problems(tmp_path, text) == ["map.toml:17: point[1].name: 'power' is already the name of the point in line 13"]


BLOCK = """[[write_block]]
name = "b"
points = ["limit", "other"]
heartbeat = 21
"""
OTHER = WRITE.replace('"limit"', '"other"').replace("address = 20", "address = 22")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        ("heartbeat = 21\n", "", "registers 21 lie between the points but belong to none"),
        ("heartbeat = 21", "heartbeat = 20", "register 20 is already a point of the block"),
        ('"other"]', '"power"]', "'power' is no write point in a holding register"),
        ('["limit", "other"]', '["limit", "limit"]', "'limit' is already in the block 'b'"),
    ],
)
def test_write_blocks_are_whole(tmp_path: Path, old: str, new: str, message: str) -> None:
    found = problems(tmp_path, HEAD + POWER + WRITE + OTHER + BLOCK.replace(old, new))
    assert (found == []) if not message else any(message in text for text in found), found


def test_a_write_block_needs_a_safe_value_for_all(tmp_path: Path) -> None:
    text = HEAD + POWER + WRITE + OTHER.replace("safe = 0", 'safe = "unchanged"') + BLOCK
    assert any("'other' needs a number as its safe value" in problem for problem in problems(tmp_path, text))


def test_points_per_cell_are_expanded_up_to_what_the_device_has() -> None:
    device_map = load_map(Path(maps_dir()) / "orion_jr.toml")
    cells = [point for point in device_map.points(14) if point.name.startswith("cell.")]
    assert [cells[at].request for at in (0, 11, 12, 13)] == ["22F100", "22F100", "22F101", "22F101"]
    assert [cells[at].address for at in (0, 11, 12, 13)] == [0, 22, 0, 2]
    assert cells[13].name == "cell.14.voltage"
    assert cells[13].description == "Voltage of cell 14"
    assert device_map.max_cells == 180
    assert len([point for point in device_map.points(200) if point.name.startswith("cell.")]) == 180


def test_device_points_carry_unit_kind_symbols_and_ages() -> None:
    device_map = load_map(Path(maps_dir()) / "dab_controlcard.toml")
    device = DeviceSettings(id="dab_a", map=device_map, transport="rs485", period_s=0.1)
    points = {point.name: point for point in device_points(device)}
    current = points["device.dab_a.battery_current"]
    assert (current.unit, current.kind, current.low, current.uncertain_after_s, current.bad_after_s) == (
        "A",
        Kind.ANALOG,
        -20,
        1,
        3,
    )
    assert points["device.dab_a.state"].symbols[7] == "fault"
    assert points["device.dab_a.faults_live"].symbols[14] == "BMS enable missing"
    assert points["device.dab_a.vendor"].kind is Kind.TEXT
    assert points["device.dab_a.vendor"].bad_after_s is None
    assert points["device.dab_a.comm.state"].symbols[2] == "online"
    assert points["device.dab_a.map_version"].kind is Kind.INTEGER


def test_the_schema_knows_every_key_that_the_maps_use() -> None:
    point_keys = schema()["properties"]["point"]["items"]["properties"].keys()
    device_keys = schema()["properties"]["device"]["properties"].keys()
    for path in Path(maps_dir()).glob("*.toml"):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        assert document["device"].keys() <= device_keys
        assert {key for point in document["point"] for key in point} <= point_keys
