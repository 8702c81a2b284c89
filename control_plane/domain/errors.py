"""What the domain refuses, as values: each error says what is wrong, where and what to do, and carries its facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DomainError(Exception):
    """A refusal that is part of the product. `metadata` holds the facts, by the keys that its reason documents."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong: its path in the JSON form of the request, and what it should be."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class InvalidArgument(DomainError):
    """The request can never succeed as it is written. Every field that is wrong is named, not only the first."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(str(violation) for violation in self.violations))


class PolicyNotFound(DomainError):
    """`generation`: the policy is or was there, and this generation of it is not known."""

    def __init__(self, name: str, *, generation: int | None = None) -> None:
        if generation is None:
            super().__init__(f"policy {name!r} does not exist", name=name)
        else:
            super().__init__(f"policy {name!r} has no generation {generation}", name=name, generation=str(generation))


class PolicyExists(DomainError):
    def __init__(self, name: str) -> None:
        super().__init__(f"policy {name!r} exists already; update it, or choose another name", name=name)


class EtagMismatch(DomainError):
    """The resource changed since it was read. `resource` is its name for people, e.g. `policy "nightly"`."""

    def __init__(self, resource: str, *, sent: str, current: str) -> None:
        super().__init__(
            f"{resource} has changed since it was read: it is at etag {current!r}, the request says {sent!r}; "
            "read it again and decide anew",
            resource=resource,
            etag=current,
        )


class CatalogNotFound(DomainError):
    def __init__(self, name: str) -> None:
        super().__init__(f"catalog {name!r} is not registered", name=name)


class CatalogExists(DomainError):
    def __init__(self, name: str) -> None:
        super().__init__(f"catalog {name!r} is registered already; update it, or choose another name", name=name)


class CatalogInUse(DomainError):
    """Operations of the catalog are unfinished, so what it points at must not change under them."""

    def __init__(self, name: str, *, operations: int) -> None:
        super().__init__(
            f"catalog {name!r} has {operations} unfinished operations; wait for them or cancel them, then ask again",
            name=name,
            operations=str(operations),
        )


class TableNotFound(DomainError):
    def __init__(self, table: str) -> None:
        super().__init__(f"table {table} does not exist", table=table)


class OperationNotFound(DomainError):
    def __init__(self, operation: str) -> None:
        super().__init__(f"operation {operation!r} does not exist, or is past its retention", id=operation)


class ExecutorNotFound(DomainError):
    def __init__(self, executor: str) -> None:
        super().__init__(f"executor {executor!r} is not known", id=executor)


class ExecutorLeaving(DomainError):
    def __init__(self, executor: str) -> None:
        super().__init__(
            f"executor {executor!r} drains because it is stopping; it cannot be given work again", id=executor
        )


class RequestIdReused(DomainError):
    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request id {request_id!r} was used for another request in the last 24 hours; use a new one",
            request_id=request_id,
        )


class NoGoverningPolicy(DomainError):
    def __init__(self, table: str, *, operation_types: str) -> None:
        super().__init__(
            f"no enabled policy that matches {table} configures {operation_types}; apply one, or name a policy",
            table=table,
        )


class PolicyDisabled(DomainError):
    """It runs nothing: it is disabled or, `shadow`, only decides and records."""

    def __init__(self, policy: str, *, shadow: bool = False) -> None:
        why = "is in mode SHADOW and runs nothing; make it ACTIVE" if shadow else "is disabled; enable it"
        super().__init__(f"policy {policy!r} {why} or name another", policy=policy)


class PatternMismatch(DomainError):
    def __init__(self, policy: str, *, pattern: str, table: str) -> None:
        super().__init__(
            f"the pattern {pattern!r} of policy {policy!r} does not match {table}", policy=policy, table=table
        )


class OperationFinished(DomainError):
    def __init__(self, operation: str, state: str) -> None:
        super().__init__(f"operation {operation} is {state} already", id=operation, state=state)


class OperationNotFinished(DomainError):
    def __init__(self, operation: str, state: str) -> None:
        super().__init__(f"operation {operation} is {state}; only a finished one is retried", id=operation, state=state)


class OperationNotRetryable(DomainError):
    def __init__(self, operation: str, *, state: str, why: str) -> None:
        super().__init__(f"operation {operation} cannot be retried: {why}", id=operation, state=state)


class NoExecutor(DomainError):
    """Nobody is attached who could look, or nobody took the look in time."""

    def __init__(self, catalog: str, *, wanted: str) -> None:
        super().__init__(
            f"no executor could {wanted} for catalog {catalog!r} in time; see `floe executor list`", catalog=catalog
        )


class CatalogUnreachable(DomainError):
    def __init__(self, catalog: str, *, why: str) -> None:
        super().__init__(f"catalog {catalog!r} could not be read: {why}", catalog=catalog)


class ObservationTimeout(DomainError):
    def __init__(self, catalog: str, *, wanted: str) -> None:
        super().__init__(f"an executor took the request to {wanted} and did not answer in time", catalog=catalog)


class CursorExpired(DomainError):
    def __init__(self) -> None:
        super().__init__(
            "the watch cursor is past retention or of another database; list again and watch from the list's cursor"
        )


class ProtocolVersionUnsupported(DomainError):
    def __init__(self, *, spoken: int, supported: str) -> None:
        super().__init__(
            f"the executor speaks protocol {spoken}, this control plane {supported}; upgrade the older of the two",
            spoken=str(spoken),
            supported=supported,
        )


class SessionSuperseded(DomainError):
    """The executor has a newer session; messages of this one change nothing."""

    def __init__(self, session: str) -> None:
        super().__init__("the executor has a newer session; this one is over", session_id=session)


class StoreUnavailable(DomainError):
    """The store did not answer; whether the change was made is not known unless the request carried a request id."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the store did not answer ({why}); try again, with the same request id if it is a change")


class TooManyRequests(DomainError):
    def __init__(self, *, limit: str) -> None:
        super().__init__(f"too many calls at once ({limit}); slow down and try again", limit=limit)


class TooManyTables(DomainError):
    """One trigger would start more than it may; it starts nothing."""

    def __init__(self, asked: str, *, limit: int, unit: str = "tables") -> None:
        super().__init__(
            f"{asked!r} means more than {limit} {unit}; narrow the pattern, name fewer operation types, "
            "or raise max_tables where that is the limit",
            pattern=asked,
            limit=str(limit),
        )


class PlanChanged(DomainError):
    """A trigger demanded a plan that does not hold any more; it starts nothing."""

    def __init__(self, table: str, *, changed: Sequence[str]) -> None:
        super().__init__(
            f"the plan for {table} does not hold any more: {' and '.join(changed)} changed since it was made; "
            "plan again (`floe plan`), look at it, and trigger with its hash",
            table=table,
            changed=", ".join(changed),
        )


class NotHandedOut(ValueError):
    """A defect: an operation of a type that no executor announces was to be handed out, or was lost by one."""

    def __init__(self, operation_type: str) -> None:
        super().__init__(f"{operation_type} is announced by no executor of this version, and cannot be handed out")
