"""What this process says of itself when it attaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from executor import convert, convert_observations
from executor.assignment import Lease
from executor.engines.base import EngineInfo
from floe.execution.v1 import assignment_pb2 as pb
from shared.wire.protocol import PROTOCOL_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What this process says of itself in every Hello. `executor_id` is new with every start of the process."""

    executor_id: str
    display_name: str
    software_version: str
    process_id: int
    engine: EngineInfo
    slots: int
    metadata_slots: int = 0
    observation_slots: int
    catalogs: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    protocol_version: int = PROTOCOL_VERSION

    def hello(self, leases: Sequence[Lease]) -> pb.Hello:
        capabilities = pb.Capabilities(
            engine=self.engine.name,
            engine_version=self.engine.version,
            operation_types=self.engine.operations,
            catalogs=self.catalogs,
            slots=self.slots,
            metadata_slots=self.metadata_slots,
            observation_slots=self.observation_slots,
            observation_kinds=convert_observations.OBSERVATION_KINDS,
            labels=self.labels,
        )
        return pb.Hello(
            protocol_version=self.protocol_version,
            executor_id=self.executor_id,
            display_name=self.display_name,
            software_version=self.software_version,
            capabilities=capabilities,
            leases=map(convert.lease_to_wire, leases),
            wall_time=convert.wall_time(),
            process_id=self.process_id,
        )
