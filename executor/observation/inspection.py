"""Measures a table's health: what its metadata says, and what its manifest entries say where that is affordable."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table import Table as OpenTable
from pyiceberg.table.snapshots import Snapshot

from executor.observation.access import loaded
from executor.observation.errors import Invalid
from executor.observation.manifests import ManifestFiles
from executor.observation.model import InspectTable, Knowledge, Measurements, Metric, ScanMode
from executor.observation.selection import Candidate, Selection, reducible

_FETCHED_ROWS = 10_000

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


def inspect(request: InspectTable, table: OpenTable, files: ManifestFiles) -> Measurements:
    """Measure the current snapshot. `files` keeps what it reads for the next time."""
    try:
        selection = Selection.of(request.rules, table.metadata.properties)
    except ValueError as failure:
        raise Invalid(f"table {request.table.qualified}: {failure}") from None
    metrics = _Metrics()
    _measure_snapshots(metrics, [snapshot.timestamp_ms for snapshot in table.metadata.snapshots])
    metrics.exact("target_file_size_bytes", selection.target)

    current = table.current_snapshot()
    manifests = current.manifests(table.io) if current is not None else []
    metrics.exact("manifest_count", len(manifests))
    metrics.exact("manifest_bytes", sum(manifest.manifest_length for manifest in manifests))
    totals = _totals(manifests)
    mode = _scan_mode(request, files, manifests)
    match mode:
        case ScanMode.SCAN:
            _measure_entries(request, metrics, files, files.load(table.io, manifests), selection, table)
        case ScanMode.SAMPLE:
            _measure_totals(metrics, totals)
            _measure_sample(
                request,
                metrics,
                files,
                files.load(table.io, _sample(request, manifests, table)),
                selection,
                table,
                totals,
            )
        case ScanMode.METADATA:
            _measure_totals(metrics, totals)
            _measure_summary(metrics, current)
    return Measurements(loaded(table), mode, tuple(metrics.found))


def _scan_mode(request: InspectTable, files: ManifestFiles, manifests: Sequence[ManifestFile]) -> ScanMode:
    new_bytes = sum(manifest.manifest_length for manifest in files.missing(manifests))
    # What is known already costs nothing, whatever was asked for.
    if new_bytes == 0 or request.scan_mode is ScanMode.SCAN:
        return ScanMode.SCAN
    if request.scan_mode is not None:
        return request.scan_mode
    return ScanMode.SCAN if new_bytes <= request.new_manifest_bytes else ScanMode.SAMPLE


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
    request: InspectTable,
    metrics: _Metrics,
    files: ManifestFiles,
    manifests: Sequence[int],
    selection: Selection,
    table: OpenTable,
) -> None:
    found = _aggregate(request, files, manifests, table)
    gained = reducible(_candidates(files, manifests, selection, table.metadata.default_spec_id), selection)
    metrics.exact("data_file_count", found.data_files)
    metrics.exact("delete_file_count", found.delete_files)
    metrics.exact("record_count", found.records)
    metrics.exact("total_bytes", found.data_bytes)
    metrics.exact("small_file_count", found.small)
    metrics.exact("large_file_count", found.large)
    metrics.exact("delete_bytes", found.delete_bytes)
    metrics.exact("position_delete_file_count", found.position_deletes)
    metrics.exact("equality_delete_file_count", found.equality_deletes)
    metrics.exact("deletion_vector_count", found.vectors)
    metrics.exact("partition_count", found.partitions)
    metrics.exact("max_files_per_partition", found.largest_partition)
    metrics.add("mean_files_per_partition", Knowledge.EXACT, _ratio(found.data_files, found.partitions))
    metrics.exact("reducible_file_count", gained.files)
    metrics.exact("reducible_bytes", gained.size)


def _measure_sample(
    request: InspectTable,
    metrics: _Metrics,
    files: ManifestFiles,
    manifests: Sequence[int],
    selection: Selection,
    table: OpenTable,
    totals: _Totals,
) -> None:
    """Figures of some data manifests, scaled to the exact number of files. Deletes are not sampled."""
    found = _aggregate(request, files, manifests, table)
    without_deletes = Knowledge.EXACT if totals.delete_files == 0 else Knowledge.UNKNOWN
    for name in ("delete_bytes", "position_delete_file_count", "equality_delete_file_count", "deletion_vector_count"):
        metrics.add(name, without_deletes, 0 if totals.delete_files == 0 else None)
    scale = _ratio(totals.data_files, found.data_files)
    gained = reducible(_candidates(files, manifests, selection, table.metadata.default_spec_id), selection)
    for name, value in (
        ("total_bytes", found.data_bytes),
        ("small_file_count", found.small),
        ("large_file_count", found.large),
        ("reducible_file_count", gained.files),
        ("reducible_bytes", gained.size),
    ):
        metrics.add(name, Knowledge.ESTIMATED, round(value * scale) if scale is not None else None)
    # Partitions repeat in other manifests: what the sample shows is a lower bound, not a share.
    metrics.add("partition_count", Knowledge.ESTIMATED, found.partitions if scale is not None else None)
    metrics.add("max_files_per_partition", Knowledge.ESTIMATED, found.largest_partition if scale is not None else None)
    mean = _ratio(found.data_files, found.partitions)
    metrics.add("mean_files_per_partition", Knowledge.ESTIMATED, mean)


def _sample(request: InspectTable, manifests: Sequence[ManifestFile], table: OpenTable) -> Sequence[ManifestFile]:
    """Data manifests in random order until they hold enough entries; the same ones for the same metadata."""
    shuffled = [manifest for manifest in manifests if manifest.content == ManifestContent.DATA]
    random.Random(table.metadata_location).shuffle(shuffled)
    chosen: list[ManifestFile] = []
    entries = size = 0
    for manifest in shuffled:
        if chosen and (
            entries >= request.sample_entries or size + manifest.manifest_length > request.new_manifest_bytes
        ):
            break
        chosen.append(manifest)
        entries += (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
        size += manifest.manifest_length
    return chosen


@dataclass(frozen=True, slots=True)
class _Aggregate:
    data_files: int
    data_bytes: int
    records: int
    small: int
    large: int
    delete_files: int
    delete_bytes: int
    position_deletes: int
    equality_deletes: int
    vectors: int
    partitions: int
    largest_partition: int


def _aggregate(request: InspectTable, files: ManifestFiles, manifests: Sequence[int], table: OpenTable) -> _Aggregate:
    row = files.connection.execute(
        """
        WITH live AS (SELECT * FROM files WHERE list_contains($manifests, manifest)),
        per_partition AS (SELECT count(*) AS number FROM live WHERE content = 0 GROUP BY spec, partition)
        SELECT count(*) FILTER (content = 0), coalesce(sum(size) FILTER (content = 0), 0),
            coalesce(sum(records) FILTER (content = 0), 0),
            count(*) FILTER (content = 0 AND size < $small), count(*) FILTER (content = 0 AND size > $large),
            count(*) FILTER (content > 0), coalesce(sum(size) FILTER (content > 0), 0),
            count(*) FILTER (content = 1 AND NOT is_dv), count(*) FILTER (content = 2),
            count(*) FILTER (content = 1 AND is_dv),
            (SELECT greatest(count(*), $fewest) FROM per_partition), (SELECT coalesce(max(number), 0) FROM
            per_partition)
        FROM live
        """,
        {
            "manifests": list(manifests),
            "small": request.small_file_size,
            "large": request.large_file_size,
            # An unpartitioned table has one partition even when it is empty.
            "fewest": 1 if table.spec().is_unpartitioned() else 0,
        },
    ).fetchone()
    assert row is not None
    return _Aggregate(*(int(value) for value in row))


def _candidates(files: ManifestFiles, manifests: Sequence[int], selection: Selection, spec: int) -> Iterator[Candidate]:
    """Candidate data files, partition by partition. Files of older specs form one group, as Iceberg groups them."""
    parameters = {
        "manifests": list(manifests),
        "spec": spec,
        "minimum": selection.minimum,
        "maximum": selection.maximum,
    }
    connection = files.connection.cursor()
    bound = connection.execute(
        "SELECT count(*) > 0 FROM files WHERE list_contains($manifests, manifest) AND referenced IS NOT NULL",
        {"manifests": parameters["manifests"]},
    ).fetchone()
    forced = "false"
    if bound is not None and bound[0]:
        # Most tables have no such deletes, and are spared the join.
        forced = f"path IN ({_FULL_OF_DELETES})"
        parameters["ratio"] = selection.delete_ratio
    rows = connection.execute(
        f"""
        WITH live AS (SELECT *, rowid AS position FROM files WHERE list_contains($manifests, manifest)),
        judged AS (
            SELECT spec = $spec AS of_spec, CASE WHEN spec = $spec THEN partition END AS partition, manifest, position,
                size, {forced} AS forced
            FROM live WHERE content = 0
        )
        SELECT of_spec, partition, size, forced FROM judged
        WHERE size < $minimum OR size > $maximum OR forced
        ORDER BY of_spec, partition, manifest, position
        """,
        parameters,
    )
    while page := rows.fetchmany(_FETCHED_ROWS):
        for of_spec, partition, size, is_forced in page:
            yield Candidate((of_spec, partition), size, is_forced)


# As in Iceberg, only deletes that are bound to one data file count towards its delete ratio.
_FULL_OF_DELETES = """
    SELECT data.path
    FROM live AS deletes JOIN live AS data
        ON deletes.referenced = data.path AND data.content = 0 AND data.sequence <= deletes.sequence
    WHERE deletes.content = 1
    GROUP BY data.path, data.records
    HAVING least(sum(deletes.records), data.records) >= $ratio * greatest(data.records, 1)
"""


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or not denominator:
        return None
    return numerator / denominator
