"""Sets and previews of policies between the public API and the services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from control_plane.domain.identifiers import OperationType
from control_plane.rpc.convert.policies import policy_to_proto, spec_from_proto
from control_plane.rpc.convert.values import to_enum
from control_plane.services.policy_sets import Change, GoverningChange, Impact, PolicySet
from control_plane.services.previewing import Governed, PreviewedTable
from floe.v1 import operation_pb2
from floe.v1 import policy_pb2 as pb

_TYPE: Final = "OPERATION_TYPE_"
_KIND: Final = "KIND_"


def set_from_proto(request: pb.ApplyPoliciesRequest) -> PolicySet:
    return PolicySet(
        [spec_from_proto(policy) for policy in request.policies],
        [policy.etag for policy in request.policies],
        managed_by=request.managed_by,
        prune=request.prune,
    )


def applied_to_proto(changes: Sequence[Change], impact: Impact) -> pb.ApplyPoliciesResponse:
    return pb.ApplyPoliciesResponse(
        changes=[_change(change) for change in changes],
        governing_changes=[_governing_change(change) for change in impact.changes],
        governing_change_count=impact.count,
        governing_table_count=impact.tables,
    )


def previewed_to_proto(previewed: PreviewedTable) -> pb.PreviewedTable:
    return pb.PreviewedTable(
        catalog=previewed.table.catalog,
        namespace=previewed.table.namespace,
        table=previewed.table.name,
        operations=[_governed(governed) for governed in previewed.operations],
    )


def type_to_proto(kind: OperationType) -> operation_pb2.OperationType.ValueType:
    value: operation_pb2.OperationType.ValueType = to_enum(operation_pb2.OperationType, _TYPE, kind)
    return value


def _change(change: Change) -> pb.PolicyChange:
    return pb.PolicyChange(
        kind=to_enum(pb.PolicyChange.Kind, _KIND, change.kind),
        policy=policy_to_proto(change.policy),
        changed_paths=change.paths,
    )


def _governing_change(change: GoverningChange) -> pb.GoverningChange:
    return pb.GoverningChange(
        catalog=change.table.catalog,
        namespace=change.table.namespace,
        table=change.table.name,
        operation_type=type_to_proto(change.type),
        mode=change.mode,
        old_policy_name=change.old or "",
        new_policy_name=change.new or "",
    )


def _governed(governed: Governed) -> pb.PreviewedOperation:
    lost = governed.lost
    return pb.PreviewedOperation(
        operation_type=type_to_proto(governed.type),
        governing_policy_name=governed.governing or "",
        governs=lost is None,
        reason=lost.reason if lost else "",
        detail=lost.detail if lost else "",
    )
