"""Where the field's values go: it is given this, and knows no table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.points import Quality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Claim = Callable[[Sequence[str], str], "Sink"]
    """Gives (full point names, writer) the one right to publish these points, in this order."""


class Sink(Protocol):
    """Points that are published together."""

    def publish(self, values: NDArray[np.float64], qualities: NDArray[np.uint8] | Quality, time_ns: int) -> None:
        """All of them, in the order in which they were claimed, as read at `time_ns` (UTC)."""
        ...

    def put(self, name: str, value: float | str | None, quality: Quality = Quality.GOOD, time_ns: int | None = None) -> None:
        """One of them; None needs a bad quality. `time_ns` None is now."""
        ...
