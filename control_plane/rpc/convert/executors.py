"""Executors between the public API and the domain."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from control_plane.domain.executor import Executor
from control_plane.rpc.convert.values import to_enum, to_timestamp
from floe.v1 import executor_pb2 as pb
from floe.v1 import operation_pb2

_STATE: Final = "EXECUTOR_STATE_"
_TYPE: Final = "OPERATION_TYPE_"
_MILLISECOND: Final = timedelta(milliseconds=1)


def executor_to_proto(executor: Executor) -> pb.Executor:
    can = executor.capabilities
    return pb.Executor(
        id=executor.id,
        display_name=executor.display_name,
        state=to_enum(pb.ExecutorState, _STATE, executor.state),
        engine=can.engine,
        engine_version=can.engine_version,
        software_version=executor.software_version,
        operation_types=[to_enum(operation_pb2.OperationType, _TYPE, kind) for kind in can.operation_types],
        catalogs=can.catalogs,
        slots=can.slots,
        slots_in_use=len(executor.operations) - executor.metadata_slots_in_use,
        metadata_slots=can.metadata_slots,
        metadata_slots_in_use=executor.metadata_slots_in_use,
        labels=can.labels,
        attach_time=to_timestamp(executor.attach_time),
        last_heartbeat_time=to_timestamp(executor.last_heartbeat_time),
        clock_skew_ms=executor.clock_skew // _MILLISECOND,
        operation_ids=executor.operations,
    )
