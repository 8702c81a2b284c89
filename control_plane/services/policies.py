"""Policies as callers write, read, change and delete them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from control_plane.domain.errors import EtagMismatch, FieldViolation, InvalidArgument
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import PolicyName
from control_plane.domain.policy import Policy, changes_what_it_does, validate_policy
from control_plane.domain.policy_update import updated_document
from control_plane.ports.records import Store

_TRIES: Final = 5


class PolicyService:
    """Every policy that is stored was valid under this deployment's floors when it was written."""

    def __init__(self, store: Store, *, floors: Floors) -> None:
        self._store = store
        self._floors = floors

    async def create(self, document: Mapping[str, Any]) -> Policy:
        """Raises InvalidArgument with every field that is wrong, PolicyExists."""
        spec = validate_policy(document, floors=self._floors)
        now = await self._store.now()
        return await self._store.policies.create(Policy(spec, 1, new_etag(), create_time=now, update_time=now))

    async def get(self, name: PolicyName, *, generation: int = 0) -> Policy:
        """As it is now, or as it was when a generation began. Raises PolicyNotFound."""
        if not generation:
            return await self._store.policies.get(name)
        return await self._store.policies.generation(name, generation)

    async def list(self, *, after: PolicyName | None, limit: int) -> Sequence[Policy]:
        return await self._store.policies.list(after=after, limit=limit)

    async def update(self, changes: Mapping[str, Any], *, paths: Sequence[str], etag: str | None) -> Policy:
        """Take the named fields from `changes`. The generation rises if what the policy does changes.

        Raises PolicyNotFound, EtagMismatch, and InvalidArgument with every field that is wrong. A policy that the
        change disables has its operations that have not started withdrawn.
        """
        name = _name_of(changes)
        for _ in range(_TRIES):
            current = await self._store.policies.get(name)
            if etag is not None and etag != current.etag:
                raise EtagMismatch(f"policy {name!r}", sent=etag, current=current.etag)
            try:
                return await self._replace(current, changes, paths)
            except EtagMismatch as mismatch:
                if etag is not None:
                    raise
                moved = mismatch  # It changed since it was read: decide again.
        raise moved

    async def delete(self, name: PolicyName, *, etag: str | None) -> None:
        """Its operations that have not started are withdrawn. Raises PolicyNotFound, EtagMismatch."""
        await self._store.policies.delete(name, etag=etag)

    async def _replace(self, current: Policy, changes: Mapping[str, Any], paths: Sequence[str]) -> Policy:
        document = updated_document(current.spec.document, changes, paths=paths)
        spec = validate_policy(document, floors=self._floors)
        if spec == current.spec:
            return current
        rises = changes_what_it_does(current.spec, spec)
        changed = replace(
            current,
            spec=spec,
            generation=current.generation + rises,
            etag=new_etag(),
            update_time=await self._store.now(),
        )
        return await self._store.policies.update(changed, etag=current.etag)


def _name_of(document: Mapping[str, Any]) -> PolicyName:
    name = document.get("name")
    if not name:
        raise InvalidArgument([FieldViolation("policy.name", "is required: it says which policy to change")])
    return PolicyName(name)


def new_etag() -> str:
    return secrets.token_hex(8)
