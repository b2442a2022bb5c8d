"""The read plan covers exactly what is mapped, within the device's limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.field.blocks import by_request, by_scan, plan
from gateway.field.map_model import MapPoint, Register, ScanClass
from gateway.points import Access, Kind


@st.composite
def maps(draw: st.DrawFn) -> list[MapPoint]:
    """Points that do not overlap, in any order, as the loader lets them pass."""
    points: list[MapPoint] = []
    for register in (Register.INPUT, Register.HOLDING):
        address = 0
        for number in range(draw(st.integers(0, 25))):
            address += draw(st.integers(0, 12))
            length = draw(st.sampled_from([1, 1, 1, 2, 4]))
            points.append(
                MapPoint(
                    name=f"{register}{number}",
                    register=register,
                    address=address,
                    length=length,
                    scan=draw(st.sampled_from(list(ScanClass))),
                    barrier=draw(st.booleans()) and draw(st.booleans()),
                )
            )
            address += length
    return draw(st.permutations(points))


@given(maps(), st.integers(4, 125), st.integers(0, 20))
def test_every_point_once_within_all_limits(points: list[MapPoint], limit: int, gap: int) -> None:
    blocks = plan(points, limit, gap)
    planned = [point.name for block in blocks for point in block.points]
    assert sorted(planned) == sorted(point.name for point in points)
    for block in blocks:
        assert 1 <= block.count <= limit
        ordered = sorted(block.points, key=lambda point: point.address)
        assert block.address == ordered[0].address
        assert block.address + block.count == max(point.address + point.length for point in ordered)
        assert {point.register for point in ordered} == {block.register}
        assert {point.scan for point in ordered} == {block.scan}
        assert not any(point.barrier for point in ordered[1:])
        for before, after in pairwise(ordered):
            assert after.address - (before.address + before.length) <= gap


@given(maps(), st.integers(4, 125), st.integers(0, 20))
def test_no_two_neighbouring_reads_could_have_been_one(points: list[MapPoint], limit: int, gap: int) -> None:
    blocks = plan(points, limit, gap)
    for one, two in pairwise(blocks):
        if (one.register, one.scan) == (two.register, two.scan) and not two.points[0].barrier:
            joined = two.points[0].address + two.points[0].length - one.address
            assert two.address - (one.address + one.count) > gap or joined > limit


@pytest.mark.parametrize(("limit", "sizes"), [(16, [16, 16, 8]), (15, [15, 15, 10]), (125, [40])])
def test_a_long_row_is_cut_at_the_devices_limit(limit: int, sizes: list[int]) -> None:
    points = [MapPoint(name=f"p{at}", register=Register.INPUT, address=at) for at in range(40)]
    assert [block.count for block in plan(points, limit, 0)] == sizes


def test_a_wide_value_is_never_cut() -> None:
    points = [MapPoint(name=f"p{at}", register=Register.INPUT, address=2 * at, length=2) for at in range(3)]
    assert [(block.address, block.count) for block in plan(points, 3, 0)] == [(0, 2), (2, 2), (4, 2)]
    with pytest.raises(ValueError, match="more than one read can hold"):
        plan(points, 1, 0)


def test_bits_of_one_word_are_one_register() -> None:
    points = [MapPoint(name=f"b{bit}", register=Register.INPUT, address=5, bit=bit, barrier=True) for bit in range(16)]
    assert [(block.address, block.count, len(block.points)) for block in plan(points, 125, 0)] == [(5, 1, 16)]


def test_what_can_only_be_written_is_not_read() -> None:
    points = [
        MapPoint(name="reset", register=Register.HOLDING, access=Access.WRITE, readback=None),
        MapPoint(name="limit", register=Register.HOLDING, address=1, access=Access.WRITE, readback="limit"),
        MapPoint(name="level", register=Register.HOLDING, address=2, access=Access.WRITE, readback="limit"),
    ]
    assert [point.name for block in plan(points, 125, 5) for point in block.points] == ["limit"]


def test_fast_reads_come_first() -> None:
    points = [
        MapPoint(name="slow", register=Register.INPUT, scan=ScanClass.SLOW),
        MapPoint(name="fast", register=Register.HOLDING, address=1),
    ]
    assert [block.scan for block in plan(points, 125, 5)] == ["fast", "slow"]


def test_text_requests_are_grouped_by_request_and_by_class() -> None:
    points = [
        MapPoint(name="a", request="22F100", scan=ScanClass.SLOW),
        MapPoint(name="b", request="22F101"),
        MapPoint(name="c", request="22F100", scan=ScanClass.SLOW),
        MapPoint(name="t", request="*IDN?", kind=Kind.TEXT),
        MapPoint(name="d", request="X?"),
    ]
    assert [[point.name for point in group.points] for group in by_request(points)] == [["b"], ["t"], ["d"], ["a", "c"]]
    assert [[point.name for point in group.points] for group in by_scan(points)] == [["b", "d", "t"], ["a", "c"]]
