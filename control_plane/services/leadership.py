"""One replica leads: this one's part in the election, and for how long it may trust its own term.

The store's row decides. What is kept here is only how long nobody else can have been elected, reckoned on this
process's own clock from the moment at which the store was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import LEADER_TTL, Term
from control_plane.ports.records import Clock, Store
from control_plane.ports.scheduling import TermOver

logger: Final = structlog.get_logger(__name__)

MARGIN: Final = timedelta(seconds=1)
"""How much earlier than the store this replica takes its term for over: clocks do not run at the same pace."""


@dataclass(slots=True)
class Reign:
    """A term of this replica. `trusted_until` is on the monotonic clock."""

    term: Term
    trusted_until: float
    last_step: float
    """When the scheduler last completed a step, or went to sleep with nothing to do."""
    busy: bool = False


class Leadership:
    """Campaigns, renews and resigns for one replica."""

    def __init__(self, store: Store, clock: Clock, *, replica: ReplicaId, ttl: timedelta = LEADER_TTL) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._ttl = ttl
        self._stands_back_until = 0.0
        self._reign: Reign | None = None

    @property
    def reign(self) -> Reign | None:
        """The term of this replica, if it leads."""
        return self._reign

    async def campaign(self) -> Reign | None:
        """Lead, if nobody does. After a term that stalled here, others go first."""
        if self._clock.monotonic() < self._stands_back_until:
            return None
        asked = self._clock.monotonic()
        term = await self._store.leadership.acquire(self._replica, ttl=self._ttl)
        if term is None:
            return None
        self._reign = Reign(term, self._trusted_from(asked), last_step=self._clock.monotonic())
        logger.info("leadership.acquired", term=term.number)
        return self._reign

    async def renew(self, reign: Reign) -> None:
        """Prolong the term. Raises TermOver if it is not in force any more."""
        asked = self._clock.monotonic()
        term = await self._store.leadership.renew(reign.term, ttl=self._ttl)
        if term is None:
            raise TermOver
        reign.term, reign.trusted_until = term, self._trusted_from(asked)

    def check(self, reign: Reign) -> None:
        """Raises TermOver if the term may be over, as far as this replica can tell without the store."""
        if self._clock.monotonic() >= reign.trusted_until:
            raise TermOver

    def worked(self, reign: Reign, *, busy: bool) -> None:
        """A step was completed. `busy`: there is more to do at once."""
        reign.last_step, reign.busy = self._clock.monotonic(), busy

    def stalled(self, reign: Reign, *, after: timedelta) -> bool:
        """Whether there is work to do and none was completed for that long."""
        return reign.busy and self._clock.monotonic() - reign.last_step >= after.total_seconds()

    def over(self, reign: Reign, why: str) -> None:
        """The term ended without being resigned."""
        self._reign = None
        logger.warning("leadership.lost", term=reign.term.number, why=why)

    async def resign(self, reign: Reign, why: str, *, stand_back: bool = False) -> None:
        """End the term now, so that another replica can follow at once."""
        self._reign = None
        if stand_back:
            self._stands_back_until = self._clock.monotonic() + self._ttl.total_seconds()
        await self._store.leadership.resign(reign.term)
        logger.info("leadership.resigned", term=reign.term.number, why=why)
        self._store.hints.give("leader")

    def _trusted_from(self, asked: float) -> float:
        return asked + (self._ttl - MARGIN).total_seconds()
