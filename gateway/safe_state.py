"""Drives every device safe without the gateway: replays the frames that control stored when it last had a good site.

Needs the standard library alone, so that it works when anything else is broken. Devices on one port are told one after
the other, ports side by side; a device that does not answer is told again and delays no other port.

    python -m gateway.safe_state FRAMES.json [--json]     exit code 0: all told and confirmed, 1: not all, 2: unusable file

The file maps each device to {"kind": "serial" | "tcp", "port", "baud", "parity", "stop_bits", "timeout_s", "frames":
[{"send", "expect", "reading"}], "stage"}; "send" and "expect" are bytes in hexadecimal. The answer must contain "expect", or
have a line that is the number "reading"; with neither the device does not answer, and handing the bytes over is all that can be
known. Devices of a later "stage" (0 unless given), such as contactors, are told when those of the earlier ones have been.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import select
import socket
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RETRIES = 3
"""Times that a frame is sent until it is confirmed."""

_TIMEOUT_S = 1.0
_TIMEOUT_MAX_S = 5.0
_SILENCE_S = 0.02
"""Pause before a frame on a serial line; Modbus takes 3.5 characters without a byte as the end of a broken frame (Modbus over
serial line V1.02, 2.5.1.1), which are 4 ms at 9600 baud."""

_RELATIVE, _ABSOLUTE = 0.005, 0.02
"""A number that is read back may differ by a device's resolution: 0.5 %, or 0.02 of its unit."""

