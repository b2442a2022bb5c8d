"""The supervisor, with tiny Python programs as children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.clock import SystemClock
from gateway.processes import EXIT_GAVE_UP, LogFiles, ProcessSpec, ProcessState, ProcessStatus, Supervisor
from gateway.processes.ready import answers_on_port, answers_on_socket, names_pid

SLEEP = "import time; time.sleep(60)"
REPO = Path(__file__).parents[3]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


class Record:
    """What a supervisor told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.changes: list[ProcessStatus] = []

    def on_line(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def on_change(self, status: ProcessStatus) -> None:
        self.changes.append(status)

    def states(self, name: str) -> list[ProcessState]:
        return [status.state for status in self.changes if status.name == name]


async def until(condition, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (what is awaited happens in another process)
            await asyncio.sleep(0.01)


async def never(pid: int) -> bool:
    """A process that is never ready."""
    return False


@contextlib.asynccontextmanager
async def running(*specs: ProcessSpec):
    record = Record()
    supervisor = Supervisor(specs, SystemClock(), on_line=record.on_line, on_change=record.on_change)
    task = asyncio.create_task(supervisor.run(handle_signals=False))
    try:
        yield supervisor, record, task
    finally:
        supervisor.request_stop("test over")
        await task


async def test_children_start_one_after_the_other_and_stop_in_reverse():
    program = python(
        "import signal,sys,time; signal.signal(15, lambda *_: (print('bye',flush=True), sys.exit(0))); time.sleep(60)"
    )
    names = ("simulator", "control", "opcua")
    async with running(*(ProcessSpec(name=name, argv=program) for name in names)) as (supervisor, record, task):
        await asyncio.wait_for(supervisor.ready(), 10)
        await asyncio.sleep(0.3)  # the children must have installed their handlers
        statuses = supervisor.status()
        assert [status.name for status in statuses] == list(names)
        assert all(status.state is ProcessState.RUNNING and status.pid and status.uptime_s > 0 for status in statuses)
        supervisor.request_stop("enough")
        assert await task == 0
    assert [name for name, line in record.lines if line == "bye"] == ["opcua", "control", "simulator"]
    stopped = [status.name for status in record.changes if status.state is ProcessState.STOPPED]
    assert stopped == ["opcua", "control", "simulator"]
    assert all(status.pid is None and status.last_exit == "exit code 0" for status in supervisor.status())
    assert supervisor.reason == "enough"


async def test_a_process_waits_until_the_one_before_is_ready(tmp_path):
    path = tmp_path / "sim.json"
    path.write_text('{"pid": 1, "ports": {}}')  # left behind by an earlier start
    slow = python(
        f"import os,time; time.sleep(0.4); open({str(path)!r},'w').write('{{\"pid\": %d}}' % os.getpid()); time.sleep(60)"
    )
    first = ProcessSpec(name="simulator", argv=slow, ready=names_pid(path))
    async with running(first, ProcessSpec(name="control", argv=python(SLEEP))) as (supervisor, record, _):
        await until(lambda: supervisor.status()[0].pid is not None)
        assert supervisor.status()[1].state is ProcessState.WAITING
        await asyncio.wait_for(supervisor.ready(), 10)
        order = [(status.name, status.state) for status in record.changes]
        assert order.index(("simulator", ProcessState.RUNNING)) < order.index(("control", ProcessState.STARTING))


async def test_what_dies_is_restarted_with_growing_pauses():
    spec = ProcessSpec(name="opcua", argv=python("import sys; sys.exit(3)"), backoff_min_s=0.05, backoff_max_s=0.2)
    async with running(spec) as (supervisor, record, _):
        await until(lambda: supervisor.status()[0].restarts >= 3)
        assert supervisor.status()[0].last_exit == "exit code 3"
        assert ProcessState.BACKING_OFF in record.states("opcua")


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 10.0), (5000, 10.0)])
def test_the_pause_doubles_up_to_its_bound(failures, pause_s):
    assert ProcessSpec(name="x", argv=("x",)).backoff_s(failures) == pause_s


