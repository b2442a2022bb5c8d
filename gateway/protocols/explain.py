"""A protocol in plain English, for reading aloud before it is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.protocols import conditions, model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.protocols.build import TrackView
    from gateway.protocols.library import ChargeProtocol

_CHEMISTRIES = {"lfp": "LiFePO4", "lead_acid": "lead-acid", "zinc": "zinc"}


def explain(protocol: ChargeProtocol, parameters: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The protocol as lines; `parameters` replace the defaults in the text."""
    document = protocol.document
    values = {name: parameter.default for name, parameter in document.parameters.items()} | dict(parameters or {})
    lines = [
        f"{document.title} (revision {document.revision}), for {_join([_CHEMISTRIES[name] for name in document.chemistry])}."
    ]
    for name, parameter in document.parameters.items():
        about = f"{parameter.description}: " if parameter.description else ""
        lines.append(f"  ${name} = {values[name]}  ({about}{parameter.min} to {parameter.max})")
    for track in protocol.tracks:
        if document.track:
            lines.append(f"String {track.string}, {track.title}:")
        words = _Words(values, [step.id for step in track.steps])
        lines += [f"  {number}. {words.step(step)}" for number, step in enumerate(track.steps, 1)]
        lines += [f"  Throughout: {text}." for text in words.limits(track)]
    rest = "" if document.finally_.rest == "0 s" else f", then {document.finally_.rest} of watching at rest"
    lines.append(f"In the end, however it ends: zero current, converter off{rest}.")
    lines.append(
        "A trip or a refused command pauses the string until an operator resumes it."
        if document.on_interlock == "pause"
        else "A trip or a refused command aborts the string's track."
    )
    return tuple(lines)


def _join(items: Sequence[str], word: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}" if items else "nothing"


class _Words:
    """Puts steps into words, with parameters replaced by their values."""

    def __init__(self, values: Mapping[str, str], ids: Sequence[str]) -> None:
        self._values = values
        self._ids = ids

    def _text(self, text: str) -> str:
        return self._values.get(text[1:], text) if text.startswith("$") else text

    def step(self, step: model.Step) -> str:
        """One sentence for one step."""
        label = f"{step.label} ({step.id}): " if step.label else f"{step.id}: "
        ends = [self._end(end) for end in step.until]
        if isinstance(step, model.ChargeCccv):
            ends.append(f"the current falls to {self._text(step.taper)}")
        until = f" until {_join(ends, 'or')}" if ends else ""
        waits = "" if step.min_time == "0 s" else f" (not looked at in the first {self._text(step.min_time)})"
        note = f" {step.note}" if step.note else ""
        return f"{label}{self._action(step)}{until}{waits}{self._bound(step)}.{note}"

    def _action(self, step: model.Step) -> str:
        if isinstance(step, model.Rest):
            return "Rest"
        if isinstance(step, model.Charge | model.Discharge):
            return f"{'Charge' if isinstance(step, model.Charge) else 'Discharge'} at {self._text(step.at)}"
        if isinstance(step, model.ChargeCccv):
            return f"Charge at {self._text(step.at)} to {self._held(step.to, step)}, then hold it"
        verb = "Float" if isinstance(step, model.Float) else "Hold"
        return f"{verb} {self._held(step.at, step)}, with at most {self._text(step.current_max)} of charge"

    def _held(self, text: str, step: model.Hold | model.Float | model.ChargeCccv) -> str:
        if text == model.AT_ENTRY:
            return "the pack at the voltage it had when the step before ended"
        where = "the highest cell at" if step.regulate == "highest_cell" else "the pack at"
        ceiling = f" (the pack never above {self._text(step.pack_voltage_max)})" if step.pack_voltage_max else ""
        return f"{where} {self._text(text)}{ceiling}"

    def _end(self, end: model.EndCondition) -> str:
        texts = [self._comparison(item.when or "", item.for_) for item in (end.all or (end,))]
        return _join(texts) + self._then(end.then)

    def _then(self, target: str) -> str:
        known = {"next": "", "end": " (then end)", "abort": " (then abort)"}
        return known.get(target, f" (then go to {target})")

    def _comparison(self, text: str, for_: str) -> str:
        found = conditions.parse(text)
        value = self._text(found.quantity)
        held = "" if for_ == "0 s" else f" for {self._text(for_)}"
        if found.signal == "step_time":
            return f"{value} have passed"
        signal = conditions.SIGNALS[found.signal]
        return f"{signal.rises if conditions.is_upward(found.op) else signal.falls} {value}{held}"

    def _bound(self, step: model.Step) -> str:
        if isinstance(step, model.Float):
            return f", for at most {self._text(step.max_age)}"
        if step.timeout is None:
            return ""
        then = {"abort": "else abort", "next": "then go on", "end": "then end"}
        return f", for at most {self._text(step.timeout.after)}, {then.get(step.timeout.then, f'then go to {step.timeout.then}')}"

    def limits(self, track: TrackView) -> list[str]:
        """One clause for each safety bound in force."""
        found: list[str] = []
        for _, limits in track.limits:
            for key in type(limits).model_fields:
                limit = getattr(limits, key)
                if isinstance(limit, model.Limit):
                    delay = "" if limit.delay == "0 s" else f" for {self._text(limit.delay)}"
                    side = "below" if key.endswith("_min") else "above"
                    what = key.removesuffix("_max").removesuffix("_min").replace("_", " ")
                    found.append(f"{limit.action} when the {what} is {side} {self._text(limit.value)}{delay}")
        return found
