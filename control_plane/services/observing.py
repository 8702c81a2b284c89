"""Asking executors to look: a row that any replica's session may take, joined by everybody who wants the same look."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NoReturn

from control_plane.domain.errors import CatalogUnreachable, NoExecutor, ObservationTimeout, TableNotFound
from control_plane.domain.observation import (
    Answer,
    Observation,
    ObservationError,
    ObservationKind,
    ObservationRequest,
)
from control_plane.ports.records import Clock, Store

_POLL: Final = timedelta(seconds=1)
_WANTED: Final = {
    ObservationKind.LIST_TABLES: "list the tables",
    ObservationKind.LOAD_TABLE: "load the table",
    ObservationKind.CHECK_CATALOG: "check the catalog",
    ObservationKind.INSPECT_TABLE: "inspect the table",
    ObservationKind.GATHER_EVIDENCE: "gather evidence",
    ObservationKind.VERIFY_OPERATION: "verify an operation",
    ObservationKind.PLAN_EXPIRY: "plan an expiry",
    ObservationKind.LIST_ORPHANS: "list orphan files",
}


class ObservingService:
    """Opens observations and waits for their answers."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def observe(self, request: ObservationRequest, *, within: timedelta, traceparent: str = "") -> Answer:
        """The answer of an executor, joining the look if it is under way.

        Raises NoExecutor if none took it, ObservationTimeout if one did and never answered. Other errors of the look
        are answers.
        """
        answer = (await self.look(request, within=within, traceparent=traceparent)).answer
        assert answer is not None, "a look that ended has an answer"
        return answer

    async def look(self, request: ObservationRequest, *, within: timedelta, traceparent: str = "") -> Observation:
        """The same as `observe`, with all that is known of the look."""
        observation = await self._store.observations.open(
            request, within=within, timeout=within, traceparent=traceparent
        )
        self._store.hints.give("observations")
        patience = self._clock.monotonic() + within.total_seconds()
        while observation.answer is None and (left := patience - self._clock.monotonic()) > 0:
            await self._store.hints.wait("answers", min(_POLL, timedelta(seconds=left)))
            observation = await self._store.observations.get(observation.id) or observation
        wanted = _WANTED[request.kind]
        match observation.answer:
            case None if observation.epoch == 0:
                raise NoExecutor(request.catalog, wanted=wanted)
            case None:
                raise ObservationTimeout(request.catalog, wanted=wanted)
            case ObservationError(kind="NO_EXECUTOR"):
                raise NoExecutor(request.catalog, wanted=wanted)
            case ObservationError(kind="TIMEOUT"):
                raise ObservationTimeout(request.catalog, wanted=wanted)
            case _:
                return observation


def refuse(error: ObservationError, request: ObservationRequest) -> NoReturn:
    """Raise what a failed look means to a caller who asked for it."""
    if error.kind == "NOT_FOUND" and request.table is not None:
        raise TableNotFound(str(request.table))
    raise CatalogUnreachable(request.catalog, why=error.message)
