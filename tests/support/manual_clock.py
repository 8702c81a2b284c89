"""A clock that goes only when it is told to."""

from __future__ import annotations

from executor.lease import SECOND


class ManualClock:
    """Nanoseconds, as `executor.lease.boottime`."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
