"""What else is wrong in a protocol file that is not well-formed: its sound parts are looked at all the same.

Whatever pydantic refused is taken out or replaced by something harmless, and remembered, so that nothing is said about it
twice. Only what each part says by itself is then judged; how the steps follow one another cannot be, with some missing.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from gateway.protocols import lint, model
from gateway.toml_lines import join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

_STAND_INS: Mapping[str, object] = {
    "title": "untitled",
    "chemistry": ["lfp"],
    "timeout": "1 h",
    "current_max": "1 A",
    "taper": "1 A",
    "max_age": "1 d",
    "until": [],
}


def further_mistakes(table: Mapping[str, object], details: Sequence[ErrorDetails]) -> list[tuple[str, str]]:
    """Mistakes as (key, text) besides those of pydantic; none where too little is left of the file."""
    mended = copy.deepcopy(dict(table))
    touched = [
        _mend(mended, [part for part in detail["loc"] if part not in model.STEP_KINDS], detail["type"]) for detail in details
    ]
    try:
        document = model.ProtocolFile.model_validate(mended)
    except ValidationError:
        return []
    return [(key, text) for key, text in lint.mistakes(document, alone=True) if not any(_within(key, path) for path in touched)]


def _within(key: str, path: str) -> bool:
    return key == path or key.startswith((f"{path}.", f"{path}["))


def _mend(table: dict[str, object], loc: Sequence[int | str], kind: str) -> str:
    """Take one mistake out of the table; the key of what was touched, about which nothing more is to be said."""
    owner, last = _follow(table, loc[:-1]), loc[-1]
    if isinstance(owner, dict):
        entries = cast("dict[int | str, object]", owner)
        if kind == "extra_forbidden":
            entries.pop(last, None)
            return _key(loc)
        if kind == "missing" and last in _STAND_INS:
            entries[last] = _STAND_INS[str(last)]
            return _key(loc)
    place = next((at for at in range(1, len(loc)) if loc[at - 1] == "step" and isinstance(loc[at], int)), None)
    if place is not None:
        steps = cast("list[object]", _follow(table, loc[:place]))
        number = cast("int", loc[place])
        steps[number] = _harmless(steps[number], number)
        return _key(loc[: place + 1])
    if isinstance(owner, dict):
        cast("dict[int | str, object]", owner).pop(last, None)
    return _key(loc)


def _harmless(step: object, number: int) -> dict[str, object]:
    named = cast("dict[str, object]", step).get("id") if isinstance(step, dict) else None
    identifier = named if isinstance(named, str) and named.isidentifier() else f"unnamed_{number}"
    return {"id": identifier, "do": "rest", "until": ["step_time >= 1 min"]}


def _follow(table: object, way: Sequence[int | str]) -> object:
    """What is found there; None when there is no such place."""
    found = table
    for part in way:
        if isinstance(found, dict):
            found = cast("dict[int | str, object]", found).get(part)
        elif isinstance(found, list) and isinstance(part, int) and part < len(cast("list[object]", found)):
            found = cast("list[object]", found)[part]
        else:
            return None
    return found


def _key(loc: Sequence[int | str]) -> str:
    path = ""
    for part in loc:
        path = join(path, part)
    return path
