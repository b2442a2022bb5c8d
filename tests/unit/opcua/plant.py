"""A published site with a writer behind it, as control would make them, and a control process that only remembers."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gateway.errors import ControlUnavailable
from gateway.points import Access, Kind, Point, Quality
from gateway.published import PublishedParameter, PublishedProtocol, PublishedSite, write_site
from gateway.shared import ImageWriter, layout_hash
from gateway.site import Chemistry, OpcuaSettings, StringLimits, StringSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LIMITS = StringLimits(
    cell_voltage_max_V=3.65,
    cell_voltage_min_V=2.5,
    charge_current_max_A=12.5,
    discharge_current_max_A=25.0,
    temperature_max_degC=55.0,
    charge_temperature_min_degC=0.0,
    battery_age_max_s=2.0,
    converter_age_max_s=1.0,
)
STRING = StringSpec(
    id="A",
    title="LFP string",
    chemistry=Chemistry.LFP,
    cells=4,
    capacity_Ah=25.0,
    battery="bms_a",
    converter="dab_a",
    contactor=None,
    limits=LIMITS,
)
MODES = {0: "off", 1: "standby", 2: "current", 3: "voltage"}
POINTS = (
    *(
        Point(name=f"string.A.battery.cell.{n}.voltage", unit="V", low=0.0, high=5.0, description="Voltage of one cell")
        for n in range(1, 5)
    ),
    Point(name="string.A.battery.current", unit="A", description="String current, + = discharge", source="Orion Jr manual"),
    Point(name="string.A.battery.fault_flags", kind=Kind.FLAGS, symbols={0: "over-voltage", 3: "weak cell"}),
    Point(name="string.A.converter.mode", kind=Kind.ENUM, symbols=MODES, description="Effective mode"),
    Point(name="string.A.converter.heartbeat", kind=Kind.INTEGER, description="Counter that the device advances"),
    Point(name="string.A.converter.current_setpoint", unit="A", access=Access.WRITE, low=-6.25, high=6.25),
    Point(name="string.A.trip.latched", kind=Kind.BOOLEAN, symbols={0: "clear", 1: "tripped"}),
    Point(name="string.A.trip.reason", kind=Kind.TEXT, description="Why the string is tripped"),
    Point(name="site.state", kind=Kind.ENUM, symbols={0: "safe_outputs", 1: "ready"}),
    Point(name="site.time_factor", low=0.0, high=1000.0, description="Site seconds per real second"),
    Point(name="device.bms_a.comm.state", kind=Kind.TEXT),
)
INDEX = {point.name: index for index, point in enumerate(POINTS)}


def published(points: tuple[Point, ...] = POINTS, endpoint: str = "opc.tcp://127.0.0.1:0", **changes: object) -> PublishedSite:
    facts: dict[str, object] = {
        "id": "testbed",
        "title": "Hybrid testbed",
        "topology": "active",
        "simulated": True,
        "scan_s": 0.1,
        "file": "sites/testbed_sim.toml",
        "hash": "00",
        "layout_hash": layout_hash(points),
        "strings": (STRING,),
        "grid": None,
        "protocols": (
            PublishedProtocol(
                id="lfp_cccv",
                title="LFP CC-CV",
                chemistry=("lfp",),
                tracks=("main",),
                parameters=(
                    PublishedParameter(name="at", unit="A", default=12.5, min=0.5, max=12.5, description="Charge current"),
                ),
            ),
        ),
        "opcua": OpcuaSettings(endpoint=endpoint, anonymous=True, anonymous_role="operator", namespace="urn:bess-gateway"),
        "points": points,
    }
    return PublishedSite(**(facts | changes))


@dataclass
class Columns:
    """What the table shows the writer."""

    points: tuple[Point, ...]
    values: np.ndarray = field(init=False)
    qualities: np.ndarray = field(init=False)
    times_ns: np.ndarray = field(init=False)
    texts: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        self.values = np.full(len(self.points), np.nan)
        self.qualities = np.full(len(self.points), int(Quality.BAD_WAITING_FOR_INITIAL_DATA), np.uint8)
        self.times_ns = np.zeros(len(self.points), np.int64)
        self.texts = {}


class Writer:
    """The control process as far as readers see it; values by point name."""

    def __init__(self, run: Path, points: tuple[Point, ...] = POINTS, endpoint: str = "opc.tcp://127.0.0.1:0") -> None:
        self.columns = Columns(points)
        self._index = {point.name: index for index, point in enumerate(points)}
        self._text_version = 0
        write_site(run / "site.json", published(points, endpoint))
        self._image = ImageWriter(run / "image", layout_hash(points), points, 4096)
        self._image.commit(self.columns)

    def set(self, name: str, value: float | str | None, quality: Quality = Quality.GOOD, time_ns: int | None = None) -> None:
        """A new sample; goes out with the next commit."""
        index = self._index[name]
        if isinstance(value, str):
            self._text_version += 1
            self.columns.texts[index] = value
            value = float(self._text_version)
        self.columns.values[index] = np.nan if value is None else value
        self.columns.qualities[index] = int(quality)
        self.columns.times_ns[index] = time.time_ns() if time_ns is None else time_ns

    def commit(self) -> None:
        self._image.commit(self.columns)

    async def live(self, period_s: float = 0.05) -> None:
        """Keep the heartbeat, until cancelled."""
        while True:
            self.commit()
            await asyncio.sleep(period_s)


class FakeControl:
    """Answers every request with `answer`, or raises it, after `delay_s`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, object], str, str]] = []
        self.answer: object = {"code": "accepted", "reason": "", "record": 7}
        self.delay_s = 0.0

    async def request(self, verb: str, args: Mapping[str, object] | None = None, *, user: str = "", role: str = "") -> object:
        self.requests.append((verb, dict(args or {}), user, str(role)))
        await asyncio.sleep(self.delay_s)
        if self.answer is ControlUnavailable:
            raise ControlUnavailable("control.sock: connection refused")
        return self.answer


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
