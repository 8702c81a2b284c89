"""What the supervisor asks of an engine, and what an engine may ask back while it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from executor.assignment import Assignment, OperationType, Plan, Progress, Result


class DeadlinePassed(Exception):
    """The lease's deadline is over: nothing may be started, committed or deleted any more."""


class Cancelled(Exception):
    """The operation was cancelled before this step."""


class Attempt(Protocol):
    """One running attempt, seen from its engine thread. Every method may be called from any thread and may block.

    The engine calls `check` before it starts the engine and before every batch, `store_plan` before its first effect.
    """

    @property
    def assignment(self) -> Assignment: ...

    def check(self) -> None:
        """Raise `DeadlinePassed` if the lease cannot be trusted any more, `Cancelled` if a cancel was asked for."""

    def store_plan(self, plan: Plan) -> None:
        """Have the plan stored by the control plane; returns once it is durable. Raises `DeadlinePassed`."""

    def report(self, progress: Progress) -> None:
        """Publish where the attempt stands; never blocks on the network."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself in the executor's Hello."""

    name: str
    version: str
    operations: Sequence[OperationType]


class Engine(Protocol):
    """One engine of this process. `run` blocks in a thread that the supervisor gives it; everything else is quick."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def process_id(self) -> int | None:
        """The process that the watchdog interrupts and kills (Spark: the driver's JVM); None if there is none."""

    def start(self) -> None:
        """Bring the engine up and warm it. Blocks; raises `ConfigurationError` with what to do."""

    def run(self, attempt: Attempt) -> Result:
        """Carry the assignment out in the calling thread.

        It never raises for what an engine or a catalog did: that is a Result.
        """

    def cancel(self, attempt: Attempt) -> None:
        """Stop the attempt's work at once: interrupt its thread and cancel its jobs. Returns before it has stopped."""

    def stop(self) -> None:
        """Shut the engine down, jobs and processes included. May be repeated."""
