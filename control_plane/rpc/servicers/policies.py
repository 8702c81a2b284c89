"""PolicyService."""

from __future__ import annotations

from control_plane.domain.identifiers import PolicyName
from control_plane.rpc.convert.policies import policy_to_proto, spec_from_proto
from control_plane.rpc.convert.values import required
from control_plane.rpc.once import Once
from control_plane.rpc.pagination import Paging
from control_plane.rpc.types import Context
from control_plane.services.policies import PolicyService
from floe.v1 import policy_pb2 as pb
from floe.v1 import policy_pb2_grpc as pb_grpc

# A policy that is disabled or deleted has its waiting operations withdrawn by the sweep.
_HINTS = ("operations", "targets")


class PolicyServicer(pb_grpc.PolicyServiceServicer):
    def __init__(self, policies: PolicyService, once: Once) -> None:
        self._policies = policies
        self._once = once

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, context: Context) -> pb.CreatePolicyResponse:
        async def create() -> pb.CreatePolicyResponse:
            created = await self._policies.create(spec_from_proto(request.policy))
            return pb.CreatePolicyResponse(policy=policy_to_proto(created))

        return await self._once.answer(request, pb.CreatePolicyResponse, create, hints=("targets",))

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:
        policy = await self._policies.get(PolicyName(required(request.name, field="name")))
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
