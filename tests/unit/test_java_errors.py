from __future__ import annotations

import pytest
from py4j.protocol import Py4JNetworkError

from executor.assignment import FailureClass
from executor.engines.spark.errors import JavaError, java_error, short_message

ICEBERG = "org.apache.iceberg.exceptions."
RUNTIME = ("java.lang.RuntimeException", "wrapped")


@pytest.mark.parametrize(
    ("chain", "kind", "answered"),
    [
        ([RUNTIME, (ICEBERG + "ValidationException", "Missing required files")], FailureClass.CONFLICT, True),
        ([(ICEBERG + "CommitFailedException", "lost")], FailureClass.CONFLICT, True),
        ([(ICEBERG + "CommitStateUnknownException", "?")], FailureClass.UNAVAILABLE, False),
        ([(ICEBERG + "ServiceUnavailableException", "503")], FailureClass.UNAVAILABLE, True),
        ([(ICEBERG + "RESTException", "x"), ("java.net.SocketTimeoutException", "t")], FailureClass.UNAVAILABLE, False),
        ([(ICEBERG + "RESTException", "x"), ("java.net.ConnectException", "refused")], FailureClass.UNAVAILABLE, True),
        ([(ICEBERG + "NotAuthorizedException", "401")], FailureClass.UNAVAILABLE, True),
        ([(ICEBERG + "ForbiddenException", "403")], FailureClass.INVALID, True),
        ([(ICEBERG + "ValidationException", "Cannot expire snapshots: GC is disabled")], FailureClass.INVALID, True),
        ([("java.lang.IllegalArgumentException", "Cannot use options [x]")], FailureClass.INVALID, True),
        ([RUNTIME, ("java.io.FileNotFoundException", "part-0.parquet")], FailureClass.ENGINE, True),
        ([("java.lang.OutOfMemoryError", "heap")], FailureClass.ENGINE, True),
    ],
)
def test_an_exception_tells_whose_fault_it_was_and_what_may_have_happened(
    chain: list[tuple[str, str]], kind: FailureClass, answered: bool
) -> None:
    error = JavaError(chain)

    assert (error.failure().kind, error.answered) == (kind, answered)


def test_a_validation_error_before_the_start_is_about_what_was_asked() -> None:
    error = JavaError([(ICEBERG + "ValidationException", "Cannot find column")])

    assert error.failure(preparing=True).kind is FailureClass.INVALID


def test_a_dead_driver_is_no_answer() -> None:
    error = java_error(Py4JNetworkError("connection closed"))

    assert error is not None
    assert (error.failure().kind, error.answered) == (FailureClass.ENGINE, False)


def test_an_error_of_ours_has_no_java_behind_it() -> None:
    assert java_error(KeyError("x")) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("first\n\tat org.apache.Foo.bar(Foo.java:1)", "first"),
        ("cannot reach jdbc:postgresql://floe:hunter2@db/cat", "cannot reach jdbc:postgresql://***@db/cat"),
        ("bad password=hunter2 given", "bad password=*** given"),
        ("", "no message"),
        ("x" * 1000, "x" * 500 + "…"),
    ],
)
def test_a_message_is_one_line_without_secrets(text: str, shown: str) -> None:
    assert short_message(text) == shown
