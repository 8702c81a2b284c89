"""What InspectTable costs beside pyiceberg's own `inspect.files()`, in time and memory, on the same table.

Both run in fresh processes, in turn, so that neither profits from the other. Times are of the call alone, without
starting Python and importing; memory is the peak of the whole process during the call, and its rise above what the
process held when it was ready to answer.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable, Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

_COLUMNS = 20
_PARTITIONS = 50


@dataclass(frozen=True, slots=True)
class Inspections:
    """Medians over the rounds, by what was measured: times in seconds, `peak_memory` and `added_memory` in KiB.

    Ours has, beside `time`, those of a second look after one more commit (`again`), of a worker that starts then and
    finds what was kept (`restarted`), and of keeping it, behind the answer (`saving`).
    """

    ours: Mapping[str, float]
    theirs: Mapping[str, float]

    def ratio(self, name: str) -> float:
        return self.ours[name] / self.theirs[name]


def bench_inspect(files: int = 5000, manifests: int = 10, rounds: int = 5) -> Inspections:
    """The table's data files are entries only: neither reader opens them."""
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as folder:
        table = _write_table(Path(folder), files, files // manifests)
        ours: list[Mapping[str, float]] = []
        theirs: list[Mapping[str, float]] = []
        for _ in range(rounds):
            ours.append(_measure("ours", table))
            theirs.append(_measure("theirs", table))
    return Inspections(_medians(ours), _medians(theirs))


def _medians(rounds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


@dataclass(frozen=True, slots=True)
class _Written:
    """A table's metadata with so many files, and the next version, of one more commit and manifest."""

    metadata: str
    files: int
    next_metadata: str
    next_files: int


def _write_table(folder: Path, files: int, per_commit: int) -> _Written:
    catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder.as_uri())
    catalog.create_namespace("bench")
    schema = Schema(*(NestedField(each, f"column_{each}", LongType()) for each in range(1, _COLUMNS + 1)))
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "column_1"))
    table = catalog.create_table("bench.files", schema, partition_spec=spec)
    for start in range(0, files, per_commit):
        _append(table, range(start, min(files, start + per_commit)))
    metadata = table.metadata_location
    _append(table, range(files, files + per_commit))
    catalog.engine.dispose()
    return _Written(metadata, files, table.metadata_location, files + per_commit)


def _append(table: Table, numbers: range) -> None:
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for number in numbers:
            append.append_data_file(_data_file(table.metadata.location, number))


def _data_file(location: str, number: int) -> DataFile:
    partition = number % _PARTITIONS
    columns = range(1, _COLUMNS + 1)
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{location}/data/column_1={partition}/00000-{number}-0a1b2c3d-4e5f-6789-abcd-ef0123456789.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(partition),
        record_count=1000,
        file_size_in_bytes=100_000 + number,
        column_sizes=dict.fromkeys(columns, 4000),
        value_counts=dict.fromkeys(columns, 1000),
        null_value_counts=dict.fromkeys(columns, 0),
        nan_value_counts={},
        lower_bounds={each: to_bytes(LongType(), number) for each in columns},
        upper_bounds={each: to_bytes(LongType(), number + 1000) for each in columns},
        split_offsets=[4],
        sort_order_id=0,
        spec_id=0,
    )


def _measure(which: str, table: _Written) -> Mapping[str, float]:
    from executor.observation.lane import WORKER_ENVIRONMENT

    finished = subprocess.run(
        [sys.executable, "-m", "tests.bench.inspection", which, json.dumps(asdict(table))],
        capture_output=True,
        check=True,
        # Ours as the lane starts its workers.
        env={**WORKER_ENVIRONMENT, **os.environ} if which == "ours" else None,
        text=True,
        timeout=600,
    )
    measured: Mapping[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def _peak() -> float:
    """The most that this process has held since `_forget_peak`, in KiB.

    Not `ru_maxrss`: that begins with what the parent held when it started this process.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1])
    raise RuntimeError("peaks are measured by /proc/self/status, which Linux has")


def _forget_peak() -> None:
    """Let the peak begin again at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def _theirs(table: _Written) -> Mapping[str, float]:
    opened = StaticTable.from_metadata(table.metadata)
    opened.io.new_input(table.metadata).exists()
    _forget_peak()
    before, began = _peak(), time.perf_counter()
    found = opened.inspect.files().num_rows
    elapsed, after = time.perf_counter() - began, _peak()
    _expect(found, table.files)
    return {"time": elapsed, "peak_memory": after, "added_memory": after - before}


def _ours(table: _Written) -> Mapping[str, float]:
    from executor.assignment import Catalog
    from executor.assignment import Table as Reference
    from executor.observation.avro import connect
    from executor.observation.inspection import inspect
    from executor.observation.manifest_cache import ManifestCache
    from executor.observation.manifests import ManifestFiles
    from executor.observation.model import InspectTable

    first, second = (StaticTable.from_metadata(each) for each in (table.metadata, table.next_metadata))
    request = InspectTable(Reference(Catalog("bench", "rest", "http://127.0.0.1"), ("bench",), "files", "", ""))
    with tempfile.TemporaryDirectory() as folder:
        scratch, kept = Path(folder), Path(folder, "kept")

        def worker() -> ManifestFiles:
            """A worker opens it once, and answers many requests with it."""
            return ManifestFiles(connect(temporary=scratch), scratch, cache=ManifestCache(kept, limit=2**30))

        def look(opened: StaticTable, files_read: ManifestFiles, files: int) -> float:
            began = time.perf_counter()
            found = inspect(request, opened, files_read).value("data_file_count")
            elapsed = time.perf_counter() - began
            _expect(found, files)
            return elapsed

        files_read = worker()
        _forget_peak()
        before = _peak()
        cold = look(first, files_read, table.files)
        began = time.perf_counter()
        files_read.save()
        saving = time.perf_counter() - began
        # Of keeping what was learnt too, although the answer is out by then.
        after = _peak()
        again = look(second, files_read, table.next_files)
        return {
            "time": cold,
            "peak_memory": after,
            "added_memory": after - before,
            "saving": saving,
            "again": again,
            "restarted": look(second, worker(), table.next_files),
        }


def _expect(found: float | None, files: int) -> None:
    if found != files:
        raise RuntimeError(f"{found} files were found of {files}")


def main(arguments: Sequence[str]) -> None:
    which, table = arguments[0], _Written(**json.loads(arguments[1]))
    sys.stdout.write(json.dumps(_ours(table) if which == "ours" else _theirs(table)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
