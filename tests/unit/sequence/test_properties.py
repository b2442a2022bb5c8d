"""Whatever the plant does, in whatever order: what the sequence never does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import sequence_rules as rules
from gateway.sequence_state import BUS_UP, Action, Deed, Facts, Outcome, SiteState, StringFacts, initial

PATIENT = st.sampled_from(["", "", "", "refused"])


@st.composite
def looks(draw: st.DrawFn) -> dict[str, object]:
    """One look at a plant that mostly behaves, and what becomes of the deeds that are under way."""
    mostly = st.sampled_from([True] * 9 + [False])
    strings = tuple(
        StringFacts(
            id=identifier,
            converter=True,
            tripped="" if draw(mostly) else "cell over-voltage",
            safe=draw(mostly),
            missing=() if draw(mostly) else ("battery.current",),
            faults_age_s=draw(st.sampled_from([0.0, 0.05, 3.0])),
            reports_faults=True,
            faults_live=draw(st.sampled_from([0, 0, 0, 8])),
            faults_latched=draw(st.sampled_from([0, 8, 8, 9])),
            transient_mask=12,
            current_A=draw(st.sampled_from([0.0, -5.0, None])),
        )
        for identifier in ("A", "B")
    )
    return {
        "strings": strings,
        "tripped": draw(st.sampled_from([""] * 30 + ["STOP"])),
        "grid_safe": draw(mostly),
        "grid_missing": () if draw(mostly) else ("grid.voltage",),
        "output": draw(mostly),
        "voltage_V": draw(st.sampled_from([24.0] * 6 + [20.0, None])),
        "settled_low_V": 23.8,
        "settled_high_V": 24.2,
        "protection": draw(st.sampled_from([""] * 8 + ["over-voltage"])),
        "problem": draw(PATIENT),
        "passes_s": draw(st.sampled_from([0.1, 0.1, 0.6, 6.0])),
        "request": draw(st.sampled_from([None] * 20 + ["start", "stop"])),
    }


@settings(max_examples=60)
@given(st.lists(looks(), min_size=5, max_size=50))
def test_the_sequence_keeps_its_promises(story: list[dict[str, object]]) -> None:
    now_s = 100.0
    state = initial(("A", "B"), now_s)
    outcomes: dict[tuple[Deed, str | None], Outcome] = {}
    resets = {"A": 0, "B": 0}
    made_safe = protected = False
    for look in story:
        seen = dict(look)
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


@settings(max_examples=50)
@given(st.lists(looks(), min_size=1, max_size=8))
def test_an_ordered_stop_always_comes_to_its_end(story: list[dict[str, object]]) -> None:
    now_s = 100.0
    state = rules.stop(initial(("A", "B"), now_s), now_s)
    asked: list[Deed] = []
    for look in story * 120:
        seen = {key: value for key, value in look.items() if key not in {"problem", "passes_s", "request"}}
        now_s += 0.1
        state, actions = rules.advance(state, Facts(outcomes={}, **(seen | {"tripped": ""})), now_s)
        asked += [action.deed for action in actions]
        if state.site is SiteState.STOPPED or now_s - 100.0 > 10.5:
            break
    assert state.site is SiteState.STOPPED
    assert asked == sorted(asked, key=[Deed.ZERO, Deed.OFF, Deed.MAKE_SAFE].index)
    assert asked[-1] is Deed.MAKE_SAFE
