"""What a call can fail with: one class a status code, each with the reason and the facts that the server gave.

Branch on the class and on `reason` (the names of `floe.v1.ErrorReason`), never on the message, which is for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from floe.v1.operation_pb2 import Operation


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is wrong, by its JSON path, and what is wrong with it."""

    field: str
    description: str


class FloeError(Exception):
    """A call that did not do what was asked."""

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        """The name of a `floe.v1.ErrorReason` without its prefix; empty if the server gave none."""
        self.metadata: Mapping[str, str] = dict(metadata or {})
        """What the reason is about, by the keys that its enum value names."""
        self.violations = tuple(violations)
        """The wrong fields, if the request was invalid."""
        self.retry_after = retry_after
        """Seconds after which the server asks to try again, if it said so."""


class InvalidArgument(FloeError):
    """The request is wrong whatever the state of the system; `violations` names the fields."""

    code = "INVALID_ARGUMENT"


class NotFound(FloeError):
    """There is nothing of that name or id."""

    code = "NOT_FOUND"


class AlreadyExists(FloeError):
    """The name is taken, or the request id was used for another request."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(FloeError):
    """The state of things forbids it; trying again as it is changes nothing."""

    code = "FAILED_PRECONDITION"


class Aborted(FloeError):
    """The resource changed since it was read: read it again, then try again."""

    code = "ABORTED"


class OutOfRange(FloeError):
    """A watch cursor is past what the server keeps: list again and watch from there."""

    code = "OUT_OF_RANGE"


class Unavailable(FloeError):
    """Nobody answered, or who answered could not reach what is needed. Try again later."""

    code = "UNAVAILABLE"


class ResourceExhausted(FloeError):
    """A limit was reached: too many calls at once, or a message that is too large."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(FloeError):
    """The answer did not come in time. What was asked may still have been done."""

    code = "DEADLINE_EXCEEDED"


class PermissionDenied(FloeError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(FloeError):
    """The server does not know who calls."""

    code = "UNAUTHENTICATED"


class Unimplemented(FloeError):
    """The server does not know this call: it is older than this client."""

    code = "UNIMPLEMENTED"


class Cancelled(FloeError):
    """The call was cancelled, here or there."""

    code = "CANCELLED"


class InternalError(FloeError):
    """The server failed in a way that it did not foresee. Its log says more."""

    code = "INTERNAL"


class OperationFailed(FloeError):
    """An operation ended otherwise than SUCCEEDED. `operation` is how it ended."""

    code = "OPERATION_FAILED"

    def __init__(self, message: str, *, operation: Operation, reason: str = "") -> None:
        super().__init__(message, reason=reason, metadata={"id": operation.id})
        self.operation = operation


BY_CODE: Mapping[str, type[FloeError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unavailable,
        ResourceExhausted,
        DeadlineExceeded,
        PermissionDenied,
        Unauthenticated,
        Unimplemented,
        Cancelled,
        InternalError,
    )
} | {"UNKNOWN": InternalError, "DATA_LOSS": InternalError}
"""The class of each gRPC status code."""
