"""The rules that a command must pass, in order; the first refusal wins. Each is one pure function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from gateway.commands import Code, Command, Rank, Verdict
from gateway.gate_targets import VOLTAGE_MODE, Target
from gateway.points import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.points import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a target, until when (real monotonic seconds, inf without a lease), and the journal id of the taking."""

    owner: str
    rank: Rank
    until_s: float
    record: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the rules look at besides the command. `tripped` and `no_charge` are reasons, empty when there are none.

    `commanded` holds what the target was last told (canonical).
    """

    target: Target
    snapshot: Snapshot
    commanded: Mapping[str, float]
    holder: Holder | None
    tripped: str
    no_charge: str
    permit: Callable[[Command], Verdict | None]

    def after(self, command: Command) -> Mapping[str, float]:
        """What the target would hold when the command has been carried out."""
        return {**self.commanded, **command.values}


def judge(command: Command, situation: Situation) -> Verdict | None:
    """The refusal of the first rule that refuses, else None."""
    for rule in RULES:
        verdict = rule(command, situation)
        if verdict is not None:
            return verdict
    return None


def _writable(command: Command, situation: Situation) -> Verdict | None:
    if not command.values:
        return Verdict(Code.INVALID, "the command sets nothing")
    unknown = [name for name in command.values if name not in situation.target.device_names]
    if not unknown:
        return None
    readable = all(name in situation.target.device.points for name in unknown)
    what = "cannot be written" if readable else "does not exist"
    return Verdict(
        Code.NOT_WRITABLE if readable else Code.UNKNOWN, f"{', '.join(f'{command.target}.{name}' for name in unknown)} {what}"
    )


def _well_formed(command: Command, situation: Situation) -> Verdict | None:
    for name, value in command.values.items():
        given = cast("object", value)  # what comes over a socket is a number only by promise
        if not isinstance(given, (int, float)) or not math.isfinite(given):
            return Verdict(Code.INVALID, f"{command.target}.{name} must be a finite number, got {value!r}")
        if situation.target.kinds[name] is not Kind.ANALOG and value != int(value):
            return Verdict(Code.INVALID, f"{command.target}.{name} must be a whole number, got {value:g}")
    if command.lease_s is not None and not command.lease_s > 0.0:
        return Verdict(Code.INVALID, f"a lease must be longer than 0 s, got {command.lease_s:g} s")
    return None


def _in_device_range(command: Command, situation: Situation) -> Verdict | None:
    target = situation.target
    for name, value in target.to_device(command.values).items():
        low, high = target.device.writable[name]
        if not low <= value <= high:
            return Verdict(Code.OUT_OF_RANGE, f"{name} of {target.device.id} is {value:g}, must lie between {low:g} and {high:g}")
    return None


def _within_string_limits(command: Command, situation: Situation) -> Verdict | None:
    string = situation.target.string
    if string is None:
        return None
    limits, values = string.limits, command.values
    charge_A, discharge_A = limits.charge_current_max_A, limits.discharge_current_max_A
    windows = {
        "current_setpoint": (-charge_A, discharge_A),
        "charge_current_limit": (0.0, charge_A),
        "discharge_current_limit": (0.0, discharge_A),
    }
    after = situation.after(command)
    if after.get("mode_setpoint") == VOLTAGE_MODE and situation.target.energised(after):
        # Judged even when the voltage came with an earlier command: it takes effect with this one.
        values = {**values, "voltage_setpoint": after.get("voltage_setpoint", math.nan)}
        windows["voltage_setpoint"] = (string.cells * limits.cell_voltage_min_V, string.cells * limits.cell_voltage_max_V)
    for name, (low, high) in windows.items():
        value = values.get(name)
        if value is not None and not low <= value <= high:
            return Verdict(
                Code.OUT_OF_RANGE, f"{command.target}.{name} is {value:g}, the limits of the string allow {low:g} to {high:g}"
            )
    return None


def _not_owned_by_another(command: Command, situation: Situation) -> Verdict | None:
    holder = situation.holder
    if not command.owner:
        return Verdict(Code.INVALID, "the command names no owner")
    if holder is None or holder.owner == command.owner or command.rank > holder.rank:
        return None
    return Verdict(Code.OWNED, f"{command.target} is held by {holder.owner} ({holder.rank.name.lower()})")


def _not_tripped(command: Command, situation: Situation) -> Verdict | None:
    if not situation.tripped:
        return None
    return Verdict(Code.TRIPPED, f"{command.target} is tripped: {situation.tripped}")


def _charge_allowed(command: Command, situation: Situation) -> Verdict | None:
    if not situation.no_charge or not situation.target.charges(situation.after(command)):
        return None
    return Verdict(Code.NOT_PERMITTED, f"{command.target} must not charge: {situation.no_charge}")


def _telemetry_fresh(command: Command, situation: Situation) -> Verdict | None:
    target = situation.target
    if not target.energised(situation.after(command)):
        return None
    missing = [name for name in target.telemetry if situation.snapshot.number(name) is None]
    if not missing:
        return None
    return Verdict(Code.NOT_PERMITTED, f"{command.target} must not be on without good telemetry of {', '.join(missing)}")


def _permitted(command: Command, situation: Situation) -> Verdict | None:
    # The sequence makes the site ready, so it cannot wait for that; and nobody needs leave to make a thing safe.
    if command.rank is Rank.SEQUENCE or situation.target.is_safe(command.values):
        return None
    return situation.permit(command)


RULES = (
    _writable,
    _well_formed,
    _in_device_range,
    _within_string_limits,
    _not_owned_by_another,
    _not_tripped,
    _charge_allowed,
    _telemetry_fresh,
    _permitted,
)
"""In the order of judging: is the request sound, is it the asker's to make, may it be done now."""
