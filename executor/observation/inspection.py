"""Measures a table's health: what its metadata says, and what its manifest entries say where that is affordable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table import Table as OpenTable
from pyiceberg.table.snapshots import Snapshot

from executor.observation.access import loaded
from executor.observation.errors import Invalid
from executor.observation.figures import DataFigures, DeleteFigures, data_figures, delete_figures
from executor.observation.manifest_entries import listed
from executor.observation.manifests import ManifestFiles
from executor.observation.model import InspectTable, Knowledge, Measurements, Metric, ScanMode
from executor.observation.selection import Selection
from executor.observation.settings import LaneSettings

# What only manifest entries tell: unknown without them.
_ENTRY_METRICS = (
    "small_file_count",
    "large_file_count",
    "delete_bytes",
    "position_delete_file_count",
    "equality_delete_file_count",
    "deletion_vector_count",
    "partition_count",
    "max_files_per_partition",
    "mean_files_per_partition",
    "reducible_file_count",
    "reducible_bytes",
)


class _Metrics:
    def __init__(self) -> None:
        self.found: list[Metric] = []

    def exact(self, name: str, value: float) -> None:
        self.found.append(Metric(name, Knowledge.EXACT, float(value)))

    def unknown(self, name: str) -> None:
        self.found.append(Metric(name, Knowledge.UNKNOWN))

    def add(self, name: str, knowledge: Knowledge, value: float | None) -> None:
        """With that knowledge if there is a value at all."""
        self.found.append(
            Metric(name, knowledge, float(value)) if value is not None else Metric(name, Knowledge.UNKNOWN)
        )


@dataclass(frozen=True, slots=True)
class _Totals:
    """Sums of the manifest list. None: a manifest of format version 1 does not say."""

    data_files: int | None
    delete_files: int | None
    records: int | None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What of the table and of its policy decides how its files are counted."""

    selection: Selection
    spec: int
    fewest_partitions: int
    """An unpartitioned table has one partition even when it is empty."""

    def data_figures(
        self, request: InspectTable, files: ManifestFiles, manifests: Sequence[int], deletes: DeleteFigures
    ) -> DataFigures:
        return data_figures(
            files,
            manifests,
            self.selection,
            spec=self.spec,
            smaller_than=request.small_file_size,
            larger_than=request.large_file_size,
            deletes=deletes,
        )


def inspect(
    request: InspectTable, table: OpenTable, files: ManifestFiles, limits: LaneSettings | None = None
) -> Measurements:
    """Measure the current snapshot. `files` keeps what it reads for the next time."""
    limits = limits or LaneSettings()
    try:
        selection = Selection.of(request.rules, table.metadata.properties)
    except ValueError as failure:
        raise Invalid(f"table {request.table.qualified}: {failure}") from None
    metrics = _Metrics()
    _measure_snapshots(metrics, [snapshot.timestamp_ms for snapshot in table.metadata.snapshots])
    metrics.exact("target_file_size_bytes", selection.target)

    current = table.current_snapshot()
    manifests = listed(table.io, current) if current is not None else []
    metrics.exact("manifest_count", len(manifests))
    metrics.exact("manifest_bytes", sum(manifest.manifest_length for manifest in manifests))
    totals = _totals(manifests)
    rules = _Rules(selection, table.metadata.default_spec_id, 1 if table.spec().is_unpartitioned() else 0)
    mode = _scan_mode(request, limits, files, manifests)
    match mode:
        case ScanMode.SCAN:
            _measure_entries(request, metrics, files, files.load(table.io, manifests), rules)
        case ScanMode.SAMPLE:
            _measure_totals(metrics, totals)
            sample = files.load(table.io, _sample(limits, manifests, table))
            _measure_sample(request, metrics, files, sample, rules, totals)
        case ScanMode.METADATA:
            _measure_totals(metrics, totals)
            _measure_summary(metrics, current)
    return Measurements(loaded(table), mode, tuple(metrics.found))


def _scan_mode(
    request: InspectTable, limits: LaneSettings, files: ManifestFiles, manifests: Sequence[ManifestFile]
) -> ScanMode:
    new_bytes = sum(manifest.manifest_length for manifest in files.missing(manifests))
    # What is known already costs nothing, whatever was asked for.
    if new_bytes == 0 or request.scan_mode is ScanMode.SCAN:
        return ScanMode.SCAN
    if request.scan_mode is not None:
        return request.scan_mode
    return ScanMode.SCAN if new_bytes <= limits.max_scan_bytes else ScanMode.SAMPLE


def _measure_snapshots(metrics: _Metrics, timestamps: Sequence[int]) -> None:
    metrics.exact("snapshot_count", len(timestamps))
    metrics.add("oldest_snapshot_time_ms", Knowledge.EXACT, min(timestamps, default=None))
    metrics.add("newest_snapshot_time_ms", Knowledge.EXACT, max(timestamps, default=None))


