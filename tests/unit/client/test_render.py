"""How things are shown to people, and which errors end with which code."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from floe.v1 import operation_pb2 as pb
from floe_client import errors
from floe_client.cli import render
from floe_client.cli.exits import Exit, exit_code, report
from floe_client.cli.following import progress_text, summary


@pytest.mark.parametrize(
    ("duration", "text"), [(0, "0s"), (59.9, "59s"), (61, "1m01s"), (7_260, "2h01m"), (90_000, "1d1h")]
)
def test_durations_are_told_in_their_largest_units(duration: float, text: str) -> None:
    assert render.seconds(duration) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")])
def test_sizes_are_told_in_binary_units(count: float, text: str) -> None:
    assert render.size(count) == text


def test_an_unset_moment_is_empty() -> None:
    assert render.age(Timestamp()) == render.when(Timestamp()) == ""
    assert render.age(Timestamp(seconds=60), now=datetime.fromtimestamp(160, UTC)) == "1m40s"


def test_progress_tells_what_is_known_and_marks_what_is_not() -> None:
    progress = pb.OperationProgress(
        phase="rewriting", groups_done=1, groups_total=4, bytes_written=2048, estimated=True
    )

    assert progress_text(progress) == "rewriting, group 1 of 4, 2.0 KiB written, estimated"


def test_a_metric_that_is_not_known_is_not_shown_as_zero() -> None:
    operation = pb.Operation(outcome=pb.OUTCOME_COMPLETE, metrics=pb.OperationMetrics(files_rewritten=7))

    assert summary(operation) == "COMPLETE, 7 files rewritten"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("x"), 3),
        (errors.PermissionDenied("x"), 4),
        (errors.Unauthenticated("x"), 4),
        (errors.AlreadyExists("x"), 5),
        (errors.FailedPrecondition("x"), 5),
        (errors.Aborted("x"), 5),
        (errors.OutOfRange("x"), 5),
        (errors.Unavailable("x"), 6),
        (errors.DeadlineExceeded("x"), 6),
        (errors.ResourceExhausted("x"), 6),
        (errors.InvalidArgument("x"), 7),
        (errors.InternalError("x"), 8),
        (errors.Unimplemented("x"), 8),
    ],
)
def test_every_error_has_its_exit_code(error: errors.FloeError, code: int) -> None:
    assert exit_code(error) == Exit(code)


def test_an_error_says_what_where_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.FailedPrecondition("no policy governs lake.a.b", reason="NO_GOVERNING_POLICY")

    report(error, as_json=False)

    told = capsys.readouterr().err
    assert "no policy governs lake.a.b [NO_GOVERNING_POLICY]" in told
    assert "floe policy apply -f FILE" in told


def test_an_error_for_machines_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    violation = errors.FieldViolation("policy.priority", "too high")

    report(errors.InvalidArgument("wrong", reason="INVALID_ARGUMENT", violations=[violation]), as_json=True)

    error = json.loads(capsys.readouterr().err)["error"]
    assert error["status"] == error["reason"] == "INVALID_ARGUMENT"
    assert error["fieldViolations"] == [{"field": "policy.priority", "description": "too high"}]


def test_text_from_elsewhere_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.NotFound("evil \x1b[2J name"), as_json=False)
    render.print_table(("NAME",), [("evil \x1b[2J [bold]name",)], empty="")

    told = capsys.readouterr()
    assert "\x1b" not in told.err + told.out
    assert "[bold]name" in told.out
