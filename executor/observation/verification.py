"""Judges what an operation did to a table, by reading the table: never by what the engine says it did.

What other commits changed meanwhile is not ours to judge, so each commit is compared with the metadata version right
before it. What cannot be read any more is UNVERIFIED: never a failure, and never taken for a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pyiceberg.io import FileIO
from pyiceberg.table import Table as OpenTable
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from executor.assignment import OperationType
from executor.observation.access import loaded
from executor.observation.evidence import same_table, stamp_of
from executor.observation.lineage import Change, MetadataHistory, descends
from executor.observation.manifests import ManifestFiles
from executor.observation.model import Finding, Judgement, Verification, VerifyOperation
from executor.observation.rows import live_rows

_SAMPLED_FILES = 200
_MOST_SNAPSHOTS = 50
_CHECKERS = 8


def verify(request: VerifyOperation, table: OpenTable, files: ManifestFiles, scratch: Path) -> Verification:
    if not same_table(request.table, table):
        findings = [Finding("identity", Judgement.UNVERIFIED, "another table has this name now")]
    elif request.type is OperationType.EXPIRE_SNAPSHOTS:
        findings = _verify_expiry(request, table, files)
    else:
        findings = _verify_rewrite(request, table, files, scratch)
    return Verification(verdict(findings), tuple(findings), loaded(table))


def verdict(findings: Sequence[Finding]) -> Judgement:
    """One failure fails; else one unknown leaves all unverified."""
    judgements = {finding.judgement for finding in findings}
    for judgement in (Judgement.FAILED, Judgement.UNVERIFIED):
        if judgement in judgements:
            return judgement
    return Judgement.PASSED if judgements else Judgement.UNVERIFIED


def _verify_rewrite(request: VerifyOperation, table: OpenTable, files: ManifestFiles, scratch: Path) -> list[Finding]:
    stamps = set(request.stamps)
    history = MetadataHistory(table)

    def ours(metadata: TableMetadata) -> list[Snapshot]:
        return [each for each in metadata.snapshots if stamp_of(each) in stamps]

    made = ours(table.metadata)
    if not made:
        return [_missing_snapshot(request, history.last_with(lambda version: bool(ours(version))), history)]
    findings = [
        Finding("snapshot_present", Judgement.PASSED, f"{len(made)} snapshots carry the operation's stamp"),
    ]
    if len(made) > _MOST_SNAPSHOTS:
        findings.append(
            Finding("commits_checked", Judgement.UNVERIFIED, f"{_MOST_SNAPSHOTS} of {len(made)} commits were checked")
        )
    for snapshot in made[:_MOST_SNAPSHOTS]:
        findings.append(_lineage(request, table, snapshot))
        change = history.introduction(partial(_has, snapshot_id=snapshot.snapshot_id))
        findings.append(_definition(snapshot, change))
        findings.append(_row_counts(table, snapshot, change, files, scratch))
        findings.append(
            _files_exist(table.io, f"files of snapshot {snapshot.snapshot_id}", [snapshot], files, added=True)
        )
    return findings


def _missing_snapshot(request: VerifyOperation, version: TableMetadata | None, history: MetadataHistory) -> Finding:
    if version is not None:
        return Finding("snapshot_present", Judgement.UNVERIFIED, "a later commit has removed the operation's snapshots")
    if request.base_metadata_location and history.reaches(request.base_metadata_location):
        return Finding(
            "snapshot_present",
            Judgement.FAILED,
            "no version of the table since the operation's start has a snapshot of it",
        )
    return Finding(
        "snapshot_present", Judgement.UNVERIFIED, "no snapshot of the operation, and the log does not reach its start"
    )


def _lineage(request: VerifyOperation, table: OpenTable, snapshot: Snapshot) -> Finding:
    check, base = "lineage", request.base_snapshot
    if base is None and not request.base_metadata_location:
        return Finding(check, Judgement.UNVERIFIED, "where the operation began is not known")
    if base is None:
        return Finding(check, Judgement.PASSED, f"snapshot {snapshot.snapshot_id} began on an empty table")
    parent = snapshot.parent_snapshot_id
    match descends(table.metadata.snapshots, parent, base):
        case True:
            return Finding(check, Judgement.PASSED, f"snapshot {snapshot.snapshot_id} descends from its base {base}")
        case False:
            return Finding(
                check, Judgement.FAILED, f"snapshot {snapshot.snapshot_id} does not descend from its base {base}"
            )
        case _:
            return Finding(check, Judgement.UNVERIFIED, f"the history between {parent} and the base {base} has expired")


def _definition(snapshot: Snapshot, change: Change | None) -> Finding:
    """A rewrite changes files only: not the schema, the specs, the sort orders, the properties, nor any other ref."""
    check = "definition_unchanged"
    if change is None:
        return Finding(check, Judgement.UNVERIFIED, f"the metadata before snapshot {snapshot.snapshot_id} is gone")
    before, after = change.before, change.after
    changed = [
        name
        for name, one, other in (
            ("schema", (before.current_schema_id, before.schemas), (after.current_schema_id, after.schemas)),
            (
                "partition spec",
                (before.default_spec_id, before.partition_specs),
                (after.default_spec_id, after.partition_specs),
            ),
            (
                "sort order",
                (before.default_sort_order_id, before.sort_orders),
                (after.default_sort_order_id, after.sort_orders),
            ),
            ("properties", before.properties, after.properties),
            ("refs", _other_refs(before, snapshot, after), _other_refs(after, snapshot, after)),
        )
        if one != other
    ]
    if changed:
        return Finding(
            check, Judgement.FAILED, f"the commit of snapshot {snapshot.snapshot_id} changed: {', '.join(changed)}"
        )
    return Finding(check, Judgement.PASSED, f"the commit of snapshot {snapshot.snapshot_id} changed files only")


def _other_refs(metadata: TableMetadata, snapshot: Snapshot, after: TableMetadata) -> dict[str, int]:
    """Refs that this commit had no business with: all but the branches whose head it became."""
    moved = {name for name, ref in after.refs.items() if ref.snapshot_id == snapshot.snapshot_id}
    return {name: ref.snapshot_id for name, ref in metadata.refs.items() if name not in moved}


def _row_counts(
    table: OpenTable, snapshot: Snapshot, change: Change | None, files: ManifestFiles, scratch: Path
) -> Finding:
    check = "rows_unchanged"
    parent = table.metadata.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
    if parent is None and change is not None and snapshot.parent_snapshot_id:
        parent = change.before.snapshot_by_id(snapshot.parent_snapshot_id)
    if parent is None:
        return Finding(check, Judgement.UNVERIFIED, f"the snapshot before {snapshot.snapshot_id} is gone")
    try:
        before = live_rows(table.io, parent, files, scratch)
        after = live_rows(table.io, snapshot, files, scratch)
    except OSError:
        return Finding(
            check, Judgement.UNVERIFIED, f"files of {parent.snapshot_id} or {snapshot.snapshot_id} cannot be read"
        )
    if before.rows is None or after.rows is None:
        return Finding(check, Judgement.UNVERIFIED, before.reason or after.reason)
    judgement = Judgement.PASSED if before.rows == after.rows else Judgement.FAILED
    return Finding(
        check, judgement, f"{before.rows} live rows in {parent.snapshot_id}, {after.rows} in {snapshot.snapshot_id}"
    )


def _verify_expiry(request: VerifyOperation, table: OpenTable, files: ManifestFiles) -> list[Finding]:
    metadata = table.metadata
    planned = set(request.expiring_snapshots)
    ids = {snapshot.snapshot_id for snapshot in metadata.snapshots}
    findings = [
        _all(
            "expired_gone",
            sorted(planned & ids),
            f"{len(planned)} snapshots planned to go are gone",
            "planned to go, still there",
        )
    ]
    history = MetadataHistory(table)
    change = history.introduction(lambda version: not any(_has(version, each) for each in planned)) if planned else None
    findings.append(_retained(request, ids, change))
    findings.append(_only_planned(planned, change))
    findings.append(_current_unchanged(request, table))
    kept = [snapshot for snapshot in metadata.snapshots if snapshot.snapshot_id in set(request.retained_snapshots)]
    findings.append(_files_exist(table.io, "files of retained snapshots", kept, files, added=False))
    return findings


def _retained(request: VerifyOperation, ids: set[int], change: Change | None) -> Finding:
    check = "retained_present"
    missing = sorted(set(request.retained_snapshots) - ids)
    if missing and change is not None and all(_has(change.after, each) for each in missing):
        return Finding(check, Judgement.PASSED, "all were there after the expiry; a later commit removed some")
    if missing and change is None:
        return Finding(
            check,
            Judgement.UNVERIFIED,
            f"planned to stay, not there, and who removed them is unknown: {_some(missing)}",
        )
    return _all(
        check,
        missing,
        f"{len(request.retained_snapshots)} snapshots planned to stay are there",
        "planned to stay, not there",
    )


def _only_planned(planned: set[int], change: Change | None) -> Finding:
    """The commit that completed the expiry removed nothing that was not planned, and moved no ref."""
    check = "only_planned_removed"
    if change is None:
        return Finding(check, Judgement.UNVERIFIED, "the metadata before the expiry is gone")
    removed = {each.snapshot_id for each in change.before.snapshots} - {
        each.snapshot_id for each in change.after.snapshots
    }
    refs = {name for name, ref in change.before.refs.items() if change.after.refs.get(name) != ref}
    if refs:
        return Finding(check, Judgement.FAILED, f"the expiry changed refs: {', '.join(sorted(refs)[:10])}")
    return _all(
        check, sorted(removed - planned), f"{len(removed)} snapshots removed, all planned", "removed without a plan"
    )


def _current_unchanged(request: VerifyOperation, table: OpenTable) -> Finding:
    check, base = "current_kept", request.base_snapshot
    current = table.metadata.current_snapshot_id
    if base is None:
        return Finding(check, Judgement.UNVERIFIED, "the plan names no current snapshot")
    match descends(table.metadata.snapshots, current, base):
        case True:
            return Finding(check, Judgement.PASSED, f"the current snapshot {current} is {base} or descends from it")
        case False:
            # A writer may roll the table back at any time; that is no fault of an expiry that kept the snapshot.
            there = _has(table.metadata, base)
            judgement = Judgement.UNVERIFIED if there else Judgement.FAILED
            return Finding(check, judgement, f"the current snapshot {current} does not descend from {base}")
        case _:
            return Finding(check, Judgement.UNVERIFIED, f"the history between {current} and {base} has expired since")


def _files_exist(io: FileIO, what: str, snapshots: Sequence[Snapshot], files: ManifestFiles, *, added: bool) -> Finding:
    """Samples the data files of each snapshot; with `added`, first those that the snapshot itself added."""
    check = "files_exist"
    if not snapshots:
        return Finding(check, Judgement.PASSED, f"{what}: none to look for")
    share = max(1, _SAMPLED_FILES // len(snapshots))
    sampled: dict[str, None] = {}
    for snapshot in snapshots[:_SAMPLED_FILES]:
        try:
            manifests = snapshot.manifests(io)
            if added:
                own = [each for each in manifests if each.added_snapshot_id == snapshot.snapshot_id]
                sampled |= dict.fromkeys(files.locations(io, own, snapshot.snapshot_id, share))
            sampled |= dict.fromkeys(files.locations(io, manifests, None, share))
        except FileNotFoundError as gone:
            return Finding(
                check,
                Judgement.FAILED,
                f"{what}: metadata file of snapshot {snapshot.snapshot_id} is gone: {gone}"[:300],
            )
    chosen = list(sampled)[:_SAMPLED_FILES]
    with ThreadPoolExecutor(_CHECKERS) as checkers:
        there = list(checkers.map(lambda location: io.new_input(location).exists(), chosen))
    missing = [location for location, exists in zip(chosen, there, strict=True) if not exists]
    return _all(check, missing, f"{what}: {len(chosen)} looked for, all there", f"{what}, not in the storage")


def _has(metadata: TableMetadata, snapshot_id: int) -> bool:
    return any(each.snapshot_id == snapshot_id for each in metadata.snapshots)


def _all(check: str, exceptions: Sequence[object], good: str, bad: str) -> Finding:
    if exceptions:
        return Finding(check, Judgement.FAILED, f"{bad}: {_some(exceptions)}")
    return Finding(check, Judgement.PASSED, good)


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(str(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown} and {len(items) - 5} more"
