"""What InspectTable costs beside pyiceberg's own `inspect.files()`, in time and memory, on the same table.

Both run in fresh processes, in turn, so that neither profits from the other. Times are of the call alone, without
starting Python and importing; memory is the peak of the whole process during the call, and its rise above what the
process held when it was ready to answer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

_COLUMNS = 20
_PARTITIONS = 50
_FILES_PER_COMMIT = 500


@dataclass(frozen=True, slots=True)
class Inspections:
    """Medians over the rounds, by what was measured: `time` in seconds, `peak_memory` and `added_memory` in KiB."""

    ours: Mapping[str, float]
    theirs: Mapping[str, float]

    def ratio(self, name: str) -> float:
        return self.ours[name] / self.theirs[name]


def bench_inspect(files: int = 5000, rounds: int = 5) -> Inspections:
    """The table's data files are entries only: neither reader opens them."""
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as folder:
        metadata = _write_table(Path(folder), files)
        ours: list[Mapping[str, float]] = []
        theirs: list[Mapping[str, float]] = []
        for _ in range(rounds):
            ours.append(_measure("ours", metadata, files))
            theirs.append(_measure("theirs", metadata, files))
    return Inspections(_medians(ours), _medians(theirs))


def _medians(rounds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _write_table(folder: Path, files: int) -> str:
    catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder.as_uri())
    catalog.create_namespace("bench")
    schema = Schema(*(NestedField(each, f"column_{each}", LongType()) for each in range(1, _COLUMNS + 1)))
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "column_1"))
    table = catalog.create_table("bench.files", schema, partition_spec=spec)
    for start in range(0, files, _FILES_PER_COMMIT):
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            for number in range(start, min(files, start + _FILES_PER_COMMIT)):
                append.append_data_file(_data_file(table.metadata.location, number))
    location = table.metadata_location
    catalog.engine.dispose()
    return location


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


def _measure(which: str, metadata: str, files: int) -> Mapping[str, float]:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.bench.inspection", which, metadata, str(files)],
        capture_output=True,
        check=True,
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


def _run(which: str, metadata: str, files: int) -> Mapping[str, float]:
    table = StaticTable.from_metadata(metadata)
    if which == "theirs":
        table.io.new_input(metadata).exists()
        _forget_peak()
        before, began = _peak(), time.perf_counter()
        found: Any = table.inspect.files().num_rows
    else:
        from executor.assignment import Catalog, Table
        from executor.observation.avro import connect
        from executor.observation.inspection import inspect
        from executor.observation.manifests import ManifestFiles
        from executor.observation.model import InspectTable

        with tempfile.TemporaryDirectory() as folder:
            request = InspectTable(Table(Catalog("bench", "rest", "http://127.0.0.1"), ("bench",), "files", "", ""))
            scratch = Path(folder)
            # A worker opens it once, and answers many requests with it.
            files_read = ManifestFiles(connect(temporary=scratch), scratch)
            _forget_peak()
            before, began = _peak(), time.perf_counter()
            found = inspect(request, table, files_read).value("data_file_count")
    elapsed, after = time.perf_counter() - began, _peak()
    if found != files:
        raise RuntimeError(f"{which} found {found} files of {files}")
    return {"time": elapsed, "peak_memory": after, "added_memory": after - before}


def main(arguments: Sequence[str]) -> None:
    which, metadata, files = arguments
    sys.stdout.write(json.dumps(_run(which, metadata, int(files))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
