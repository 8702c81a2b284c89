"""How each operation is to be done: a policy's configs, with every rule that can be checked before a table is seen.

A field that is not set stays unset: the engine's default, the table's own property or the default named here holds when
the operation is planned, and nothing is written into the document that its author did not write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from control_plane.domain.duration import IsoDuration
from control_plane.domain.identifiers import MAX_PART_LENGTH, is_clean
from control_plane.domain.row_filter import check_filter

MAIN_BRANCH: Final = "main"
MAX_COLUMNS: Final = 100
MAX_SNAPSHOT_IDS: Final = 1_000
MAX_CONCURRENT_FILE_GROUP_REWRITES: Final = 1_000
DEFAULT_RETAIN_LAST: Final = 5
DEFAULT_MAX_SNAPSHOT_AGE: Final = timedelta(days=7)

BROKEN_RULES: Final = "broken_rules"
"""The type of the validation error whose context lists, as `broken`, (field, description) of rules across fields."""

SNAPSHOT_AGE_FLOOR: Final = "snapshot_age_floor"
"""The key of the deployment's floor (a timedelta) in the validation context; without it there is no floor."""

Broken = tuple[str, str]

_SORT_FIELD: Final = re.compile(
    r"(?:`[^`]+`|[^\s`\"'(),;]+)(?:\s+(?:asc|desc))?(?:\s+nulls\s+(?:first|last))?", re.IGNORECASE
)


class Strategy(StrEnum):
    """How rows are laid out anew: as they come, sorted, or along a Z-order curve."""

    BINPACK = "BINPACK"
    SORT = "SORT"
    ZORDER = "ZORDER"


class RewriteJobOrder(StrEnum):
    """Which file groups are rewritten first."""

    NONE = "NONE"
    BYTES_ASC = "BYTES_ASC"
    BYTES_DESC = "BYTES_DESC"
    FILES_ASC = "FILES_ASC"
    FILES_DESC = "FILES_DESC"


def name_checked(text: str) -> str:
    if not text or text != text.strip() or not is_clean(text):
        raise ValueError("must be a name: not empty, no white space around it, no control characters")
    return text


def _sort_field(text: str) -> str:
    if not is_clean(text) or not _SORT_FIELD.fullmatch(text):
        raise ValueError(
            f"{text[:80]!r} is no sort field; write `column [asc|desc] [nulls first|last]`, "
            "a name with special characters in backticks"
        )
    return text


def _filter(text: str) -> str:
    check_filter(text)
    return text


# A value must have its own JSON type. Tuples and enumerations are relaxed where they stand, since JSON has neither.
Int32 = Annotated[int, Field(le=2**31 - 1)]
Int64 = Annotated[int, Field(le=2**63 - 1)]
PositiveInt32 = Annotated[Int32, Field(ge=1)]
PositiveInt64 = Annotated[Int64, Field(ge=1)]
Name = Annotated[str, Field(max_length=MAX_PART_LENGTH), AfterValidator(name_checked)]
SortField = Annotated[str, Field(max_length=2 * MAX_PART_LENGTH), AfterValidator(_sort_field)]
Filter = Annotated[str, AfterValidator(_filter)]


