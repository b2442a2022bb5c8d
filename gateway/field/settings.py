"""What the field is told about one site: transports, devices, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.field.device_map import DeviceMap


def _no_options() -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """One line, socket or instrument resource.

    `kind` names an entry point of the group `bess_gateway.transports`. `port` is a serial path, "host:port", a VISA
    resource or "sim:<name>". `options` are the kind's own: `baud`, `parity` ("N", "E", "O") and `stop_bits` for serial
    lines, `read_only = true` for a line on which nothing may ever be written.
    """

    id: str
    kind: str
    port: str
    options: Mapping[str, object] = field(default_factory=_no_options)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """One device on a transport.

    `unit` is its address on a shared line (Modbus: 0 to 247 on a serial line, 0 to 255 over TCP). `cells` expands the
    map's points per cell. `period_s` is the real time between two fast reads. `timeout_s` is the longest wait for one
    answer, None for the map's own or one that follows from the line. `options`: `read_only = true` for a device that may
    be watched but never written.
    """

    id: str
    map: DeviceMap
    transport: str
    unit: int = 1
    cells: int = 0
    period_s: float = 1.0
    timeout_s: float | None = None
    options: Mapping[str, object] = field(default_factory=_no_options)

    @property
    def read_only(self) -> bool:
        """True when nothing may be written, by the map or by the site."""
        return self.map.read_only or self.options.get("read_only") is True


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldConfig:
    """All that the field of one site needs."""

    transports: tuple[TransportSettings, ...]
    devices: tuple[DeviceSettings, ...]
