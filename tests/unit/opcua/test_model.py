"""The address space as data."""

from __future__ import annotations

import math

import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from gateway.points import Kind, Point
from gateway.servers.opcua import model
from gateway.servers.opcua.model import CHILDREN_MAX, Shape, build, names_from_zero, shape_of
from gateway.servers.opcua.values import to_datetime, to_variant
from tests.unit.opcua.plant import POINTS


def paths(folders, prefix=""):
    for folder in folders:
        path = f"{prefix}/{folder.browse_name}"
        yield from ((f"{path}/{variable.browse_name}", variable) for variable in folder.variables)
        yield from paths(folder.folders, path)


def test_points_lie_in_folders_that_say_what_they_are():
    folders = build(POINTS, {"string.A": "LFP string"})
    assert [folder.browse_name for folder in folders] == ["Site", "Strings", "Devices"]
    found = dict(paths(folders))
    assert found["/Strings/A/battery/cell/3/voltage"].node_id == "string.A.battery.cell.3.voltage"
    assert found["/Strings/A/trip/latched"].shape is Shape.TWO_STATE
    assert found["/Devices/bms_a/comm/state"].index == len(POINTS) - 1
    assert folders[1].folders[0].title == "LFP string"


names = st.lists(
    st.lists(st.sampled_from(["string", "site", "A", "cell", "1", "2", "10", "x"]), min_size=1, max_size=4).map(".".join),
    unique=True,
    max_size=40,
)


@given(names)
def test_every_point_appears_once_under_its_own_name_and_node_ids_are_unique(point_names):
    points = [Point(name=name) for name in point_names]
    folders = build(points, {})
    everything = [folder for top in folders for folder in top.walk()]
    variables = [variable for folder in everything for variable in folder.variables]
    assert sorted(variable.node_id for variable in variables) == sorted(point_names)
    assert all(points[variable.index].name == variable.node_id for variable in variables)
    ids = [folder.node_id for folder in everything] + [variable.node_id for variable in variables]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("count", [99, 100, 101, 1000, 12_345])
def test_no_folder_has_more_than_about_a_hundred_children(count):
    folders = build([Point(name=f"device.d.register_{number}") for number in range(count)], {})
    everything = [folder for top in folders for folder in top.walk()]
    assert max(len(folder.folders) + len(folder.variables) for folder in everything) <= max(CHILDREN_MAX, math.ceil(count / 100))
    assert sum(len(folder.variables) for folder in everything) == count


def test_cells_are_in_the_order_of_their_numbers():
    (strings,) = build([Point(name=f"string.A.cell.{n}.voltage") for n in (10, 2, 1)], {})
    assert [folder.browse_name for folder in strings.folders[0].folders[0].folders] == ["1", "2", "10"]


def test_an_enumeration_that_enum_strings_cannot_carry_is_a_number():
    assert shape_of(Point(name="x", kind=Kind.ENUM, symbols={0: "off", 7: "fault"})) is Shape.MULTI_STATE
    assert shape_of(Point(name="x", kind=Kind.ENUM, symbols={-1: "off"})) is Shape.COUNT
    assert shape_of(Point(name="x", kind=Kind.ENUM, symbols={100_000: "odd"})) is Shape.COUNT
    assert shape_of(Point(name="x", kind=Kind.ENUM)) is Shape.COUNT


def test_numbers_without_a_name_are_named_by_themselves():
    assert names_from_zero({0: "off", 3: "fault"}) == ("off", "1", "2", "fault")
    assert names_from_zero({}) == ()


def test_an_empty_root_is_the_folder_that_points_would_make():
    (site,) = build([Point(name="site.state")], {})
    empty = model.empty_root("site")
    assert (empty.node_id, empty.browse_name, empty.description) == (site.node_id, site.browse_name, site.description)


@pytest.mark.parametrize(
    ("value", "data_type", "expected"),
    [
        (3.3, ua.VariantType.Double, 3.3),
        (2.0, ua.VariantType.UInt32, 2),
        (4294967295.0, ua.VariantType.UInt32, 4294967295),
        (4294967296.0, ua.VariantType.UInt32, None),
        (-1.0, ua.VariantType.UInt32, None),
        (-3.0, ua.VariantType.Int64, -3),
        (1e300, ua.VariantType.Int64, None),
        (0.0, ua.VariantType.Boolean, False),
        (1.0, ua.VariantType.Boolean, True),
        ("text", ua.VariantType.String, "text"),
        (None, ua.VariantType.String, None),
        (1.0, ua.VariantType.String, None),
        ("text", ua.VariantType.Double, None),
    ],
)
def test_a_value_becomes_a_variant_of_its_type_or_none(value, data_type, expected):
    variant = to_variant(value, data_type)
    if expected is None:
        assert variant is None
    else:
        assert (variant.Value, variant.VariantType) == (expected, data_type)


def test_times_are_utc_and_zero_is_no_time():
    assert to_datetime(0) is None
    assert to_datetime(1_800_000_000_123_456_789).isoformat() == "2027-01-15T08:00:00.123456+00:00"
