"""PolicyService."""

from __future__ import annotations

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import PolicyName, TableName
from control_plane.domain.policy import Policy
from control_plane.rpc.convert.policies import policy_to_proto, spec_from_proto
from control_plane.rpc.convert.policy_sets import applied_to_proto, previewed_to_proto, set_from_proto, type_to_proto
from control_plane.rpc.convert.values import required
from control_plane.rpc.once import Once
from control_plane.rpc.pagination import Paging
from control_plane.rpc.types import Context
from control_plane.services.policies import PolicyService
from control_plane.services.policy_sets import Impact, PolicySetService
from control_plane.services.previewing import PreviewingService
from floe.v1 import policy_pb2 as pb
from floe.v1 import policy_pb2_grpc as pb_grpc

# A policy that is disabled or deleted has its waiting operations withdrawn by the sweep.
_HINTS = ("operations", "targets")


class PolicyServicer(pb_grpc.PolicyServiceServicer):
    def __init__(
        self, policies: PolicyService, sets: PolicySetService, previewing: PreviewingService, once: Once
    ) -> None:
        self._policies = policies
        self._sets = sets
        self._previewing = previewing
        self._once = once

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, context: Context) -> pb.CreatePolicyResponse:
        async def create() -> pb.CreatePolicyResponse:
            created = await self._policies.create(spec_from_proto(request.policy))
            return pb.CreatePolicyResponse(policy=policy_to_proto(created))

        return await self._once.answer(request, pb.CreatePolicyResponse, create, hints=("targets",))

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:
        if request.generation < 0:
            raise InvalidArgument([FieldViolation("generation", f"must not be negative, is {request.generation}")])
        name = PolicyName(required(request.name, field="name"))
        policy = await self._policies.get(name, generation=request.generation)
        return pb.GetPolicyResponse(policy=policy_to_proto(policy))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Context) -> pb.ListPoliciesResponse:
        paging = Paging.of(request)
        after = PolicyName(paging.after[0]) if paging.after else None
        rows = await self._policies.list(after=after, limit=paging.limit)
        policies, token = paging.cut(rows, policy_to_proto, lambda policy: (policy.name,))
        return pb.ListPoliciesResponse(policies=policies, next_page_token=token)

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, context: Context) -> pb.UpdatePolicyResponse:
        async def update() -> pb.UpdatePolicyResponse:
            changes, paths, etag = spec_from_proto(request.policy), request.update_mask.paths, request.policy.etag
            updated = await self._policies.update(changes, paths=paths, etag=etag or None)
            return pb.UpdatePolicyResponse(policy=policy_to_proto(updated))

        return await self._once.answer(request, pb.UpdatePolicyResponse, update, hints=_HINTS)

    async def DeletePolicy(self, request: pb.DeletePolicyRequest, context: Context) -> pb.DeletePolicyResponse:
        async def delete() -> pb.DeletePolicyResponse:
            name = PolicyName(required(request.name, field="name"))
            await self._policies.delete(name, etag=request.etag or None)
            return pb.DeletePolicyResponse()

        return await self._once.answer(request, pb.DeletePolicyResponse, delete, hints=_HINTS)

    async def ApplyPolicies(self, request: pb.ApplyPoliciesRequest, context: Context) -> pb.ApplyPoliciesResponse:
        wanted = set_from_proto(request)
        if request.validate_only:
            # Nothing is written even for a moment: going through the tables must not hold up who writes policies.
            await self._once.stored(request, pb.ApplyPoliciesResponse)
            changes = await self._sets.diff(wanted)
            return applied_to_proto(changes, await self._sets.impact(changes))

        async def apply() -> pb.ApplyPoliciesResponse:
            return applied_to_proto(await self._sets.apply(wanted), Impact())

        return await self._once.answer(request, pb.ApplyPoliciesResponse, apply, hints=_HINTS)

    async def PreviewPolicy(self, request: pb.PreviewPolicyRequest, context: Context) -> pb.PreviewPolicyResponse:
        paging = Paging.of(request)
        policy = await self._subject(request)
        rows = await self._previewing.tables(
            policy,
            after=TableName.parse(paging.after[0], field="pageToken") if paging.after else None,
            limit=paging.limit,
        )
        tables, token = paging.cut(rows, previewed_to_proto, lambda row: (str(row.table),))
        impossible = await self._previewing.impossible_types(policy)
        return pb.PreviewPolicyResponse(
            tables=tables, next_page_token=token, impossible_types=[type_to_proto(kind) for kind in impossible]
        )

    async def _subject(self, request: pb.PreviewPolicyRequest) -> Policy:
        if request.HasField("policy"):
            return await self._previewing.as_if_stored(spec_from_proto(request.policy))
        return await self._previewing.stored(PolicyName(required(request.name, field="name")))
