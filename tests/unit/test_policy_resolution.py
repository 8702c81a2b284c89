from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.domain.identifiers import OperationType, TableName
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.domain.resolution import LossReason, resolve

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = TableName.parse("lake.sales.events")


def policy(name: str, pattern: str = "*", *, created: int = 0, **more: Any) -> Policy:
    document = {"name": name, "tablePattern": pattern, "rewriteDataFiles": {}} | more
    time = EPOCH + timedelta(seconds=created)
    return Policy(PolicySpec.stored(document), generation=1, etag="e", create_time=time, update_time=time)


@pytest.mark.parametrize(
    ("winner", "loser", "reason"),
    [
        (policy("b", priority=1), policy("a", "lake.sales.events", created=9), LossReason.LOWER_PRIORITY),
        (policy("b"), policy("a", priority=-1), LossReason.LOWER_PRIORITY),
        (policy("b", "lake.sales.*"), policy("a", "lake.**", created=9), LossReason.LESS_SPECIFIC),
        (policy("b", created=1), policy("a"), LossReason.CREATED_EARLIER),
        (policy("a"), policy("b"), LossReason.LATER_NAME),
        (policy("b"), policy("a", "lake.sales.events", priority=9, enabled=False), LossReason.DISABLED),
    ],
)
def test_one_policy_governs_and_the_other_is_told_why_not(winner: Policy, loser: Policy, reason: LossReason) -> None:
    for order in ([winner, loser], [loser, winner]):
        resolution = resolve(order, TABLE, OperationType.REWRITE_DATA_FILES)

        assert resolution.winner is winner
        assert [(lost.policy, lost.reason) for lost in resolution.losers] == [(loser.name, reason)]


def test_policies_that_do_not_match_or_do_not_configure_the_operation_take_no_part() -> None:
    others = [policy("other", "sea.**"), policy("expiry", rewriteDataFiles=None, expireSnapshots={})]

    resolution = resolve(others, TABLE, OperationType.REWRITE_DATA_FILES)

    assert resolution.winner is None
    assert resolution.losers == ()


def test_policies_for_different_operations_combine() -> None:
    policies = [policy("files", priority=1), policy("expiry", rewriteDataFiles=None, expireSnapshots={})]

    winners = {kind: resolve(policies, TABLE, kind).winner for kind in OperationType}

    assert {kind: winner.name for kind, winner in winners.items() if winner} == {
        OperationType.REWRITE_DATA_FILES: "files",
        OperationType.EXPIRE_SNAPSHOTS: "expiry",
    }


def test_losers_stand_nearest_to_governing_first() -> None:
    policies = [policy("d", enabled=False), policy("c"), policy("b", "lake.**"), policy("a", priority=5)]

    resolution = resolve(policies, TABLE, OperationType.REWRITE_DATA_FILES)

    assert [loser.policy for loser in resolution.losers] == ["b", "c", "d"]
