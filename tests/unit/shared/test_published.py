"""The published site: what is written is what is read, in one step, and nothing else is taken for it."""

from __future__ import annotations

import stat
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from gateway import config, data, derived
from gateway.points import Access, Kind, Point
from gateway.published import (
    PublishedAlarm,
    PublishedParameter,
    PublishedProtocol,
    SiteUnavailable,
    publish,
    read_site,
    write_site,
)
from gateway.shared import layout_hash

if TYPE_CHECKING:
    from pathlib import Path

POINTS = (
    Point(
        name="string.A.converter.mode_setpoint",
        kind=Kind.ENUM,
        access=Access.WRITE,
        symbols=MappingProxyType({0: "off", 2: "current"}),
        description="Größe",
    ),
    Point(name="a", unit="V", low=-1.5, high=3.65, uncertain_after_s=0.5, bad_after_s=1.5, deadband=0.001),
)
PROTOCOL = PublishedProtocol(
    id="lfp_cccv",
    title="LFP CC-CV",
    chemistry=("lfp",),
    tracks=("A", "B"),
    parameters=(
        PublishedParameter(name="current", unit="A", default=5.0, min=0.1, max=6.25, description="Charge current"),
        PublishedParameter(name="end", default="C/20"),
    ),
)
ALARM = PublishedAlarm(id="a", source="string.A", title="Over-voltage", priority=1, consequence="fire", action="leave")


def test_round_trip_of_every_shipped_site(tmp_path: Path) -> None:
    files = sorted(data.sites_dir().glob("*.toml"))
    assert files
    for file in files:
        site = config.load(file).site
        points = (*site.device_points, *site.canonical_points, *derived.points(site))
        written = publish(site, points, protocols=[PROTOCOL], alarms=[ALARM], versions={"numpy": "2"})
        write_site(tmp_path / "site.json", written)
        read = read_site(tmp_path / "site.json")
        assert read == written
        assert read.layout_hash == layout_hash(read.points)
        assert {device.id for device in read.devices} == {device.id for device in site.devices}


def test_points_keep_all_their_fields(tmp_path: Path) -> None:
    site = config.load(data.sites_dir() / "testbed_sim.toml").site
    write_site(tmp_path / "site.json", publish(site, POINTS))
    assert read_site(tmp_path / "site.json").points == POINTS


def test_replaced_in_one_step_and_not_for_everybody(tmp_path: Path) -> None:
    site = config.load(data.sites_dir() / "testbed_sim.toml").site
    path = tmp_path / "site.json"
    for points in (POINTS, POINTS[:1]):
        write_site(path, publish(site, points))
        assert read_site(path).points == points
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["site.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "not a published site"),
        (b"\xff\xfe", "not a published site"),
        (b'{"format": 99, "site": 1}', "has format 99, this program reads format 1"),
        (b'{"format": 1, "site": {}, "points": []}', "not a published site"),
        (b'{"format": 1, "points": []}', "not a published site"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "site.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SiteUnavailable, match=message):
        read_site(path)
