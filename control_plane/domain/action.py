"""What an operation will be told to do: a policy's config with its relative ages made absolute when the operation is
planned.

An action is a plain mapping with the field names and the JSON form of the assignment on the wire. Unset fields are
absent, so that the engine's and the table's own defaults hold. Its instants never move forward again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, assert_never

from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationType
from control_plane.domain.policy import Policy
from control_plane.domain.removal_config import (
    DEFAULT_MAX_ORPHAN_FILES,
    DEFAULT_MAX_SHARE_OF_TABLE,
    ExpireSnapshotsConfig,
    OrphanCleanupConfig,
    PrefixMismatchMode,
)
from control_plane.domain.rewriting_config import (
    ComputeStatisticsConfig,
    RewriteDataFilesConfig,
    RewriteManifestsConfig,
    RewritePositionDeletesConfig,
)


def plan_action(policy: Policy, kind: OperationType, *, now: datetime, floors: Floors) -> Mapping[str, Any]:
    """The action of type `kind` under `policy`, planned at `now`. Raises ValueError if the policy does not configure
    it.
    """
    match policy.spec.config(kind):
        case RewriteDataFilesConfig() as rewrite:
            return _rewrite_data_files(rewrite, now)
        case ExpireSnapshotsConfig() as expire:
            return _expire_snapshots(expire, now, floors.snapshot_age)
        case OrphanCleanupConfig() as cleanup:
            return _orphan_cleanup(cleanup, now, floors.orphan_age)
        case RewritePositionDeletesConfig() | RewriteManifestsConfig() as config:
            return config.model_dump(mode="json", exclude_defaults=True)
        case ComputeStatisticsConfig() as statistics:
            # Unset means false on the wire, and this one is true by default.
            partitions = {"partition_statistics": statistics.partition_statistics is not False}
            return statistics.model_dump(mode="json", exclude_defaults=True) | partitions
        case None:
            raise ValueError(f"policy {policy.name} does not configure {kind}")
        case other:
            assert_never(other)


def _rewrite_data_files(config: RewriteDataFilesConfig, now: datetime) -> Mapping[str, Any]:
    action = config.model_dump(mode="json", exclude_none=True, exclude={"only_closed_partitions_after"})
    # Unset means false on the wire, and this one is true by default.
    action["use_starting_sequence_number"] = config.use_starting_sequence_number is not False
    action["strategy"] = config.effective_strategy.value
    if config.only_closed_partitions_after is not None:
        action["only_closed_partitions_before"] = _instant(now - config.only_closed_partitions_after.length)
    return action


def _expire_snapshots(config: ExpireSnapshotsConfig, now: datetime, floor: timedelta) -> Mapping[str, Any]:
    return {
        "older_than": _instant(now - config.effective_max_snapshot_age(floor=floor)),
        "retain_last": config.effective_retain_last,
        "floor": _instant(now - floor),
        "clean_expired_metadata": config.clean_expired_metadata is True,
        "snapshot_ids": [str(snapshot) for snapshot in config.expire_snapshot_ids],
    }


def _orphan_cleanup(config: OrphanCleanupConfig, now: datetime, floor: timedelta) -> Mapping[str, Any]:
    action = {
        "older_than": _instant(now - config.effective_age(floor=floor)),
        "floor": _instant(now - floor),
        "prefix_mismatch_mode": (config.prefix_mismatch_mode or PrefixMismatchMode.ERROR).value,
        "equal_schemes": dict(config.equal_schemes),
        "equal_authorities": dict(config.equal_authorities),
        "max_files": config.max_files or DEFAULT_MAX_ORPHAN_FILES,
        "max_share_of_table": config.max_share_of_table or DEFAULT_MAX_SHARE_OF_TABLE,
    }
    wanted = {"location": config.location, "max_bytes": config.max_bytes}
    return action | {name: value for name, value in wanted.items() if value is not None}


def _instant(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
