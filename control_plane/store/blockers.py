"""What keeps a queued operation from starting now, in words; the same rules as the claim's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.executor import Executor, ExecutorState
from control_plane.domain.identifiers import OperationId, OperationType, PolicyName, RunId
from control_plane.domain.operation import FENCED_STATES, Operation, OperationState
from control_plane.domain.pause import Pause
from control_plane.store.fences import catalog_capacity, executor_capacity, fence_key


@dataclass(frozen=True, slots=True)
class Step:
    """One unfinished operation of a run, as far as the steps after it wait for it."""

    run: RunId
    operation: OperationId
    type: OperationType
    state: OperationState
    not_before: datetime | None

    @classmethod
    def of(cls, operation: Operation) -> Step:
        return cls(operation.run_id, operation.id, operation.type, operation.state, operation.not_before)

    def delays(self, later: Operation, now: datetime) -> bool:
        """A step that is held or backs off steps aside; the later ones do not wait for it."""
        if self.run != later.run_id or OperationType(self.type).order >= later.type.order:
            return False
        due = self.not_before is None or self.not_before <= now
        return self.state in FENCED_STATES or (self.state == OperationState.QUEUED and due)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What queued operations may be waiting for."""

    now: datetime
    holders: Mapping[str, OperationId]
    """Which operation has a table now, by fence."""
    steps: Sequence[Step]
    pauses: Iterable[Pause]
    full: Mapping[str, int]
    """Capacity that is used up, with its limit."""
    generations: Mapping[PolicyName, int]
    """Of the enabled policies."""
    displaced: Collection[OperationId]
    """Those whose tables have been resolved to something else since they were scheduled."""
    unmaintained: Collection[OperationId]
    """Those whose tables are not to be maintained."""
    executors: Sequence[Executor]
    """Those that are attached."""


def blockers_of(operation: Operation, around: Surroundings) -> Sequence[str]:
    """Empty: nothing but its turn."""
    return [
        *_of_the_operation(operation, around),
        *_of_the_table(operation, around),
        *_of_executors(operation, around),
    ]


def _of_the_operation(operation: Operation, around: Surroundings) -> Iterable[str]:
    if operation.not_before is not None and operation.not_before > around.now:
        yield f"it waits until {operation.not_before.isoformat(timespec='seconds')}"
    if operation.queue_deadline <= around.now:
        yield "its deadline has passed"
    generation = around.generations.get(operation.policy)
    if generation is None:
        yield f"policy {operation.policy} is disabled or deleted"
    elif operation.id in around.displaced or (operation.slot is not None and operation.policy_generation != generation):
        yield f"policy {operation.policy} has changed since this was scheduled; its slot is decided again"


def _of_the_table(operation: Operation, around: Surroundings) -> Iterable[str]:
    if operation.id in around.unmaintained:
        yield "the table's property floe.enabled is false"
    holder = around.holders.get(fence_key(operation))
    if holder is not None:
        yield f"the table is busy with operation {holder}"
    for step in around.steps:
        if step.operation != holder and step.delays(operation, around.now):
            yield f"operation {step.operation} ({step.type}) of the same run comes first"
    for pause in around.pauses:
        if pause.holds(operation.table, around.now):
            yield f"{pause.scope} is paused by {pause.paused_by}: {pause.reason}"


def _of_executors(operation: Operation, around: Surroundings) -> Iterable[str]:
    key = catalog_capacity(operation.catalog)
    if key in around.full:
        yield f"{key} has reached its limit of {around.full[key]} operations at once"
    capable, missing = _capable(operation, around.executors)
    if missing:
        yield f"NO_CAPABLE_EXECUTOR: {missing}"
        return
    used_up = [
        [key for key in executor_capacity(e.capabilities.engine, e.capabilities.labels) if key in around.full]
        for e in capable
    ]
    if all(used_up):
        for key in sorted({key for keys in used_up for key in keys}):
            yield f"{key} has reached its limit of {around.full[key]} operations at once"


def _capable(operation: Operation, executors: Sequence[Executor]) -> tuple[Sequence[Executor], str]:
    """The executors that can do it, or what all of them lack."""
    if not executors:
        return (), "no executor is attached"
    able = [executor for executor in executors if operation.type in executor.capabilities.operation_types]
    if not able:
        return (), f"none of the {len(executors)} attached executors does {operation.type}"
    able = [e for e in able if not e.capabilities.catalogs or operation.catalog in e.capabilities.catalogs]
    if not able:
        return (), f"no attached executor that does {operation.type} serves catalog {operation.catalog}"
    able = [executor for executor in able if executor.state is ExecutorState.ATTACHED]
    if not able:
        return (), "every executor that could do it drains"
    return able, ""
