"""How the demonstration judges a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from gateway.demo import Demo, Watch, disturbance, overshoot_mV, show
from gateway.paths import Paths


class TestOvershoot:
    def test_it_is_how_far_the_true_maximum_went_beyond_the_end(self) -> None:
        assert overshoot_mV({"ended_by": "cell_voltage_max >= 3.6 V"}, 3.6031) == pytest.approx(3.1)

    def test_it_is_negative_when_the_plant_stayed_below_what_was_measured(self) -> None:
        assert overshoot_mV({"ended_by": "cell_voltage_max >= 2.35 V"}, 2.3495) == pytest.approx(-0.5)

    @pytest.mark.parametrize("ended_by", ["cell_voltage_max > 2.3 V", "cell_voltage_max>=2.3 V", "cell_voltage_max  >=  2.3  V"])
    def test_it_does_not_depend_on_the_spelling(self, ended_by: str) -> None:
        assert overshoot_mV({"ended_by": ended_by}, 2.301) == pytest.approx(1.0)

    @pytest.mark.parametrize(
        "ended_by",
        ["step_time >= 10 min", "current <= C/50", "cell_voltage_min <= 2.5 V", "timeout", "", None],
    )
    def test_other_ends_have_none(self, ended_by: str | None) -> None:
        assert overshoot_mV({"ended_by": ended_by}, 3.7) is None

    def test_a_step_that_was_never_seen_has_none(self) -> None:
        assert overshoot_mV({"ended_by": "cell_voltage_max >= 3.6 V"}, None) is None
        assert overshoot_mV({}, 3.7) is None


def samples(bulk: list[float], absorb: list[float]) -> list[tuple[str, float]]:
    return [*(("bulk", current) for current in bulk), *(("absorb", current) for current in absorb)]


class TestDisturbance:
    def test_a_current_that_stays_is_not_disturbed(self) -> None:
        assert disturbance(samples([-5.0] * 30, [-5.0] * 30)) == 0.0

    def test_it_is_the_largest_deviation_from_the_mean_before(self) -> None:
        assert disturbance(samples([-5.01, -4.99], [-5.0, -5.1, -4.95])) == pytest.approx(0.02)

    def test_only_samples_near_the_step_count(self) -> None:
        assert disturbance(samples([-9.0] * 5 + [-5.0] * 20, [-5.0] * 20 + [0.0] * 5)) == 0.0

    def test_a_single_sample_after_the_step_counts(self) -> None:
        assert disturbance(samples([-5.0] * 20, [-4.0])) == pytest.approx(0.2)

    @pytest.mark.parametrize(("bulk", "absorb"), [([], [-5.0]), ([-5.0], []), ([], []), ([0.0], [-5.0])])
    def test_without_both_sides_there_is_nothing_to_compare(self, bulk: list[float], absorb: list[float]) -> None:
        assert disturbance(samples(bulk, absorb)) is None

    def test_samples_of_other_steps_are_ignored(self) -> None:
        assert disturbance([("relax", 0.0), *samples([-5.0], [-5.0]), ("relax", 0.0)]) == 0.0


def run(state: str = "completed") -> dict[str, object]:
    lithium = {"id": "bulk", "ended_by": "cell_voltage_max >= 3.6 V", "value": 3.6003, "unit": "V", "elapsed_s": 1795.4}
    lead = [
        {"id": "bulk", "ended_by": "cell_voltage_max >= 2.3 V", "value": 2.3, "unit": "V", "elapsed_s": 700.0},
        {"id": "absorb", "ended_by": "current <= C/50", "value": 0.5, "unit": "A", "elapsed_s": 3187.0},
    ]
    return {"state": state, "reason": "", "tracks": [{"string": "A", "steps": [lithium]}, {"string": "B", "steps": lead}]}


def judged(lithium: Watch, lead: Watch, **changes: str) -> dict:
    """The document of a run of which this was seen."""
    demo = Demo(Paths(Path(), Path()), Console(), live=False, trouble=list)
    demo._watches = {"A": lithium, "B": lead}
    return demo._document(run(**changes), {"trips": [], "endpoints": {"opcua": "opc.tcp://127.0.0.1:4840"}})


def good() -> tuple[Watch, Watch]:
    lithium = Watch(true_max_V={"bulk": 3.6014}, current_A=samples([-5.0] * 20, [-5.001] * 20))
    return lithium, Watch(true_max_V={"bulk": 2.3001}, voltage_mode_current_A=[5.0, 3.0, 0.5])


class TestJudgement:
    def test_a_good_run_is_ok(self) -> None:
        document = judged(*good())
        assert document["ok"]
        assert document["failures"] == []
        assert document["cv"] == {"string": "B", "samples": 3, "current_min_A": 0.5}
        assert document["disturbance_percent"] == pytest.approx(0.02)
        assert document["run"]["tracks"][0]["steps"][0]["overshoot_mV"] == pytest.approx(1.4)
        assert "overshoot_mV" not in document["run"]["tracks"][1]["steps"][1]

    def test_a_run_that_did_not_complete_fails(self) -> None:
        assert judged(*good(), state="aborted")["failures"] == ["the run ended aborted: "]

    @pytest.mark.parametrize("true_max_V", [3.6051, 3.7, float("nan")])
    def test_five_millivolts_beyond_an_end_fail(self, true_max_V: float) -> None:
        lithium, lead = good()
        lithium.true_max_V["bulk"] = true_max_V
        document = judged(lithium, lead)
        assert not document["ok"]
        assert document["failures"][0].startswith("string A, step bulk overshot its end by")

    def test_one_percent_of_disturbance_fails(self) -> None:
        lithium, lead = good()
        lithium.current_A = samples([-5.0] * 20, [-5.06] * 20)
        assert judged(lithium, lead)["failures"] == ["the step to constant voltage moved the lithium current by 1.2%"]

    def test_a_step_to_constant_voltage_that_was_never_seen_fails(self) -> None:
        lithium, lead = good()
        lithium.current_A = samples([-5.0] * 20, [])
        document = judged(lithium, lead)
        assert len(document["failures"]) == 1
        assert document["disturbance_percent"] is None

    @pytest.mark.parametrize("currents_A", [[], [5.0, 4.0], [4.5]])
    def test_a_constant_voltage_that_was_not_real_fails(self, currents_A: list[float]) -> None:
        lithium, lead = good()
        lead.voltage_mode_current_A = currents_A
        document = judged(lithium, lead)
        assert not document["ok"]
        assert "string B" in document["failures"][0]

    def test_a_string_that_was_never_seen_fails(self) -> None:
        assert not judged(Watch(), Watch())["ok"]


def shown(document: dict) -> str:
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        show(document, console)
    return console.export_text()


def test_the_result_tells_what_ended_each_step() -> None:
    text = shown(judged(*good()))
    for words in ("cell_voltage_max >= 3.6 V", "3.6 V", "0:29:55", "1.4 mV", "current <= C/50", "0.5 A", "both strings charged"):
        assert words in text
    assert "FAILED" not in text


def test_the_result_tells_why_it_failed_and_what_was_noted() -> None:
    document = judged(*good(), state="aborted") | {"notes": ["opcua is not running: [Errno 98]"]}
    text = shown(document)
    assert "FAILED the run ended aborted" in text
    assert "note opcua is not running: [Errno 98]" in text
    assert "both strings charged" not in text
