"""Faults that a test or a demonstration can set on a simulated device."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: a sentence for people, the devices it applies to, the value when none is given."""

    text: str
    roles: frozenset[str]
    default: float = 1.0
    cell: bool = False


_ANY = frozenset({"battery", "converter", "supply", "relays"})
_BATTERY = frozenset({"battery"})
_SENSED = frozenset({"battery", "converter"})
_CONVERTER = frozenset({"converter"})
_POWER = frozenset({"converter", "supply"})
_OUTPUTS = _POWER | {"relays"}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "silence": Kind("The device answers nothing.", _ANY),
        "freeze": Kind("Measured values stand still; the device goes on answering.", _ANY),
        "corrupt": Kind("Answers are damaged on the wire; value: fraction of the answers, 1 unless given.", _ANY),
        "late": Kind("Answers come late; value: real seconds, 1 unless given.", _ANY),
        "wrong_unit": Kind("Answers carry another unit number (Modbus) or parameter (Orion).", _ANY),
        "refuse": Kind("Commands are refused with the device's own error.", _OUTPUTS),
        "stuck_output": Kind("The device accepts commands and keeps its output as it is; of relays: the contacts.", _OUTPUTS),
        "trip": Kind("A protection of the device itself acts and latches.", _POWER),
        "restart": Kind("The device loses power for a moment: output off, set values at their power-up state.", _OUTPUTS),
        "offset": Kind("A sensor reads too much: 0.05 V on a cell if one is given, else 1 A, unless value says.", _SENSED),
        "open_wire": Kind(
            "The sense wire of a cell is open: the BMS reads 0 V there and sets a trouble code.", _BATTERY, cell=True
        ),
        "heat": Kind("A heater takes a cell (all without one) to value degC, 80 unless given, at 5 K/s.", _BATTERY, 80.0),
        "internal_short": Kind("A short inside a cell; value: ohms, 0.02 unless given.", _BATTERY, 0.02, cell=True),
        "bms_enable": Kind("The BMS withdraws the hard-wired enable of the string's converter.", _BATTERY),
        "open_contactor": Kind("The string is disconnected from its converter or from the bus.", _BATTERY),
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is set. `cell` counts from 1."""

    device: str
    kind: str
    value: float
    cell: int | None = None


@dataclass(slots=True)
class DeviceFaults:
    """The faults of one device that act on its wire; the physical ones act on the plant."""

    silence: bool = False
    corrupt: float = 0.0
    late_s: float = 0.0
    wrong_unit: bool = False
    refuse: bool = False
    frozen: bool = False
    current_offset: float = 0.0
    cell_offset_V: dict[int, float] = field(default_factory=dict[int, float])
    open_wires: set[int] = field(default_factory=set[int])
    kept: dict[object, object] = field(default_factory=dict[object, object])
    """Answers of a frozen device."""

    def set(self, fault: Fault) -> None:
        """Let a fault act on the wire or in the sensors; kinds that are physics are left to the plant."""
        if fault.kind == "offset":
            if fault.cell is None:
                self.current_offset = fault.value
            else:
                self.cell_offset_V[fault.cell] = fault.value
        elif fault.kind == "open_wire" and fault.cell is not None:
            self.open_wires.add(fault.cell)
        elif fault.kind == "corrupt":
            self.corrupt = fault.value
        elif fault.kind == "late":
            self.late_s = fault.value
        elif fault.kind == "freeze":
            self.frozen = True
        elif fault.kind in {"silence", "wrong_unit", "refuse"}:
            setattr(self, fault.kind, True)

    def keep(self, key: Hashable, value: _T) -> _T:
        """`value`, or the first one under this key since the device froze."""
        return cast("_T", self.kept.setdefault(key, value)) if self.frozen else value

    def clear(self) -> None:
        """No fault."""
        self.silence = self.wrong_unit = self.refuse = self.frozen = False
        self.corrupt = self.late_s = self.current_offset = 0.0
        self.cell_offset_V.clear()
        self.open_wires.clear()
        self.kept.clear()
