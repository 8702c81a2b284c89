"""The page that the executor and its watchdog share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from executor.deadlines import DeadlineTable
from executor.processes import ProcessIdentity


@pytest.fixture
def table() -> Iterator[DeadlineTable]:
    table = DeadlineTable.create(2)
    yield table
    table.close()


def test_both_sides_see_the_same_page(table: DeadlineTable) -> None:
    other = DeadlineTable.opened(os.dup(table.descriptor))
    table.set(1, 7_000_000_000_000)
    table.engine = ProcessIdentity(123, 456)
    other.count_kill()

    assert other.slots == 2
    assert other.earliest() == 7_000_000_000_000
    assert other.engine == ProcessIdentity(123, 456)
    assert table.kills == 1
    other.close()


def test_the_earliest_deadline_counts_and_a_cleared_slot_has_none(table: DeadlineTable) -> None:
    assert table.earliest() is None
    table.set(0, 20)
    table.set(1, 10)
    assert table.earliest() == 10
    table.clear(1)
    assert table.earliest() == 20


def test_a_process_is_killed_only_if_it_is_the_one_that_was_meant() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None

    # The same pid, of a process that began at another time: the pid was given away.
    assert not ProcessIdentity(identity.pid, identity.started + 1).kill()
    assert ProcessIdentity.of(process.pid) == identity
    assert identity.kill()

    assert process.wait() == -signal.SIGKILL
    assert not identity.kill()
    assert process.stdin is not None
    process.stdin.close()
