"""The messages and enums of `floe.v1` that a caller meets, under one name each."""

from __future__ import annotations

from floe.v1.catalog_pb2 import Catalog, CatalogCheck, CatalogType, CheckCatalogResponse
from floe.v1.decision_pb2 import Decision, DecisionStep, SlotVerdict
from floe.v1.error_reason_pb2 import ErrorReason
from floe.v1.executor_pb2 import Executor, ExecutorState
from floe.v1.operation_pb2 import (
    Attempt,
    Effects,
    Failure,
    FailureClass,
    Operation,
    OperationEvent,
    OperationFilter,
    OperationMetrics,
    OperationProgress,
    OperationState,
    OperationType,
    Outcome,
    Verification,
    VerificationFinding,
    VerificationVerdict,
)
from floe.v1.policy_pb2 import ExpireSnapshotsConfig, Policy, RewriteDataFilesConfig
from floe.v1.system_pb2 import GetServerInfoResponse, PauseScope
from floe.v1.table_pb2 import (
    HealthIssue,
    HealthMetric,
    HealthReport,
    HealthStatus,
    IssueSeverity,
    Knowledge,
    Table,
    TableState,
)
from floe.v1.trigger_pb2 import PolicyLoser, Run, TriggerExplanation

__all__ = [
    "Attempt",
    "Catalog",
    "CatalogCheck",
    "CatalogType",
    "CheckCatalogResponse",
    "Decision",
    "DecisionStep",
    "Effects",
    "ErrorReason",
    "Executor",
    "ExecutorState",
    "ExpireSnapshotsConfig",
    "Failure",
    "FailureClass",
    "GetServerInfoResponse",
    "HealthIssue",
    "HealthMetric",
    "HealthReport",
    "HealthStatus",
    "IssueSeverity",
    "Knowledge",
    "Operation",
    "OperationEvent",
    "OperationFilter",
    "OperationMetrics",
    "OperationProgress",
    "OperationState",
    "OperationType",
    "Outcome",
    "PauseScope",
    "Policy",
    "PolicyLoser",
    "RewriteDataFilesConfig",
    "Run",
    "SlotVerdict",
    "Table",
    "TableState",
    "TriggerExplanation",
    "Verification",
    "VerificationFinding",
    "VerificationVerdict",
]
