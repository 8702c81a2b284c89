"""A real Spark engine for tests: one warm session for all of them, and attempts that remember what they were told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from executor.assignment import Action, Assignment, Lease, OperationId, Plan, Progress, Stamp, Table

if TYPE_CHECKING:
    from executor.engines.spark.engine import SparkEngine

_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class RecordingAttempt:
    """An attempt whose control plane is the test: `before_check` may raise what a lost lease or a cancel would."""

    assignment: Assignment
    before_check: Callable[[], None] = lambda: None
    plans: list[Plan] = field(default_factory=list)
    reports: list[Progress] = field(default_factory=list)

    def check(self) -> None:
        self.before_check()

    def store_plan(self, plan: Plan) -> None:
        self.plans.append(plan)

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)


def attempt(
    table: Table,
    action: Action,
    *,
    number: int = 1,
    operation: str | None = None,
    earlier: Sequence[Stamp] = (),
    earlier_snapshots: Sequence[int] = (),
) -> RecordingAttempt:
    """An attempt under a lease of its own; of a new operation, unless one is named."""
    each = next(_NUMBERS)
    return RecordingAttempt(
        Assignment(
            lease=Lease(OperationId(operation or f"op-{each}"), each, b"token"),
            attempt=number,
            table=table,
            action=action,
            policy="policies/nightly",
            timeout=timedelta(hours=1),
            cancel_grace=timedelta(seconds=30),
            earlier=earlier,
            earlier_snapshots=earlier_snapshots,
        )
    )


@pytest.fixture(scope="session")
def spark_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    """One started engine for all tests of a session."""
    from executor.engines.spark.artifacts import spark_jars
    from executor.engines.spark.engine import SparkEngine
    from executor.engines.spark.java import find_java
    from executor.engines.spark.session import SparkSettings

    settings = SparkSettings(
        state_directory=tmp_path_factory.mktemp("spark"), master="local[2]", log_level="error", deletion_batch=10
    )
    engine = SparkEngine(
        settings, java_home=find_java().home, jars=spark_jars(), resolve=lambda catalog: catalog.properties
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
