from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.expression import FIELDS, MAX_LENGTH, Expression
from control_plane.domain.health import (
    FIGURE_NAMES,
    UNKNOWN,
    HealthMetrics,
    HealthReport,
    HealthStatus,
    Metric,
    figure,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def report(**measured: float) -> HealthReport:
    metrics = HealthMetrics.measured((name, Metric.exact(value)) for name, value in measured.items())
    return HealthReport(metrics=metrics, issues=(), status=HealthStatus.HEALTHY, score=100, measure_time=NOW)


VERDICTS: list[tuple[str, dict[str, float], bool | None]] = [
    ("smallFileCount >= 20", {"small_file_count": 20}, True),
    ("smallFileCount >= 20", {"small_file_count": 19}, False),
    ("small_file_count >= 20", {"small_file_count": 20}, True),
    ("smallFilePercent > 50.5", {"small_file_count": 51, "data_file_count": 100}, True),
    ("smallFilePercent > 50.5", {"small_file_count": 50, "data_file_count": 100}, False),
    ("smallFileCount / dataFileCount > 0.5", {"small_file_count": 51, "data_file_count": 100}, True),
    ("smallFileCount * 2 > dataFileCount + 1", {"small_file_count": 51, "data_file_count": 100}, True),
    ("totalBytes > 1e12", {"total_bytes": 2e12}, True),
    ("-snapshotCount < -5", {"snapshot_count": 6}, True),
    ("!(snapshotCount == 5)", {"snapshot_count": 5}, False),
    ("snapshotCount != 5", {"snapshot_count": 5}, False),
    (
        "dataFileCount > 100 ? snapshotCount > 3 : snapshotCount > 9",
        {"data_file_count": 101, "snapshot_count": 5},
        True,
    ),
    (
        "dataFileCount > 100 ? snapshotCount > 3 : snapshotCount > 9",
        {"data_file_count": 99, "snapshot_count": 5},
        False,
    ),
    ("snapshotCount > 1 && manifestCount > 1", {"snapshot_count": 2, "manifest_count": 1}, False),
    ("snapshotCount > 1 || manifestCount > 1", {"snapshot_count": 2, "manifest_count": 1}, True),
    ("deleteFileRatio >= 0.1", {"delete_file_count": 1, "data_file_count": 10}, True),
    ("partitionSkew >= 3", {"max_files_per_partition": 30, "mean_files_per_partition": 10}, True),
    ("oldestSnapshotAgeDays >= 7", {"oldest_snapshot_time_ms": (NOW - timedelta(days=7)).timestamp() * 1000}, True),
    ("newestSnapshotAgeDays >= 7", {"newest_snapshot_time_ms": (NOW - timedelta(days=6)).timestamp() * 1000}, False),
    ("snapshotCount > 99999999999999999999", {"snapshot_count": 5}, False),
    # Unknown.
    ("smallFileCount >= 20", {}, None),
    ("snapshotCount > 1 || manifestCount > 1", {"snapshot_count": 2}, None),
    ("snapshotCount > 1 && manifestCount > 1", {"snapshot_count": 0}, None),
    ("smallFilePercent > 50", {"small_file_count": 0, "data_file_count": 0}, None),
    ("snapshotCount / manifestCount > 1", {"snapshot_count": 0, "manifest_count": 0}, None),
]


@pytest.mark.parametrize(
    ("text", "measured", "expected"),
    VERDICTS,
    ids=[f"§3 Expressions: {row[0]} {row[2]} ({i})" for i, row in enumerate(VERDICTS)],
)
def test_an_expression_says_of_a_report(text: str, measured: dict[str, float], expected: bool | None) -> None:
    assert Expression.compile(text).evaluate(report(**measured)) is expected


REFUSED = [
    ("", "is empty"),
    ("  ", "is empty"),
    ("snapshotCount > 1 " * 60, "at most 1,000 are allowed"),
    ("smallFilesCount > 1", "did you mean smallFileCount"),
    ("snapshots_count > 1", "did you mean snapshotCount"),
    ("Snapshotcount > 1", "did you mean snapshotCount"),
    ("weather > 1", "known are dataFileCount, smallFileCount"),
    ("snapshotCount > x", "names x, which no health report has"),
    ("[1, 2].all(x, x > snapshotCount)", "at character 1; allowed are"),
    ("[1, 2].exists(x, x > snapshotCount)", "at character 1; allowed are"),
    ("snapshotCount > 1 && [1].map(x, x) == [1]", "at character 22; allowed are"),
    ("{'a': 1}.filter(k, true)", "at character 1; allowed are"),
    ("size(snapshotCount) > 1", "calls size()"),
    ("has(snapshotCount)", "calls has()"),
    ("matches(snapshotCount)", "calls matches()"),
    ("'a' == 'a'", "at character 1; allowed are"),
    ("snapshotCount.small > 1", "at character 14; allowed are"),
    ("snapshotCount[0] > 1", "at character 14; allowed are"),
    ("snapshotCount > 1u", "at character 17; allowed are"),
    ("snapshotCount > 0x10", "at character 17; allowed are"),
    ("snapshotCount % 2 == 0", "at character 15; allowed are"),
    ("snapshotCount = 2", "at character 15; allowed are"),
    ("snapshotCount > 1 // 2", "no condition in CEL"),
    ("snapshotCount == null", "names null"),
    ("snapshotCount > 1 and manifestCount > 1", "names and"),
    ("snapshotCount >", "CEL at line 1, character 16"),
    ("snapshotCount >\n 5 >>", "CEL at line 2, character 5"),
    ("(" * 200 + "snapshotCount" + ")" * 200 + " > 1", "nests too deeply"),
    ("1 > 2", "uses no field"),
    ("true", "uses no field"),
    ("snapshotCount", "gives a float, and must be true or false"),
    ("snapshotCount + 1", "gives a float, and must be true or false"),
    ("snapshotCount > 1 ? 1 : 2", "gives a float, and must be true or false"),
    ("snapshotCount > 1 && manifestCount", "mixes numbers and truths"),
    ("snapshotCount > 77 && manifestCount", "mixes numbers and truths"),
    ("snapshotCount < 77 || !manifestCount", "mixes numbers and truths"),
    ("(snapshotCount > 1) + 2 > 1", "mixes numbers and truths"),
    ("!snapshotCount", "mixes numbers and truths"),
]


@pytest.mark.parametrize(
    ("text", "sentence"),
    REFUSED,
    ids=[f"§3 Expressions: refused {row[0][:40]!r} ({i})" for i, row in enumerate(REFUSED)],
)
def test_what_is_no_expression_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Expression.compile(text)

    assert sentence in str(refusal.value)


def test_every_figure_can_be_named_in_both_ways_and_none_twice() -> None:
    assert set(FIELDS.values()) == set(FIGURE_NAMES)
    for name, meant in FIELDS.items():
        assert Expression.compile(f"{name} > 1").fields == (name,)
        assert figure(HealthMetrics(), meant, now=NOW) is UNKNOWN


def test_the_longest_expression_is_compiled() -> None:
    text = " || ".join(["snapshotCount > 1"] * 47)[:MAX_LENGTH]
    text = text.ljust(MAX_LENGTH)

    assert Expression.compile(text).evaluate(report(snapshot_count=1)) is False


def test_ages_are_those_of_the_moment_that_is_asked_about() -> None:
    measured = report(newest_snapshot_time_ms=NOW.timestamp() * 1000)
    expression = Expression.compile("newestSnapshotAgeDays >= 1")

    assert expression.evaluate(measured) is False
    assert expression.evaluate(measured, now=NOW + timedelta(days=1)) is True


def test_an_expression_tells_the_figures_that_its_fields_mean() -> None:
    expression = Expression.compile("snapshotCount > 1 && small_file_percent > 1 && snapshotCount < 9")

    assert expression.figures == [("snapshotCount", "snapshot_count"), ("small_file_percent", "small_file_percent")]


def test_equal_texts_are_equal_expressions() -> None:
    assert Expression.compile("snapshotCount > 1") == Expression.compile("snapshotCount > 1")
    assert Expression.compile("snapshotCount > 1") != Expression.compile("snapshotCount > 2")


@given(st.text(alphabet="snapshotCount()!&|<>=+-*/?:. 0123456789e[]{},'\"xall", max_size=80))
def test_any_text_is_compiled_or_refused_with_a_sentence(text: str) -> None:
    try:
        expression = Expression.compile(text)
    except ValueError as error:
        assert "the expression" in str(error)
    else:
        assert expression.evaluate(report(snapshot_count=3)) in (True, False, None)


@given(count=st.floats(0, 1e15), limit=st.integers(0, 10**15))
def test_a_comparison_is_that_of_the_numbers(count: float, limit: int) -> None:
    expected = count >= limit

    assert Expression.compile(f"snapshotCount >= {limit}").evaluate(report(snapshot_count=count)) is expected