async def test_an_essential_process_that_keeps_failing_ends_everything(caplog):
    bad = ProcessSpec(name="control", argv=python("import sys; sys.exit(2)"), essential=True, backoff_min_s=0.01)
    async with running(ProcessSpec(name="simulator", argv=python(SLEEP)), bad) as (supervisor, _, task):
        assert await asyncio.wait_for(task, 20) == EXIT_GAVE_UP
        assert supervisor.reason == "control failed 5 times in short succession, the last time: exit code 2"
        assert supervisor.reason in caplog.text
        assert all(status.pid is None for status in supervisor.status())


async def test_a_process_that_refuses_to_run_is_left_alone_unless_it_is_essential():
    program = python("import sys; sys.exit(78)")
    refusing = ProcessSpec(name="opcua", argv=program, ready=never, backoff_min_s=0.01)
    async with running(refusing, ProcessSpec(name="next", argv=python(SLEEP))) as (supervisor, _, _):
        await asyncio.wait_for(supervisor.ready(), 10)
        assert [status.state for status in supervisor.status()] == [ProcessState.REFUSED, ProcessState.RUNNING]
        assert supervisor.status()[0].restarts == 0
    async with running(ProcessSpec(name="control", argv=program, essential=True)) as (supervisor, _, task):
        assert await asyncio.wait_for(task, 10) == EXIT_GAVE_UP
        assert supervisor.reason == "control refused to run: exit code 78"


async def test_a_program_that_does_not_exist_is_a_failure_with_a_reason():
    bad = ProcessSpec(name="control", argv=("/nonexistent/program",), essential=True, backoff_min_s=0.01)
    async with running(bad) as (supervisor, _, task):
        assert await asyncio.wait_for(task, 10) == EXIT_GAVE_UP
        assert "cannot start" in supervisor.reason
        assert "/nonexistent/program" in supervisor.reason


async def test_a_process_that_is_never_ready_is_killed_and_counts_as_failed():
    bad = ProcessSpec(name="control", argv=python(SLEEP), essential=True, ready=never, ready_timeout_s=0.05, backoff_min_s=0.01)
    async with running(bad) as (supervisor, record, task):
        assert await asyncio.wait_for(task, 20) == EXIT_GAVE_UP
        assert supervisor.status()[0].last_exit == "killed by SIGKILL"
        assert ProcessState.RUNNING not in record.states("control")


async def test_the_safe_state_runs_before_a_dead_control_is_started_again():
    control = ProcessSpec(
        name="control",
        argv=python("import time; print('control up', flush=True); time.sleep(60)"),
        after_death=python("print('made safe')"),
        backoff_min_s=0.01,
    )
    async with running(control) as (supervisor, record, _):
        await until(lambda: ("control", "control up") in record.lines)
        pid = supervisor.status()[0].pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: record.lines.count(("control", "control up")) == 2)
        assert [line for _, line in record.lines] == ["control up", "made safe", "control up"]
        assert supervisor.status()[0].last_exit == "killed by SIGKILL"
        assert supervisor.status()[0].restarts == 1
        assert supervisor.status()[0].pid != pid


async def test_the_safe_state_does_not_run_after_an_ordered_stop():
    program = python("import signal,sys,time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(60)")
    async with running(ProcessSpec(name="control", argv=program, after_death=python("print('made safe')"))) as (
        supervisor,
        record,
        task,
    ):
        await until(lambda: ("control", "up") in record.lines)
        supervisor.request_stop("enough")
        assert await task == 0
    assert ("control", "made safe") not in record.lines


