"""Keysight RP793xA regenerative supply on a TCP socket: SCPI commands, error queue, status registers, watchdog.

RP7900 Series Operating and Service Guide (OUTPut, VOLTage, STATus subsystems; pages 210, 226, 238 to 242); SCPI-1999 for
errors. The sink limit takes numbers at or below 0, as `CURR:LIM:NEG? MIN` tells. Clearing a protection re-energises the output
when it is still programmed on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway.simulator.devices.scpi_parser import ERRORS, ScpiError, Unit, boolean, nr3, number, pattern, units
from gateway.simulator.devices.scpi_status import EventRegister
from gateway.simulator.supply import Protection, Regulation, SupplySettings

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from re import Pattern

    from gateway.simulator.bus import Bus
    from gateway.simulator.faults import DeviceFaults

_IDENTITY = "Keysight Technologies,RP7935A,SIM0000001,B.05.02.1250"
_QUEUE_MAX = 20
_LINE_MAX = 1024
_OVER = 1.02
"""Programmable range over the rating."""
_OPER_CV, _OPER_CC, _OPER_OFF = 1, 2, 4
_QUES_LIM_POS, _QUES_LIM_NEG = 1 << 7, 1 << 8
_QUES2_UV = 1 << 6
_PROTECTION_KEPT = (
    Protection.OVER_VOLTAGE | Protection.OVER_CURRENT | Protection.OVER_TEMPERATURE | Protection.INHIBIT | Protection.WATCHDOG
)


class ScpiSupply:
    """The instrument. Each connection of the socket has its own input buffer; queue and settings are shared."""

    def __init__(self, bus: Bus, faults: DeviceFaults, random: random.Random, real_s: Callable[[], float]) -> None:
        self._bus = bus
        self._supply = bus.supply
        self._faults = faults
        self._random = random
        self._real_s = real_s
        self._errors: list[int] = []
        self._esr = 0x80  # power on
        self._ese = self._sre = 0
        self._buffers: dict[int, bytearray] = {}
        self._watchdog_on_reset()
        self._oper = EventRegister(self._oper_condition)
        self._ques1 = EventRegister(self._ques1_condition)
        self._ques2 = EventRegister(self._ques2_condition)
        self._commands = self._table()

    def _watchdog_on_reset(self) -> None:
        self._supply.feed(self._real_s())

    # ---- wire

    def feed(self, connection: int, data: bytes) -> list[bytes]:
        """Answers to the lines that `data` completes."""
        buffer = self._buffers.setdefault(connection, bytearray())
        buffer += data
        answers: list[bytes] = []
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end]).decode("ascii", "replace").strip()
            del buffer[: end + 1]
            if line and (reply := self._line(line)):
                answers.append(reply.encode("ascii") + b"\n")
        if len(buffer) > _LINE_MAX:
            buffer.clear()
            self._error(-363)
        return answers

    def closed(self, connection: int) -> None:
        """The connection is gone."""
        self._buffers.pop(connection, None)

    def _line(self, line: str) -> str:
        self._supply.feed(self._real_s())
        replies: list[str] = []
        try:
            for unit in units(line):
                reply = self._execute(unit)
                if reply is not None:
                    replies.append(reply)
        except ScpiError as error:
            self._error(error.number)
        return ";".join(replies)

    def _execute(self, unit: Unit) -> str | None:
        for header, query, handler in self._commands:
            if query == unit.query and header.match(unit.header):
                if self._faults.refuse and not query and not unit.header.startswith("*"):
                    raise ScpiError(-221)
                return self._kept(unit, handler) if query else handler(unit)
        raise ScpiError(-113)

    def _kept(self, unit: Unit, handler: Callable[[Unit], str | None]) -> str | None:
        value = handler(unit)
        measured = unit.header[:4].upper() in {"MEAS", "FETC", "STAT"}
        return self._faults.keep(unit.header.upper(), value) if measured else value

    def _error(self, number: int) -> None:
        if len(self._errors) >= _QUEUE_MAX:
            self._errors[-1] = -350
        else:
            self._errors.append(number)
        self._esr |= {-1: 0x20, -2: 0x10, -3: 0x08, -4: 0x04}.get(-(-number // 100), 0x08)

    # ---- commands

    def _table(self) -> list[tuple[Pattern[str], bool, Callable[[Unit], str | None]]]:
        s, full = self._supply, self._supply.rating
        volts, amps = full.voltage_V * _OVER, full.current_A * _OVER
        number_commands = (
            ("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", "voltage_V", 0.0, volts, "V"),
            ("[SOURce:]CURRent:LIMit[:POSitive][:IMMediate][:AMPLitude]", "source_limit_A", 0.0, amps, "A"),
            ("[SOURce:]CURRent:LIMit:NEGative[:IMMediate][:AMPLitude]", "sink_limit_A", -amps, 0.0, "A"),
            ("[SOURce:]VOLTage:SLEW[:IMMediate]", "slew_V_per_s", 1e-3, math.inf, "V/S"),
            ("[SOURce:]VOLTage:PROTection[:LEVel]", "over_voltage_V", 0.0, full.voltage_V * 1.2, "V"),
            ("[SOURce:]VOLTage:PROTection:LOW[:LEVel]", "under_voltage_V", 0.0, volts, "V"),
            ("OUTPut:PROTection:WDOG:DELay", "watchdog_s", 1.0, 3600.0, "S"),
        )
        switches = (
            ("OUTPut[:STATe]", "output"),
            ("OUTPut:PROTection:WDOG[:STATe]", "watchdog"),
            ("[SOURce:]VOLTage:PROTection:LOW:STATe", "under_voltage_on"),
            ("[SOURce:]CURRent:PROTection:STATe", "over_current_on"),
        )
        found: list[tuple[Pattern[str], bool, Callable[[Unit], str | None]]] = []
        for header, name, low, high, suffix in number_commands:
            found += _both(header, *_number_handlers(s.settings, name, low, high, suffix))
        for header, name in switches:
            found += _both(header, *self._switch_handlers(name))
        found += [(pattern(header), True, handler) for header, handler in self._queries()]
        found += [(pattern(header), False, handler) for header, handler in self._actions()]
        for name, register in (("OPERation", self._oper), ("QUEStionable1", self._ques1), ("QUEStionable2", self._ques2)):
            found += [(pattern(header), query, handler) for header, query, handler in register.commands(f"STATus:{name}")]
        return found

    def _queries(self) -> list[tuple[str, Callable[[Unit], str | None]]]:
        return [
            ("*IDN", lambda _: _IDENTITY),
            ("*OPC", lambda _: "1"),
            ("*ESR", self._read_esr),
            ("*ESE", lambda _: str(self._ese)),
            ("*SRE", lambda _: str(self._sre)),
            ("*STB", lambda _: str(self._status_byte())),
            ("*TST", lambda _: "0"),
            ("SYSTem:ERRor[:NEXT]", self._next_error),
            ("SYSTem:VERSion", lambda _: "1999.0"),
            ("[SOURce:]FUNCtion", lambda _: "VOLT"),
            ("MEASure[:SCALar]:VOLTage[:DC]", lambda _: nr3(self._volts())),
            ("MEASure[:SCALar]:CURRent[:DC]", lambda _: nr3(self._amps())),
            ("MEASure[:SCALar]:POWer[:DC]", lambda _: nr3(self._volts() * self._amps())),
            ("FETCh[:SCALar]:VOLTage[:DC]", lambda _: nr3(self._volts())),
            ("FETCh[:SCALar]:CURRent[:DC]", lambda _: nr3(self._amps())),
            ("FETCh[:SCALar]:POWer[:DC]", lambda _: nr3(self._volts() * self._amps())),
            ("OUTPut:PROTection:TEMPerature:MARGin", lambda _: nr3(35.0)),
        ]

    def _actions(self) -> list[tuple[str, Callable[[Unit], str | None]]]:
        return [
            ("*CLS", self._clear_status),
            ("*RST", self._reset),
            ("*OPC", self._operation_complete),
            ("*ESE", self._set_ese),
            ("*SRE", self._set_sre),
            ("*WAI", lambda _: None),
            ("[SOURce:]FUNCtion", self._set_function),
            ("OUTPut:PROTection:CLEar", self._clear_protection),
            ("SYSTem:COMMunicate:RLSTate", self._remote_state),
        ]

    def _switch_handlers(self, name: str) -> tuple[Callable[[Unit], str | None], Callable[[Unit], str | None]]:
        settings = self._supply.settings

        def write(unit: Unit) -> None:
            value = boolean(_one(unit))
            if not (self._supply.stuck and name == "output"):
                setattr(settings, name, value)

        return write, lambda _: str(int(getattr(settings, name)))

    def _volts(self) -> float:
        return self._bus.voltage_V + self._random.gauss(0.0, 5e-4)

    def _amps(self) -> float:
        on = self._supply.regulation is not Regulation.OFF
        return (self._supply.current_A if on else 0.0) + self._random.gauss(0.0, 2e-3)

    def _read_esr(self, _: Unit) -> str:
        value, self._esr = self._esr, 0
        return str(value)

    def _status_byte(self) -> int:
        byte = 0x04 if self._errors else 0
        byte |= 0x08 if self._ques1.summary() or self._ques2.summary() else 0
        byte |= 0x80 if self._oper.summary() else 0
        byte |= 0x20 if self._esr & self._ese else 0
        return byte | (0x40 if byte & self._sre else 0)

    def _next_error(self, _: Unit) -> str:
        number = self._errors.pop(0) if self._errors else 0
        return f'{number:+d},"{ERRORS[number]}"'

    def _clear_status(self, _: Unit) -> None:
        self._errors.clear()
        self._esr = 0
        for register in (self._oper, self._ques1, self._ques2):
            register.clear()

    def _reset(self, _: Unit) -> None:
        self._supply.settings.reset_to(SupplySettings(over_voltage_V=self._supply.rating.voltage_V * 1.2))
        self._supply.switch_off()

    def _operation_complete(self, _: Unit) -> None:
        self._esr |= 0x01

    def _set_ese(self, unit: Unit) -> None:
        self._ese = round(number(_one(unit), 0, 255))

    def _set_sre(self, unit: Unit) -> None:
        self._sre = round(number(_one(unit), 0, 255))

    def _set_function(self, unit: Unit) -> None:
        if not _one(unit).upper().startswith("VOLT"):
            raise ScpiError(-221)

    def _remote_state(self, unit: Unit) -> None:
        if _one(unit).upper() not in {"LOC", "REM", "RWL", "LOCAL", "REMOTE", "RWLOCK"}:
            raise ScpiError(-224)

    def _clear_protection(self, unit: Unit) -> None:
        if unit.parameters:
            raise ScpiError(-108)
        self._supply.clear_protection()

    # ---- status conditions

    def _oper_condition(self) -> int:
        regulation = self._supply.regulation
        if regulation is Regulation.OFF:
            return _OPER_OFF
        return _OPER_CC if regulation in {Regulation.SOURCE_LIMIT, Regulation.SINK_LIMIT} else _OPER_CV

    def _ques1_condition(self) -> int:
        word = int(self._supply.protection & _PROTECTION_KEPT)
        if self._supply.regulation is Regulation.SOURCE_LIMIT:
            word |= _QUES_LIM_POS
        elif self._supply.regulation is Regulation.SINK_LIMIT:
            word |= _QUES_LIM_NEG
        return word

    def _ques2_condition(self) -> int:
        return _QUES2_UV if self._supply.under_voltage else 0


def _one(unit: Unit) -> str:
    match unit.parameters:
        case (only,):
            return only
        case ():
            raise ScpiError(-109)
        case _:
            raise ScpiError(-108)


def _both(
    header: str, write: Callable[[Unit], str | None], read: Callable[[Unit], str | None]
) -> list[tuple[Pattern[str], bool, Callable[[Unit], str | None]]]:
    compiled = pattern(header)
    return [(compiled, False, write), (compiled, True, read)]


def _number_handlers(
    settings: SupplySettings, name: str, low: float, high: float, suffix: str
) -> tuple[Callable[[Unit], str | None], Callable[[Unit], str | None]]:
    def write(unit: Unit) -> None:
        value = number(_one(unit), low, high, suffix)
        setattr(settings, name, round(value) if name == "watchdog_s" else value)

    def read(unit: Unit) -> str:
        if unit.parameters:
            return nr3(number(unit.parameters[0], low, high) if unit.parameters[0].upper().startswith("M") else math.nan)
        value = float(getattr(settings, name))
        return str(round(value)) if name == "watchdog_s" else nr3(value)

    return write, read
