"""A declarative set of policies: the stored ones become what the set says, all of it or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from control_plane.domain.errors import EtagMismatch, FieldViolation, InvalidArgument, PolicyExists, PolicyNotFound
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationType, PolicyName, TableName, is_clean
from control_plane.domain.policy import (
    MAX_MANAGED_BY_LENGTH,
    Policy,
    PolicySpec,
    changes_what_it_does,
    validate_policy,
)
from control_plane.domain.policy_diff import changed_paths
from control_plane.domain.policy_index import PolicyIndex
from control_plane.domain.scheduling import PolicyMode
from control_plane.ports.records import Store
from control_plane.services.policies import new_etag
from control_plane.services.reaching import tables_within

MAX_POLICIES: Final = 1_000
MAX_GOVERNING_CHANGES: Final = 1_000
_TRIES: Final = 5
_PAGE: Final = 1_000
_BREATH: Final = 10
"""After so many policies others get their turn on the loop."""


class ChangeKind(StrEnum):
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """What a caller wants to be stored. `etags` stand beside `documents`; an empty one says nothing."""

    documents: Sequence[Mapping[str, Any]]
    etags: Sequence[str]
    managed_by: str = ""
    prune: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one policy: `before` is None for a new one, `after` for one that goes."""

    kind: ChangeKind
    before: Policy | None
    after: Policy | None

    @property
    def policy(self) -> Policy:
        policy = self.after or self.before
        assert policy is not None, "a change is about a policy"
        return policy

    @property
    def paths(self) -> Sequence[str]:
        """The JSON paths that differ."""
        if self.before is None or self.after is None:
            return ()
        return changed_paths(self.before.spec.document, self.after.spec.document)

    @property
    def may_govern_otherwise(self) -> bool:
        if self.before is None or self.after is None:
            return True
        return changes_what_it_does(self.before.spec, self.after.spec)


@dataclass(frozen=True, slots=True)
class GoverningChange:
    """Another policy governs an operation type of a table, or none does."""

    table: TableName
    type: OperationType
    mode: PolicyMode
    old: PolicyName | None
    new: PolicyName | None


@dataclass(frozen=True, slots=True)
class Impact:
    """The first governing changes by table; how many there are, and on how many tables."""

    changes: Sequence[GoverningChange] = ()
    count: int = 0
    tables: int = 0


@dataclass(frozen=True, slots=True)
class _Wanted:
    place: int
    spec: PolicySpec
    etag: str


class PolicySetService:
    """Every policy that is stored was valid under this deployment's floors when it was written."""

    def __init__(self, store: Store, *, floors: Floors) -> None:
        self._store = store
        self._floors = floors

    async def diff(self, wanted: PolicySet) -> Sequence[Change]:
        """What `apply` would do now. Nothing is stored and nothing is locked."""
        specs = await self._checked(wanted)
        stored = await self._stored()
        _check_owner(specs, stored, wanted.managed_by)
        now = await self._store.now()
        changes = [_decide(each, stored.get(each.spec.name), now) for each in specs]
        return [*changes, *_pruned(wanted, specs, stored)]

    async def apply(self, wanted: PolicySet) -> Sequence[Change]:
        """Inside a transaction. Raises InvalidArgument with every field that is wrong, EtagMismatch."""
        specs = await self._checked(wanted)
        stored = await self._stored()
        _check_owner(specs, stored, wanted.managed_by)
        changes: dict[PolicyName, Change] = {}
        # In the order of names, so that two sets that are applied at once never wait for each other in a circle.
        for each in sorted(specs, key=lambda each: each.spec.name):
            changes[each.spec.name] = await self._bring(each, stored.get(each.spec.name), wanted.managed_by)
        gone = _pruned(wanted, specs, stored)
        for change in gone:
            await self._store.policies.delete(change.policy.name, etag=change.policy.etag)
        return [*(changes[each.spec.name] for each in specs), *gone]

    async def impact(self, changes: Sequence[Change]) -> Impact:
        """On known tables, if the changes were stored."""
        moved = [change for change in changes if change.may_govern_otherwise]
        versions = [version for change in moved for version in (change.before, change.after) if version is not None]
        if not versions:
            return Impact()
        stored = await self._stored()
        before = PolicyIndex(stored.values())
        touching = PolicyIndex(versions)
        after = PolicyIndex(_after(stored, changes).values())
        found: list[GoverningChange] = []
        count = tables = 0
        async for table in tables_within(self._store, [version.spec.pattern for version in versions], after=None):
            near = touching.candidates(table)
            if near and (here := list(_governing_changes(table, near, before, after))):
                tables += 1
                count += len(here)
                found.extend(here[: MAX_GOVERNING_CHANGES - len(found)])
        return Impact(found, count, tables)

    async def _checked(self, wanted: PolicySet) -> Sequence[_Wanted]:
        violations = list(_violations_of_set(wanted))
        managed_by = "" if violations else wanted.managed_by
        specs: list[_Wanted] = []
        places: dict[object, int] = {}
        for place, (document, etag) in enumerate(zip(wanted.documents, wanted.etags, strict=True)):
            if place % _BREATH == 0:
                await asyncio.sleep(0)
            path, owner = f"policies[{place}]", document.get("managedBy", "")
            if managed_by and owner not in ("", managed_by):
                violations.append(FieldViolation(f"{path}.managedBy", f"is not {managed_by!r}, who keeps the set"))
            name = document.get("name")
            if name and name in places:
                violations.append(FieldViolation(f"{path}.name", f"stands in policies[{places[name]}] already"))
            places.setdefault(name, place)
            owned = {**document, "managedBy": managed_by} if managed_by else document
            try:
                specs.append(_Wanted(place, validate_policy(owned, floors=self._floors), etag))
            except InvalidArgument as error:
                violations.extend(FieldViolation(f"{path}.{bad.field}", bad.description) for bad in error.violations)
        if violations:
            raise InvalidArgument(violations)
        return specs

    async def _bring(self, wanted: _Wanted, stored: Policy | None, managed_by: str) -> Change:
        """Make the stored policy what is wanted; one that a rival changes meanwhile is read again."""
        name = wanted.spec.name
        for _ in range(_TRIES):
            change = _decide(wanted, stored, await self._store.now())
            try:
                match change:
                    case Change(ChangeKind.CREATED, after=Policy() as new):
                        return replace(change, after=await self._store.policies.create(new))
                    case Change(ChangeKind.UPDATED, before=Policy() as old, after=Policy() as new):
                        return replace(change, after=await self._store.policies.update(new, etag=old.etag))
                return change
            except (PolicyExists, PolicyNotFound, EtagMismatch) as error:
                moved = error
                stored = await self._get(name)
                if stored is not None:
                    _check_owner([wanted], {name: stored}, managed_by)
        raise moved

    async def _get(self, name: PolicyName) -> Policy | None:
        try:
            return await self._store.policies.get(name)
        except PolicyNotFound:
            return None

    async def _stored(self) -> dict[PolicyName, Policy]:
        stored: dict[PolicyName, Policy] = {}
        last: PolicyName | None = None
        while page := await self._store.policies.list(after=last, limit=_PAGE):
            stored.update((policy.name, policy) for policy in page)
            last = page[-1].name
            if len(page) < _PAGE:
                break
        return stored


