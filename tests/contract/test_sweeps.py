"""What is due, and that it is judged again under the lock."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from control_plane.domain.identifiers import OperationId
from control_plane.domain.observation import ObservationError, ObservationKind, ObservationState
from control_plane.domain.operation import Change, Operation, OperationState
from control_plane.ports.operations import Due
from tests.support import factories
from tests.support.scene import Scene
from tests.support.stores import age

S = OperationState


async def leased(scene: Scene) -> OperationId:
    operation = await scene.leased(await scene.attach())
    return (await age(scene.store, operation.id, "ack_deadline")).id


async def silent(scene: Scene) -> OperationId:
    operation = await scene.running(await scene.attach())
    return (await age(scene.store, operation.id, "lease_expire_time")).id


async def unlisted(scene: Scene) -> OperationId:
    holder = await scene.attach()
    operation = await scene.running(holder)
    assert holder.session is not None
    for _ in range(2):
        await scene.operations.renew(holder.session, [], heartbeat=True)
    return operation.id


async def reconciling(scene: Scene) -> OperationId:
    operation = await scene.lapse(await scene.running(await scene.attach()))
    return (await age(scene.store, operation.id, "evidence_not_before")).id


async def reconcile_overdue(scene: Scene) -> OperationId:
    operation = await scene.lapse(await scene.running(await scene.attach()))
    return (await age(scene.store, operation.id, "reconcile_deadline")).id


async def verifying(scene: Scene) -> OperationId:
    operation = await scene.running(await scene.attach())
    await scene.report(operation.lease, factories.committed())
    return operation.id


async def verify_overdue(scene: Scene) -> OperationId:
    return (await age(scene.store, await verifying(scene), "verify_deadline")).id


async def expired(scene: Scene) -> OperationId:
    return (await age(scene.store, (await scene.enqueue()).id, "queue_deadline")).id


async def withdrawn(scene: Scene) -> OperationId:
    operation = await scene.enqueue()
    await scene.store.policies.delete(operation.policy, etag=None)
    return operation.id


CASES = [
    (Due.UNACKED, leased),
    (Due.LAPSED, silent),
    (Due.LAPSED, unlisted),
    (Due.EVIDENCE, reconciling),
    (Due.RECONCILE_OVERDUE, reconcile_overdue),
    (Due.VERIFY, verifying),
    (Due.VERIFY_OVERDUE, verify_overdue),
    (Due.EXPIRED, expired),
    (Due.WITHDRAWN, withdrawn),
]


def touched(operation: Operation, now: datetime) -> Change:
    return Change(replace(operation, state_reason="swept"))


@pytest.mark.parametrize(("reason", "arrange"), CASES)
async def test_what_is_due_is_found_and_still_due_under_the_lock(scene: Scene, reason: Due, arrange: object) -> None:
    assert callable(arrange)
    operation = await arrange(scene)

    assert reason in await scene.operations.due_now()
    assert await scene.operations.due(reason, limit=10) == [operation]
    for other in Due:
        changed = await scene.operations.change(operation, touched, due=other)
        assert (changed is not None) == (other in await scene.operations.due_now())


async def test_nothing_is_due_while_everything_is_in_time(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.running(holder)
    await scene.leased(holder)
    await scene.enqueue()

    assert await scene.operations.due_now() == frozenset()


@pytest.mark.parametrize("reason", list(Due))
async def test_a_new_operation_is_due_for_nothing(scene: Scene, reason: Due) -> None:
    queued = await scene.enqueue()

    assert await scene.operations.change(queued.id, touched, due=reason) is None


async def test_the_longest_overdue_comes_first(scene: Scene) -> None:
    queued = [await scene.enqueue() for _ in range(3)]
    for operation, days in zip(queued, (1, 3, 2), strict=True):
        await age(scene.store, operation.id, "queue_deadline", by=timedelta(days=days))

    assert await scene.operations.due(Due.EXPIRED, limit=2) == [queued[1].id, queued[2].id]


async def test_evidence_is_wanted_once_for_each_lapse(scene: Scene) -> None:
    operation = await reconciling(scene)
    holder = await scene.attach("e2")
    request = factories.look(ObservationKind.GATHER_EVIDENCE, operation=operation, lapse=1)
    opened = await scene.store.observations.open(request, within=timedelta(hours=1), timeout=timedelta(minutes=1))
    assert Due.EVIDENCE not in await scene.operations.due_now(), "it was asked for"

    (look,) = await scene.store.observations.claim(factories.looks_by(holder))
    assert holder.session is not None
    answer = ObservationError("UNAVAILABLE", "down")
    await scene.store.observations.answer(look.id, epoch=look.epoch, session=holder.session, answer=answer)
    assert Due.EVIDENCE not in await scene.operations.due_now(), "the answer is not used yet"

    await scene.store.observations.used(opened.id)
    assert Due.EVIDENCE in await scene.operations.due_now(), "the answer decided nothing"


async def test_evidence_of_an_earlier_lapse_does_not_count(scene: Scene) -> None:
    operation = await reconciling(scene)
    request = factories.look(ObservationKind.GATHER_EVIDENCE, operation=operation, lapse=0)
    await scene.store.observations.open(request, within=timedelta(hours=1), timeout=timedelta(minutes=1))

    assert Due.EVIDENCE in await scene.operations.due_now()


async def test_a_verification_of_this_attempt_is_wanted_once(scene: Scene) -> None:
    operation = await verifying(scene)
    request = factories.look(ObservationKind.VERIFY_OPERATION, operation=operation, lapse=1)
    opened = await scene.store.observations.open(request, within=timedelta(hours=1), timeout=timedelta(minutes=1))

    assert Due.VERIFY not in await scene.operations.due_now()
    assert opened.state is ObservationState.OPEN
