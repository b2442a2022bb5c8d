"""Relay module for contactors: register list revision 1 of this project, encoded by hand.

Coils 0 to 7 drive the contactors of the strings that the site file puts there; discrete inputs 0 to 7 are wired to auxiliary
contacts. Input registers: 0 magic 0x10C8, 1 version, 2 outputs, 3 inputs. At power-up every coil is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.simulator import modbus_wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.simulator.faults import DeviceFaults
    from gateway.simulator.plant import StringState

CHANNELS = 8
MOVE_S = 0.03
"""Real seconds from the coil to the contact: an order of magnitude of DC contactors' data sheets."""


class RelayIo:
    """One module behind one unit id. `strings` and `feedbacks` are by channel, from 1. `stuck` contacts stay as they are."""

    def __init__(
        self,
        strings: Mapping[int, StringState],
        feedbacks: Mapping[int, StringState],
        faults: DeviceFaults,
        real_s: Callable[[], float],
    ) -> None:
        self.stuck = False
        self._strings = strings
        self._feedbacks = feedbacks
        self._faults = faults
        self._real_s = real_s
        self._coils = [False] * CHANNELS
        self._moved_s = [real_s()] * CHANNELS
        for string in strings.values():
            string.contactor_closed = False

    def move(self) -> None:
        """Contacts follow their coils."""
        now_s = self._real_s()
        for channel, string in self._strings.items():
            if not self.stuck and now_s - self._moved_s[channel - 1] >= MOVE_S:
                string.contactor_closed = self._coils[channel - 1]

    def power_cycle(self) -> None:
        """The module loses power for a moment."""
        self._set(0, [False] * CHANNELS)

    def read_coils(self, address: int, count: int) -> Sequence[bool]:
        return self._channels(self._coils, address, count)

    def read_discrete(self, address: int, count: int) -> Sequence[bool]:
        self.move()
        contacts = [False] * CHANNELS
        for channel, string in self._feedbacks.items():
            contacts[channel - 1] = string.contactor_closed
        return self._faults.keep((address, count), self._channels(contacts, address, count))

    def write_coils(self, address: int, values: Sequence[bool]) -> None:
        if self._faults.refuse:
            raise wire.Refusal(wire.DEVICE_FAILURE)
        self._channels(self._coils, address, len(values))  # refuses unknown addresses
        self._set(address, values)

    def _set(self, address: int, values: Sequence[bool]) -> None:
        self.move()
        for place, on in enumerate(values, start=address):
            if self._coils[place] != on:
                self._coils[place], self._moved_s[place] = on, self._real_s()

    def _channels(self, states: Sequence[bool], address: int, count: int) -> Sequence[bool]:
        if address + count > CHANNELS:
            raise wire.Refusal(wire.ILLEGAL_ADDRESS)
        return tuple(states[address : address + count])

    def read_input(self, address: int, count: int) -> Sequence[int]:
        return wire.registers({0: 0x10C8, 1: 0x0100, 2: CHANNELS, 3: CHANNELS}, address, count, ((0, 3),))

    def read_holding(self, address: int, count: int) -> Sequence[int]:
        del address, count  # it has none
        raise wire.Refusal(wire.ILLEGAL_ADDRESS)

    def write(self, address: int, values: Sequence[int]) -> None:
        del address, values
        raise wire.Refusal(wire.ILLEGAL_ADDRESS)
