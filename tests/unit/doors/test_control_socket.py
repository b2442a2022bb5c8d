"""The control socket over a real Unix socket: requests, rights, bad peers, streams, losses."""

from __future__ import annotations

import asyncio
import os
import stat
import struct
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from gateway import control_socket, messages
from gateway.client import ControlClient
from gateway.commands import Origin, Role, Verdict
from gateway.control_socket import ControlServer
from gateway.errors import ControlUnavailable, TransportTimeout
from gateway.rights import CEILINGS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from pathlib import Path


class Plant:
    """Handlers that note what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, object], Origin]] = []
        self.gate = asyncio.Event()
        self.events = [{"id": number, "text": f"event {number}"} for number in range(1, 6)]
        self.finished = 0

    def handlers(self) -> dict[str, control_socket.Handler]:
        return {
            "status": self.note("status", {"site": "testbed", "voltage": 24.0}),
            "stop": self.note("stop", {"code": "accepted", "reason": "", "record": 7}),
            "reset": self.note("reset", Verdict),
            "runs": self.wait,
            "events": self.too_much,
            "start_run": self.needs_protocol,
            "probe": self.broken_device,
            "write": self.defect,
            "follow": self.follow,
        }

    def note(self, verb: str, result: object) -> control_socket.Handler:
        async def handler(args: Mapping[str, object], origin: Origin) -> object:
            self.asked.append((verb, args, origin))
            return result

        return handler

    async def wait(self, args: Mapping[str, object], origin: Origin) -> object:
        await self.gate.wait()
        self.finished += 1
        return "waited"

    async def too_much(self, args: Mapping[str, object], origin: Origin) -> object:
        return "x" * messages.MESSAGE_MAX

    async def needs_protocol(self, args: Mapping[str, object], origin: Origin) -> object:
        if args["protocol"] != "lfp":
            raise ValueError(f"no protocol {args['protocol']!r}")
        return {"code": "accepted"}

    async def broken_device(self, args: Mapping[str, object], origin: Origin) -> object:
        raise TransportTimeout("bms_a did not answer")

    async def defect(self, args: Mapping[str, object], origin: Origin) -> object:
        raise ZeroDivisionError

    async def follow(self, args: Mapping[str, object], origin: Origin) -> object:
        return self.stream(args["after"])

    async def stream(self, after: int) -> AsyncGenerator[object]:
        for event in self.events:
            if event["id"] > after:
                yield event


@asynccontextmanager
async def served(path: Path, plant: Plant, **options) -> AsyncIterator[ControlClient]:
    async with ControlServer(path, plant.handlers(), **options), ControlClient(path, "cli") as client:
        yield client


async def raw(path: Path, *chunks: bytes) -> bytes:
    """Send bytes as they are; everything that comes back until the server closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        for chunk in chunks:
            writer.write(chunk)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_request_reaches_its_handler_with_its_origin(tmp_path: Path) -> None:
    plant = Plant()
    async with served(tmp_path / "s", plant) as client:
        assert await client.request("status", user="ann", role=Role.ENGINEER) == {"site": "testbed", "voltage": 24.0}
        assert await client.request("stop", {"why": "smoke"}) == {"code": "accepted", "reason": "", "record": 7}
    (_, _, origin), (verb, args, observer) = plant.asked
    assert (origin.process, origin.user, origin.role) == ("cli", "ann", Role.ENGINEER)
    assert origin.peer == f"pid {os.getpid()}"
    assert (verb, args, observer.role) == ("stop", {"why": "smoke"}, Role.OBSERVER)


