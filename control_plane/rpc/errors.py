"""Which status and which reason each refusal has on the wire. Handlers raise; nobody but the interceptor answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from control_plane.domain import errors
from control_plane.domain.errors import DomainError, InvalidArgument
from floe.v1.error_reason_pb2 import ErrorReason

DOMAIN: Final = "floe"
REASON_PREFIX: Final = "ERROR_REASON_"
DETAILS_KEY: Final = "grpc-status-details-bin"

# Everything travels in the trailers, for which clients by default take 8 KiB in all.
_MAX_DETAILS_BYTES: Final = 4_096
_MAX_MESSAGE: Final = 500
_MAX_DESCRIPTION: Final = 300
_MAX_METADATA_VALUE: Final = 300
_RETRY_AFTER: Final = timedelta(seconds=1)

_C: Final = grpc.StatusCode

STATUS: Final[dict[type[DomainError], tuple[grpc.StatusCode, ErrorReason.ValueType]]] = {
    errors.InvalidArgument: (_C.INVALID_ARGUMENT, ErrorReason.ERROR_REASON_INVALID_ARGUMENT),
    errors.PolicyNotFound: (_C.NOT_FOUND, ErrorReason.ERROR_REASON_POLICY_NOT_FOUND),
    errors.CatalogNotFound: (_C.NOT_FOUND, ErrorReason.ERROR_REASON_CATALOG_NOT_FOUND),
    errors.TableNotFound: (_C.NOT_FOUND, ErrorReason.ERROR_REASON_TABLE_NOT_FOUND),
    errors.OperationNotFound: (_C.NOT_FOUND, ErrorReason.ERROR_REASON_OPERATION_NOT_FOUND),
    errors.ExecutorNotFound: (_C.NOT_FOUND, ErrorReason.ERROR_REASON_EXECUTOR_NOT_FOUND),
    errors.PolicyExists: (_C.ALREADY_EXISTS, ErrorReason.ERROR_REASON_POLICY_EXISTS),
    errors.CatalogExists: (_C.ALREADY_EXISTS, ErrorReason.ERROR_REASON_CATALOG_EXISTS),
    errors.RequestIdReused: (_C.ALREADY_EXISTS, ErrorReason.ERROR_REASON_REQUEST_ID_REUSED),
    errors.EtagMismatch: (_C.ABORTED, ErrorReason.ERROR_REASON_ETAG_MISMATCH),
    errors.NoGoverningPolicy: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_NO_GOVERNING_POLICY),
    errors.PolicyDisabled: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_POLICY_DISABLED),
    errors.PatternMismatch: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_PATTERN_MISMATCH),
    errors.OperationFinished: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_OPERATION_FINISHED),
    errors.OperationNotFinished: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_OPERATION_NOT_FINISHED),
    errors.OperationNotRetryable: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_OPERATION_NOT_RETRYABLE),
    errors.CatalogInUse: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_CATALOG_IN_USE),
    errors.ExecutorLeaving: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_EXECUTOR_LEAVING),
    errors.NoExecutor: (_C.UNAVAILABLE, ErrorReason.ERROR_REASON_NO_EXECUTOR),
    errors.CatalogUnreachable: (_C.UNAVAILABLE, ErrorReason.ERROR_REASON_CATALOG_UNREACHABLE),
    errors.CursorExpired: (_C.OUT_OF_RANGE, ErrorReason.ERROR_REASON_CURSOR_EXPIRED),
    errors.ProtocolVersionUnsupported: (
        _C.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_PROTOCOL_VERSION_UNSUPPORTED,
    ),
    errors.SessionSuperseded: (_C.ABORTED, ErrorReason.ERROR_REASON_SESSION_SUPERSEDED),
    errors.StoreUnavailable: (_C.UNAVAILABLE, ErrorReason.ERROR_REASON_STORE_UNAVAILABLE),
    errors.PlanChanged: (_C.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_PLAN_CHANGED),
    errors.TooManyTables: (_C.RESOURCE_EXHAUSTED, ErrorReason.ERROR_REASON_TOO_MANY_TABLES),
    errors.TooManyRequests: (_C.RESOURCE_EXHAUSTED, ErrorReason.ERROR_REASON_TOO_MANY_REQUESTS),
    errors.ObservationTimeout: (_C.DEADLINE_EXCEEDED, ErrorReason.ERROR_REASON_OBSERVATION_TIMEOUT),
}

# What is missing, and the metadata key that names it.
_RESOURCES: Final[dict[type[DomainError], tuple[str, str]]] = {
    errors.PolicyNotFound: ("floe.v1.Policy", "name"),
    errors.CatalogNotFound: ("floe.v1.Catalog", "name"),
    errors.TableNotFound: ("floe.v1.Table", "table"),
    errors.OperationNotFound: ("floe.v1.Operation", "id"),
    errors.ExecutorNotFound: ("floe.v1.Executor", "id"),
}

# The same call may succeed a little later.
_WORTH_REPEATING: Final = (errors.StoreUnavailable, errors.TooManyRequests, errors.NoExecutor)


class ServerLeaving(Exception):
    """A stream ends because the server stops; its client goes on at another, or later."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a refusal looks on the wire. Without a reason it is the server's own: INTERNAL, stopping, out of time."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    trailers: tuple[tuple[str, bytes], ...] = ()


def status_of(error: BaseException) -> Status:
    """The status that answers this error. What is not a refusal of the domain is not shown to callers."""
    refusal = find_domain_error(error)
    if refusal is not None:
        return _refused(refusal)
    if isinstance(error, ServerLeaving):
        return Status(_C.UNAVAILABLE, "this server is stopping; connect again, and go on from the last cursor")
    if isinstance(error, TimeoutError):
        return Status(
            _C.DEADLINE_EXCEEDED, "not answered in time; try again, with the same request id if it is a change"
        )
    return Status(_C.INTERNAL, "internal error")


def find_domain_error(error: BaseException) -> DomainError | None:
    """The refusal that this is, or that a task of a group ended with."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := find_domain_error(inner))), None)
    return None


def _refused(error: DomainError) -> Status:
    code, value = STATUS[type(error)]
    reason = ErrorReason.Name(value).removeprefix(REASON_PREFIX)
    message = _short(str(error), _MAX_MESSAGE)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in _details(error, reason):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return Status(code, message, reason, ((DETAILS_KEY, status.SerializeToString()),))


def _details(error: DomainError, reason: str) -> Iterator[Message]:
    metadata = {key: _short(value, _MAX_METADATA_VALUE) for key, value in error.metadata.items()}
    yield error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    if isinstance(error, InvalidArgument):
        yield _bad_request(error)
    if type(error) in _RESOURCES:
        kind, key = _RESOURCES[type(error)]
        yield error_details_pb2.ResourceInfo(resource_type=kind, resource_name=metadata[key])
    if isinstance(error, _WORTH_REPEATING):
        again = error_details_pb2.RetryInfo()
        again.retry_delay.FromTimedelta(_RETRY_AFTER)
        yield again


def _bad_request(error: InvalidArgument) -> error_details_pb2.BadRequest:
    """As many violations as the trailers can carry."""
    bad = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad.field_violations.add(
            field=_short(violation.field, _MAX_DESCRIPTION), description=_short(violation.description, _MAX_DESCRIPTION)
        )
        if bad.ByteSize() > _MAX_DETAILS_BYTES - 512:
            del bad.field_violations[-1]
            break
    return bad


def _short(text: str, limit: int) -> str:
    """The text within `limit` bytes of UTF-8; what a wire cannot carry is replaced."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - 3].decode("utf-8", "ignore") + "…"
