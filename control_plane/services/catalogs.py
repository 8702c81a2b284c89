"""Registered catalogs: records here, opened by executors alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Final

from control_plane.domain import decisions
from control_plane.domain.catalog import Catalog
from control_plane.domain.catalog_spec import CatalogSpec
from control_plane.domain.errors import CatalogUnreachable, EtagMismatch, FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, ExecutorId
from control_plane.domain.observation import (
    CatalogChecks,
    ObservationError,
    ObservationKind,
    ObservationRequest,
    TableNames,
)
from control_plane.domain.operation import TERMINAL, Finding, OperationState
from control_plane.ports.operations import OperationFilter
from control_plane.ports.records import Store
from control_plane.services.observing import ObservingService, refuse
from control_plane.services.sightings import Sightings

_UPDATABLE: Final = frozenset(field.name for field in fields(CatalogSpec)) - {"name", "type"}
_WHERE_IT_IS: Final = frozenset({"uri", "warehouse"})
_UNFINISHED: Final = tuple(state for state in OperationState if state not in TERMINAL)
_BATCH: Final = 200
_TRIES: Final = 5
# An executor may come much later than the catalog.
_FIRST_LISTING_WITHIN: Final = timedelta(days=1)
_LISTING_TIMEOUT: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class CatalogCheck:
    """What an executor found when it tried the catalog."""

    findings: Sequence[Finding]
    executor: ExecutorId | None = None
    table_count: int | None = None

    @property
    def healthy(self) -> bool:
        return all(finding.passed for finding in self.findings)


class CatalogService:
    """Catalogs and what is asked of them. A catalog is listed once when it is registered, and again when it moves."""

    def __init__(
        self,
        store: Store,
        observing: ObservingService,
        sightings: Sightings,
        *,
        check_within: timedelta,
        list_within: timedelta,
    ) -> None:
        self._store = store
        self._observing = observing
        self._sightings = sightings
        self._check_within = check_within
        self._list_within = list_within

    async def create(self, spec: CatalogSpec) -> Catalog:
        """Raises InvalidArgument with every field that is wrong, CatalogExists."""
        kind = spec.checked_type()
        now = await self._store.now()
        catalog = await self._store.catalogs.create(
            Catalog(
                spec.name,
                kind,
                spec.uri,
                create_time=now,
                update_time=now,
                warehouse=spec.warehouse,
                properties=spec.properties,
                secrets=spec.secrets,
                description=spec.description,
                max_concurrent_operations=spec.max_concurrent_operations,
            )
        )
        await self._ask_for_listing(catalog.name)
        return catalog

    async def get(self, name: CatalogName) -> Catalog:
        return await self._store.catalogs.get(name)

    async def list(self, *, after: CatalogName | None, limit: int) -> Sequence[Catalog]:
        return await self._store.catalogs.list(after=after, limit=limit)

    async def update(
        self, changes: CatalogSpec, *, paths: Sequence[str], set_fields: Sequence[str], etag: str | None
    ) -> Catalog:
        """Take the named fields from `changes`; without names, those in `set_fields`.

        A new URI or warehouse raises the generation, has the catalog listed again, and is refused with CatalogInUse
        while operations are unfinished. Raises CatalogNotFound, EtagMismatch, InvalidArgument.
        """
        for _ in range(_TRIES):
            current = await self._store.catalogs.get(changes.name)
            _compare(current, etag)
            updated = _updated(current, changes, paths, set_fields)
            if updated == current:
                return current
            moved = updated.generation != current.generation
            try:
                updated = replace(updated, update_time=await self._store.now())
                stored = await self._store.catalogs.update(updated, revision=current.revision, unused=moved)
            except EtagMismatch as mismatch:
                if etag is not None:
                    raise
                raced = mismatch  # It changed since it was read: decide again.
                continue
            if moved:
                await self._ask_for_listing(stored.name)
            return stored
        raise raced

    async def delete(self, name: CatalogName, *, etag: str | None) -> None:
        """Raises CatalogNotFound, EtagMismatch, CatalogInUse."""
        current = await self._store.catalogs.get(name)
        _compare(current, etag)
        await self._store.catalogs.delete(name, revision=current.revision if etag is not None else None)

    async def cancel_operations(self, name: CatalogName, *, by: str, etag: str | None) -> None:
        """Cancel what is queued and ask what runs to stop. Raises CatalogNotFound, EtagMismatch.

        Stands apart from `delete`: the cancels must hold even if the deletion is refused because something still runs.
        """
        _compare(await self._store.catalogs.get(name), etag)
        where = OperationFilter(catalog=name, states=_UNFINISHED)
        after = None
        while True:
            page = await self._store.operations.list(where, after=after, limit=_BATCH)
            for operation in page.operations:
                await self._store.operations.change(
                    operation.id,
                    lambda op, now: (
                        None
                        if op.is_terminal
                        else decisions.cancel_requested(op, now, by=by, reason=f"catalog {name} is to be deleted")
                    ),
                )
            if page.next is None:
                break
            after = page.next
        for topic in ("cancels", "events", "operations"):
            self._store.hints.give(topic)

    async def check(self, name: CatalogName, *, refresh: bool, traceparent: str = "") -> CatalogCheck:
        """Have an executor try it now. Raises CatalogNotFound, NoExecutor, ObservationTimeout."""
        await self._store.catalogs.get(name)
        request = ObservationRequest(ObservationKind.CHECK_CATALOG, name)
        looked = await self._observing.look(request, within=self._check_within, traceparent=traceparent)
        executor = looked.executor
        match looked.answer:
            case CatalogChecks(checks):
                checked = CatalogCheck(checks, executor)
            case ObservationError() as error:
                checked = CatalogCheck([Finding("reachable", False, error.message, "see the executor's log")], executor)
            case other:
                raise CatalogUnreachable(name, why=f"its executor answered {type(other).__name__} to a check")
        return await self._listed(checked, name, traceparent) if refresh and checked.healthy else checked

    async def _listed(self, checked: CatalogCheck, name: CatalogName, traceparent: str) -> CatalogCheck:
        request = ObservationRequest(ObservationKind.LIST_TABLES, name)
        looked = await self._observing.look(request, within=self._list_within, traceparent=traceparent)
        # The loop that acts on answers keeps it too; here, so that who asked sees it at once.
        await self._sightings.keep(looked)
        match looked.answer:
            case TableNames(names):
                return replace(checked, table_count=len(names))
            case ObservationError() as error:
                refuse(error, request)
            case other:
                raise CatalogUnreachable(name, why=f"its executor answered {type(other).__name__} to a listing")

    async def _ask_for_listing(self, name: CatalogName) -> None:
        request = ObservationRequest(ObservationKind.LIST_TABLES, name)
        await self._store.observations.open(request, within=_FIRST_LISTING_WITHIN, timeout=_LISTING_TIMEOUT)


def _compare(current: Catalog, etag: str | None) -> None:
    if etag is not None and etag != str(current.revision):
        raise EtagMismatch(f"catalog {current.name!r}", sent=etag, current=str(current.revision))


def _updated(current: Catalog, changes: CatalogSpec, paths: Sequence[str], set_fields: Sequence[str]) -> Catalog:
    names = _named(paths, set_fields)
    if changes.type is not None and changes.type is not current.type:
        raise InvalidArgument([FieldViolation("catalog.type", "never changes; register another catalog")])
    taken = {name: getattr(changes, name) for name in names}
    replace(CatalogSpec.of(current), **taken).checked_type()
    updated = replace(current, **taken)
    moved = any(getattr(updated, name) != getattr(current, name) for name in _WHERE_IT_IS)
    return replace(updated, generation=current.generation + moved)


def _named(paths: Sequence[str], set_fields: Sequence[str]) -> frozenset[str]:
    if "*" in paths:
        if len(paths) > 1:
            raise InvalidArgument(
                [FieldViolation("updateMask", "`*` takes every field; no other path may stand beside it")]
            )
        return _UPDATABLE
    unknown = [path for path in paths if path not in _UPDATABLE]
    if unknown:
        known = ", ".join(sorted(_UPDATABLE))
        raise InvalidArgument(
            [
                FieldViolation("updateMask", f"{path[:100]!r} is no field that can change; there are {known}")
                for path in unknown
            ]
        )
    return frozenset(paths) or _UPDATABLE & frozenset(set_fields)
