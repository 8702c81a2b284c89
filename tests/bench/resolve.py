"""Which of a thousand policies governs each of a hundred thousand tables: by the index, and by trying every policy."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median

from control_plane.domain.identifiers import CatalogName, OperationType, TableName
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.domain.policy_index import PolicyIndex, coarse
from control_plane.domain.resolution import Resolution, resolve
from tests.bench import report

TABLES = 100_000
POLICIES = 1_000
SAMPLE = 250
ROUNDS = 5
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_CATALOGS = 10
_NAMESPACES = 100
_KIND = OperationType.REWRITE_DATA_FILES


def resolve_by_index() -> bool:
    """The index is built anew in every round; the other side is sampled, and both sides answer alike."""
    tables, policies = _tables(), _policies()
    sample = random.Random(7).sample(tables, SAMPLE)
    index = PolicyIndex(policies)
    for table in sample:
        if index.resolve(table, _KIND) != resolve(policies, table, _KIND):
            raise AssertionError(f"the index says otherwise about {table}")
    ours, theirs, builds = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        index = PolicyIndex(policies)
        builds.append(time.perf_counter() - began)
        ours.append(builds[-1] / TABLES + _each(partial(index.resolve, operation_type=_KIND), tables))
        theirs.append(_each(partial(_by_all, policies), sample))
    report.note(
        f"a table: index {report.shown(ours)}, every policy {report.shown(theirs)}; the index is built in "
        f"{report.shown(builds)}; {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB in all"
    )
    governed = sum(index.resolve(table, _KIND).winner is not None for table in tables)
    touched = sorted(sum(map(_within(policy), tables)) for policy in random.Random(7).sample(policies, 50))
    report.note(
        f"{governed:,} of {TABLES:,} tables are governed; a change of one policy touches {touched[0]:,} tables at "
        f"least, {touched[len(touched) // 2]:,} in the median and {touched[-1]:,} at most"
    )
    return report.at_least("resolve", median(theirs) / median(ours), 50)


def _by_all(policies: Sequence[Policy], table: TableName) -> Resolution:
    return resolve(policies, table, _KIND)


def _each(resolving: Callable[[TableName], Resolution], tables: Sequence[TableName]) -> float:
    began = time.perf_counter()
    for table in tables:
        resolving(table)
    return (time.perf_counter() - began) / len(tables)


def _within(policy: Policy) -> Callable[[TableName], bool]:
    """Whether the store would mark the table when the policy changes."""
    reaches = coarse(policy.spec.pattern)
    return lambda table: any(reach.holds(table) for reach in reaches)


def _tables() -> Sequence[TableName]:
    return [
        TableName(
            CatalogName(f"lake{number % _CATALOGS}"),
            (f"team{number // _CATALOGS % _NAMESPACES}", "raw")[: 1 + number % 2],
            f"events_{number}",
        )
        for number in range(TABLES)
    ]


def _policies() -> Sequence[Policy]:
    """70 % name a table or a namespace, 20 % have wildcards inside parts, 10 % are regular expressions."""
    chosen = random.Random(1)
    return [_policy(number, _pattern(number, chosen)) for number in range(POLICIES)]


def _pattern(number: int, chosen: random.Random) -> str:
    catalog, namespace = f"lake{chosen.randrange(_CATALOGS)}", f"team{chosen.randrange(_NAMESPACES)}"
    match number % 20:
        case 0:
            return f"{catalog}.*.*" if number < 40 else f"{catalog}.{namespace}.**, !{catalog}.{namespace}.tmp"
        case place if place < 7:
            return f"{catalog}.{namespace}.*"
        case place if place < 14:
            return f"{catalog}.{namespace}.events_{chosen.randrange(TABLES)}"
        case place if place < 18:
            return f"{catalog}.team{chosen.randrange(_NAMESPACES)}?.events_*{chosen.randrange(100)}"
        case _:
            return f"/{catalog}\\.team\\d+\\.(raw\\.)?events_{chosen.randrange(1_000)}\\d*/"


def _policy(number: int, pattern: str) -> Policy:
    spec = PolicySpec.stored({"name": f"p{number}", "tablePattern": pattern, "rewriteDataFiles": {}})
    time = _EPOCH + timedelta(seconds=number)
    return Policy(spec, generation=1, etag="e", create_time=time, update_time=time)
