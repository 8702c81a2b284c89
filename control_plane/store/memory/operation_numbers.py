"""Operations in numbers, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from control_plane.domain.identifiers import OperationType
from control_plane.domain.operation import Operation, OperationState
from control_plane.ports.operations import Figures, OperationFilter, OperationStats, Rates
from control_plane.store.feedback import BYTES
from control_plane.store.fences import fence_key
from control_plane.store.memory.operation_lists import matches
from control_plane.store.memory.state import Memory

_ENDED: Final = (OperationState.SUCCEEDED, OperationState.FAILED)
_SAMPLE: Final = 100


class MemoryNumbers:
    """What operations came to and how long they took."""

    _memory: Memory

    async def stats(self, where: OperationFilter, *, since: datetime) -> OperationStats:
        async with self._memory.step() as state:
            everything = [*state.operations.values(), *state.history.values()]
        found = [o for o in everything if o.create_time >= since and matches(where, o)]
        types = sorted({operation.type for operation in found}, key=lambda kind: kind.order)
        return OperationStats(_figures(found), {kind: _figures([o for o in found if o.type is kind]) for kind in types})

    async def rates(self, *, table_key: str | None, type: OperationType, engine: str | None) -> Rates:
        async with self._memory.step() as state:
            found = [
                o
                for o in state.history.values()
                if o.state is OperationState.SUCCEEDED
                and o.type is type
                and table_key in (None, fence_key(o))
                and engine in (None, o.engine)
                and _seconds(o) is not None
            ]
        last = sorted(found, key=lambda o: (o.create_time, o.id), reverse=True)[:_SAMPLE]
        took = [(_seconds(o) or 0.0, o.metrics.get(BYTES, 0)) for o in last]
        a_byte = [seconds / count for seconds, count in took if count > 0]
        return Rates(
            len(took), median(seconds for seconds, _ in took) if took else None, median(a_byte) if a_byte else None
        )


def _figures(operations: Sequence[Operation]) -> Figures:
    metrics: Counter[str] = Counter()
    for operation in operations:
        metrics.update(operation.metrics)
    took = sorted(seconds for o in operations if o.state in _ENDED and (seconds := _seconds(o)) is not None)
    return Figures(
        Counter(o.state for o in operations),
        _percentile(took, 0.5),
        _percentile(took, 0.95),
        metrics,
        Counter(o.failure.kind for o in operations if o.state is OperationState.FAILED and o.failure is not None),
        Counter(o.verification.verdict for o in operations if o.verification is not None),
    )


def _seconds(operation: Operation) -> float | None:
    if operation.start_time is None or operation.finish_time is None:
        return None
    return (operation.finish_time - operation.start_time).total_seconds()


def _percentile(ordered: Sequence[float], fraction: float) -> timedelta | None:
    """Between its neighbours, as `percentile_cont` does."""
    if not ordered:
        return None
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return timedelta(seconds=ordered[below] + (ordered[above] - ordered[below]) * (place - below))
