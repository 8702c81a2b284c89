from __future__ import annotations

import math
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.observation.model import FileSizeRules
from executor.observation.selection import Candidate, Reducible, Selection, reducible

MIB = 1024**2
RULES = Selection.of(FileSizeRules(), {})


def candidates(*sizes: int, partition: str = "p") -> list[Candidate]:
    return [Candidate(partition, size) for size in sizes]


def test_five_small_files_of_a_partition_become_one() -> None:
    assert reducible(candidates(*[MIB] * 5), RULES) == Reducible(4, 5 * MIB)


def test_four_small_files_stay_as_they_are() -> None:
    assert reducible(candidates(*[MIB] * 4), RULES) == Reducible(0, 0)


def test_files_of_different_partitions_are_never_joined() -> None:
    files = [Candidate(number, MIB) for number in range(50)]

    assert reducible(files, RULES) == Reducible(0, 0)


def test_two_files_that_exceed_the_target_together_are_rewritten() -> None:
    assert reducible(candidates(300 * MIB, 300 * MIB), RULES).size == 600 * MIB


def test_a_lone_file_above_the_maximum_is_split_and_reduces_nothing() -> None:
    assert reducible(candidates(2000 * MIB), RULES) == Reducible(0, 2000 * MIB)


def test_a_lone_file_full_of_deletes_is_rewritten() -> None:
    assert reducible([Candidate("p", 500 * MIB, forced=True)], RULES) == Reducible(0, 500 * MIB)


def test_a_group_is_closed_by_the_first_file_that_does_not_fit() -> None:
    rules = Selection.of(FileSizeRules(max_group_size=10 * MIB), {})

    # Three groups of 10, 10 and 5 files of 1 MiB.
    assert reducible(candidates(*[MIB] * 25), rules) == Reducible(22, 25 * MIB)


def test_a_small_remainder_is_spread_over_the_other_files() -> None:
    rules = Selection.of(FileSizeRules(target=100), {})

    assert rules.expected_output_files(1009) == 10
    assert rules.expected_output_files(1080) == 11
    assert rules.expected_output_files(150) == 2
    assert rules.expected_output_files(1000) == 10
    assert rules.expected_output_files(3) == 1


def test_the_policy_wins_over_the_table_and_the_table_over_the_default() -> None:
    properties = {"write.target-file-size-bytes": "1000"}

    assert Selection.of(FileSizeRules(), {}).target == 512 * MIB
    assert Selection.of(FileSizeRules(), properties) == Selection(target=1000, minimum=750, maximum=1800)
    assert Selection.of(FileSizeRules(target=10, minimum=1), properties) == Selection(target=10, minimum=1, maximum=18)


@pytest.mark.parametrize("value", ["0", "-5", "many"])
def test_a_target_size_that_is_no_size_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"positive|invalid literal"):
        Selection.of(FileSizeRules(), {"write.target-file-size-bytes": value})


def plainly(files: list[Candidate], rules: Selection) -> Reducible:
    """The rules once more, as one would write them for a list in memory, with floating point as Iceberg has it."""
    removed = rewritten = 0
    for _, members in groupby(files, key=lambda file: file.partition):
        groups: list[list[Candidate]] = []
        for file in members:
            if groups and sum(other.size for other in groups[-1]) + file.size <= rules.max_group_size:
                groups[-1].append(file)
            else:
                groups.append([file])
        for group in groups:
            size = sum(file.size for file in group)
            chosen = [
                len(group) > 1 and len(group) >= rules.min_input_files,
                len(group) > 1 and size > rules.target,
                size > rules.maximum,
                any(file.forced for file in group),
            ]
            if any(chosen):
                removed += max(0, len(group) - outputs(size, rules))
                rewritten += size
    return Reducible(removed, rewritten)


def outputs(size: int, rules: Selection) -> int:
    if size < rules.target:
        return 1
    average_without = size // (size // rules.target)
    if size % rules.target > rules.minimum:
        return math.ceil(size / rules.target)
    if average_without < min(1.1 * rules.target, float(int(rules.target + (rules.maximum - rules.target) * 0.5))):
        return size // rules.target
    return math.ceil(size / rules.target)


@given(
    files=st.lists(st.builds(Candidate, st.integers(0, 3), st.integers(0, 400), st.booleans()), max_size=60),
    target=st.integers(10, 300),
    min_input_files=st.integers(1, 8),
    max_group_size=st.integers(1, 2000),
)
def test_streaming_gives_what_the_plain_rules_give(
    files: list[Candidate], target: int, min_input_files: int, max_group_size: int
) -> None:
    rules = Selection.of(
        FileSizeRules(target=target, min_input_files=min_input_files, max_group_size=max_group_size), {}
    )
    by_partition = sorted(files, key=lambda file: str(file.partition))

    assert reducible(by_partition, rules) == plainly(by_partition, rules)
