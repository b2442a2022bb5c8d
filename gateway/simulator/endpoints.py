"""What answers on one wire: bytes in, answers out, with the faults that act on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.simulator import modbus_wire as wire

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from gateway.simulator.devices.orion import Orion
    from gateway.simulator.devices.supply import ScpiSupply
    from gateway.simulator.faults import DeviceFaults

    Units = Mapping[int, tuple[wire.RegisterDevice, DeviceFaults]]


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to send, `late_s` real seconds from now."""

    data: bytes
    late_s: float = 0.0


class Endpoint(Protocol):
    """The devices of one wire."""

    def feed(self, connection: int, data: bytes, now_s: float) -> list[Reply]:
        """Answers to what arrived on a connection at `now_s` (real seconds)."""
        ...

    def closed(self, connection: int) -> None:
        """The connection is gone."""
        ...


def spoil(data: bytes, faults: DeviceFaults, random: random.Random) -> list[Reply]:
    """What the wire makes of an answer: nothing, damaged, late, or as it is."""
    if faults.silence:
        return []
    if faults.corrupt and random.random() < faults.corrupt:
        damaged = bytearray(data)
        for _ in range(max(1, len(damaged) // 8)):
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        spoilt = bytes(damaged)
        data = spoilt if spoilt != data else data[:-1]
    return [Reply(data, faults.late_s)]


def _answer_unit(device: wire.RegisterDevice, faults: DeviceFaults, request: wire.Request) -> tuple[int, bytes] | None:
    """Unit and PDU of the answer; None when the device is silent, before it acts on the request."""
    if faults.silence:
        return None
    return request.unit + faults.wrong_unit, wire.answer(device, request.pdu)


@dataclass(slots=True)
class ModbusLine:
    """Slaves on a Modbus RTU line. A request to a unit that is not there goes unanswered."""

    units: Units
    random: random.Random
    _receiver: wire.RtuReceiver = field(default_factory=wire.RtuReceiver)

    def feed(self, connection: int, data: bytes, now_s: float) -> list[Reply]:
        del connection
        replies: list[Reply] = []
        for request in self._receiver.feed(data, now_s):
            found = self.units.get(request.unit)
            if request.unit == 0:
                for device, faults in self.units.values():
                    _answer_unit(device, faults, request)
            elif found is not None and (answered := _answer_unit(*found, request)) is not None:
                replies += spoil(wire.rtu_frame(*answered), found[1], self.random)
        return replies

    def closed(self, connection: int) -> None:
        del connection


@dataclass(slots=True)
class ModbusPort:
    """Units behind a Modbus TCP port. A unit that is not there is answered by the gateway with exception 0B."""

    units: Units
    random: random.Random
    _receivers: dict[int, wire.TcpReceiver] = field(default_factory=dict[int, wire.TcpReceiver])

    def feed(self, connection: int, data: bytes, now_s: float) -> list[Reply]:
        del now_s
        receiver = self._receivers.setdefault(connection, wire.TcpReceiver())
        replies: list[Reply] = []
        for request in receiver.feed(data):
            found = self.units.get(request.unit)
            if found is None:
                pdu = bytes((request.pdu[0] | 0x80, wire.NO_TARGET))
                replies.append(Reply(wire.tcp_frame(request.transaction, request.unit, pdu)))
            elif (answered := _answer_unit(*found, request)) is not None:
                replies += spoil(wire.tcp_frame(request.transaction, *answered), found[1], self.random)
        return replies

    def closed(self, connection: int) -> None:
        self._receivers.pop(connection, None)


@dataclass(slots=True)
class LineOfText:
    """An Orion BMS on its serial line."""

    device: Orion
    faults: DeviceFaults
    random: random.Random

    def feed(self, connection: int, data: bytes, now_s: float) -> list[Reply]:
        del connection, now_s
        return [reply for answer in self.device.feed(data) for reply in spoil(answer, self.faults, self.random)]

    def closed(self, connection: int) -> None:
        del connection


@dataclass(slots=True)
class ScpiPort:
    """A SCPI instrument on a TCP socket. A silent instrument does not see the commands either."""

    device: ScpiSupply
    faults: DeviceFaults
    random: random.Random

    def feed(self, connection: int, data: bytes, now_s: float) -> list[Reply]:
        del now_s
        if self.faults.silence:
            return []
        return [reply for answer in self.device.feed(connection, data) for reply in spoil(answer, self.faults, self.random)]

    def closed(self, connection: int) -> None:
        self.device.closed(connection)
