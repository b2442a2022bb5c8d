"""For every test: no leaked asyncio task, and a clock that a test moves itself."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.manual_clock import ManualClock

settings.register_profile("shared_machine", deadline=None)  # how long one example takes says nothing on a busy machine
settings.load_profile("shared_machine")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def clock() -> ManualClock:
    """A clock at rest."""
    return ManualClock()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every asynchronous test is watched for leaked tasks."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.append("no_leaked_tasks")


@pytest.fixture
async def no_leaked_tasks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail a test that leaves a task behind in its event loop."""
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()]
    if left:
        pytest.fail(f"{request.node.name} left tasks behind: {left}")
