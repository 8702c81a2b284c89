"""The numbers of an operation's life."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta

from control_plane.domain.identifiers import OperationId


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of an operation's life."""

    ack_within: timedelta = timedelta(seconds=5)
    lease_ttl: timedelta = timedelta(seconds=60)
    lock_delay: timedelta = timedelta(seconds=30)
    reconcile_within: timedelta = timedelta(hours=6)
    verify_within: timedelta = timedelta(minutes=15)
    nack_delay: timedelta = timedelta(seconds=5)
    nack_avoid: timedelta = timedelta(minutes=1)
    max_missed_deliveries: int = 10
    max_lost_solo: int = 3
    back_off: timedelta = timedelta(seconds=30)
    back_off_factor: int = 4
    back_off_jitter: float = 0.2
    back_off_cap: timedelta = timedelta(hours=1)


def back_off(operation: OperationId, attempt: int, *, rules: Rules) -> timedelta:
    """How long the attempt after `attempt` waits: base × factorⁿ, capped, ± a jitter that is fixed for this operation
    and attempt.
    """
    factor = float(rules.back_off_factor ** min(max(attempt - 1, 0), 16))
    delay = min(rules.back_off * factor, rules.back_off_cap)
    spread = zlib.crc32(f"{operation}/{attempt}".encode()) / 0x7FFFFFFF - 1
    return delay * (1 + rules.back_off_jitter * spread)
