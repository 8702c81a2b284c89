"""Says what a Java exception means: whose fault, whether a commit may have happened, what to tell a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError

from executor.assignment import Failure, FailureClass
from executor.engines.spark.jvm import JVM_ERRORS

_ICEBERG: Final = "org.apache.iceberg.exceptions."
_LONGEST: Final = 500
_DEEPEST: Final = 20

_GONE: Final = frozenset(
    _ICEBERG + name for name in ("NoSuchTableException", "NoSuchNamespaceException", "NoSuchIcebergTableException")
)
_STATE_UNKNOWN: Final = frozenset({_ICEBERG + "CommitStateUnknownException"})
_REFUSED_CONNECTION: Final = frozenset(
    {"java.net.ConnectException", "java.net.UnknownHostException", "java.net.NoRouteToHostException"}
)
_UNANSWERED: Final = frozenset({_ICEBERG + "RESTException", "org.apache.iceberg.jdbc.UncheckedSQLException"})
"""The request may have been carried out although its answer was lost."""
_UNAVAILABLE: Final = (
    _REFUSED_CONNECTION
    | _UNANSWERED
    | {
        _ICEBERG + "ServiceUnavailableException",
        _ICEBERG + "ServiceFailureException",
        # The token may have expired: the next attempt resolves its secrets anew.
        _ICEBERG + "NotAuthorizedException",
        "java.net.SocketTimeoutException",
        "java.net.SocketException",
        "java.sql.SQLTransientConnectionException",
        "java.sql.SQLNonTransientConnectionException",
        "org.apache.hc.core5.http.NoHttpResponseException",
    }
)
_CONFLICT: Final = frozenset({_ICEBERG + "ValidationException", _ICEBERG + "CommitFailedException"})
_INVALID: Final = frozenset(
    {
        _ICEBERG + "ForbiddenException",
        _ICEBERG + "BadRequestException",
        "java.lang.IllegalArgumentException",
        "java.lang.UnsupportedOperationException",
    }
)
_INTERRUPTED: Final = frozenset(
    {
        "java.lang.InterruptedException",
        "java.nio.channels.ClosedByInterruptException",
        _ICEBERG + "UncheckedInterruptedException",
        "org.apache.iceberg.jdbc.UncheckedInterruptedException",
    }
)
_CANCELLED_JOB: Final = re.compile(r"Job \d+ cancelled|cancelled part of cancelled job (tag|group)")
_ADDRESS_LOGIN: Final = re.compile(r"(?<=://)[^/\s@]+@")
_WRITTEN_SECRET: Final = re.compile(r"(?i)((?:password|token|secret|credential|authorization)\S*\s*[=:]\s*)\S+")


@dataclass(frozen=True, slots=True)
class JavaError:
    """A chain of Java exceptions, from the one thrown to its root cause, as (class name, message)."""

    chain: Sequence[tuple[str, str]]
    engine_lost: bool = False
    """The JVM did not answer any more: nothing is known of what it did."""

    def has(self, classes: Iterable[str]) -> bool:
        return any(name in classes for name, _ in self.chain)

    @property
    def table_gone(self) -> bool:
        return self.has(_GONE)

    @property
    def interrupted(self) -> bool:
        return self.has(_INTERRUPTED) or any(_CANCELLED_JOB.search(message) for _, message in self.chain)

    @property
    def answered(self) -> bool:
        """Whether every request to the catalog was answered, or was never sent."""
        if self.engine_lost or self.has(_STATE_UNKNOWN):
            return False
        return not self.has(_UNANSWERED) or self.has(_REFUSED_CONNECTION)

    def failure(self, *, preparing: bool = False) -> Failure:
        """`preparing`: nothing was tried yet, so that a validation error is about what was asked, not about a rival."""
        kind = self._kind(preparing=preparing)
        return Failure(kind=kind, message=self._message())

    def _kind(self, *, preparing: bool) -> FailureClass:
        if self.engine_lost:
            return FailureClass.ENGINE
        if self.has(_STATE_UNKNOWN) or self.has(_UNAVAILABLE):
            return FailureClass.UNAVAILABLE
        if self.has(_CONFLICT):
            about_the_table = preparing or any("GC is disabled" in message for _, message in self.chain)
            return FailureClass.INVALID if about_the_table else FailureClass.CONFLICT
        if self.has(_INVALID) and self.chain[-1][0] in _INVALID:
            return FailureClass.INVALID
        return FailureClass.ENGINE

    def _message(self) -> str:
        if self.engine_lost:
            return "the Spark driver did not answer: it was killed or has crashed; see the executor's log"
        known = _STATE_UNKNOWN | _UNAVAILABLE | _CONFLICT | _INVALID
        said = next(((name, text) for name, text in reversed(self.chain) if name in known and text), None)
        name, text = said or next(((n, t) for n, t in reversed(self.chain) if t), self.chain[-1])
        return short_message(f"{name.rpartition('.')[2]}: {text}")


def short_message(text: str) -> str:
    """The first line, without what may be a secret, at a length that fits a history row."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    line = _WRITTEN_SECRET.sub(r"\1***", _ADDRESS_LOGIN.sub("***@", line))
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def java_error(error: Exception) -> JavaError | None:
    """The Java exception behind a Python one; None if there is none, so that ours is to blame."""
    if isinstance(error, Py4JNetworkError | ConnectionError):
        return JavaError(chain=[], engine_lost=True)
    # PySpark raises some exceptions under Python names, and keeps the Java one as their origin.
    thrown: Any = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
    if thrown is None:
        return JavaError(chain=[], engine_lost=True) if isinstance(error, Py4JError) else None
    chain: list[tuple[str, str]] = []
    try:
        while thrown is not None and len(chain) < _DEEPEST:
            chain.append((str(thrown.getClass().getName()), str(thrown.getMessage() or "")))
            thrown = thrown.getCause()
    except JVM_ERRORS:
        return JavaError(chain=chain, engine_lost=True)
    return JavaError(chain=chain)