class Document(BaseModel):
    """A part of a policy as it is written: JSON names outside, Python names inside, nothing unknown, never changed."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        allow_inf_nan=False,
    )

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        """The rules across fields that do not hold, each with the JSON name of the field to change."""
        yield from ()

    @model_validator(mode="after")
    def _check_rules(self, info: ValidationInfo) -> Self:
        broken = list(self._broken_rules(info))
        if broken:
            raise PydanticCustomError(BROKEN_RULES, "rules across fields do not hold", {"broken": broken})
        return self


class RewriteDataFilesConfig(Document):
    """Options of Iceberg's RewriteDataFiles action; sizes in bytes. None: the default of the engine or the table."""

    strategy: Annotated[Strategy, Field(strict=False)] | None = None
    sort_order: Annotated[tuple[SortField, ...], Field(strict=False, max_length=MAX_COLUMNS)] = ()
    z_order_columns: Annotated[tuple[Name, ...], Field(strict=False, max_length=MAX_COLUMNS)] = ()
    target_file_size_bytes: PositiveInt64 | None = None
    min_file_size_bytes: Annotated[Int64, Field(ge=0)] | None = None
    max_file_size_bytes: PositiveInt64 | None = None
    min_input_files: PositiveInt32 | None = None
    max_file_group_size_bytes: PositiveInt64 | None = None
    max_concurrent_file_group_rewrites: (
        Annotated[PositiveInt32, Field(le=MAX_CONCURRENT_FILE_GROUP_REWRITES)] | None
    ) = None
    partial_progress_enabled: bool | None = None
    partial_progress_max_commits: PositiveInt32 | None = None
    partial_progress_max_failed_commits: Annotated[Int32, Field(ge=0)] | None = None
    filter: Filter | None = None
    rewrite_job_order: Annotated[RewriteJobOrder, Field(strict=False)] | None = None
    delete_file_threshold: Annotated[Int32, Field(ge=0)] | None = None
    delete_ratio_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    use_starting_sequence_number: bool | None = None
    remove_dangling_deletes: bool | None = None
    output_spec_id: Annotated[Int32, Field(ge=0)] | None = None
    max_files_to_rewrite: PositiveInt32 | None = None
    branch: Name | None = None
    only_closed_partitions_after: IsoDuration | None = None

    @property
    def effective_strategy(self) -> Strategy:
        return self.strategy or Strategy.BINPACK

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        strategy = self.effective_strategy
        if self.sort_order and strategy is not Strategy.SORT:
            yield "sortOrder", f"is only for strategy SORT, and the strategy is {strategy}"
        if self.z_order_columns and strategy is not Strategy.ZORDER:
            yield "zOrderColumns", f"is only for strategy ZORDER, and the strategy is {strategy}"
        if strategy is Strategy.ZORDER and not self.z_order_columns:
            yield "zOrderColumns", "strategy ZORDER needs at least one column"
        if repeated := _repeated(self.z_order_columns, key=str):
            yield "zOrderColumns", f"names {repeated!r} more than once"
        if repeated := _repeated(self.sort_order, key=_sort_column):
            yield "sortOrder", f"sorts by the column of {repeated!r} more than once"
        if self.branch not in (None, MAIN_BRANCH):
            for field, value in (
                ("onlyClosedPartitionsAfter", self.only_closed_partitions_after),
                ("removeDanglingDeletes", self.remove_dangling_deletes),
            ):
                if value:
                    yield field, f"works on the branch {MAIN_BRANCH} only, and the branch is {self.branch!r}"
        yield from _ascending(
            ("minFileSizeBytes", self.min_file_size_bytes),
            ("targetFileSizeBytes", self.target_file_size_bytes),
            ("maxFileSizeBytes", self.max_file_size_bytes),
        )


class ExpireSnapshotsConfig(Document):
    """Options of Iceberg's ExpireSnapshots action. Age and count decide, or else exactly the named snapshots go."""

    retain_last: PositiveInt32 | None = None
    max_snapshot_age: IsoDuration | None = None
    clean_expired_metadata: bool | None = None
    expire_snapshot_ids: Annotated[tuple[PositiveInt64, ...], Field(strict=False, max_length=MAX_SNAPSHOT_IDS)] = ()

    @property
    def effective_retain_last(self) -> int:
        return self.retain_last or DEFAULT_RETAIN_LAST

    def effective_max_snapshot_age(self, *, floor: timedelta) -> timedelta:
        """The age above which a snapshot may go; never below the deployment's floor, which may have risen since."""
        age = self.max_snapshot_age.length if self.max_snapshot_age else DEFAULT_MAX_SNAPSHOT_AGE
        return max(age, floor)

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        floor: timedelta = (info.context or {}).get(SNAPSHOT_AGE_FLOOR, timedelta(0))
        if self.max_snapshot_age and self.max_snapshot_age.length < floor:
            yield "maxSnapshotAge", f"{self.max_snapshot_age} is below this deployment's floor of {floor}"
        if repeated := _repeated(self.expire_snapshot_ids, key=str):
            yield "expireSnapshotIds", f"names {repeated} more than once"
        if self.expire_snapshot_ids:
            for field, value in (("retainLast", self.retain_last), ("maxSnapshotAge", self.max_snapshot_age)):
                if value is not None:
                    yield (
                        field,
                        "has no meaning beside expireSnapshotIds, which names exactly what goes; unset one of them",
                    )


def _sort_column(field: str) -> str:
    """The column of a checked sort field."""
    if field.startswith("`"):
        return field[1 : field.index("`", 1)]
    return field.split()[0]


def _repeated(values: Sequence[Any], *, key: Callable[[Any], str]) -> str:
    """The first value whose key was there before; empty if there is none."""
    seen: set[str] = set()
    for value in values:
        if key(value) in seen:
            return str(value)
        seen.add(key(value))
    return ""


def _ascending(*fields: tuple[str, int | None]) -> Iterator[Broken]:
    """Each set value must be below the next set one."""
    known = [(name, value) for name, value in fields if value is not None]
    for (lower, low), (upper, high) in pairwise(known):
        if low >= high:
            yield upper, f"must be above {lower}, which is {low}"
