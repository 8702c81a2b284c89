"""Which status and reason each refusal has on the wire."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from control_plane.domain import errors
from control_plane.domain.errors import DomainError, FieldViolation, InvalidArgument
from control_plane.rpc.errors import REASON_PREFIX, STATUS, ServerLeaving, Status, status_of
from floe.v1.error_reason_pb2 import ErrorReason

EXAMPLES: list[DomainError] = [
    InvalidArgument([FieldViolation("name", "is required")]),
    errors.PolicyNotFound("p"),
    errors.CatalogNotFound("c"),
    errors.TableNotFound("c.n.t"),
    errors.OperationNotFound("o"),
    errors.ExecutorNotFound("e"),
    errors.PolicyExists("p"),
    errors.CatalogExists("c"),
    errors.RequestIdReused("r"),
    errors.EtagMismatch("policy 'p'", sent="1", current="2"),
    errors.NoGoverningPolicy("c.n.t", operation_types="REWRITE_DATA_FILES"),
    errors.PolicyDisabled("p"),
    errors.PatternMismatch("p", pattern="x", table="c.n.t"),
    errors.OperationFinished("o", "FAILED"),
    errors.OperationNotFinished("o", "RUNNING"),
    errors.OperationNotRetryable("o", state="SUCCEEDED", why="it succeeded"),
    errors.CatalogInUse("c", operations=2),
    errors.ExecutorLeaving("e"),
    errors.NoExecutor("c", wanted="check the catalog"),
    errors.CatalogUnreachable("c", why="refused"),
    errors.CursorExpired(),
    errors.ProtocolVersionUnsupported(spoken=9, supported="1"),
    errors.SessionSuperseded("s"),
    errors.StoreUnavailable("gone"),
    errors.TooManyTables("lake.**", limit=10),
    errors.PlanChanged("lake.sales.orders", changed=["the table's metadata file"]),
    errors.TooManyRequests(limit="2 calls at a time"),
    errors.ObservationTimeout("c", wanted="check the catalog"),
]

# The metadata keys that error_reason.proto documents for each reason.
DOCUMENTED = {
    "POLICY_NOT_FOUND": {"name"},
    "CATALOG_NOT_FOUND": {"name"},
    "TABLE_NOT_FOUND": {"table"},
    "OPERATION_NOT_FOUND": {"id"},
    "EXECUTOR_NOT_FOUND": {"id"},
    "POLICY_EXISTS": {"name"},
    "CATALOG_EXISTS": {"name"},
    "REQUEST_ID_REUSED": {"request_id"},
    "ETAG_MISMATCH": {"resource", "etag"},
    "NO_GOVERNING_POLICY": {"table"},
    "POLICY_DISABLED": {"policy"},
    "PATTERN_MISMATCH": {"policy", "table"},
    "OPERATION_FINISHED": {"id", "state"},
    "OPERATION_NOT_FINISHED": {"id", "state"},
    "OPERATION_NOT_RETRYABLE": {"id", "state"},
    "CATALOG_IN_USE": {"name", "operations"},
    "EXECUTOR_LEAVING": {"id"},
    "NO_EXECUTOR": {"catalog"},
    "CATALOG_UNREACHABLE": {"catalog"},
    "PROTOCOL_VERSION_UNSUPPORTED": {"spoken", "supported"},
    "SESSION_SUPERSEDED": {"session_id"},
    "TOO_MANY_REQUESTS": {"limit"},
    "TOO_MANY_TABLES": {"pattern", "limit"},
    "PLAN_CHANGED": {"table", "changed"},
    "OBSERVATION_TIMEOUT": {"catalog"},
}


def details(status: Status) -> dict[str, Message]:
    wire = status_pb2.Status.FromString(status.trailers[0][1])
    found: dict[str, Message] = {}
    for packed in wire.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        message: Message = getattr(error_details_pb2, name)()
        packed.Unpack(message)
        found[name] = message
    return found


def test_every_domain_error_has_a_status_and_an_example_here() -> None:
    assert set(STATUS) == set(DomainError.__subclasses__())
    assert {type(example) for example in EXAMPLES} == set(STATUS)


def test_every_reason_that_is_documented_is_used_by_one_error() -> None:
    used = [reason for _, reason in STATUS.values()]

    assert sorted(used) == sorted(value for value in ErrorReason.values() if value)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_reason_and_its_metadata_are_what_the_api_documents(error: DomainError) -> None:
    status = status_of(error)
    info = details(status)["ErrorInfo"]

    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.domain == "floe"
    assert info.reason == ErrorReason.Name(STATUS[type(error)][1]).removeprefix(REASON_PREFIX)
    assert set(info.metadata) == DOCUMENTED.get(info.reason, set())


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_what_is_missing_is_named_as_a_resource(error: DomainError) -> None:
    status = status_of(error)

    assert ("ResourceInfo" in details(status)) == (status.code is grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "error",
    [errors.StoreUnavailable("gone"), errors.TooManyRequests(limit="1")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_worth_repeating_says_when(error: DomainError) -> None:
    retry = details(status_of(error))["RetryInfo"]

    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds > 0


def test_any_number_of_violations_fits_into_the_trailers() -> None:
    many = InvalidArgument([FieldViolation(f"policy.tags[{i}]", "é" * 1000 + "\udcff") for i in range(500)])

    status = status_of(many)
    bad = details(status)["BadRequest"]

    assert len(status.message.encode()) <= 500
    assert len(status.trailers[0][1]) <= 5_000
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert bad.field_violations[0].field == "policy.tags[0]"


def test_a_refusal_inside_a_group_of_tasks_is_found() -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("more", [ValueError("x"), errors.PolicyNotFound("p")])])

    assert status_of(group).code is grpc.StatusCode.NOT_FOUND


def test_what_is_no_refusal_is_not_shown() -> None:
    assert status_of(ValueError("secret")) == Status(grpc.StatusCode.INTERNAL, "internal error")
    assert status_of(TimeoutError()).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert status_of(ServerLeaving()).code is grpc.StatusCode.UNAVAILABLE


def test_every_reason_has_its_row_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")

    for code, value in STATUS.values():
        reason = ErrorReason.Name(value).removeprefix(REASON_PREFIX)
        keys = ", ".join(f"`{key}`" for key in sorted(DOCUMENTED.get(reason, ())))

        assert f"| `{reason}` | {code.name} | {keys} |" in page
