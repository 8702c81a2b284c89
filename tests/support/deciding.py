"""A target whose slot is due, and what is decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from control_plane.domain.catalog import Table, TableState
from control_plane.domain.charges import NO_BUDGET, BudgetState
from control_plane.domain.health import HealthMetrics as Metrics
from control_plane.domain.health import HealthReport, Metric, assess
from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, PolicyName, TableName, TableUuid
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.domain.scheduling import NO_OUTCOMES, Outcomes, PolicyMode, SlotFacts, Target
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.slots import Explanation, Judgement, decide, explain
from control_plane.domain.thresholds import DEFAULT

NOON: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""A Monday."""
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
OPERATION: Final = OperationId("0197-new")
RULES: Final = SchedulingRules()
HOURLY: Final = {"cronExpression": "0 * * * *"}
EVERY_SIX_HOURS: Final = {"interval": "PT6H"}
REWRITE: Final = OperationType.REWRITE_DATA_FILES


def report(at: datetime = NOON, location: str = "v1", **measured: float) -> HealthReport:
    """A report that was measured at this instant. 63.2 % of the data files are small."""
    figures = {"data_file_count": 1_000.0, "small_file_count": 632.0, "reducible_file_count": 600.0} | measured
    metrics = Metrics.measured(
        ((name, Metric.exact(value)) for name, value in figures.items()), metadata_location=location
    )
    return assess(metrics, DEFAULT, now=at)


@dataclass(frozen=True)
class Case:
    """What a decision reads, from the most usual: an hourly compaction without conditions, due at noon."""

    schedule: Mapping[str, Any] | None = field(default_factory=lambda: HOURLY)
    conditions: Mapping[str, Any] | None = None
    budget: Mapping[str, Any] | None = None
    now: datetime = NOON
    slot: datetime | None = NOON
    due: datetime | None = None
    deferred: bool = False
    awaiting: OperationId | None = None
    waiting_since: datetime | None = None
    place: datetime | None = None
    unmeasured_since: datetime | None = None
    catalog_moved: bool = False
    open_operation: OperationId | None = None
    outcomes: Outcomes = NO_OUTCOMES
    health: HealthReport | None = field(default_factory=report)
    mode: PolicyMode = PolicyMode.ACTIVE
    state: TableState = TableState.PRESENT
    since: datetime = NOON - 30 * DAY
    generation: int = 1
    metadata_location: str = "v1"
    spent: BudgetState = NO_BUDGET
    rules: SchedulingRules = RULES

    @property
    def policy(self) -> Policy:
        written = {
            "name": "nightly",
            "tablePattern": "lake.**",
            "mode": self.mode.value,
            "rewriteDataFiles": {},
            "rewriteDataFilesSchedule": self.schedule,
            "triggerConditions": self.conditions,
            "budget": self.budget,
        }
        spec = PolicySpec.stored({name: value for name, value in written.items() if value is not None})
        return Policy(spec, self.generation, "etag", self.since, self.since)

    @property
    def facts(self) -> SlotFacts:
        target = Target(
            CatalogName("lake"),
            "9d1f8a3e",
            REWRITE,
            self.mode,
            PolicyName("nightly"),
            self.generation,
            policy_create_time=self.since,
            since=self.since,
            slot=self.slot,
            due=self.due or self.slot,
            deferred=self.deferred,
            awaiting=self.awaiting,
            waiting_since=self.waiting_since,
            place=self.place,
            unmeasured_since=self.unmeasured_since,
        )
        table = Table(
            TableName(CatalogName("lake"), ("sales",), "events"),
            TableUuid("9d1f8a3e"),
            "file:///lake/sales/events",
            first_seen_time=NOON - 30 * DAY,
            last_seen_time=self.now,
            metadata_location=self.metadata_location,
            state=self.state,
            health=self.health,
        )
        return SlotFacts(target, table, self.outcomes, self.open_operation, catalog_moved=self.catalog_moved)

    def decided(self) -> Judgement:
        return decide(
            self.facts, self.policy, operation=OPERATION, now=self.now, budget=self.spent, rules=self.rules, term=7
        )

    def explained(self) -> Explanation:
        return explain(self.facts, self.policy, now=self.now, budget=self.spent, rules=self.rules)

    def later(self, judgement: Judgement, now: datetime, **changes: Any) -> Case:
        """The same target after that decision, looked at again."""
        after = judgement.target
        moved = replace(
            self,
            slot=after.slot,
            due=after.due,
            deferred=after.deferred,
            awaiting=after.awaiting,
            waiting_since=after.waiting_since,
            place=after.place,
            unmeasured_since=after.unmeasured_since,
            now=now,
        )
        return replace(moved, **changes)


def succeeded(at: datetime, *, unchanged: int = 0, location: str = "v1") -> Outcomes:
    return Outcomes(
        last_success_time=at,
        last_finish_time=at,
        last_metadata_location=location,
        consecutive_no_change=unchanged,
        finished=max(unchanged, 1),
    )
