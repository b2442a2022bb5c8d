"""The service manager hears of life only while every loop lives."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from gateway.watchdog import Watchdog, feed_period_s

if TYPE_CHECKING:
    from pathlib import Path

    from tests.manual_clock import ManualClock


class Manager:
    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, state: str) -> None:
        self.told.append(state)

    def close(self) -> None:
        self.told.append("closed")


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def watchdog(clock: ManualClock, manager: Manager) -> Watchdog:
    return Watchdog(clock, {"scan": 0.5, "interlocks": 0.5, "gate": 2.0}, manager)


def test_nothing_is_told_before_every_loop_has_moved(watchdog: Watchdog, manager: Manager) -> None:
    assert watchdog.stale() == ("scan", "interlocks", "gate")
    watchdog.beat("scan")
    watchdog.beat("gate")
    assert watchdog.stale() == ("interlocks",)
    assert not watchdog.feed("starting")
    assert manager.told == []
    watchdog.beat("interlocks")
    assert watchdog.feed("ready")
    assert manager.told == ["READY=1", "STATUS=ready", "WATCHDOG=1"]


def test_ready_is_told_once_and_the_status_when_it_changes(watchdog: Watchdog, manager: Manager) -> None:
    for name in ("scan", "interlocks", "gate"):
        watchdog.beat(name)
    watchdog.feed("ready")
    watchdog.feed("ready")
    watchdog.feed("string A tripped:\ncell over-voltage")
    assert manager.told == [
        "READY=1", "STATUS=ready", "WATCHDOG=1", "WATCHDOG=1", "STATUS=string A tripped: cell over-voltage", "WATCHDOG=1",
    ]  # fmt: skip


@pytest.mark.parametrize("hung", ["scan", "interlocks", "gate"])
def test_one_hung_loop_starves_the_watchdog(watchdog: Watchdog, manager: Manager, clock: ManualClock, hung: str) -> None:
    for name in ("scan", "interlocks", "gate"):
        watchdog.beat(name)
    assert watchdog.feed()
    for _ in range(30):
        clock.advance(0.1)
        for name in {"scan", "interlocks", "gate"} - {hung}:
            watchdog.beat(name)
    assert watchdog.stale() == (hung,)
    manager.told.clear()
    assert not watchdog.feed()
    assert manager.told == []
    watchdog.beat(hung)
    assert watchdog.feed()


def test_a_loop_is_fresh_up_to_its_limit(watchdog: Watchdog, clock: ManualClock) -> None:
    for name in ("scan", "interlocks", "gate"):
        watchdog.beat(name)
    clock.advance(0.5)
    assert watchdog.stale() == ()
    clock.advance(0.01)
    assert watchdog.stale() == ("scan", "interlocks")


def test_a_loop_that_is_not_watched_is_a_mistake(watchdog: Watchdog) -> None:
    with pytest.raises(KeyError):
        watchdog.beat("scann")


def test_without_a_service_manager_feeding_does_no_harm(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watchdog = Watchdog(clock, {})
    assert watchdog.feed("alone")
    watchdog.stopping()


def test_the_service_manager_hears_it_through_its_socket(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        watchdog = Watchdog(clock, {})
        watchdog.feed("bus 24 V \u2192 on")
        watchdog.stopping()
        told = [manager.recv(1024) for _ in range(4)]
        watchdog.close()
    assert told == [b"READY=1", b"STATUS=bus 24 V ? on", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize(
    ("usec", "pid", "period"),
    [
        ("5000000", None, 2.5),
        ("5000000", "me", 2.5),
        ("5000000", "1", None),
        (None, None, None),
        ("x", None, None),
        ("0", None, None),
    ],
)
def test_the_period_is_half_of_what_the_manager_allows(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, period: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", str(os.getpid()) if pid == "me" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert feed_period_s() == period
