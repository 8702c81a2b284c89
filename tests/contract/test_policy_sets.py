"""Sets of policies on both stores: one transaction, rivals, and what they leave for the scheduler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from control_plane.domain.errors import EtagMismatch
from control_plane.domain.floors import Floors
from control_plane.ports.records import Store
from control_plane.services.policy_sets import Change, ChangeKind, PolicySet, PolicySetService


def documents(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "tablePattern": f"lake.{name}.*", "rewriteDataFiles": {}} | more for name in names]


async def apply(
    store: Store, wanted: list[dict[str, Any]], *, etags: list[str] | None = None, **more: Any
) -> list[Change]:
    service = PolicySetService(store, floors=Floors())
    async with store.transaction():
        return list(await service.apply(PolicySet(wanted, etags or [""] * len(wanted), **more)))


async def names(store: Store) -> list[str]:
    return [policy.name for policy in await store.policies.list(after=None, limit=100)]


async def test_every_policy_of_a_set_that_does_something_else_leaves_a_change(any_store: Store) -> None:
    await apply(any_store, documents("a", "b", "c"), managed_by="us")
    before = {change.id for change in await any_store.scheduling.policy_changes(limit=100)}

    changes = await apply(
        any_store,
        [*documents("a", description="d"), *documents("b", tablePattern="lake.x.*"), *documents("d")],
        managed_by="us",
        prune=True,
    )

    assert [change.kind for change in changes] == [
        ChangeKind.UPDATED,
        ChangeKind.UPDATED,
        ChangeKind.CREATED,
        ChangeKind.DELETED,
    ]
    left = [change for change in await any_store.scheduling.policy_changes(limit=100) if change.id not in before]
    assert {(change.policy, tuple(change.patterns)) for change in left} == {
        ("b", ("lake.b.*", "lake.x.*")),
        ("d", ("lake.d.*",)),
        ("c", ("lake.c.*",)),
    }


async def test_a_set_that_is_refused_half_way_stores_nothing(any_store: Store) -> None:
    await apply(any_store, documents("z"))

    with pytest.raises(EtagMismatch):
        await apply(any_store, documents("a", "z", priority=1), etags=["", "stale"])

    assert await names(any_store) == ["z"]
    assert (await any_store.policies.list(after=None, limit=1))[0].spec.priority is None


async def test_sets_that_are_applied_at_once_do_not_wait_for_each_other_in_a_circle(any_store: Store) -> None:
    everybody = [chr(ord("a") + n) for n in range(10)]
    await apply(any_store, documents(*everybody[:5]))

    async with asyncio.timeout(30):
        await asyncio.gather(
            *(
                apply(any_store, documents(*(everybody if n % 2 else reversed(everybody)), priority=n))
                for n in range(1, 7)
            )
        )

    stored = await any_store.policies.list(after=None, limit=100)
    assert [policy.name for policy in stored] == everybody
    assert all(policy.spec.priority in range(1, 7) for policy in stored)
