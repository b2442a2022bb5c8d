"""From the language to numbers: one track of a protocol on one string becomes a `Program`.

Everything that cannot be resolved is reported as a problem at its key, and building goes on, so that a person sees all
mistakes at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.protocols import conditions, model
from gateway.protocols.program import (
    ABORT,
    END,
    LIMIT_RULES,
    Condition,
    Program,
    ProgramLimit,
    ProgramStep,
    StepKind,
    VoltageTarget,
)
from gateway.protocols.program import End as ProgramEnd
from gateway.units import quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PER_CELL = "/cell"


@dataclass(frozen=True, slots=True)
class Pack:
    """What of a string the language refers to: C-rates need the rated capacity, "2.35 V/cell" the number of cells."""

    string: str
    cells: float
    capacity_Ah: float


@dataclass(slots=True)
class Builder:
    """Resolves one track. `report(key, text)` is called for each mistake."""

    pack: Pack
    parameters: Mapping[str, str]
    report: Callable[[str, str], None]
    _ids: list[str] = field(default_factory=list[str])

    def program(self, file: model.ProtocolFile, track: TrackView) -> Program:
        """The whole track. Where something was reported the numbers are stand-ins, and the program must not be run."""
        self._ids = [step.id for step in track.steps]
        for index, step in enumerate(track.steps):
            if step.id in self._ids[:index]:
                self.report(f"{track.path}step[{index}].id", f"step id '{step.id}' is used twice")
        return Program(
            track=track.id,
            string=self.pack.string,
            cells=self.pack.cells,
            capacity_Ah=self.pack.capacity_Ah,
            steps=tuple(self._step(step, index, f"{track.path}step[{index}]") for index, step in enumerate(track.steps)),
            limits=tuple(limit for path, limits in track.limits for limit in self._limits(limits, path)),
            data_age_max_s=min(self.number(limits.data_age_max, "s", f"{path}.data_age_max") for path, limits in track.limits),
            finally_rest_s=self.number(file.finally_.rest, "s", "finally.rest"),
            on_interlock=file.on_interlock,
        )

    def text(self, text: str, key: str) -> str:
        """The text with its "$parameter" replaced by the value in force."""
        if not text.startswith("$"):
            return text
        name = text[1:]
        if name not in self.parameters:
            known = ", ".join(f"${known}" for known in sorted(self.parameters)) or "none"
            self.report(key, f"unknown parameter '{text}'; known parameters: {known}")
            return ""
        return self.parameters[name]

    def number(self, text: str, unit: str, key: str) -> float:
        """A quantity as a number in `unit`; 0 where it was reported."""
        text = self.text(text, key)
        if not text:
            return 0.0
        try:
            return quantity(text, unit, capacity_Ah=self.pack.capacity_Ah)
        except ValueError as error:
            self.report(key, str(error))
            return 0.0

    def _magnitude(self, text: str, unit: str, key: str) -> float:
        value = self.number(text, unit, key)
        if value < 0.0:
            self.report(key, f"'{text}' is negative; directions are words (charge, discharge), magnitudes are positive")
        return abs(value)

    def _current(self, text: str, key: str) -> float:
        value = self._magnitude(text, "A", key)
        if value == 0.0 and self.text(text, key).strip().startswith("0"):
            self.report(key, f"'{text}' moves nothing; use a rest step")
        return value

    def _voltage(self, text: str, key: str) -> float:
        resolved = self.text(text, key).strip()
        if resolved.endswith(_PER_CELL):
            return self._magnitude(resolved[: -len(_PER_CELL)], "V", key) * self.pack.cells
        return self._magnitude(text, "V", key)

    def _step(self, step: model.Step, index: int, path: str) -> ProgramStep:
        timeout = None if isinstance(step, model.Float) else step.timeout
        timeout_s = self._magnitude(timeout.after, "s", f"{path}.timeout") if timeout else None
        return ProgramStep(
            id=step.id,
            label=step.label or step.id,
            kind=StepKind(step.do),
            path=path,
            direction=0 if isinstance(step, model.Rest) else 1 if isinstance(step, model.Discharge) else -1,
            current_A=self._step_current(step, path),
            target=self._target(step, path),
            ends=self._ends(step, index, path),
            timeout_s=timeout_s,
            timeout_then=self._then(timeout.then, index, f"{path}.timeout") if timeout else ABORT,
            timeout_text=self.text(timeout.after, f"{path}.timeout") if timeout else "",
            min_time_s=self._magnitude(step.min_time, "s", f"{path}.min_time"),
        )

    def _step_current(self, step: model.Step, path: str) -> float:
        if isinstance(step, model.Rest):
            return 0.0
        if isinstance(step, model.Hold | model.Float):
            return self._current(step.current_max, f"{path}.current_max")
        return self._current(step.at, f"{path}.at")

    def _target(self, step: model.Step, path: str) -> VoltageTarget | None:
        if isinstance(step, model.Charge | model.Discharge | model.Rest):
            return None
        key = "to" if isinstance(step, model.ChargeCccv) else "at"
        text = step.to if isinstance(step, model.ChargeCccv) else step.at
        pack_max = step.pack_voltage_max
        pack_max_V = self._voltage(pack_max, f"{path}.pack_voltage_max") if pack_max is not None else None
        if text == model.AT_ENTRY:
            if step.regulate != "pack" or not isinstance(step, model.Hold):
                self.report(f"{path}.{key}", f'"{model.AT_ENTRY}" is for a hold with regulate = "pack"')
            return VoltageTarget(None, None, pack_max_V)
        voltage_V = self._voltage(text, f"{path}.{key}")
        if step.regulate == "pack":
            return VoltageTarget(voltage_V, None, pack_max_V)
        cell_V = voltage_V / self.pack.cells if text.endswith(_PER_CELL) else voltage_V
        if pack_max_V is None:
            self.report(f"{path}.regulate", 'regulating the highest cell needs a ceiling, such as pack_voltage_max = "14.3 V"')
        return VoltageTarget(None, cell_V, pack_max_V)

    def _ends(self, step: model.Step, index: int, path: str) -> tuple[ProgramEnd, ...]:
        ends = [self._end(end, index, f"{path}.until[{position}]") for position, end in enumerate(step.until)]
        if isinstance(step, model.ChargeCccv):
            amps = self._current(step.taper, f"{path}.taper")
            text = f"current <= {self.text(step.taper, f'{path}.taper')}"
            ends.append(ProgramEnd((Condition("current", "<=", amps, text),), self._next(index), text))
        if isinstance(step, model.Float):
            age_s = self._magnitude(step.max_age, "s", f"{path}.max_age")
            text = f"step_time >= {self.text(step.max_age, f'{path}.max_age')}"
            ends.append(ProgramEnd((Condition("step_time", ">=", age_s, text),), self._next(index), text))
        return tuple(ends)

    def _end(self, end: model.EndCondition, index: int, key: str) -> ProgramEnd:
        if (end.when is None) == (not end.all):
            self.report(key, 'an end condition is a text, or a table with "when", or a list of them')
        items: list[Condition] = []
        if end.when is not None:
            items.append(self._condition(end.when, end.for_, key))
        for position, item in enumerate(end.all):
            inner = f"{key}[{position}]"
            if item.then != "next" or item.all:
                self.report(inner, 'inside a list that needs all of its items, an item is a comparison, without "then"')
            items.append(self._condition(item.when or "", item.for_, inner))
        return ProgramEnd(tuple(items), self._then(end.then, index, key), " and ".join(item.text for item in items))

    def _condition(self, text: str, for_: str, key: str) -> Condition:
        try:
            found = conditions.parse(text)
        except ValueError as error:
            self.report(key, str(error))
            return Condition("step_time", ">=", 0.0, text)
        signal = conditions.SIGNALS[found.signal]
        bound = self.number(found.quantity, signal.unit, key)
        shown = f"{found.signal} {found.op} {self.text(found.quantity, key) or found.quantity}"
        return Condition(found.signal, found.op, bound, shown, self._magnitude(for_, "s", key))

    def _next(self, index: int) -> int:
        return index + 1 if index + 1 < len(self._ids) else END

    def _then(self, target: str, index: int, key: str) -> int:
        fixed = {"next": self._next(index), "end": END, "abort": ABORT}
        if target in fixed:
            return fixed[target]
        if target not in self._ids:
            self.report(key, f'then = "{target}": no such step; use "next", "end", "abort" or the id of a later step')
            return ABORT
        if self._ids.index(target) <= index:
            self.report(key, f'then = "{target}" jumps backwards; only later steps can be named')
        return self._ids.index(target)

    def _limits(self, limits: model.Limits, path: str) -> list[ProgramLimit]:
        found: list[ProgramLimit] = []
        for key, rule in LIMIT_RULES.items():
            limit: model.Limit | None = getattr(limits, key)
            if limit is None:
                continue
            bound = self.number(limit.value, rule.unit, f"{path}.{key}")
            text = f"{key} {self.text(limit.value, f'{path}.{key}')}"
            delay_s = self._magnitude(limit.delay, "s", f"{path}.{key}")
            found.append(ProgramLimit(key, rule.signal, rule.beyond, bound, text, delay_s, limit.action))
        return found


@dataclass(frozen=True, slots=True)
class TrackView:
    """One track, the same for files with and without `[[track]]`. `path` starts the keys of its steps."""

    id: str
    string: str
    title: str
    chemistry: tuple[str, ...]
    steps: Sequence[model.Step]
    limits: tuple[tuple[str, model.Limits], ...]
    """The limits in force with the key of their table: the file's own, and the track's."""
    path: str


def tracks(file: model.ProtocolFile) -> tuple[TrackView, ...]:
    """The tracks of a file; a file with plain steps has one, without a string of its own."""
    if not file.track:
        return (TrackView("main", "", file.title, file.chemistry, file.step, (("limits", file.limits),), ""),)
    return tuple(
        TrackView(
            track.id,
            track.string,
            track.title or track.id,
            track.chemistry or file.chemistry,
            track.step,
            (("limits", file.limits), (f"track[{index}].limits", track.limits)),
            f"track[{index}].",
        )
        for index, track in enumerate(file.track)
    )
