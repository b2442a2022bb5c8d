"""The door of the simulator for tests, demonstrations and benchmarks: newline-delimited JSON on a Unix socket.

Requests are objects with `do`: `truth` (what the plant really does), `truth_reset`, `fault` (device, kind, cell, value),
`clear` (device, or null for all), `list` (kinds of fault, faults set, devices), `set` (string, soc, temperature). Every answer
has `ok`; when it is false, `error` says why.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, cast

from gateway.simulator.faults import KINDS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from gateway.simulator.plant import StringState
    from gateway.simulator.simulated_site import SimulatedSite

Document = dict[str, object]
_LINE_MAX = 1 << 20
_CELL_OFFSET_V = 0.05


class SimClient:
    """Talks to a running simulator: `async with SimClient(path) as sim: await sim.request({"do": "truth"})`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> SimClient:
        """Connect. OSError when nobody listens."""
        self._streams = await asyncio.open_unix_connection(self._path, limit=_LINE_MAX)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()
            self._streams = None

    async def request(self, request: Mapping[str, object]) -> Document:
        """One exchange. ConnectionError when the simulator is gone; a refusal is an answer with `ok` false."""
        if self._streams is None:
            raise ConnectionError("not connected")
        reader, writer = self._streams
        async with self._turn:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        if not line:
            raise ConnectionError("the simulator closed the connection")
        return cast("Document", json.loads(line))

    async def truth(self) -> Document:
        """What the plant really does."""
        return await self.request({"do": "truth"})

    async def fault(self, device: str, kind: str, *, cell: int | None = None, value: float | None = None) -> None:
        """Set a fault. ValueError with the simulator's reason when it refuses."""
        given = {"cell": cell, "value": value}
        request: Document = {"do": "fault", "device": device, "kind": kind}
        await self._must(request | {key: item for key, item in given.items() if item is not None})

    async def clear(self, device: str | None = None) -> None:
        """Clear the faults of a device, or of all."""
        await self._must({"do": "clear", "device": device})

    async def _must(self, request: Document) -> None:
        answer = await self.request(request)
        if not answer["ok"]:
            raise ValueError(str(answer["error"]))


class ControlDoor:
    """Answers requests about a testbed."""

    def __init__(self, testbed: SimulatedSite, time_factor: Callable[[], float]) -> None:
        self._testbed = testbed
        self._time_factor = time_factor
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection was made: serve it until it closes."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # ValueError: a line beyond the limit
            pass
        finally:
            writer.close()

    def answer(self, line: bytes) -> Document:
        """The answer to one line."""
        try:
            request: object = json.loads(line)
            if isinstance(request, dict):
                return {"ok": True} | self._do(cast("Document", request))
        except KeyError as missing:
            return {"ok": False, "error": f"there is no {missing}"}
        except (ValueError, TypeError) as error:
            return {"ok": False, "error": str(error)}
        return {"ok": False, "error": "a request is a JSON object"}

    def _do(self, request: Document) -> Document:
        what = str(request.get("do"))
        handler = {
            "truth": self._truth, "truth_reset": self._truth_reset, "fault": self._fault, "clear": self._clear,
            "list": self._list, "set": self._set,
        }.get(what)  # fmt: skip
        if handler is None:
            raise ValueError(f"unknown request {what!r}")
        return handler(request)

    def _truth(self, _: Document) -> Document:
        plant = self._testbed.plant
        supply = plant.bus.supply
        return {
            "site_s": plant.site_s,
            "time_factor": self._time_factor(),
            "bus": {"voltage_V": plant.bus.voltage_V, "supply_A": supply.current_A, "supply": supply.regulation.value},
            "strings": {string.spec.id: self._string(string) for string in plant.strings},
        }

    def _string(self, string: StringState) -> Document:
        plant, where = self._testbed.plant, string.cells
        found: Document = {
            "cell_V": plant.voltage[where].tolist(),
            "cell_max_V": plant.cell_max_V[where].tolist(),
            "cell_min_V": plant.cell_min_V[where].tolist(),
            "soc": plant.cells.soc[where].tolist(),
            "temperature_degC": plant.cells.temperature[where].tolist(),
            "current_A": string.current_A,
            "connected": string.connected,
            "phases": [
                {
                    "mode": phase.mode,
                    "direction": phase.direction,
                    "from_s": phase.from_s,
                    "cell_max_V": phase.cell_max_V,
                    "cell_min_V": phase.cell_min_V,
                    "current_min_A": phase.current_min_A,
                    "current_max_A": phase.current_max_A,
                }
                for phase in string.phases
            ],
        }
        converter = string.spec.converter
        if converter is not None:
            found["converter"] = {
                "state": converter.state.name,
                "mode": converter.setpoints.mode,
                "latched": int(converter.latched),
                "limiter": int(converter.limiter),
                "battery_A": converter.current_A,
                "bus_W": converter.measured.bus_W,
                "psi_rad": converter.psi_rad,
            }
        return found

    def _truth_reset(self, _: Document) -> Document:
        self._testbed.plant.reset_extremes()
        return {}

    def _fault(self, request: Document) -> Document:
        kind = str(request["kind"])
        cell, value = request.get("cell"), request.get("value")
        default = KINDS[kind].default if kind in KINDS else 0.0
        if kind == "offset" and cell is not None:
            default = _CELL_OFFSET_V
        fault = Fault(
            device=str(request["device"]),
            kind=kind,
            value=default if value is None else float(cast("float", value)),
            cell=None if cell is None else int(cast("int", cell)),
        )
        self._testbed.set_fault(fault)
        return {"active": self._active()}

    def _clear(self, request: Document) -> Document:
        device = request.get("device")
        self._testbed.clear_faults(None if device is None else str(device))
        return {"active": self._active()}

    def _active(self) -> list[Document]:
        rows = self._testbed.active
        return [{"device": fault.device, "kind": fault.kind, "cell": fault.cell, "value": fault.value} for fault in rows]

    def _list(self, _: Document) -> Document:
        devices = {device.spec.id: device.role for device in self._testbed.devices.values()}
        return {"kinds": {name: kind.text for name, kind in KINDS.items()}, "active": self._active(), "devices": devices}

    def _set(self, request: Document) -> Document:
        plant = self._testbed.plant
        string = plant.string(str(request["string"]))
        soc, temperature = request.get("soc"), request.get("temperature")
        if soc is not None:
            cells = plant.cells.soc[string.cells]
            plant.cells.soc[string.cells] = cells - cells.mean() + float(cast("float", soc))
        if temperature is not None:
            plant.cells.temperature[string.cells] = float(cast("float", temperature))
        return {}
