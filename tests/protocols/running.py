"""Runs a protocol on the pack model, without runner and gate: engine and physics only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.protocols import engine
from gateway.protocols.build import Builder, Pack, tracks
from gateway.protocols.library import ChargeProtocol, load_protocol
from gateway.protocols.state import ConverterDemand, Event, Inputs, Now, TrackState

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.protocols.program import Program
    from tests.protocols.pack_model import PackModel

ROOT = Path(__file__).parents[2]


def shipped(name: str) -> ChargeProtocol:
    return load_protocol(ROOT / "protocols" / f"{name}.toml", f"protocols/{name}.toml")


def written(folder: Path, text: str, name: str = "test.toml") -> ChargeProtocol:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_protocol(path, name)


def program_of(protocol: ChargeProtocol, track: int = 0, cells: int = 4, capacity_Ah: float = 25.0, **parameters: str) -> Program:
    problems: list[tuple[str, str]] = []
    values = {name: parameter.default for name, parameter in protocol.parameters.items()} | parameters
    builder = Builder(Pack("A", cells, capacity_Ah), values, lambda key, text: problems.append((key, text)))
    program = builder.program(protocol.document, tracks(protocol.document)[track])
    assert problems == []
    return program


@dataclass
class Ran:
    state: TrackState
    site_s: float = 0.0
    real_s: float = 0.0
    events: list[Event] = field(default_factory=list)
    demands: list[ConverterDemand | None] = field(default_factory=list)
    max_V: dict[str, float] = field(default_factory=dict)
    """The pack model's true highest cell in each step."""
    modes: dict[str, set[str]] = field(default_factory=dict)
    currents: dict[str, list[float]] = field(default_factory=dict)


def run(
    program: Program,
    model: PackModel,
    *,
    real_step_s: float = 0.12,
    fast: float = 60.0,
    slow: float = 5.0,
    change: Callable[[Inputs, float], Inputs] | None = None,
    disturb: Callable[[PackModel, float], None] | None = None,
    until_s: float = 40 * 86400.0,
) -> Ran:
    """Fold the engine over the model; the clock slows down near an end, as the demonstration's does."""
    ran = Ran(TrackState())
    while not ran.state.status.is_over and ran.site_s < until_s:
        if disturb is not None:
            disturb(model, ran.site_s)
        inputs = model.inputs() if change is None else change(model.inputs(), ran.site_s)
        result = engine.advance(program, ran.state, inputs, Now(ran.site_s, ran.real_s))
        ran.state = result.state
        ran.events.extend(result.events)
        ran.demands.append(result.demand)
        dt_s = real_step_s * (slow if engine.time_to_end_s(ran.state) < 60.0 else fast)
        if result.demand is not None:
            model.max_V = 0.0
            model.step(result.demand, dt_s)
            if ran.state.step is not None:
                step = program.steps[ran.state.index].id
                ran.max_V[step] = max(ran.max_V.get(step, 0.0), model.max_V)
                ran.modes.setdefault(step, set()).add(model.mode.value)
                ran.currents.setdefault(step, []).append(model.current_A)
        ran.site_s += dt_s
        ran.real_s += real_step_s
    return ran
