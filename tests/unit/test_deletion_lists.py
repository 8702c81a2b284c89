from __future__ import annotations

from pathlib import Path

from executor.assignment import OperationId
from executor.engines.spark.deletions import Deletions, UnreachableFile

FILES = [UnreachableFile("DATA", f"file:/t/{number}\n.parquet") for number in range(7)]


def test_a_list_is_found_again_and_goes_on_where_it_was_left(tmp_path: Path) -> None:
    deletions = Deletions(tmp_path / "state")
    deletions.prepare()
    written = deletions.write(OperationId("op/1"), table_uuid="u", expired=[1, 2], files=FILES)
    for batch in written.batches(3):
        written.record(len(batch))
        break

    found = Deletions(tmp_path / "state").find(OperationId("op/1"))

    assert found is not None
    assert (found.table_uuid, found.expired) == ("u", (1, 2))
    assert [list(batch) for batch in found.batches(3)] == [FILES[3:6], FILES[6:]]


def test_a_discarded_list_is_gone(tmp_path: Path) -> None:
    deletions = Deletions(tmp_path)
    deletions.write(OperationId("op"), table_uuid="u", expired=[1], files=FILES).discard()

    assert deletions.find(OperationId("op")) is None
    assert list(tmp_path.iterdir()) == []
