"""Sums up the live files of some manifests: how many, how they lie in partitions, and what a rewrite would gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from executor.observation.manifests import CHOSEN, ManifestFiles, chosen
from executor.observation.selection import Candidate, Group, Reducible, Selection, reducible

_FETCHED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class DeleteFigures:
    """Delete files, each counted once, whatever it touches."""

    files: int = 0
    size: int = 0
    positions: int = 0
    equalities: int = 0
    vectors: int = 0
    bound: int = 0
    """Those that speak of one data file only."""


@dataclass(frozen=True, slots=True)
class DataFigures:
    files: int
    size: int
    records: int
    small: int
    large: int
    partitions: int
    """Those that hold files."""
    largest_partition: int
    """In files."""
    reducible: Reducible


def delete_figures(files: ManifestFiles, manifests: Sequence[int]) -> DeleteFigures:
    row = files.connection.execute(
        f"""
        SELECT count(*), coalesce(sum(size), 0), count(*) FILTER (content = 1 AND NOT is_dv),
            count(*) FILTER (content = 2), count(*) FILTER (content = 1 AND is_dv), count(referenced)
        FROM files WHERE content > 0 AND {CHOSEN}
        """,
        {"manifests": chosen(manifests)},
    ).fetchone()
    assert row is not None
    return DeleteFigures(*(int(value) for value in row))


def data_figures(
    files: ManifestFiles,
    manifests: Sequence[int],
    selection: Selection,
    *,
    spec: int,
    smaller_than: int,
    larger_than: int,
    deletes: DeleteFigures,
) -> DataFigures:
    """`spec` is the table's present one: files of older ones form one group, as Iceberg groups them."""
    view = _View(files.connection.cursor(), manifests, selection, spec, has_bound_deletes=deletes.bound > 0)
    count = size = records = small = large = partitions = largest = 0
    gain = Reducible(0, 0)
    of_older_specs = Group()
    is_split = False
    for row in view.partitions(smaller_than, larger_than):
        file_spec, number, *sums, candidates, candidate_size, forced = row
        count, partitions, largest = count + number, partitions + 1, max(largest, number)
        size, records, small, large = (
            total + part for total, part in zip((size, records, small, large), sums, strict=True)
        )
        group = Group(candidates, candidate_size, bool(forced))
        if file_spec != spec:
            of_older_specs = of_older_specs.joined(group)
        elif group.size > selection.max_group_size:
            is_split = True
        else:
            gain = gain.plus(group.outcome(selection))
    if is_split or of_older_specs.size > selection.max_group_size:
        # What fits into no single group depends on the order of the files.
        gain = reducible(view.candidates(), selection)
    else:
        gain = gain.plus(of_older_specs.outcome(selection))
    return DataFigures(count, size, records, small, large, partitions, largest, gain)


class _View:
    """The live data files of the manifests, each judged by the selection's rules."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        manifests: Sequence[int],
        selection: Selection,
        spec: int,
        *,
        has_bound_deletes: bool,
    ) -> None:
        self._connection = connection
        self._parameters: dict[str, object] = {
            "manifests": chosen(manifests),
            "minimum": selection.minimum,
            "maximum": selection.maximum,
        }
        self._spec = spec
        self._forced = "false"
        self._full_of_deletes = ""
        if has_bound_deletes:
            # Most tables have no such deletes, and are spared the join.
            self._full_of_deletes = f"WITH {_FULL_OF_DELETES}"
            self._forced = "path IN (FROM full_of_deletes)"
            self._parameters["ratio"] = selection.delete_ratio

    def partitions(self, smaller_than: int, larger_than: int) -> Iterator[tuple[int, ...]]:
        """Of each partition: its spec, files, bytes, records, small and large files, and its candidates: how many, of
        how many bytes, and whether one is forced."""
        return self._pages(
            f"""
            {self._full_of_deletes}
            SELECT spec, count(*), sum(size), sum(records), count(*) FILTER (size < $small),
                count(*) FILTER (size > $large), count(*) FILTER ({_IS_CANDIDATE}),
                coalesce(sum(size) FILTER ({_IS_CANDIDATE}), 0), bool_or(forced)
            FROM (
                SELECT spec, partition, size, records, {self._forced} AS forced
                FROM files WHERE content = 0 AND {CHOSEN}
            )
            GROUP BY spec, partition
            """,
            {"small": smaller_than, "large": larger_than},
        )

    def candidates(self) -> Iterator[Candidate]:
        """Partition by partition, in the order of a scan."""
        for of_spec, partition, size, forced in self._pages(
            f"""
            {self._full_of_deletes}
            SELECT of_spec, partition, size, forced
            FROM (
                SELECT spec = $spec AS of_spec, CASE WHEN spec = $spec THEN partition END AS partition, manifest,
                    rowid AS position, size, {self._forced} AS forced
                FROM files WHERE content = 0 AND {CHOSEN}
            )
            WHERE {_IS_CANDIDATE}
            ORDER BY of_spec, partition, manifest, position
            """,
            {"spec": self._spec},
        ):
            yield Candidate((of_spec, partition), size, bool(forced))

    def _pages(self, statement: str, parameters: dict[str, object]) -> Iterator[tuple[int, ...]]:
        rows = self._connection.execute(statement, {**self._parameters, **parameters})
        while page := rows.fetchmany(_FETCHED_ROWS):
            yield from page


_IS_CANDIDATE = "(size < $minimum OR size > $maximum OR forced)"

# As in Iceberg, only deletes that are bound to one data file count towards its delete ratio.
_FULL_OF_DELETES = f"""
    full_of_deletes AS (
        SELECT data.path
        FROM (FROM files WHERE content = 1 AND {CHOSEN}) AS deletes JOIN (FROM files WHERE content = 0 AND {CHOSEN})
            AS data ON deletes.referenced = data.path AND data.sequence <= deletes.sequence
        GROUP BY data.path, data.records
        HAVING least(sum(deletes.records), data.records) >= $ratio * greatest(data.records, 1)
    )
"""
