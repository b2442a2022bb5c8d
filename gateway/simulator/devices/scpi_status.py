"""A SCPI status register: condition, transition filters, event, enable (SCPI-1999 volume 1, chapter 9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.simulator.devices.scpi_parser import ScpiError, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.simulator.devices.scpi_parser import Unit


@dataclass(slots=True)
class EventRegister:
    """Events are found by comparing the condition at each look; reading the event word clears it."""

    condition: Callable[[], int]
    enable: int = 0
    positive: int = 0x7FFF
    negative: int = 0
    _event: int = field(default=0)
    _before: int = field(default=0)

    def _look(self) -> int:
        now = self.condition()
        rose, fell = now & ~self._before, self._before & ~now
        self._event |= (rose & self.positive) | (fell & self.negative)
        self._before = now
        return now

    def summary(self) -> bool:
        """An enabled event is waiting."""
        self._look()
        return bool(self._event & self.enable)

    def clear(self) -> None:
        """Forget events, as `*CLS` does."""
        self._look()
        self._event = 0

    def _read_event(self, _: Unit) -> str:
        self._look()
        value, self._event = self._event, 0
        return str(value)

    def commands(self, root: str) -> list[tuple[str, bool, Callable[[Unit], str | None]]]:
        """(header, query, handler) of the register under `root`."""
        found: list[tuple[str, bool, Callable[[Unit], str | None]]] = [
            (f"{root}:CONDition", True, lambda _: str(self._look())),
            (f"{root}[:EVENt]", True, self._read_event),
        ]
        for header, name in (("ENABle", "enable"), ("PTRansition", "positive"), ("NTRansition", "negative")):
            read, write = self._mask(name)
            found += [(f"{root}:{header}", True, read), (f"{root}:{header}", False, write)]
        return found

    def _mask(self, name: str) -> tuple[Callable[[Unit], str | None], Callable[[Unit], str | None]]:
        return (lambda _: str(getattr(self, name))), (lambda unit: self._set(name, unit))

    def _set(self, name: str, unit: Unit) -> None:
        if not unit.parameters:
            raise ScpiError(-109)
        setattr(self, name, round(number(unit.parameters[0], 0, 32767)))