def _violations_of_set(wanted: PolicySet) -> Sequence[FieldViolation]:
    violations: list[FieldViolation] = []
    if len(wanted.documents) > MAX_POLICIES:
        raise InvalidArgument(
            [FieldViolation("policies", f"holds at most {MAX_POLICIES:,} policies, not {len(wanted.documents):,}")]
        )
    if wanted.prune and not wanted.managed_by:
        violations.append(FieldViolation("managedBy", "is required with prune: it says which policies are the set's"))
    if len(wanted.managed_by) > MAX_MANAGED_BY_LENGTH or not is_clean(wanted.managed_by):
        violations.append(
            FieldViolation("managedBy", f"has at most {MAX_MANAGED_BY_LENGTH} characters, and no control characters")
        )
    return violations


def _check_owner(wanted: Sequence[_Wanted], stored: Mapping[PolicyName, Policy], managed_by: str) -> None:
    """A set takes over what nobody keeps, and nothing that somebody else keeps."""
    if not managed_by:
        return
    violations = [
        FieldViolation(
            f"policies[{each.place}].managedBy",
            f"policy {each.spec.name!r} is kept by {policy.spec.managed_by!r}; change its managedBy first",
        )
        for each in wanted
        if (policy := stored.get(each.spec.name)) is not None and policy.spec.managed_by not in ("", managed_by)
    ]
    if violations:
        raise InvalidArgument(violations)


def _decide(wanted: _Wanted, stored: Policy | None, now: datetime) -> Change:
    if wanted.etag and (stored is None or wanted.etag != stored.etag):
        current = stored.etag if stored is not None else ""
        raise EtagMismatch(f"policy {wanted.spec.name!r}", sent=wanted.etag, current=current)
    if stored is None:
        return Change(ChangeKind.CREATED, None, Policy(wanted.spec, 1, new_etag(), create_time=now, update_time=now))
    if wanted.spec == stored.spec:
        return Change(ChangeKind.UNCHANGED, stored, stored)
    generation = stored.generation + changes_what_it_does(stored.spec, wanted.spec)
    after = replace(stored, spec=wanted.spec, generation=generation, etag=new_etag(), update_time=now)
    return Change(ChangeKind.UPDATED, stored, after)


def _pruned(wanted: PolicySet, specs: Sequence[_Wanted], stored: Mapping[PolicyName, Policy]) -> Sequence[Change]:
    if not wanted.prune:
        return ()
    kept = {each.spec.name for each in specs}
    return [
        Change(ChangeKind.DELETED, policy, None)
        for name, policy in sorted(stored.items())
        if policy.spec.managed_by == wanted.managed_by and name not in kept
    ]


def _after(stored: Mapping[PolicyName, Policy], changes: Sequence[Change]) -> Mapping[PolicyName, Policy]:
    after = dict(stored)
    for change in changes:
        if change.after is None:
            after.pop(change.policy.name, None)
        else:
            after[change.policy.name] = change.after
    return after


def _governing_changes(
    table: TableName, near: Sequence[Policy], before: PolicyIndex, after: PolicyIndex
) -> Sequence[GoverningChange]:
    found: list[GoverningChange] = []
    for mode in sorted({policy.spec.effective_mode for policy in near}):
        old, new = before.resolve_all(table, mode), after.resolve_all(table, mode)
        for kind in OperationType:
            names = [resolution.winner.name if resolution.winner else None for resolution in (old[kind], new[kind])]
            if names[0] != names[1]:
                found.append(GoverningChange(table, kind, mode, *names))
    return found
