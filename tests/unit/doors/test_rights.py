"""The rights of every verb, role and process, against a list written by hand."""

from __future__ import annotations

import pytest

from gateway.commands import Role
from gateway.rights import CEILINGS, VERBS, refusal

LOOK = {"status", "runs", "protocols", "schedule_list", "alarms", "events", "follow", "report", "stop"}
OPERATE = {
    "start_run", "stop_run", "hold_run", "resume_run", "start_site", "stop_site", "reset", "acknowledge", "write", "safe_state",
}  # fmt: skip
ENGINEER = {"schedule_add", "schedule_remove", "probe"}
ALLOWED = {
    Role.OBSERVER: LOOK,
    Role.OPERATOR: LOOK | OPERATE,
    Role.ENGINEER: LOOK | OPERATE | ENGINEER,
    Role.ADMIN: LOOK | OPERATE | ENGINEER,
}
CARRIED = {
    "cli": LOOK | OPERATE | ENGINEER,
    "hmi": (LOOK | OPERATE | ENGINEER) - {"safe_state"},
    "opcua": (LOOK | OPERATE | ENGINEER) - {"safe_state", "probe"},
    "modbus": {"status", "runs", "alarms", "events", "follow", "report", "stop", "write"},
    "historian": {"report"},
    "planner": {"report"},
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("verb", sorted(LOOK | OPERATE | ENGINEER))
def test_each_verb_needs_its_role(verb: str, role: Role) -> None:
    assert (refusal(verb, role, "cli") == "") == (verb in ALLOWED[role])


@pytest.mark.parametrize("process", sorted(CARRIED))
@pytest.mark.parametrize("verb", sorted(LOOK | OPERATE | ENGINEER))
def test_no_process_exceeds_its_ceiling_whatever_role_it_claims(verb: str, process: str) -> None:
    assert (refusal(verb, Role.ADMIN, process) == "") == (verb in CARRIED[process])


def test_the_lists_are_complete() -> None:
    assert set(VERBS) == LOOK | OPERATE | ENGINEER
    assert set(CEILINGS) == set(CARRIED)


def test_what_no_table_names_is_denied() -> None:
    assert "may not ask" in refusal("bypass", Role.ADMIN, "cli")
    assert "may not ask" in refusal("status", Role.ADMIN, "stranger")
    assert refusal("bypass", Role.ADMIN, "cli", {"cli": frozenset({"bypass"})}) != ""


def test_a_refusal_says_what_is_missing() -> None:
    assert refusal("reset", Role.OBSERVER, "hmi") == "'reset' needs the role operator; the role observer does not suffice"
    assert refusal("reset", Role.ADMIN, "modbus") == "the process 'modbus' may not ask for 'reset'"
