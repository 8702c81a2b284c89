"""What is due in memory without anybody asking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from control_plane.domain.identifiers import OperationId
from control_plane.domain.observation import ObservationKind, ObservationState
from control_plane.domain.operation import Operation, OperationState
from control_plane.ports.operations import Due
from control_plane.store.memory.state import Memory, State

S = OperationState


class MemorySweeps:
    """Operations for which time has run out or an observation is wanted."""

    _memory: Memory

    async def due(self, reason: Due, *, limit: int) -> Sequence[OperationId]:
        async with self._memory.step() as state:
            now = self._memory.now()
            found = [o for o in state.operations.values() if is_due(state, o, reason, now)]
            return [o.id for o in sorted(found, key=lambda o: (_since(o, reason), o.id))][:limit]

    async def due_now(self) -> frozenset[Due]:
        async with self._memory.step() as state:
            now = self._memory.now()
            return frozenset(
                reason for reason in Due if any(is_due(state, o, reason, now) for o in state.operations.values())
            )


def is_due(state: State, operation: Operation, reason: Due, now: datetime) -> bool:
    """Whether a sweep for this reason has to look at the operation."""

    def past(instant: datetime | None) -> bool:
        return instant is not None and instant <= now

    match reason:
        case Due.UNACKED:
            return operation.state is S.LEASED and past(operation.ack_deadline)
        case Due.LAPSED:
            return operation.state is S.RUNNING and (
                past(operation.lease_expire_time) or operation.missed_renewals >= 2
            )
        case Due.EVIDENCE:
            return (
                operation.state is S.RECONCILING
                and past(operation.evidence_not_before)
                and not _observed(state, operation, ObservationKind.GATHER_EVIDENCE, operation.lapse)
            )
        case Due.RECONCILE_OVERDUE:
            return operation.state is S.RECONCILING and past(operation.reconcile_deadline)
        case Due.VERIFY:
            return operation.state is S.VERIFYING and not _observed(
                state, operation, ObservationKind.VERIFY_OPERATION, operation.attempt
            )
        case Due.VERIFY_OVERDUE:
            return operation.state is S.VERIFYING and past(operation.verify_deadline)
        case Due.EXPIRED:
            return operation.state in (S.QUEUED, S.HELD) and past(operation.queue_deadline)
        case Due.WITHDRAWN:
            policy = state.policies.get(operation.policy)
            return operation.state is S.QUEUED and (policy is None or not policy.spec.is_enabled)
        case Due.WINDOW_OVER:
            return past(operation.cancel_at) and not operation.cancel_requested and not operation.is_terminal
        case Due.POLICY_CHANGED:
            policy = state.policies.get(operation.policy)
            wanted = policy is not None and policy.spec.is_enabled
            return operation.state is S.QUEUED and operation.id in state.displaced and wanted


def _observed(state: State, operation: Operation, kind: ObservationKind, lapse: int) -> bool:
    """Whether the observation is open, or answered and not used yet."""
    return any(
        (v.request.operation, v.request.kind, v.request.lapse) == (operation.id, kind, lapse)
        and (v.state is not ObservationState.DONE or v.id not in state.used)
        for v in state.observations.values()
    )


def _since(operation: Operation, reason: Due) -> datetime:
    instant = {
        Due.UNACKED: operation.ack_deadline,
        Due.LAPSED: operation.lease_expire_time,
        Due.EVIDENCE: operation.evidence_not_before,
        Due.RECONCILE_OVERDUE: operation.reconcile_deadline,
        Due.VERIFY: operation.verify_deadline,
        Due.VERIFY_OVERDUE: operation.verify_deadline,
        Due.EXPIRED: operation.queue_deadline,
        Due.WITHDRAWN: operation.virtual_deadline,
        Due.POLICY_CHANGED: operation.virtual_deadline,
        Due.WINDOW_OVER: operation.cancel_at,
    }[reason]
    return instant or operation.virtual_deadline