_PARITY = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one device; `detail` is for people."""

    device: str
    ok: bool
    detail: str


class UnusableFile(Exception):
    """The file cannot be read, or is not a mapping of devices."""


@dataclass(frozen=True, slots=True)
class _Frame:
    send: bytes
    expect: bytes | None
    reading: float | None

    @property
    def answered(self) -> bool:
        """An answer comes, and shows whether the device has obeyed."""
        return self.expect is not None or self.reading is not None

    def confirmed_by(self, answer: bytes) -> bool:
        """True when what has come so far shows that the device has obeyed."""
        if self.expect is not None:
            return self.expect in answer
        return self.reading is None or any(_is_number(line, self.reading) for line in answer.split(b"\n")[:-1])


@dataclass(frozen=True, slots=True)
class _Device:
    name: str
    port: str
    serial: bool
    baud: int
    parity: str
    stop_bits: float
    timeout_s: float
    frames: tuple[_Frame, ...]
    stage: int


class _Line(Protocol):
    """An open port. Both raise OSError."""

    def send(self, data: bytes) -> None: ...

    def receive(self, within_s: float) -> bytes:
        """What has come within that time; empty when nothing has."""
        ...

    def close(self) -> None: ...


class _Serial:
    def __init__(self, device: _Device) -> None:
        self._timeout_s = device.timeout_s
        self._fd = os.open(device.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            self._configure(device)
        except OSError:
            self.close()
            raise

    def _configure(self, device: _Device) -> None:
        speed = cast("int | None", getattr(termios, f"B{device.baud}", None))
        if speed is None or device.parity not in _PARITY:
            raise OSError(f"cannot set {device.baud} baud, parity {device.parity}")
        stop = termios.CSTOPB if device.stop_bits > 1 else 0
        control = termios.CS8 | termios.CREAD | termios.CLOCAL | stop | _PARITY[device.parity]
        try:
            characters = cast("list[bytes]", termios.tcgetattr(self._fd)[6])
            termios.tcsetattr(self._fd, termios.TCSANOW, [0, 0, control, 0, speed, speed, characters])
        except termios.error as error:
            raise OSError(str(error)) from error

    def send(self, data: bytes) -> None:
        time.sleep(_SILENCE_S)
        with contextlib.suppress(termios.error):
            termios.tcflush(self._fd, termios.TCIFLUSH)
        deadline = time.monotonic() + self._timeout_s
        while data:
            if not select.select([], [self._fd], [], max(0.0, deadline - time.monotonic()))[1]:
                raise OSError("the port takes no data")
            data = data[os.write(self._fd, data) :]

    def receive(self, within_s: float) -> bytes:
        if not select.select([self._fd], [], [], max(0.0, within_s))[0]:
            return b""
        return os.read(self._fd, 4096)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)


class _Tcp:
    def __init__(self, device: _Device) -> None:
        host, _, port = device.port.rpartition(":")
        self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=device.timeout_s)
        self._timeout_s = device.timeout_s

    def send(self, data: bytes) -> None:
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(data)

    def receive(self, within_s: float) -> bytes:
        self._socket.settimeout(max(0.001, within_s))
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return b""
        if not data:
            raise OSError("the device has closed the connection")
        return data

    def close(self) -> None:
        # Without a half-close, unread answers would reset the connection, and the device might lose the last frame.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(self._timeout_s)
            while self._socket.recv(4096):
                pass
        self._socket.close()


def safe_state(path: Path) -> list[Result]:
    """Tell every device of the file; one result per device, in the order of the file. Raises UnusableFile."""
    try:
        document: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableFile(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise UnusableFile(f"{path}: not a mapping of devices")
    results: dict[str, Result] = {}
    stages: dict[int, dict[str, list[_Device]]] = {}
    entries = cast("dict[str, object]", document)
    for name, entry in entries.items():
        try:
            device = _device(name, entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            results[name] = Result(name, False, f"unusable entry: {error!r}")  # the others are told all the same
        else:
            stages.setdefault(device.stage, {}).setdefault(device.port, []).append(device)
    for _, ports in sorted(stages.items()):
        with ThreadPoolExecutor(max_workers=len(ports)) as pool:
            for told in pool.map(_tell_port, ports.values()):
                results.update((result.device, result) for result in told)
    return [results[name] for name in entries]


def _device(name: str, entry: object) -> _Device:
    fields = cast("Mapping[str, object]", entry)
    kind = fields["kind"]
    if kind not in {"serial", "tcp"}:
        raise ValueError(f"kind {kind!r}")
    frames = tuple(_frame(frame) for frame in cast("Sequence[Mapping[str, object]]", fields["frames"]))
    return _Device(
        name=name,
        port=str(fields["port"]),
        serial=kind == "serial",
        baud=int(cast("int", fields.get("baud", 9600))),
        parity=str(fields.get("parity", "N")),
        stop_bits=float(cast("float", fields.get("stop_bits", 1))),
        timeout_s=min(max(float(cast("float", fields.get("timeout_s", _TIMEOUT_S))), 0.01), _TIMEOUT_MAX_S),
        frames=frames,
        stage=int(cast("int", fields.get("stage", 0))),
    )


def _frame(fields: Mapping[str, object]) -> _Frame:
    expect, reading = fields.get("expect"), fields.get("reading")
    return _Frame(
        send=bytes.fromhex(str(fields["send"])),
        expect=None if expect is None else bytes.fromhex(str(expect)),
        reading=None if reading is None else float(cast("float", reading)),
    )


def _is_number(line: bytes, wanted: float) -> bool:
    try:
        found = float(line)
    except ValueError:
        return False
    return math.isclose(found, wanted, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def _tell_port(devices: Iterable[_Device]) -> list[Result]:
    return [_tell(device) for device in devices]


def _tell(device: _Device) -> Result:
    """Send every frame of a device, also those after one that failed: each makes the plant safer."""
    line: _Line | None = None
    problems: list[str] = []
    answered = 0
    for number, frame in enumerate(device.frames, start=1):
        problem = ""
        for _ in range(RETRIES):
            try:
                if line is None:
                    line = _Serial(device) if device.serial else _Tcp(device)
                problem = _exchange(line, frame, device.timeout_s)
            except (OSError, ValueError) as error:
                problem = str(error) or type(error).__name__
                if line is not None:
                    line.close()
                line = None
            if not problem:
                break
        answered += not problem and frame.answered
        if problem:
            problems.append(f"frame {number} of {len(device.frames)}: {problem}")
    if line is not None:
        line.close()
    silent = len(device.frames) - len(problems) - answered
    done = f"{answered} frames confirmed" + (f", {silent} sent that have no answer" if silent else "")
    return Result(device.name, not problems, "; ".join(problems) or done)


def _exchange(line: _Line, frame: _Frame, timeout_s: float) -> str:
    """Send a frame and wait for its answer; what is wrong, or nothing."""
    line.send(frame.send)
    if not frame.answered:
        return ""
    deadline, data = time.monotonic() + timeout_s, b""
    while not frame.confirmed_by(data):
        left_s = deadline - time.monotonic()
        if left_s <= 0.0:
            wanted = frame.expect.hex() if frame.expect is not None else f"{frame.reading:g}"
            return f"answered {data.hex()}, expected {wanted}" if data else "no answer"
        data += line.receive(left_s)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.safe_state", description="Drive every device safe with stored frames."
    )
    parser.add_argument("frames", type=Path, metavar="FRAMES.json")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        results = safe_state(cast("Path", options.frames))
    except UnusableFile as error:
        sys.stderr.write(f"{error}\n")
        return 2
    ok = all(result.ok for result in results)
    if options.json:
        sys.stdout.write(json.dumps({"ok": ok, "devices": [asdict(result) for result in results]}) + "\n")
    else:
        lines = [f"{result.device}: {'safe' if result.ok else 'NOT CONFIRMED'}: {result.detail}\n" for result in results]
        sys.stdout.write("".join(lines) or "no device to be made safe\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
