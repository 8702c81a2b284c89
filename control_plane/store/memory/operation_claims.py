"""Handing out in memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime

from control_plane.domain import decisions
from control_plane.domain.operation import Attempt, Operation, OperationState
from control_plane.domain.rules import Rules
from control_plane.ports.operations import AGE_BASED, Claimed, ClaimRequest
from control_plane.store.blockers import Step
from control_plane.store.fences import catalog_capacity, executor_capacity, fence_key
from control_plane.store.memory.operation_changes import apply, keep_attempt
from control_plane.store.memory.operation_lists import is_maintained
from control_plane.store.memory.state import Fence, Memory, State

S = OperationState


class MemoryClaims:
    """Operations on their way to executors."""

    def __init__(self, memory: Memory, rules: Rules) -> None:
        self._memory = memory
        self._rules = rules

    async def claimable(self) -> bool:
        async with self._memory.step() as state:
            now = self._memory.now()
            return any(o.state is S.QUEUED and _is_due(o, now) for o in state.operations.values())

    async def claim(self, request: ClaimRequest) -> Sequence[Claimed]:
        async with self._memory.step() as state:
            now = self._memory.now()
            executor = state.executors.get(request.executor)
            if executor is None or executor.session != request.session or executor.drained or executor.leaving:
                return ()
            given: list[Operation] = []
            for operation in list(_eligible(state, request, now)):
                if len(given) >= request.slots:
                    break
                if operation.solo and given:
                    continue
                keys = (catalog_capacity(operation.catalog), *executor_capacity(request.engine, request.labels))
                fence = state.fences[fence_key(operation)]
                if fence.holder is not None or state.full().keys() & set(keys):
                    continue
                given.append(self._give(state, operation, fence, keys, request, now))
                if operation.solo:
                    break
            return [Claimed(operation, state.catalogs[operation.catalog]) for operation in given]

    def _give(
        self,
        state: State,
        operation: Operation,
        fence: Fence,
        keys: tuple[str, ...],
        request: ClaimRequest,
        now: datetime,
    ) -> Operation:
        change = decisions.claimed(
            operation,
            now,
            executor=request.executor,
            session=request.session,
            epoch=fence.epoch + 1,
            token=secrets.token_bytes(16),
            engine=request.engine,
            rules=self._rules,
        )
        leased = apply(state, operation, change, now)
        state.fences[fence_key(operation)] = Fence(leased.epoch, operation.id)
        state.capacity_keys[operation.id] = keys
        keep_attempt(state, operation.id, Attempt(leased.attempt, leased.epoch, request.executor, now))
        return leased


def _eligible(state: State, request: ClaimRequest, now: datetime) -> Iterator[Operation]:
    """By virtual deadline; what does not depend on the operations given before it."""
    steps = [Step(o.run_id, o.id, o.type, o.state, o.not_before) for o in state.operations.values()]
    for operation in sorted(state.operations.values(), key=lambda o: (o.virtual_deadline, o.id)):
        policy = state.policies.get(operation.policy)
        avoided = operation.avoid_executor == request.executor and (operation.avoid_until or now) > now
        if (
            operation.state is S.QUEUED
            and _is_due(operation, now)
            and not operation.cancel_requested
            and policy is not None
            and policy.spec.is_enabled
            and (operation.slot is None or operation.policy_generation == policy.generation)
            and operation.id not in state.displaced
            and is_maintained(state, operation)
            and not any(pause.holds(operation.table, now) for pause in state.pauses.values())
            and operation.type in request.operation_types
            and (request.age_based or operation.type not in AGE_BASED)
            and (not request.catalogs or operation.catalog in request.catalogs)
            and not avoided
            and (request.alone or not operation.solo)
            and not any(step.delays(operation, now) for step in steps)
        ):
            yield operation


def _is_due(operation: Operation, now: datetime) -> bool:
    return (operation.not_before is None or operation.not_before <= now) and operation.queue_deadline > now
