"""The command line in-process, and a control process that only answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from gateway import paths
from gateway.cli.verbs import app
from gateway.control_socket import ControlServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from click.testing import Result

    from gateway.commands import Origin

REPO = Path(__file__).parents[3]
SITE = REPO / "sites" / "testbed_sim.toml"
CASES = REPO / "tests" / "cases"
ENVIRONMENT = {"BESS_GATEWAY_STATE": None, "USER": "tester", "COLUMNS": None, "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}


def cli(*arguments: object, **environment: str) -> Result:
    """One command line; `stdout`, `stderr` and `exit_code` tell what came of it. An exception of the program is raised."""
    env = {**ENVIRONMENT, **environment}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env, catch_exceptions=False)


def documents(result: Result) -> list:
    """What was printed on standard output, which must be one JSON document a line."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def document(result: Result) -> dict:
    """The one JSON document on standard output."""
    (found,) = documents(result)
    return found


class FakeControl:
    """Answers each verb as told (a function is called with the arguments), and remembers what it was asked."""

    def __init__(self, state: Path, answers: Mapping[str, object]) -> None:
        self.state = state
        self.answers = answers
        self.asked: list[tuple[str, dict[str, object], Origin]] = []

    def _handler(self, verb: str):
        async def handle(args: Mapping[str, object], origin: Origin) -> object:
            self.asked.append((verb, dict(args), origin))
            answer = self.answers[verb]
            return answer(args) if callable(answer) else answer

        return handle

    async def serve(self, socket: Path, up: threading.Event, stop: asyncio.Event) -> None:
        async with ControlServer(socket, {verb: self._handler(verb) for verb in self.answers}):
            up.set()
            await stop.wait()


@contextlib.contextmanager
def control(answers: Mapping[str, object]) -> Iterator[FakeControl]:
    """A control process in a thread of its own, found by its state directory."""
    with tempfile.TemporaryDirectory() as directory:
        files = paths.create(Path(directory), "testbed", Path(directory) / "run")
        fake = FakeControl(files.state, answers)
        loop = asyncio.new_event_loop()
        up, stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(fake.serve(files.control_socket, up, stop)))
        thread.start()
        assert up.wait(10.0)
        try:
            yield fake
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()
