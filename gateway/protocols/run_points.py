"""The points that show each string's run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.points import Kind, Point, Quality
from gateway.protocols.state import Status

if TYPE_CHECKING:
    from gateway.protocols.program import Program
    from gateway.protocols.state import TrackState
    from gateway.site import Site

STATES = dict(enumerate(status.value for status in Status))
_NUMBER = {status: number for number, status in enumerate(Status)}


class RunBlock(Protocol):
    """Where the points are written."""

    def put(self, name: str, value: float | str | None, quality: Quality = Quality.GOOD, time_ns: int | None = None) -> None:
        """Set one point."""
        ...


def points(site: Site) -> tuple[Point, ...]:
    """`string.<id>.run.*` of every string."""
    return tuple(point for string in site.strings for point in _points(f"{string.prefix}.run"))


def _points(prefix: str) -> tuple[Point, ...]:
    def text(name: str, description: str) -> Point:
        return Point(name=f"{prefix}.{name}", kind=Kind.TEXT, description=description)

    def number(name: str, unit: str, description: str, deadband: float = 0.0, kind: Kind = Kind.ANALOG) -> Point:
        return Point(name=f"{prefix}.{name}", kind=kind, unit=unit, description=description, deadband=deadband)

    return (
        Point(name=f"{prefix}.state", kind=Kind.ENUM, symbols=STATES, description="State of the string's run"),
        text("id", "Id of the present or last run"),
        text("protocol", "Protocol of the present or last run"),
        text("step", "Id of the step in progress"),
        text("step_label", "What the step in progress is called"),
        number("step_index", "", "Number of the step in progress, from 1; 0 when none", kind=Kind.INTEGER),
        number("step_count", "", "Number of steps", kind=Kind.INTEGER),
        number("step_elapsed", "s", "Site time in the step, without pauses", 1.0),
        number("step_charge", "Ah", "Charge moved in the step, in its direction", 0.001),
        number("step_energy", "Wh", "Energy moved in the step, in its direction", 0.01),
        text("nearest_end", "The end condition that is expected first"),
        number("nearest_end_distance", "", "How far its signal is from its bound, in nearest_end_unit"),
        text("nearest_end_unit", "Unit of nearest_end_distance"),
        number("nearest_end_eta", "s", "Site time to it, told rather too short than too long; bad when it is not in sight", 1.0),
        number("progress", "%", "Share of the run that is done", 0.1),
        text("reason", "Why the run is paused, or how it ended"),
    )


def names(prefix: str) -> list[str]:
    """The full names below `string.<id>`."""
    return [point.name for point in _points(f"{prefix}.run")]


def clear(block: RunBlock, prefix: str) -> None:
    """No run yet."""
    for point in _points(f"{prefix}.run"):
        if point.kind is Kind.TEXT:
            block.put(point.name, "")
        elif point.name.endswith(("_distance", "_eta")):
            block.put(point.name, None, Quality.BAD_OUT_OF_SERVICE)
        else:
            block.put(point.name, 0.0)


def show_run(block: RunBlock, prefix: str, run_id: str, protocol: str, program: Program) -> None:
    """What stays the same during a run."""
    block.put(f"{prefix}.run.id", run_id)
    block.put(f"{prefix}.run.protocol", protocol)
    block.put(f"{prefix}.run.step_count", float(len(program.steps)))


def show(block: RunBlock, prefix: str, program: Program, state: TrackState, status: Status) -> None:
    """The present state of a track; `status` may lag the engine's while the outputs are not yet confirmed off."""
    put = f"{prefix}.run."
    block.put(f"{put}state", float(_NUMBER[status]))
    block.put(f"{put}reason", state.reason)
    step = state.step
    done = state.index + (step.progress if step is not None else 0.0)
    share = 1.0 if state.status is Status.COMPLETED else done / len(program.steps)
    block.put(f"{put}progress", round(100.0 * share, 2))
    nearest = step.nearest if step is not None else None
    block.put(f"{put}step", program.steps[state.index].id if step is not None else "")
    block.put(f"{put}step_label", program.steps[state.index].label if step is not None else "")
    block.put(f"{put}step_index", float(state.index + 1) if step is not None else 0.0)
    if step is not None:
        block.put(f"{put}step_elapsed", step.elapsed_s)
        block.put(f"{put}step_charge", step.charge_Ah)
        block.put(f"{put}step_energy", step.energy_Wh)
    block.put(f"{put}nearest_end", nearest.text if nearest else "")
    block.put(f"{put}nearest_end_unit", nearest.unit if nearest else "")
    _put_optional(block, f"{put}nearest_end_distance", nearest.distance if nearest else None)
    _put_optional(block, f"{put}nearest_end_eta", nearest.eta_s if nearest and nearest.eta_s < float("inf") else None)


def _put_optional(block: RunBlock, name: str, value: float | None) -> None:
    block.put(name, value, Quality.GOOD if value is not None else Quality.BAD_OUT_OF_SERVICE)
