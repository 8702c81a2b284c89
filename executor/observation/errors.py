"""Why an observation has no answer. Messages are one short line, without secrets and without a server's stack."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    NOT_FOUND = "NOT_FOUND"
    UNAVAILABLE = "UNAVAILABLE"
    INVALID = "INVALID"
    TIMEOUT = "TIMEOUT"
    INTERNAL = "INTERNAL"


class ObservationError(Exception):
    """An observation failed. Also raised itself: `kind` INTERNAL is a fault of ours."""

    kind = ErrorKind.INTERNAL


class NotFound(ObservationError):
    """The catalog answered, and has no such table."""

    kind = ErrorKind.NOT_FOUND


class Unavailable(ObservationError):
    """The catalog or the storage could not be asked, or refused us; asking again later may help."""

    kind = ErrorKind.UNAVAILABLE


class Invalid(ObservationError):
    """The request, the record or the table's own metadata is wrong; asking again will not help."""

    kind = ErrorKind.INVALID


class Overdue(ObservationError):
    """No answer within the observation's deadline."""

    kind = ErrorKind.TIMEOUT


def error_of(kind: ErrorKind, message: str) -> ObservationError:
    """The error of that kind, rebuilt on this side of a process boundary."""
    kinds: dict[ErrorKind, type[ObservationError]] = {
        each.kind: each for each in (NotFound, Unavailable, Invalid, Overdue)
    }
    return kinds.get(kind, ObservationError)(message)
