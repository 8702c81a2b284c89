"""Under which conditions a slot runs, as it is written; docs/semantics.md §3 says how they are judged."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationInfo

from control_plane.domain.document import Broken, Document, Int64
from control_plane.domain.expression import Expression
from control_plane.domain.identifiers import OperationType

MAX_MINUTES: Final = 366 * 24 * 60


class TriggerLogic(StrEnum):
    """Whether any of the thresholds is enough, or all of them are needed."""

    OR = "OR"
    AND = "AND"


def _expression(text: str) -> str:
    Expression.compile(text)
    return text


Count = Annotated[Int64, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Minutes = Annotated[int, Field(ge=0, le=MAX_MINUTES)]
_Type = Annotated[OperationType, Field(strict=False)]


class OperationConditions(Document):
    """Conditions of one operation type. None: the shared one, or none."""

    small_file_percentage_above: Percentage | None = None
    small_file_count_above: Count | None = None
    reducible_file_count_above: Count | None = None
    total_file_size_above_bytes: Count | None = None
    delete_file_count_above: Count | None = None
    delete_file_ratio_above: Amount | None = None
    snapshot_count_above: Count | None = None
    snapshot_age_above_days: Amount | None = None
    partition_count_above: Count | None = None
    partition_skew_above: Amount | None = None
    manifest_count_above: Count | None = None
    manifest_size_above_bytes: Count | None = None
    min_interval_minutes: Minutes | None = None
    critical_pipeline: bool | None = None
    critical_pipeline_max_delay_minutes: Annotated[Minutes, Field(ge=1)] | None = None
    trigger_logic: Annotated[TriggerLogic, Field(strict=False)] | None = None
    expression: Annotated[str, AfterValidator(_expression)] | None = None


class TriggerConditions(OperationConditions):
    """Conditions shared by the operations of a policy, and what differs for single ones."""

    per_operation_min_interval_minutes: dict[_Type, Minutes] = Field(default_factory=dict)
    per_operation: dict[_Type, OperationConditions] = Field(default_factory=dict)

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if self.critical_pipeline_max_delay_minutes is not None:
            return  # What single operations do not say for themselves, they take from here.
        for path, conditions in (
            ("", self),
            *((f"perOperation.{kind}.", own) for kind, own in self.per_operation.items()),
        ):
            if conditions.critical_pipeline and conditions.critical_pipeline_max_delay_minutes is None:
                field = f"{path}criticalPipelineMaxDelayMinutes"
                yield field, "is needed beside criticalPipeline: how late is too late"
