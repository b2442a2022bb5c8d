"""The resolved site as control publishes it beside the shared image (`site.json`): all that other processes know of it.

Other processes never read the site file, which may have been edited since it was loaded. An index into `points` is an
index into the shared image of the same `layout_hash`.
"""
# No postponed annotations in this file: msgspec reads the types of the fields when it decodes.

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.errors import GatewayError
from gateway.points import Access, Kind, Point
from gateway.shared import layout_hash
from gateway.site import GridSpec, OpcuaSettings, Site, StringSpec

FORMAT = 1
"""Raised whenever a reader of the format before would misread the file."""
_MODE = 0o640


class SiteUnavailable(GatewayError):
    """There is no published site, or it is not one that this version can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedParameter:
    """A parameter of a charge protocol. `min` and `max` bound it in `unit`; None is unbounded; without default: required."""

    name: str
    unit: str = ""
    default: float | str | None = None
    min: float | None = None
    max: float | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedProtocol:
    """A charge protocol that can be started: the chemistries it is for, its tracks (one string each), its parameters."""

    id: str
    title: str
    description: str = ""
    chemistry: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()
    parameters: tuple[PublishedParameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAlarm:
    """An alarm that may occur. `source` is the point, device or string concerned; priority 1 is the most urgent of 4."""

    id: str
    source: str
    title: str
    priority: int
    consequence: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDevice:
    """A device: its role, the model it is (map), and the canonical prefix it is bound to, None when unbound."""

    id: str
    title: str
    role: str
    map_id: str
    target: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """All that is published except the points."""

    id: str
    title: str
    topology: str
    simulated: bool
    scan_s: float
    file: str
    hash: str
    layout_hash: str
    strings: tuple[StringSpec, ...]
    grid: GridSpec | None
    devices: tuple[PublishedDevice, ...] = ()
    protocols: tuple[PublishedProtocol, ...] = ()
    opcua: OpcuaSettings | None = None
    alarms: tuple[PublishedAlarm, ...] = ()
    versions: dict[str, str] = field(default_factory=dict[str, str])
    """Name of a program or library -> its version in the control process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSite(SiteFacts):
    """The site as it runs. `points` are in the order of the shared image that has the same `layout_hash`."""

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """`Point` with types that can be read at run time."""

    name: str
    kind: Kind
    unit: str
    description: str
    source: str
    low: float | None
    high: float | None
    access: Access
    symbols: dict[int, str]
    uncertain_after_s: float | None
    bad_after_s: float | None
    deadband: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What `site.json` is."""

    format: int
    site: SiteFacts
    points: tuple[_Point, ...]


@dataclass(frozen=True, slots=True)
class _Head:
    """What every version of the file has."""

    format: int


def publish(
    site: Site,
    points: Sequence[Point],
    *,
    protocols: Sequence[PublishedProtocol] = (),
    alarms: Sequence[PublishedAlarm] = (),
    versions: Mapping[str, str] | None = None,
) -> PublishedSite:
    """What others are told of `site` when `points` are the points of the table, in its order."""
    return PublishedSite(
        id=site.id,
        title=site.title,
        topology=site.topology.value,
        simulated=site.simulated,
        scan_s=site.scan_s,
        file=site.file,
        hash=site.hash,
        layout_hash=layout_hash(points),
        points=tuple(points),
        strings=site.strings,
        grid=site.grid,
        devices=tuple(
            PublishedDevice(id=device.id, title=device.title, role=device.role.value, map_id=device.map_id, target=device.target)
            for device in site.devices
        ),
        protocols=tuple(protocols),
        opcua=site.opcua,
        alarms=tuple(alarms),
        versions={"bess-gateway": __version__, **(versions or {})},
    )


def write_site(path: Path, published: PublishedSite) -> None:
    """Put the published site at `path` in one step, readable by owner and group. OSError when that fails."""
    facts = SiteFacts(**{fact.name: getattr(published, fact.name) for fact in fields(SiteFacts)})
    data = msgspec.json.encode(_File(format=FORMAT, site=facts, points=tuple(map(_with_readable_types, published.points))))
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, _MODE)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    new.rename(path)


def read_site(path: Path) -> PublishedSite:
    """The site that control published at `path`. SiteUnavailable when there is none that this version can read."""
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Head).format
        if version != FORMAT:
            msg = f"{path} has format {version}, this program reads format {FORMAT}"
            raise SiteUnavailable(msg)
        content = msgspec.json.decode(data, type=_File)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise SiteUnavailable(msg) from error
    except msgspec.DecodeError as error:
        msg = f"{path} is not a published site: {error}"
        raise SiteUnavailable(msg) from error
    return PublishedSite(
        **{fact.name: getattr(content.site, fact.name) for fact in fields(SiteFacts)},
        points=tuple(Point(**{item.name: getattr(point, item.name) for item in fields(_Point)}) for point in content.points),
    )


def _with_readable_types(point: Point) -> _Point:
    return msgspec.convert(point, _Point, from_attributes=True)
