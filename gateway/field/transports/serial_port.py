"""A serial port whose bytes arrive as they come: the only file that knows pyserial.

pyserial sets the line up; reading and writing go through the event loop on the port's file descriptor, so that nothing
blocks. Works for pseudo-terminals too.
"""

from __future__ import annotations

import asyncio
import os
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING

import serial

from gateway.errors import TransportClosed
from gateway.field.transports.base import option_int

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_STOP_BITS = (1, 2)
_PARITIES = ("N", "E", "O")


@dataclass(frozen=True, slots=True)
class LineSettings:
    """Baud, parity ("N", "E", "O") and stop bits; always 8 data bits."""

    baud: int
    parity: str = "N"
    stop_bits: int = 1

    @property
    def bits_per_character(self) -> int:
        """Start, data, parity and stop bits."""
        return 9 + (self.parity != "N") + self.stop_bits

    def seconds(self, characters: float) -> float:
        """Time that so many characters take on the wire."""
        return characters * self.bits_per_character / self.baud


def line_settings(options: Mapping[str, object], default: LineSettings) -> LineSettings:
    """The line settings in a transport's options. ValueError when one makes no sense."""
    baud = option_int(options, "baud", default.baud)
    parity = options.get("parity", default.parity)
    stop_bits = option_int(options, "stop_bits", default.stop_bits)
    if not 50 <= baud <= 4_000_000 or parity not in _PARITIES or stop_bits not in _STOP_BITS:
        found = f"{baud} baud, parity {parity!r}, {stop_bits} stop bits"
        msg = f'expected a baud rate, parity "N", "E" or "O", and 1 or 2 stop bits, got {found}'
        raise ValueError(msg)
    return LineSettings(baud, str(parity), stop_bits)


class SerialPort:
    """An open serial line. `on_lost` is called once when the port vanishes."""

    def __init__(self, path: str, line: LineSettings, on_data: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        self._path, self._line = path, line
        self._on_data, self._on_lost = on_data, on_lost
        self._port: serial.Serial | None = None
        self._descriptor = -1

    @property
    def is_open(self) -> bool:
        return self._port is not None

    async def open(self) -> None:
        """Open the port exclusively. TransportClosed when that fails."""
        try:
            port = serial.Serial(
                self._path,
                baudrate=self._line.baud,
                bytesize=8,
                parity=self._line.parity,
                stopbits=self._line.stop_bits,
                timeout=0,
                exclusive=True,
            )
        except (serial.SerialException, OSError, ValueError) as error:
            msg = f"{self._path} cannot be opened: {error}"
            raise TransportClosed(msg) from error
        self._port, self._descriptor = port, int(port.fileno())
        os.set_blocking(self._descriptor, False)
        if self._line.parity != "N":
            _drop_bytes_of_wrong_parity(self._descriptor)
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        """Close the port; harmless when closed."""
        port, self._port = self._port, None
        if port is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            port.close()

    def write(self, data: bytes) -> None:
        """Hand bytes to the line; a request always fits the driver's buffer. TransportClosed when the port is gone."""
        if self._port is None:
            msg = f"{self._path} is closed"
            raise TransportClosed(msg)
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._lose(f"{self._path} is lost: {error.strerror}")
            msg = f"{self._path} is lost: {error.strerror}"
            raise TransportClosed(msg) from error
        if written != len(data):
            msg = f"{self._path} took {written} of {len(data)} bytes: its buffer is full"
            raise TransportClosed(msg)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(f"{self._path} is lost: {error.strerror}")
            return
        if data:
            self._on_data(data)
        else:
            self._lose(f"{self._path} is lost: end of file")

    def _lose(self, reason: str) -> None:
        self.close()
        self._on_lost(reason)


def _drop_bytes_of_wrong_parity(descriptor: int) -> None:
    """Let the driver check parity and drop what fails (termios(3), INPCK and IGNPAR): the frame is then too short."""
    attributes = termios.tcgetattr(descriptor)
    attributes[0] |= termios.INPCK | termios.IGNPAR
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
