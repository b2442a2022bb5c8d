"""Who may ask for what at the control socket: two tables, and nothing is allowed that they do not say.

A request passes when the user's role is high enough for the verb *and* the verb lies below the ceiling of the process
that carries it, whatever role that process claims for its user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.commands import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_ROLE: Mapping[str, Role] = {
    "status": Role.OBSERVER,
    "runs": Role.OBSERVER,
    "protocols": Role.OBSERVER,
    "schedule_list": Role.OBSERVER,
    "alarms": Role.OBSERVER,
    "events": Role.OBSERVER,
    "follow": Role.OBSERVER,
    "report": Role.OBSERVER,
    "stop": Role.OBSERVER,  # whoever sees danger may stop the plant
    "start_run": Role.OPERATOR,
    "stop_run": Role.OPERATOR,
    "hold_run": Role.OPERATOR,
    "resume_run": Role.OPERATOR,
    "start_site": Role.OPERATOR,
    "stop_site": Role.OPERATOR,
    "reset": Role.OPERATOR,
    "acknowledge": Role.OPERATOR,
    "write": Role.OPERATOR,
    "safe_state": Role.OPERATOR,
    "schedule_add": Role.ENGINEER,
    "schedule_remove": Role.ENGINEER,
    "probe": Role.ENGINEER,
}
"""The least role for each verb; a verb that is not here does not exist."""

VERBS = frozenset(LEAST_ROLE)

CEILINGS: Mapping[str, frozenset[str]] = {
    "cli": VERBS,
    "hmi": VERBS - {"safe_state"},
    "opcua": VERBS - {"safe_state", "probe"},
    "modbus": frozenset({"status", "runs", "alarms", "events", "follow", "report", "stop", "write"}),
    "historian": frozenset({"report"}),
    "planner": frozenset({"report"}),
}
"""The verbs that a process may carry at all; a process that is not here may carry none."""


def refusal(verb: str, role: Role, process: str, ceilings: Mapping[str, frozenset[str]] = CEILINGS) -> str:
    """Why a known verb is not allowed, as a sentence; empty when it is."""
    if verb not in ceilings.get(process, frozenset()):
        return f"the process {process!r} may not ask for {verb!r}"
    least = LEAST_ROLE.get(verb)
    if least is None or role < least:
        wanted = "nobody" if least is None else f"the role {least.name.lower()}"
        return f"{verb!r} needs {wanted}; the role {role.name.lower()} does not suffice"
    return ""