async def test_the_socket_is_for_owner_and_group_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()  # left behind by a gateway that was killed
    async with served(path, Plant()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


@pytest.mark.parametrize(
    ("verb", "args", "role", "code", "reason"),
    [
        ("dance", {}, "admin", "unknown", "no verb 'dance'"),
        ("alarms", {}, "admin", "unknown", "no verb 'alarms'"),  # known, but nobody serves it here
        ("reset", {}, "observer", "forbidden", "'reset' needs the role operator; the role observer does not suffice"),
        ("status", {}, "king", "forbidden", "no role 'king'"),
        ("start_run", {}, "operator", "invalid", "no argument 'protocol'"),
        ("start_run", {"protocol": "x"}, "operator", "invalid", "no protocol 'x'"),
        ("probe", {}, "engineer", "unavailable", "bms_a did not answer"),
        ("write", {}, "operator", "unavailable", "'write' failed inside the gateway; see its log"),
    ],
)
async def test_refusals_say_why(tmp_path: Path, verb: str, args: dict[str, object], role: str, code: str, reason: str) -> None:
    async with served(tmp_path / "s", Plant()) as client:
        assert await client.request(verb, args, role=role) == {"code": code, "reason": reason}
        assert await client.request("status") == {"site": "testbed", "voltage": 24.0}  # the connection lives on


async def test_a_process_is_held_to_its_ceiling(tmp_path: Path) -> None:
    plant = Plant()
    path = tmp_path / "s"
    async with ControlServer(path, plant.handlers()):
        async with ControlClient(path, "modbus") as modbus:
            refused = await modbus.request("reset", role="admin")
            assert refused == {"code": "forbidden", "reason": "the process 'modbus' may not ask for 'reset'"}
            assert (await modbus.request("stop", role="observer"))["code"] == "accepted"
        async with ControlClient(path, "historian") as historian:
            assert (await historian.request("status", role="admin"))["code"] == "forbidden"
        async with ControlClient(path, "stranger") as stranger:
            assert (await stranger.request("status", role="admin"))["code"] == "forbidden"
    assert [verb for verb, _, _ in plant.asked] == ["stop"]


async def test_a_user_id_may_only_claim_its_own_processes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with ControlServer(path, Plant().handlers(), claims={os.geteuid(): frozenset({"opcua"})}):
        async with ControlClient(path, "opcua") as opcua:
            assert "site" in await opcua.request("status")
        async with ControlClient(path, "cli") as cli:
            refused = await cli.request("status", role="admin")
            assert refused == {"code": "forbidden", "reason": f"user id {os.geteuid()} may not speak for the process 'cli'"}


async def test_other_users_are_refused_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr("gateway.control_socket.os.geteuid", lambda: 4711)
    async with ControlServer(path, Plant().handlers()), ControlClient(path, "opcua") as client:
        assert (await client.request("status"))["code"] == "forbidden"


async def test_requests_of_one_connection_do_not_wait_for_each_other(tmp_path: Path) -> None:
    plant = Plant()
    async with served(tmp_path / "s", plant) as client:
        slow = asyncio.create_task(client.request("runs"))
        assert "site" in await client.request("status")
        assert not slow.done()
        plant.gate.set()
        assert await slow == "waited"


async def test_a_request_that_takes_too_long_is_answered_and_goes_on(tmp_path: Path) -> None:
    plant = Plant()
    async with served(tmp_path / "s", plant, request_timeout_s=0.05) as client:
        answer = await client.request("runs")
        assert answer["code"] == "unavailable"
        assert "it goes on" in answer["reason"]
        plant.gate.set()
    assert plant.finished == 1


async def test_a_command_is_finished_though_its_asker_has_gone(tmp_path: Path) -> None:
    plant = Plant()
    path = tmp_path / "s"
    async with ControlServer(path, plant.handlers()):
        async with ControlClient(path, "cli") as client:
            lost = asyncio.create_task(client.request("runs"))
            assert "site" in await client.request("status")
        with pytest.raises(ControlUnavailable):
            await lost
        plant.gate.set()
    assert plant.finished == 1


async def test_stop_is_carried_out_however_many_requests_wait(tmp_path: Path) -> None:
    plant = Plant()
    path = tmp_path / "s"
    async with ControlServer(path, plant.handlers()), asyncio.TaskGroup() as group, ControlClient(path, "cli") as client:
        waiting = [group.create_task(client.request("runs")) for _ in range(40)]
        assert (await client.request("stop"))["code"] == "accepted"
        assert (await client.request("status"))["reason"] == "too many requests are in flight on this connection"
        plant.gate.set()
        answers = [await task for task in waiting]
    assert answers.count("waited") == 32
    assert len([answer for answer in answers if answer != "waited"]) == 8


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x00",
        struct.pack(">I", messages.MESSAGE_MAX + 1) + b"x",
        framed(b"\xc1"),
        framed(msgspec.msgpack.encode([1, 2])),
        framed(msgspec.msgpack.encode({"id": "one", "verb": "status"})),
        framed(msgspec.msgpack.encode({"id": 1, "verb": "status", "surprise": 1})),
        framed(b"\x91" * 100_000 + b"\x01"),
    ],
)
async def test_a_peer_that_speaks_otherwise_loses_its_connection_and_nobody_else_does(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "s"
    async with served(path, Plant()) as client:
        assert "site" in await client.request("status")
        assert await raw(path, garbage) == b""
        assert "site" in await client.request("status")


async def test_a_frame_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "FRAME_TIMEOUT_S", 0.05)
    path = tmp_path / "s"
    async with served(path, Plant()):
        assert await raw(path, b"\x00\x00") == b""


