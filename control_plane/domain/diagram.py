"""Draws the life of an operation from its edges, so that the page in the documentation cannot differ from the code.

`python -m control_plane.domain.diagram` prints docs/state-machine.md.
"""

from __future__ import annotations

import sys
from typing import Final

from control_plane.domain.operation import EDGES, FENCED_STATES, LEASE_STATES, TERMINAL, OperationState

_WHEN: Final = {
    "claimed": "granted to an executor's session: a new epoch, a random token, a deadline for the ack",
    "acked": "the executor's ack; only now may it touch the engine",
    "returned": "not acknowledged in time, refused or drained: nothing was touched, the attempt stays the same",
    "held": "a guard wants a person",
    "approved": "a person approved exactly the plan that was held",
    "rejected": "a person rejected it",
    "lapsed": "the lease ran out; its holder may still come back",
    "unsure": "the executor could not say what it did",
    "came_back": "the same holder with the same token, before anything else was decided",
    "committed": "something was committed, whatever the intended end; an independent reader looks at it",
    "no_change": "nothing needed doing",
    "attempt_failed": "retryable, and attempts are left",
    "failed": "not retryable, no attempt left, or effects that nobody can tell",
    "verified": "the reader found nothing wrong, or could not tell",
    "cancelled": "asked for; what runs ends when its executor, the evidence or the verdict says what was done",
    "expired": "its deadline passed before it started",
    "skipped": "no longer needed or allowed; the reason is kept",
}


def draw() -> str:
    """The page, in Markdown with a Mermaid diagram."""
    lines = [
        "# The life of an operation",
        "",
        "Drawn from `control_plane/domain/operation.py`; do not edit. `make gen` writes it anew.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {OperationState.QUEUED}",
    ]
    for edge in EDGES:
        lines += [f"    {source} --> {edge.target}: {edge.event}" for source in _ordered(edge.sources)]
    lines += [f"    {state} --> [*]" for state in _ordered(TERMINAL)]
    lines += ["```", "", "| edge | from | to | when |", "|---|---|---|---|"]
    for edge in EDGES:
        sources = ", ".join(_ordered(edge.sources))
        lines.append(f"| {edge.event} | {sources} | {edge.target} | {_WHEN[edge.event]} |")
    lines += [
        "",
        f"Terminal, and final: {', '.join(_ordered(TERMINAL))}.",
        "",
        f"The table belongs to the operation, and no other may change it, in {', '.join(_ordered(FENCED_STATES))}.",
        "",
        f"An executor may hold the lease in {', '.join(_ordered(LEASE_STATES))}. Leaving these by any edge raises",
        "the table's fencing epoch, so that whoever still presents the old lease changes nothing.",
        "",
    ]
    return "\n".join(lines)


def _ordered(states: frozenset[OperationState]) -> list[OperationState]:
    return [state for state in OperationState if state in states]


if __name__ == "__main__":
    sys.stdout.write(draw())
