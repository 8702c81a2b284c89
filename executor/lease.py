"""How long a lease may be believed by who holds it.

A lease is confirmed by the answer to a message, but believed from the moment *before that message was sent*: a slow
answer can only shorten the belief. Time is CLOCK_BOOTTIME, which goes on while the machine sleeps and no one can set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

SECOND: Final = 1_000_000_000
"""All instants and lengths here are whole nanoseconds."""

_LONGEST_INTERRUPT_MARGIN: Final = 10 * SECOND
_LONGEST_KILL_MARGIN: Final = 5 * SECOND

Clock = Callable[[], int]
"""The time now, in nanoseconds since some fixed moment."""


def boottime() -> int:
    """CLOCK_BOOTTIME; the monotonic clock on systems without it."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def nanoseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1_000


@dataclass(frozen=True, slots=True)
class Term:
    """One confirmation of a lease.

    After `trusted_until` nothing new may begin and what runs is interrupted; at `kill_at` its process is killed; from
    `lapses_at` on the control plane may give the table to another.
    """

    sent_at: int
    ttl: int

    @classmethod
    def confirmed(cls, *, sent_at: int, ttl: timedelta) -> Self:
        """`sent_at` is read before the message that was confirmed goes out."""
        return cls(sent_at, nanoseconds(ttl))

    @property
    def lapses_at(self) -> int:
        return self.sent_at + self.ttl

    @property
    def trusted_until(self) -> int:
        return self.lapses_at - min(_LONGEST_INTERRUPT_MARGIN, self.ttl // 6)

    @property
    def kill_at(self) -> int:
        return self.lapses_at - self.stopping_time

    @property
    def stopping_time(self) -> int:
        """How long an interrupted engine has until it is killed, and then until the lapse."""
        return min(_LONGEST_KILL_MARGIN, self.ttl // 12)

    def extended_by(self, other: Term) -> Term:
        """The one that lapses later: answers may come out of order, and none takes back what another gave."""
        return max(self, other, key=lambda term: term.lapses_at)