async def test_an_answer_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "s", Plant()) as client:
        answer = await client.request("events")
        assert answer["code"] == "invalid"
        assert "at most 1048576 can be sent" in answer["reason"]


async def test_one_process_cannot_take_all_connections(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with ControlServer(path, Plant().handlers()):
        opened = [await asyncio.open_unix_connection(path) for _ in range(16)]
        request = framed(msgspec.msgpack.encode({"id": 1, "verb": "status", "process": "cli"}))
        assert await raw(path, request) == b""
        for _, writer in opened:
            writer.close()
        await asyncio.sleep(0.05)
        async with ControlClient(path, "cli") as client:
            assert "site" in await client.request("status")


async def test_a_client_connects_again_after_a_loss_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    plant = Plant()
    async with ControlClient(path, "cli") as client:
        with pytest.raises(ControlUnavailable, match="No such file"):
            await client.request("status")
        async with ControlServer(path, plant.handlers()):
            while True:
                try:
                    assert "site" in await client.request("status")
                    break
                except ControlUnavailable:
                    await asyncio.sleep(0.01)
        asked = len(plant.asked)
        with pytest.raises(ControlUnavailable):
            await client.request("status")
        async with ControlServer(path, plant.handlers()):
            await asyncio.sleep(0.1)
            assert "site" in await client.request("status")
        assert len(plant.asked) == asked + 1


async def test_a_silent_control_process_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "s"
    plant = Plant()
    async with ControlServer(path, plant.handlers()), ControlClient(path, "cli", timeout_s=0.05) as client:
        with pytest.raises(ControlUnavailable, match="no answer to 'runs'"):
            await client.request("runs")
        plant.gate.set()


async def test_following_goes_on_over_losses_without_gap_or_repetition(tmp_path: Path) -> None:
    path = tmp_path / "s"
    plant = Plant()
    seen: list[int] = []
    async with ControlClient(path, "cli") as client, aclosing(client.follow(after=2)) as events:
        async with ControlServer(path, plant.handlers()):
            for _ in range(3):
                seen.append((await anext(events))["id"])
        plant.events = [{"id": number} for number in range(1, 9)]
        async with ControlServer(path, plant.handlers()):
            for _ in range(3):
                seen.append((await anext(events))["id"])
    assert seen == [3, 4, 5, 6, 7, 8]


async def test_following_that_is_forbidden_ends(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with ControlServer(path, Plant().handlers()), ControlClient(path, "planner") as client:
        with pytest.raises(ControlUnavailable, match="may not ask for 'follow'"):
            await anext(client.follow())


async def test_a_follower_that_does_not_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_SEND_TIMEOUT_S", 0.05)
    path = tmp_path / "s"
    plant = Plant()
    plant.events = [{"id": number, "text": "x" * 10_000} for number in range(1, 1001)]
    async with ControlServer(path, plant.handlers()), ControlClient(path, "cli") as client:
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(framed(msgspec.msgpack.encode({"id": 1, "verb": "follow", "args": {"after": 0}, "process": "cli"})))
        await writer.drain()
        await asyncio.sleep(0.3)
        assert "site" in await client.request("status")
        received = 0
        try:
            while chunk := await reader.read(100_000):
                received += len(chunk)
        except ConnectionResetError:
            pass
        writer.close()
        assert received < 10_000_000
        seen = [event["id"] async for event in _first(client, 1000)]
    assert seen == list(range(1, 1001))


async def _first(client: ControlClient, count: int) -> AsyncIterator[Mapping[str, object]]:
    async with aclosing(client.follow()) as events:
        async for event in events:
            yield event
            count -= 1
            if not count:
                return


def test_the_shipped_ceilings_know_every_process() -> None:
    assert {"cli", "opcua", "modbus", "hmi", "historian", "planner"} == set(CEILINGS)
