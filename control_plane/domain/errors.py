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
    def __init__(self, name: str) -> None:
        super().__init__(f"policy {name!r} does not exist", policy=name)


class PolicyExists(DomainError):
    def __init__(self, name: str) -> None:
        super().__init__(f"policy {name!r} exists already; update it, or choose another name", policy=name)


class EtagMismatch(DomainError):
    """The resource changed since it was read. `resource` is its name for people, e.g. `policy "nightly"`."""

    def __init__(self, resource: str, *, sent: str, current: str) -> None:
        super().__init__(
            f"{resource} has changed since it was read: it is at etag {current!r}, the request says {sent!r}; "
            "read it again and decide anew",
            resource=resource,
            sent_etag=sent,
            current_etag=current,
        )