def _totals(manifests: Sequence[ManifestFile]) -> _Totals:
    data = [manifest for manifest in manifests if manifest.content == ManifestContent.DATA]
    deletes = [manifest for manifest in manifests if manifest.content == ManifestContent.DELETES]
    return _Totals(
        data_files=_total([(each.added_files_count, each.existing_files_count) for each in data]),
        delete_files=_total([(each.added_files_count, each.existing_files_count) for each in deletes]),
        records=_total([(each.added_rows_count, each.existing_rows_count) for each in data]),
    )


def _total(counts: Sequence[tuple[int | None, int | None]]) -> int | None:
    total = 0
    for added, existing in counts:
        if added is None or existing is None:
            return None
        total += added + existing
    return total


def _measure_totals(metrics: _Metrics, totals: _Totals) -> None:
    metrics.add("data_file_count", Knowledge.EXACT, totals.data_files)
    metrics.add("delete_file_count", Knowledge.EXACT, totals.delete_files)
    metrics.add("record_count", Knowledge.EXACT, totals.records)


def _measure_summary(metrics: _Metrics, current: Snapshot | None) -> None:
    """The writers' own running sum: absent where one of them did not keep it, and never better than an estimate."""
    size = current.summary["total-files-size"] if current is not None and current.summary is not None else None
    metrics.add("total_bytes", Knowledge.ESTIMATED, int(size) if size is not None and str(size).isdecimal() else None)
    for name in _ENTRY_METRICS:
        metrics.unknown(name)


def _measure_entries(
    request: InspectTable, metrics: _Metrics, files: ManifestFiles, manifests: Sequence[int], rules: _Rules
) -> None:
    deletes = delete_figures(files, manifests)
    data = rules.data_figures(request, files, manifests, deletes)
    partitions = max(data.partitions, rules.fewest_partitions)
    metrics.exact("data_file_count", data.files)
    metrics.exact("delete_file_count", deletes.files)
    metrics.exact("record_count", data.records)
    metrics.exact("total_bytes", data.size)
    metrics.exact("small_file_count", data.small)
    metrics.exact("large_file_count", data.large)
    metrics.exact("delete_bytes", deletes.size)
    metrics.exact("position_delete_file_count", deletes.positions)
    metrics.exact("equality_delete_file_count", deletes.equalities)
    metrics.exact("deletion_vector_count", deletes.vectors)
    metrics.exact("partition_count", partitions)
    metrics.exact("max_files_per_partition", data.largest_partition)
    metrics.add("mean_files_per_partition", Knowledge.EXACT, _ratio(data.files, partitions))
    metrics.exact("reducible_file_count", data.reducible.files)
    metrics.exact("reducible_bytes", data.reducible.size)


def _measure_sample(
    request: InspectTable,
    metrics: _Metrics,
    files: ManifestFiles,
    manifests: Sequence[int],
    rules: _Rules,
    totals: _Totals,
) -> None:
    """Figures of some data manifests, scaled to the exact number of files. Deletes are not sampled."""
    data = rules.data_figures(request, files, manifests, DeleteFigures())
    without_deletes = Knowledge.EXACT if totals.delete_files == 0 else Knowledge.UNKNOWN
    for name in ("delete_bytes", "position_delete_file_count", "equality_delete_file_count", "deletion_vector_count"):
        metrics.add(name, without_deletes, 0 if totals.delete_files == 0 else None)
    scale = _ratio(totals.data_files, data.files)
    for name, value in (
        ("total_bytes", data.size),
        ("small_file_count", data.small),
        ("large_file_count", data.large),
        ("reducible_file_count", data.reducible.files),
        ("reducible_bytes", data.reducible.size),
    ):
        metrics.add(name, Knowledge.ESTIMATED, round(value * scale) if scale is not None else None)
    # Partitions repeat in other manifests: what the sample shows is a lower bound, not a share.
    known = scale is not None
    partitions = max(data.partitions, rules.fewest_partitions)
    metrics.add("partition_count", Knowledge.ESTIMATED, partitions if known else None)
    metrics.add("max_files_per_partition", Knowledge.ESTIMATED, data.largest_partition if known else None)
    metrics.add("mean_files_per_partition", Knowledge.ESTIMATED, _ratio(data.files, partitions))


def _sample(limits: LaneSettings, manifests: Sequence[ManifestFile], table: OpenTable) -> Sequence[ManifestFile]:
    """Data manifests in random order, at least one, as long as they keep to the limits; the same ones for the same
    metadata."""
    shuffled = [manifest for manifest in manifests if manifest.content == ManifestContent.DATA]
    random.Random(table.metadata_location).shuffle(shuffled)
    chosen: list[ManifestFile] = []
    entries = size = 0
    for manifest in shuffled:
        entries += (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
        size += manifest.manifest_length
        if chosen and (entries > limits.sample_limit or size > limits.max_scan_bytes):
            break
        chosen.append(manifest)
    return chosen


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or not denominator:
        return None
    return numerator / denominator
