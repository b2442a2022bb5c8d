"""Whatever the plant does, in whatever order: what the sequence never does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import sequence_rules as rules
from gateway.sequence_state import BUS_UP, Action, Deed, Facts, Outcome, SiteState, StringFacts, initial

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = StringFacts(
    id="A", converter=True, faults_age_s=0.05, reports_faults=True, faults_latched=8, transient_mask=12, current_A=0.0
)
STRING_TROUBLE: list[dict[str, object]] = [
    {"tripped": "cell over-voltage"}, {"safe": False}, {"missing": ("battery.current",)}, {"faults_age_s": 3.0},
    {"faults_live": 8}, {"faults_latched": 9}, {"faults_latched": 0}, {"current_A": -5.0}, {"current_A": None}, {"conflict": "x"},
]  # fmt: skip
SITE_TROUBLE: list[dict[str, object]] = [
    {"problem": "refused"}, {"problem": "refused"}, {"problem": "refused"},
    {"tripped": "STOP"}, {"grid_safe": False}, {"grid_missing": ("grid.voltage",)}, {"output": False}, {"voltage_V": 20.0},
    {"voltage_V": None}, {"protection": "over-voltage"}, {"watchdog_tripped": True}, {"problem": "refused"},
    {"request": "stop"}, {"request": "start"}, {"request": "start"}, {"passes_s": 6.0},
]  # fmt: skip
TROUBLE = st.sampled_from(
    [(None, {})] * 40 + [(s, t) for s in "AB" for t in STRING_TROUBLE] + [("site", t) for t in SITE_TROUBLE]
)
"""A plant that behaves, most of the time: (where, what is different this time)."""

# What lasts is told by how many looks in a row see it.
LOOKS = st.tuples(TROUBLE, st.sampled_from([1, 1, 2, 8]))
STORY = st.lists(LOOKS, min_size=5, max_size=40)


def looks(story: list[tuple[tuple[str | None, dict[str, object]], int]]) -> Iterator[dict[str, object]]:
    for (where, change), times in story:
        for _ in range(times):
            strings = tuple(replace(GOOD, id=own, **(change if where == own else {})) for own in ("A", "B"))
            look = {
                "strings": strings, "output": True, "voltage_V": 24.0, "settled_low_V": 23.8, "settled_high_V": 24.2,
                "tripped": "", "problem": "", "passes_s": 0.3, "request": None,
            }  # fmt: skip
            yield look | (change if where == "site" else {})


@settings(max_examples=200, deadline=None)
@given(STORY)
def test_the_sequence_keeps_its_promises(story) -> None:
    now_s = 100.0
    state = initial(("A", "B"), now_s)
    outcomes: dict[tuple[Deed, str | None], Outcome] = {}
    resets = {"A": 0, "B": 0}
    made_safe = protected = False
    for seen in looks(story):
        problem, passes_s, request = seen.pop("problem"), seen.pop("passes_s"), seen.pop("request")
        now_s += passes_s
        if request == "start" and state.site in {SiteState.STOPPED, SiteState.FAULT} and not seen["tripped"]:
            state, outcomes, resets = rules.start(state, now_s), {}, {"A": 0, "B": 0}
            made_safe = protected = False
        if request == "stop" and state.site not in {SiteState.STOPPED, SiteState.STOPPING} and not seen["tripped"]:
            state, outcomes = rules.stop(state, now_s), {}
        facts = Facts(outcomes=outcomes, **seen)
        before = state
        state, actions = rules.advance(state, facts, now_s)

        if facts.tripped:
            assert actions == ()
            assert state.site is SiteState.FAULT
        if before.site is SiteState.FAULT and before.was_tripped:
            assert state.site in {SiteState.FAULT, SiteState.STOPPED}  # a reset restarts nothing
        for identifier in ("A", "B"):
            if rules.ready(state, identifier):
                assert state.site is SiteState.READY
                assert not next(own for own in facts.strings if own.id == identifier).tripped
        assert not rules.bus_armed(state, now_s) or (state.site in BUS_UP and now_s - state.settled_s >= 1.0)

        for action in actions:
            if action.deed is Deed.ENERGISE:
                assert made_safe
                assert protected
            if action.deed is Deed.RESET:
                resets[action.string] += 1
                own = next(own for own in facts.strings if own.id == action.string)
                assert resets[action.string] <= 1
                assert not own.faults_live
                assert not own.faults_latched & ~own.transient_mask
                assert before.site in BUS_UP
            if before.site in {SiteState.SAFE_OUTPUTS, SiteState.MONITOR}:
                assert action == Action(Deed.MAKE_SAFE)
            outcomes.pop((action.deed, action.string), None)
        made_safe = made_safe or Action(Deed.MAKE_SAFE) in actions
        for action in actions:
            if action.deed not in {Deed.MAKE_SAFE, Deed.RELEASE}:
                outcomes[action.deed, action.string] = Outcome(now_s, problem)
        protected = protected or outcomes.get((Deed.PROTECT, None)) == Outcome(now_s, "")


@settings(deadline=None)
@given(st.lists(LOOKS, min_size=1, max_size=3))
def test_an_ordered_stop_always_comes_to_its_end(story) -> None:
    now_s = 100.0
    state = rules.stop(initial(("A", "B"), now_s), now_s)
    asked: list[Deed] = []
    for look in itertools.cycle(looks(story)):
        seen = {key: value for key, value in look.items() if key not in {"problem", "passes_s", "request"}}
        now_s += 0.1
        state, actions = rules.advance(state, Facts(outcomes={}, **(seen | {"tripped": ""})), now_s)
        asked += [action.deed for action in actions]
        if state.site is SiteState.STOPPED or now_s - 100.0 > 10.5:
            break
    assert state.site is SiteState.STOPPED
    assert asked == sorted(asked, key=[Deed.ZERO, Deed.OFF, Deed.MAKE_SAFE].index)
    assert asked[-1] is Deed.MAKE_SAFE
