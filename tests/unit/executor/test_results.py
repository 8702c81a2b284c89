"""Results on disk, and what becomes of them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.assignment import Effects, Failure, FailureClass, Lease, OperationId, Outcome, Result
from executor.results import ResultStore

LEASE = Lease(OperationId("o1"), 3, b"\x01" * 16)
FULL = Result(
    Outcome.PARTIAL,
    Effects.UNKNOWN,
    failure=Failure(FailureClass.CONFLICT, "another writer won"),
    snapshots=(1, 2**62),
    metrics={"files_rewritten": 7},
    commits_answered=False,
)


@pytest.mark.parametrize(
    "result",
    [
        FULL,
        Result(Outcome.NO_CHANGE, Effects.NONE, cancelled=True),
        Result(Outcome.NO_CHANGE, Effects.NONE, skipped="table_gone"),
    ],
)
def test_a_result_comes_back_as_it_was_saved_in_another_process(tmp_path: Path, result: Result) -> None:
    ResultStore(tmp_path).save(LEASE, result)

    (loaded,) = ResultStore(tmp_path).load().items()

    assert loaded == (LEASE, result)


def test_an_answered_result_is_gone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save(LEASE, FULL)
    store.remove(LEASE)
    store.remove(LEASE)

    assert store.load() == {}
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_put_aside_and_hides_nothing(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    (tmp_path / "a.result").write_bytes(b"\xff\xff\xff")
    store.save(LEASE, FULL)

    assert list(store.load()) == [LEASE]
    assert (tmp_path / "a.unreadable").exists()


def test_an_operation_id_cannot_leave_the_directory(tmp_path: Path) -> None:
    inside = tmp_path / "results"
    ResultStore(inside).save(Lease(OperationId("../../evil"), 1, b"x"), FULL)

    assert [path.name for path in tmp_path.iterdir()] == ["results"]
