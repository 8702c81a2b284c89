"""Observations in memory."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.domain.identifiers import CatalogName, ObservationId, SessionId
from control_plane.domain.observation import (
    Answer,
    Observation,
    ObservationKind,
    ObservationRequest,
    ObservationState,
)
from control_plane.ports.records import ObservationClaim
from control_plane.store.answers import HAND_OUT_GRACE, moved_away, timed_out
from control_plane.store.memory.state import Memory, State

V = ObservationState


class MemoryObservations:
    """The whole of `ports.records.ObservationStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def open(
        self,
        request: ObservationRequest,
        *,
        within: timedelta,
        timeout: timedelta,  # noqa: ASYNC109  # how long an executor may take, not this call
        not_before: datetime | None = None,
        traceparent: str = "",
    ) -> Observation:
        async with self._memory.step() as state:
            for known in state.observations.values():
                same = (known.request.kind, known.request.target) == (request.kind, request.target)
                if same and known.state is not V.DONE:
                    return known
            now = self._memory.now()
            return _put(
                state,
                Observation(
                    ObservationId(str(uuid.uuid4())),
                    request,
                    now,
                    now + within,
                    timeout,
                    not_before=not_before,
                    traceparent=traceparent,
                ),
            )

    async def get(self, observation: ObservationId) -> Observation | None:
        async with self._memory.step() as state:
            return state.observations.get(observation)

    async def claimable(self) -> bool:
        async with self._memory.step() as state:
            return any(self._is_due(observation) for observation in state.observations.values())

    async def claim(self, claim: ObservationClaim) -> Sequence[Observation]:
        async with self._memory.step() as state:
            executor = state.executors.get(claim.executor)
            if executor is None or executor.session != claim.session:
                return ()
            now = self._memory.now()
            found = sorted(
                (
                    v
                    for v in state.observations.values()
                    if self._is_due(v)
                    and v.request.kind in claim.kinds
                    and (not claim.catalogs or v.request.catalog in claim.catalogs)
                ),
                key=lambda v: (v.create_time, v.id),
            )
            return [
                _put(
                    state,
                    replace(
                        v,
                        state=V.LEASED,
                        epoch=v.epoch + 1,
                        executor=claim.executor,
                        session=claim.session,
                        begin_time=now,
                        lease_expire_time=now + v.timeout + HAND_OUT_GRACE,
                    ),
                )
                for v in found[: max(claim.slots, 0)]
            ]

    async def answer(
        self, observation: ObservationId, *, epoch: int, session: SessionId, answer: Answer
    ) -> Observation | None:
        async with self._memory.step() as state:
            current = state.observations.get(observation)
            if current is None or current.state is V.DONE or current.epoch != epoch or current.executor is None:
                return None
            executor = state.executors.get(current.executor)
            if executor is None or executor.session != session:
                return None
            return _put(state, self._done(current, answer))

    async def sweep(self) -> Sequence[Observation]:
        async with self._memory.step() as state:
            now = self._memory.now()
            done = []
            for current in list(state.observations.values()):
                if current.state is V.DONE:
                    continue
                if current.deadline <= now:
                    done.append(_put(state, self._done(current, timed_out(current.epoch))))
                elif _lapsed(state, current, now):
                    _put(state, replace(current, state=V.OPEN, session=None, lease_expire_time=None, begin_time=None))
            return done

    async def answered(self, kinds: Sequence[ObservationKind], *, limit: int) -> Sequence[Observation]:
        async with self._memory.step() as state:
            found = [
                v
                for v in state.observations.values()
                if v.state is V.DONE and v.id not in state.used and v.request.kind in kinds
            ]
            return sorted(found, key=lambda v: (v.finish_time or v.create_time, v.id))[:limit]

    async def unanswered(self, kind: ObservationKind) -> int:
        async with self._memory.step() as state:
            return sum(v.state is not V.DONE and v.request.kind is kind for v in state.observations.values())

    async def used(self, observation: ObservationId) -> bool:
        async with self._memory.step() as state:
            if observation in state.used or observation not in state.observations:
                return False
            state.used[observation] = self._memory.now()
            return True

    def _is_due(self, observation: Observation) -> bool:
        now = self._memory.now()
        waits = observation.not_before is not None and observation.not_before > now
        return observation.state is V.OPEN and observation.deadline > now and not waits

    def _done(self, observation: Observation, answer: Answer) -> Observation:
        return replace(observation, state=V.DONE, answer=answer, finish_time=self._memory.now(), lease_expire_time=None)


def end_looks(state: State, catalog: CatalogName, *, now: datetime) -> None:
    """Whoever was asked to look, looks at the place that the catalog left: late answers find nobody waiting."""
    for current in list(state.observations.values()):
        if current.request.catalog != catalog or current.id in state.used:
            continue
        if current.state is not V.DONE:
            _put(
                state,
                replace(current, state=V.DONE, answer=moved_away(), finish_time=now, lease_expire_time=None),
            )
        state.used[current.id] = now


def _lapsed(state: State, observation: Observation, now: datetime) -> bool:
    """Its lease ran out, or its executor's session ended and the answer did not come over the next one either."""
    if observation.state is not V.LEASED or observation.lease_expire_time is None or observation.begin_time is None:
        return False
    if observation.lease_expire_time <= now:
        return True
    executor = state.executors.get(observation.executor) if observation.executor is not None else None
    is_attached = executor is not None and executor.session == observation.session
    return not is_attached and observation.begin_time + HAND_OUT_GRACE <= now


def _put(state: State, observation: Observation) -> Observation:
    state.observations[observation.id] = observation
    return observation
