"""The field as a whole: one task per line, and the few things the rest of the control process may ask of it.

It reads by itself and publishes to the sinks it was given. It writes only when asked, and never on a timer: heartbeats
advance when `refresh` is called, so that a control loop that hangs lets the devices' own time-outs act.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.device_roles import DeviceRole
from gateway.field.device_points import comm_points
from gateway.field.drivers.base import BadRequest, ProbeRow
from gateway.field.health import Health
from gateway.field.link import Link
from gateway.field.registry import driver_class, transport_opener
from gateway.field.safe_frames import safe_entry
from gateway.field.scanner import Line
from gateway.field.sink import Sink
from gateway.field.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.field.settings import DeviceSettings, FieldConfig, TransportSettings
    from gateway.field.sink import Claim
    from gateway.field.transports.base import Transport

__all__ = ["FieldBus", "ProbeRow", "Sink"]


PHASES = 4
"""Devices are spread over this many moments of a period. Those of one moment share its wake-ups, which cost more than the
reading itself when there are hundreds of devices; more moments would not shorten any device's wait."""


class FieldBus:
    """All lines and devices of a site.

    `claim` gives the sink for full point names (`device.<id>.<point>`); `on_block(device id, scan class)` is called after
    each published reading; `resolve_port` turns a port of the site file into one that can be opened, each time a line is
    opened. ValueError when a transport kind or a wire language is not installed, or an option makes no sense.
    """

    def __init__(
        self,
        config: FieldConfig,
        claim: Claim,
        clock: Clock,
        *,
        on_block: Callable[[str, str], None],
        resolve_port: Callable[[str], Awaitable[str]],
    ) -> None:
        self._lines: dict[str, Line] = {}
        self._links: dict[str, Link] = {}
        self._settings = {settings.id: settings for settings in config.transports}
        ticker = Ticker(clock)
        for settings in config.transports:
            maker = _maker(settings, [device for device in config.devices if device.transport == settings.id])
            self._lines[settings.id] = Line(settings, maker, resolve_port, clock, on_block, ticker)
        for number, device in enumerate(config.devices):
            self._add(device, claim, clock, number % PHASES / PHASES)

    def _add(self, device: DeviceSettings, claim: Claim, clock: Clock, phase: float) -> None:
        line = self._lines[device.transport]
        names = [point.name for point in comm_points(device.id)]
        link = Link(device, Health(device.id, claim(names, f"field.{device.id}"), clock))
        driver = driver_class(device.map.language)(device, line.exchange_for(link))
        link.attach(driver, claim, phase)
        line.add(link)
        self._links[device.id] = link

    async def run(self) -> None:
        """Serve all lines until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for line in self._lines.values():
                tasks.create_task(line.run(), name=f"line {line.id}")

    async def write(self, device: str, values: Mapping[str, float]) -> None:
        """Write setpoints of a device, in device names, signs and units, before anything else on its line.

        Points of an atomic block go out in one message with the others of the block as last written, and with the next
        heartbeat. Raises FieldError: BadRequest (nothing was sent), DeviceRefused, TransportClosed when the device is not
        connected, TransportTimeout and FrameError when it is not known whether the device took it.
        """
        link = self._link(device)
        await self._line(link).call(link, lambda driver: driver.write(values))

    async def read_back(self, device: str, names: Collection[str]) -> Mapping[str, float]:
        """What the device has for these setpoints now, read from the device; NaN when bad.

        A setpoint that cannot be read back, such as a self-clearing command, is left out. Raises FieldError.
        """
        link = self._link(device)
        answer = await self._line(link).call(link, lambda driver: driver.read_back(names))
        return cast("Mapping[str, float]", answer)

    async def refresh(self, device: str) -> None:
        """Send a device's heartbeat block again with the next heartbeat; nothing for one that has none. Raises FieldError."""
        link = self._link(device)
        if any(block.heartbeat is not None for block in link.settings.map.write_blocks):
            await self._line(link).call(link, lambda driver: driver.refresh())

    async def probe(self, device: str) -> Sequence[ProbeRow]:
        """Read everything of a device once, raw beside scaled; a device that is lost is tried at once. Raises FieldError."""
        link = self._link(device)
        rows = await self._line(link).call(link, lambda driver: driver.probe(), connect=True)
        return cast("Sequence[ProbeRow]", rows)

    def online(self, device: str) -> bool:
        """True while the right device answers."""
        return self._link(device).online

    def safe_frames(self) -> Mapping[str, object]:
        """Per device the exact bytes to send to make it safe, for a program that has nothing but these.

        `{device: {"kind": "serial" | "tcp", "port", "baud", "parity", "stop_bits", "frames": [{"send", "expect", "reading"}],
        "timeout_s", "stage"}}`, bytes in hexadecimal. Devices with nothing to send, and transports that cannot be replayed
        over serial or TCP, are left out; ports are as last resolved. Contactors come in a later stage, so that converters
        have taken their currents away before they open.
        """
        entries: dict[str, object] = {}
        for link in self._links.values():
            line = self._line(link)
            frames = link.driver.safe_frames() if link.driver is not None else ()
            settings = self._settings[line.id]
            entry = safe_entry(settings, line.port, link.settings.unit, frames, link.timeout_s)
            if entry is not None:
                late = link.settings.map.role is DeviceRole.DIGITAL_IO
                entries[link.id] = {**entry, "stage": 1} if late else entry
        return entries

    def _link(self, device: str) -> Link:
        link = self._links.get(device)
        if link is None:
            msg = f"there is no device '{device}'"
            raise BadRequest(msg)
        return link

    def _line(self, link: Link) -> Line:
        return self._lines[link.settings.transport]


def _maker(settings: TransportSettings, devices: Sequence[DeviceSettings]) -> Callable[[str], Transport]:
    """Makes the line's transport for a port; units that are read-only are known to the transport itself."""
    opener = transport_opener(settings.kind)
    everything = settings.options.get("read_only") is True
    read_only = frozenset(device.unit for device in devices if everything or device.read_only)
    opener(settings, settings.port, read_only)  # a wrong option is found now, not when the line is first opened
    return lambda port: opener(settings, port, read_only)
