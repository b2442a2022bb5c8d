"""A testbed without processes: plant and devices in this one, time by hand."""

from __future__ import annotations

from pathlib import Path

from gateway.simulator import site_file
from gateway.simulator.modbus_wire import crc16
from gateway.simulator.simulated_site import SimulatedSite

SITES = Path(__file__).parents[2] / "sites"


class Bench:
    """The simulated testbed; `advance` moves real time and plant time together."""

    def __init__(self, site: str = "testbed_sim", plant: Path | None = None) -> None:
        self.now_s = 1000.0
        self.testbed = SimulatedSite(site_file.load(SITES / f"{site}.toml", plant), real_s=lambda: self.now_s)
        self.plant = self.testbed.plant
        self.advance(0.5)

    def advance(self, real_s: float, factor: float = 1.0, tick_s: float = 0.02) -> None:
        left = real_s
        while left > 1e-9:
            step = min(left, tick_s)
            self.now_s += step
            self.testbed.advance(step * factor)
            left -= step

    def ask(self, wire: str, data: bytes, connection: int = 1) -> bytes:
        """Everything that comes back at once."""
        return b"".join(reply.data for reply in self.testbed.endpoints[wire].feed(connection, data, self.now_s))

    def scpi(self, line: str) -> str:
        return self.ask("rps", line.encode() + b"\n").decode().strip()

    def supply_on(self) -> None:
        for line in ("VOLT 24", "CURR:LIM 10", "CURR:LIM:NEG -10", "VOLT:PROT 28", "OUTP ON"):
            self.scpi(line)
        self.advance(0.2)

    def rtu(self, unit: int, pdu: str | bytes) -> bytes:
        """The PDU of the answer; empty when none came."""
        body = bytes((unit,)) + (bytes.fromhex(pdu) if isinstance(pdu, str) else pdu)
        answer = self.ask("rs485", body + crc16(body).to_bytes(2, "little"))
        if answer:
            assert crc16(answer[:-2]).to_bytes(2, "little") == answer[-2:]
            assert answer[0] == unit
        return answer[1:-2]

    def read(self, unit: int, address: int, count: int, function: int = 4) -> list[int]:
        answer = self.rtu(unit, bytes((function,)) + address.to_bytes(2, "big") + count.to_bytes(2, "big"))
        assert answer[:2] == bytes((function, 2 * count)), answer.hex(" ")
        return [int.from_bytes(answer[2 + 2 * i : 4 + 2 * i], "big") for i in range(count)]

    def state(self, unit: int) -> dict[int, int]:
        return dict(enumerate(self.read(unit, 300, 30), start=300))

    def write(self, unit: int, address: int, *values: int) -> bytes:
        body = b"\x10" + address.to_bytes(2, "big") + len(values).to_bytes(2, "big") + bytes((2 * len(values),))
        return self.rtu(unit, body + b"".join((value & 0xFFFF).to_bytes(2, "big") for value in values))

    def command(
        self, unit: int, *, mode: int = 2, centi_A: int = 0, centi_V: int = 0, enable: int = 1, beat: int = 1, limit: int = 500
    ) -> bytes:
        return self.write(unit, 200, mode, centi_A, centi_V, 500, 100, enable, beat, 0, limit, limit)

    def close_contactor(self, channel: int) -> None:
        """On the relay module, unit 10, by function 05."""
        request = b"\x05" + (channel - 1).to_bytes(2, "big") + b"\xff\x00"
        assert self.rtu(10, request) == request
        self.advance(0.1)

    def ready(self) -> None:
        """Supply on, bus trips set, the halted converters reset."""
        for unit in (1, 2):
            self.write(unit, 110, 2700, 2100)
            self.write(unit, 140, 10)
        self.supply_on()
        for unit in (1, 2):
            assert self.rtu(unit, "06 00 DC 52 53") == bytes.fromhex("06 00 DC 52 53")
        self.advance(0.1)


def signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
