"""How what a table holds is rewritten: the options of a policy for data files, delete files, manifests and statistics.

A field that is not set stays unset: the engine's default, the table's own property or the default named here holds when
the operation is planned, and nothing is written into the document that its author did not write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationInfo

from control_plane.domain.document import (
    Broken,
    Document,
    Int32,
    Int64,
    Name,
    PositiveInt32,
    PositiveInt64,
    ascending,
    repeated,
)
from control_plane.domain.duration import IsoDuration
from control_plane.domain.identifiers import MAX_PART_LENGTH, is_clean
from control_plane.domain.row_filter import check_filter

MAIN_BRANCH: Final = "main"
MAX_COLUMNS: Final = 100
MAX_CONCURRENT_FILE_GROUP_REWRITES: Final = 1_000

_SORT_FIELD: Final = re.compile(
    r"(?:`[^`]+`|[^\s`\"'(),;]+)(?:\s+(?:asc|desc))?(?:\s+nulls\s+(?:first|last))?", re.IGNORECASE
)


class Strategy(StrEnum):
    """How rows are laid out anew: as they come, sorted, or along a Z-order curve."""

    BINPACK = "BINPACK"
    SORT = "SORT"
    ZORDER = "ZORDER"


class ManifestContent(StrEnum):
    """What a manifest lists."""

    DATA = "DATA"
    DELETES = "DELETES"


class RewriteJobOrder(StrEnum):
    """Which file groups are rewritten first."""

    NONE = "NONE"
    BYTES_ASC = "BYTES_ASC"
    BYTES_DESC = "BYTES_DESC"
    FILES_ASC = "FILES_ASC"
    FILES_DESC = "FILES_DESC"


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


SortField = Annotated[str, Field(max_length=2 * MAX_PART_LENGTH), AfterValidator(_sort_field)]
Filter = Annotated[str, AfterValidator(_filter)]


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
        if twice := repeated(self.z_order_columns):
            yield "zOrderColumns", f"names {twice!r} more than once"
        if twice := repeated(self.sort_order, key=_sort_column):
            yield "sortOrder", f"sorts by the column of {twice!r} more than once"
        if self.branch not in (None, MAIN_BRANCH):
            for field, value in (
                ("onlyClosedPartitionsAfter", self.only_closed_partitions_after),
                ("removeDanglingDeletes", self.remove_dangling_deletes),
            ):
                if value:
                    yield field, f"works on the branch {MAIN_BRANCH} only, and the branch is {self.branch!r}"
        yield from ascending(
            ("minFileSizeBytes", self.min_file_size_bytes),
            ("targetFileSizeBytes", self.target_file_size_bytes),
            ("maxFileSizeBytes", self.max_file_size_bytes),
        )


class RewritePositionDeletesConfig(Document):
    """Options of Iceberg's RewritePositionDeleteFiles action. None: the default of the engine or the table."""

    target_file_size_bytes: PositiveInt64 | None = None
    rewrite_all: bool | None = None
    filter: Filter | None = None

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if self.rewrite_all and self.filter:
            yield "filter", "narrows what rewriteAll takes as a whole; unset one of them"


class PartitionSummary(Document):
    """What a manifest says of one partition field; bounds as Iceberg writes values in JSON."""

    contains_null: bool | None = None
    contains_nan: bool | None = None
    lower_bound: Annotated[str, Field(max_length=4_096)] | None = None
    upper_bound: Annotated[str, Field(max_length=4_096)] | None = None


class RewriteIf(Document):
    """Which manifests are rewritten, by the fields of Iceberg's ManifestFile; every set field must be equal."""

    path: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    length: Annotated[Int64, Field(ge=0)] | None = None
    spec_id: Annotated[Int32, Field(ge=0)] | None = None
    content: Annotated[ManifestContent, Field(strict=False)] | None = None
    sequence_number: Annotated[Int64, Field(ge=0)] | None = None
    min_sequence_number: Annotated[Int64, Field(ge=0)] | None = None
    snapshot_id: PositiveInt64 | None = None
    added_files_count: Annotated[Int32, Field(ge=0)] | None = None
    existing_files_count: Annotated[Int32, Field(ge=0)] | None = None
    deleted_files_count: Annotated[Int32, Field(ge=0)] | None = None
    added_rows_count: Annotated[Int64, Field(ge=0)] | None = None
    existing_rows_count: Annotated[Int64, Field(ge=0)] | None = None
    deleted_rows_count: Annotated[Int64, Field(ge=0)] | None = None
    first_row_id: Annotated[Int64, Field(ge=0)] | None = None
    partition_summaries: Annotated[tuple[PartitionSummary, ...], Field(strict=False, max_length=MAX_COLUMNS)] = ()


class RewriteManifestsConfig(Document):
    """Options of Iceberg's RewriteManifests action. None: the default of the engine or the table."""

    spec_id: Annotated[Int32, Field(ge=0)] | None = None
    sort_by: Annotated[tuple[Name, ...], Field(strict=False, max_length=MAX_COLUMNS)] = ()
    staging_location: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    rewrite_if: RewriteIf | None = None

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if twice := repeated(self.sort_by):
            yield "sortBy", f"names {twice!r} more than once"


class ComputeStatisticsConfig(Document):
    """Options of Iceberg's ComputeTableStats and ComputePartitionStats actions. No columns: all of them."""

    columns: Annotated[tuple[Name, ...], Field(strict=False, max_length=MAX_COLUMNS)] = ()
    partition_statistics: bool | None = None

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        if twice := repeated(self.columns):
            yield "columns", f"names {twice!r} more than once"


def _sort_column(field: str) -> str:
    """The column of a checked sort field."""
    if field.startswith("`"):
        return field[1 : field.index("`", 1)]
    return field.split()[0]
