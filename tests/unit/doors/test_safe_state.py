"""The program that makes devices safe without the gateway, against devices on a pty and on TCP."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from gateway import safe_state as program
from gateway.safe_state import Result, UnusableFile, main, safe_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OFF = bytes.fromhex("010600cd00000000")
DONE = bytes.fromhex("010600cd0000")


class SerialDevice:
    """A device on a pty that answers each request of a length."""

    def __init__(self, answer: Callable[[bytes, int], bytes]) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        self.port = os.ttyname(self._slave)
        self.heard: list[bytes] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        data = b""
        try:
            while chunk := os.read(self._master, 1024):
                data += chunk
                while len(data) >= len(OFF):
                    request, data = data[: len(OFF)], data[len(OFF) :]
                    self.heard.append(request)
                    os.write(self._master, self._answer(request, len(self.heard)))
        except OSError:
            return  # closed

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        os.close(self._slave)
        self._thread.join(2)
        os.close(self._master)


@contextmanager
def serial_device(answer: Callable[[bytes, int], bytes]) -> Iterator[SerialDevice]:
    device = SerialDevice(answer)
    try:
        yield device
    finally:
        device.close()


@contextmanager
def tcp_device(serve: Callable[[socket.socket], None], connections: int = 1) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def accept() -> None:
            for _ in range(connections):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


def serial_entry(port: str, **more: object) -> dict[str, object]:
    frames = [{"send": OFF.hex(), "expect": DONE.hex()}]
    return {
        "kind": "serial",
        "port": port,
        "baud": 115200,
        "parity": "N",
        "stop_bits": 1,
        "frames": frames,
        "timeout_s": 0.3,
    } | more


def write(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "safe_frames.json"
    path.write_text(json.dumps(document))
    return path


def test_a_serial_device_is_told_and_confirms(tmp_path: Path) -> None:
    with serial_device(lambda request, _: request) as device:
        results = safe_state(write(tmp_path, {"dab_a": serial_entry(device.port, parity="E")}))
        assert device.heard == [OFF]
        assert device.settings()[2] & (termios.CS8 | termios.CLOCAL) == termios.CS8 | termios.CLOCAL
        assert device.settings()[4] == termios.B115200
    assert results == [Result("dab_a", True, "1 frames confirmed")]


def test_devices_of_one_port_are_told_one_after_the_other(tmp_path: Path) -> None:
    frames = [{"send": bytes([unit, *OFF[1:]]).hex(), "expect": f"{unit:02x}06"} for unit in (1, 2)]
    with serial_device(lambda request, _: request) as device:
        entries = {
            name: serial_entry(device.port, frames=[frame]) for name, frame in zip(("dab_a", "dab_b"), frames, strict=True)
        }
        results = safe_state(write(tmp_path, entries))
        assert [request[0] for request in device.heard] == [1, 2]
    assert [result.ok for result in results] == [True, True]


def test_a_frame_is_sent_again_until_it_is_confirmed(tmp_path: Path) -> None:
    def answer(request: bytes, count: int) -> bytes:
        return {1: b"", 2: b"\xff\x01\x86\x04", 3: b"\x00noise" + request}[count]

    with serial_device(answer) as device:
        assert safe_state(write(tmp_path, {"dab_a": serial_entry(device.port)}))[0].ok
        assert len(device.heard) == 3


def test_a_device_that_does_not_confirm_is_named_and_the_others_are_told(tmp_path: Path) -> None:
    refusal = b"\x01\x86\x03"
    with (
        serial_device(lambda _, __: refusal) as bad,
        serial_device(lambda _, __: b"") as mute,
        serial_device(lambda r, _: r) as good,
    ):
        two = [{"send": OFF.hex(), "expect": DONE.hex()}] * 2
        entries = {
            "bad": serial_entry(bad.port, frames=two),
            "mute": serial_entry(mute.port),
            "gone": serial_entry("/dev/does-not-exist"),
            "odd": serial_entry(good.port, baud=12345),
            "good": serial_entry(good.port),
        }
        began = time.monotonic()
        results = safe_state(write(tmp_path, entries))
        assert time.monotonic() - began < 5
        assert len(bad.heard) == 6  # the second frame is sent although the first one failed
        assert good.heard == [OFF]
    assert [(result.device, result.ok) for result in results] == [
        ("bad", False), ("mute", False), ("gone", False), ("odd", False), ("good", True),
    ]  # fmt: skip
    assert results[0].detail.startswith(f"frame 1 of 2: answered {(refusal * 1).hex()}, expected {DONE.hex()}")
    assert results[1].detail == "frame 1 of 1: no answer"
    assert "No such file" in results[2].detail
    assert "12345 baud" in results[3].detail


def test_text_over_tcp_without_and_with_an_answer(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        for line in lines:
            heard.append(line)
            if line == b"OUTP?\n":
                connection.sendall(b"0\n")
        lines.close()

    frames = [{"send": b"OUTP 0\n".hex(), "expect": None}, {"send": b"OUTP?\n".hex(), "expect": b"0\n".hex()}]
    with tcp_device(serve) as port:
        entry = {"kind": "tcp", "port": port, "frames": frames, "timeout_s": 1.0}
        results = safe_state(write(tmp_path, {"rps": entry}))
    assert heard == [b"OUTP 0\n", b"OUTP?\n"]
    assert results == [Result("rps", True, "1 frames confirmed, 1 sent that have no answer")]


@pytest.mark.parametrize(
    ("answers", "ok", "detail"),
    [
        ([b"0\n"], True, "1 frames confirmed"),
        ([b"+0.00000E+00\n"], True, "1 frames confirmed"),
        ([b"1\n", b"0\n"], True, "1 frames confirmed"),  # told again, command and all
        ([b"10\n"] * 3, False, "frame 1 of 1: answered 31300a, expected 0"),
        ([b"OFF\n"] * 3, False, "frame 1 of 1: answered 4f46460a, expected 0"),
        ([b"0"] * 3, False, "frame 1 of 1: answered 30, expected 0"),  # half a line may become any number
    ],
)
def test_a_number_that_is_read_back_confirms(tmp_path: Path, answers: list[bytes], ok: bool, detail: str) -> None:
    heard: list[bytes] = []
    left = iter(answers)

    def serve(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        for line in lines:
            heard.append(line)
            if line == b"OUTP?\n":
                connection.sendall(next(left))
        lines.close()

    frames = [{"send": b"OUTP 0\nOUTP?\n".hex(), "expect": None, "reading": 0.0}]
    with tcp_device(serve) as port:
        entry = {"kind": "tcp", "port": port, "frames": frames, "timeout_s": 0.2}
        results = safe_state(write(tmp_path, {"rps": entry}))
    assert results == [Result("rps", ok, detail)]
    assert heard == [b"OUTP 0\n", b"OUTP?\n"] * len(answers)


def test_contactors_are_told_when_the_converters_have_been(tmp_path: Path) -> None:
    order: list[str] = []

    def hears(name: str, pause_s: float) -> Callable[[bytes, int], bytes]:
        def answer(request: bytes, _: int) -> bytes:
            time.sleep(pause_s)
            order.append(name)
            return request

        return answer

    with serial_device(hears("relays", 0.0)) as relays, serial_device(hears("dab_a", 0.1)) as converter:
        entries = {"relays": serial_entry(relays.port, stage=1), "dab_a": serial_entry(converter.port)}
        results = safe_state(write(tmp_path, entries))
    assert order == ["dab_a", "relays"]
    assert [result.device for result in results] == ["relays", "dab_a"]


def test_the_last_frame_arrives_though_nothing_answers(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"a greeting that nobody reads")
        while chunk := connection.recv(1024):
            heard.append(chunk)

    with tcp_device(serve) as port:
        frames = [{"send": b"OUTP 0\n".hex(), "expect": None}]
        assert safe_state(write(tmp_path, {"rps": {"kind": "tcp", "port": port, "frames": frames}}))[0].ok
    assert b"".join(heard) == b"OUTP 0\n"


def test_a_lost_connection_is_opened_again(tmp_path: Path) -> None:
    count = 0

    def serve(connection: socket.socket) -> None:
        nonlocal count
        count += 1
        request = connection.recv(1024)
        if count == 2:
            connection.sendall(request)
            connection.recv(1024)

    with tcp_device(serve, connections=2) as port:
        frames = [{"send": "000100000006010600cd0000", "expect": "000100000006010600cd0000"}]
        results = safe_state(write(tmp_path, {"conv": {"kind": "tcp", "port": port, "frames": frames, "timeout_s": 1.0}}))
    assert results[0].ok
    assert count == 2


@pytest.mark.parametrize(
    "entry",
    [None, [], {"kind": "carrier pigeon", "port": "x", "frames": []}, {"kind": "tcp", "port": "x"}, {"kind": "tcp"},
     {"kind": "tcp", "port": "127.0.0.1:1", "frames": [{"send": "zz"}]},
     {"kind": "serial", "port": "x", "frames": [], "baud": "a"}],
)  # fmt: skip
def test_an_unusable_entry_does_not_keep_the_others_from_being_told(tmp_path: Path, entry: object) -> None:
    with serial_device(lambda request, _: request) as device:
        results = safe_state(write(tmp_path, {"broken": entry, "dab_a": serial_entry(device.port)}))
    assert [result.ok for result in results] == [False, True]
    assert results[0].detail.startswith("unusable entry")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"17"])
def test_an_unusable_file_is_said_so(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "frames.json"
    path.write_bytes(content)
    with pytest.raises(UnusableFile):
        safe_state(path)
    assert main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_missing_file_is_unusable(tmp_path: Path) -> None:
    assert main([str(tmp_path / "nothing.json")]) == 2


def test_the_command_line_tells_and_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serial_device(lambda request, _: request) as device:
        path = write(tmp_path, {"dab_a": serial_entry(device.port)})
        assert main([str(path)]) == 0
        assert capsys.readouterr().out == "dab_a: safe: 1 frames confirmed\n"
        assert main([str(path), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
    assert document == {"ok": True, "devices": [{"device": "dab_a", "ok": True, "detail": "1 frames confirmed"}]}
    assert main([str(write(tmp_path, {"x": serial_entry("/dev/does-not-exist")}))]) == 1
    assert "x: NOT CONFIRMED" in capsys.readouterr().out


def test_it_runs_as_a_program_with_nothing_but_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['safe_state', {str(write(tmp_path, {}))!r}]\n"
        "try:\n    runpy.run_module('gateway.safe_state', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "foreign = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'gateway', '__main__'}\n"
        "sys.exit(','.join(sorted(m for m in foreign if not m.startswith('_'))) or None)\n"
    )
    # -I and -S: neither the environment nor site-packages are seen
    root = program.__file__.rsplit("/gateway/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "no device to be made safe\n"
