"""Which policy governs an operation on a table, and why the others that would like to do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from control_plane.domain.identifiers import OperationType, PolicyName, TableName
from control_plane.domain.pattern import Specificity
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import PolicyMode


class LossReason(StrEnum):
    """Why a policy that matches the table and configures the operation does not govern it."""

    DISABLED = "DISABLED"
    LOWER_PRIORITY = "LOWER_PRIORITY"
    LESS_SPECIFIC = "LESS_SPECIFIC"
    CREATED_EARLIER = "CREATED_EARLIER"
    LATER_NAME = "LATER_NAME"


@dataclass(frozen=True, slots=True)
class Loser:
    """A policy that does not govern. `detail` says why, for people."""

    policy: PolicyName
    reason: LossReason
    detail: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The policy that governs one operation type of one table, if any, and the others, nearest to governing first."""

    winner: Policy | None
    losers: tuple[Loser, ...]


def resolve(
    policies: Iterable[Policy],
    table: TableName,
    operation_type: OperationType,
    *,
    mode: PolicyMode = PolicyMode.ACTIVE,
) -> Resolution:
    """Of the enabled that match and configure: highest priority, closest pattern, latest created, first by name.

    Policies of the other mode take no part: a SHADOW policy never displaces an ACTIVE one, nor an ACTIVE one a SHADOW
    one, whose winner is the policy that would govern if it and its like were all there is.
    """
    enabled: list[tuple[Policy, Specificity]] = []
    disabled: list[Loser] = []
    for policy in policies:
        if policy.spec.effective_mode is not mode or policy.spec.config(operation_type) is None:
            continue
        specificity = policy.spec.pattern.specificity(table)
        if specificity is None:
            continue
        if policy.spec.is_enabled:
            enabled.append((policy, specificity))
        else:
            disabled.append(Loser(policy.name, LossReason.DISABLED, "it is disabled"))
    disabled.sort(key=lambda loser: loser.policy)
    if not enabled:
        return Resolution(None, tuple(disabled))
    first, *others = sorted(enabled, key=_rank)
    return Resolution(first[0], (*(_loser(other, first) for other in others), *disabled))


def _rank(candidate: tuple[Policy, Specificity]) -> tuple[int, int, float, str]:
    policy, specificity = candidate
    return (-policy.spec.effective_priority, -specificity, -policy.create_time.timestamp(), policy.name)


def _loser(loser: tuple[Policy, Specificity], winner: tuple[Policy, Specificity]) -> Loser:
    (policy, specificity), (governing, closest) = loser, winner
    name = governing.name
    if (priority := policy.spec.effective_priority) != (highest := governing.spec.effective_priority):
        return Loser(policy.name, LossReason.LOWER_PRIORITY, f"its priority is {priority}, that of {name} is {highest}")
    if specificity != closest:
        detail = f"its pattern names the table less closely ({specificity}) than that of {name} ({closest})"
        return Loser(policy.name, LossReason.LESS_SPECIFIC, detail)
    if policy.create_time != governing.create_time:
        return Loser(policy.name, LossReason.CREATED_EARLIER, f"it was created before {name}")
    return Loser(policy.name, LossReason.LATER_NAME, f"its name comes after {name}")