async def test_a_control_that_ignores_the_stop_is_killed_and_made_safe_before_the_simulator_stops():
    deaf = python("import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    control = ProcessSpec(name="control", argv=deaf, stop_timeout_s=0.2, after_death=python("print('made safe', flush=True)"))
    async with running(ProcessSpec(name="simulator", argv=python(SLEEP)), control) as (supervisor, record, task):
        await until(lambda: ("control", "up") in record.lines)
        alive_when_made_safe: list[int | None] = []
        supervisor.on_line = lambda _, line: (
            alive_when_made_safe.append(supervisor.status()[0].pid) if line == "made safe" else None
        )
        supervisor.request_stop("enough")
        assert await task == 0
    assert supervisor.status()[1].last_exit == "killed by SIGKILL"
    assert alive_when_made_safe
    assert alive_when_made_safe[0] is not None


async def test_a_safe_state_that_hangs_or_cannot_start_does_not_keep_control_down(caplog):
    for argv in (python(SLEEP), ("/nonexistent/program",)):
        control = ProcessSpec(
            name="control", argv=python("pass"), after_death=argv, after_death_timeout_s=0.1, backoff_min_s=0.01
        )
        async with running(control) as (supervisor, _, _):
            await until(lambda supervisor=supervisor: supervisor.status()[0].restarts >= 1)
    assert "killed by SIGKILL" in caplog.text
    assert "could not be run" in caplog.text


async def test_what_a_process_started_dies_with_it():
    parent = python(
        f"import subprocess as s,sys,time; c=s.Popen([sys.executable,'-c',{SLEEP!r}]); print(c.pid,flush=True); time.sleep(60)"
    )
    async with running(ProcessSpec(name="x", argv=parent, stop_timeout_s=0.2)) as (supervisor, record, _):
        await until(lambda: bool(record.lines))
        grandchild = int(record.lines[0][1])
        os.kill(supervisor.status()[0].pid, signal.SIGSTOP)  # deaf to SIGTERM, so that it must be killed
        supervisor.request_stop("enough")
    await until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE)


SUPERVISOR = f"""
import asyncio, sys
from gateway.clock import SystemClock
from gateway.processes import ProcessSpec, Supervisor
specs = [ProcessSpec(name=n, argv=(sys.executable, "-S", "-c", {SLEEP!r})) for n in ("a", "b", "c")]
async def main():
    supervisor = Supervisor(specs, SystemClock())
    async def tell():
        await supervisor.ready()
        print(*(status.pid for status in supervisor.status()), flush=True)
    task = asyncio.create_task(tell())
    return await supervisor.run()
sys.exit(asyncio.run(main()))
"""


def supervisor_process() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR], cwd=REPO, stdout=subprocess.PIPE, text=True)
    children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(children) == 3
    return process, children


def test_a_killed_supervisor_leaves_no_child_behind():
    process, children = supervisor_process()
    with process:
        process.kill()
        process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=5)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_supervisor_is_an_ordered_stop(number):
    process, children = supervisor_process()
    with process:
        process.send_signal(number)
        assert process.wait(10) == 0
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


async def test_output_is_split_into_bounded_lines():
    code = "import sys; sys.stderr.write('to stderr\\n'); print('x' * 100000); print('last', end='', flush=True); sys.exit(0)"
    async with running(ProcessSpec(name="x", argv=python(code), backoff_min_s=30)) as (supervisor, record, _):
        await until(lambda: supervisor.status()[0].state is ProcessState.BACKING_OFF)
    texts = [line for _, line in record.lines]
    assert texts[0] == "to stderr"
    assert texts[-1] == "last"
    assert "".join(texts[1:-1]) == "x" * 100000
    assert max(map(len, texts)) < 20000


def test_log_files_are_bounded_and_one_per_process(tmp_path):
    files = LogFiles(tmp_path, max_bytes=1000)
    for number in range(100):
        files("control", f"line {number}")
    files("opcua", "hello")
    files.close()
    assert (tmp_path / "opcua.log").read_text() == "opcua: hello\n"
    assert "control: line 99\n" in (tmp_path / "control.log").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control.log", "control.log.1", "opcua.log"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


async def test_sockets_and_ports_are_ready_when_something_answers(tmp_path):
    path = tmp_path / "control.sock"
    assert not await answers_on_socket(path)(1)
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
    async with server:
        assert await answers_on_socket(path)(1)
        await asyncio.sleep(0.05)  # the server closes its end
    tcp = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = tcp.sockets[0].getsockname()[1]
    async with tcp:
        assert await answers_on_port("127.0.0.1", port)(1)
        await asyncio.sleep(0.05)
    assert not await answers_on_port("127.0.0.1", port)(1)
