"""One gateway for the tests of a module that leave the plant as they found it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.gateway_process import GatewayProcess, Plant, connected, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The simulated testbed in real time."""
    with running(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture
async def plant(gateway: GatewayProcess) -> AsyncIterator[Plant]:
    """The testbed at rest: no fault, no run, no trip, both strings ready."""
    async with connected(gateway) as found:
        await found.calm()
        yield found
