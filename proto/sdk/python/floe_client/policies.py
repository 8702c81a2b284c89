"""Policies: stored, read, and brought to what a file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from google.protobuf.field_mask_pb2 import FieldMask

from floe.v1 import policy_pb2 as pb
from floe_client.paging import AsyncPager, Page
from floe_client.transport import Transport, new_request_id

Change = Literal["created", "updated", "unchanged", "deleted"]

_CHANGES: Final[dict[pb.PolicyChange.Kind.ValueType, Change]] = {
    pb.PolicyChange.KIND_CREATED: "created",
    pb.PolicyChange.KIND_UPDATED: "updated",
    pb.PolicyChange.KIND_UNCHANGED: "unchanged",
    pb.PolicyChange.KIND_DELETED: "deleted",
}
_KEPT_BY_SERVER: Final = ("generation", "etag", "create_time", "update_time")


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a policy did, and the policy after it."""

    policy: pb.Policy
    change: Change


class AsyncPolicies:
    """Which tables are maintained, by which operations, and how."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self, policy: pb.Policy, *, request_id: str | None = None, validate_only: bool = False
    ) -> pb.Policy:
        request = pb.CreatePolicyRequest(
            policy=policy, request_id=request_id or new_request_id(), validate_only=validate_only
        )
        answer = await self._transport.unary("PolicyService/CreatePolicy", request, pb.CreatePolicyResponse)
        return answer.policy

    async def get(self, name: str, *, generation: int = 0) -> pb.Policy:
        """As it is now, or as it was when a generation began."""
        request = pb.GetPolicyRequest(name=name, generation=generation)
        return (await self._transport.unary("PolicyService/GetPolicy", request, pb.GetPolicyResponse)).policy

    def list(self, *, page_size: int = 0) -> AsyncPager[pb.Policy]:
        async def fetch(token: str) -> Page[pb.Policy]:
            request = pb.ListPoliciesRequest(page_size=page_size, page_token=token)
            answer = await self._transport.unary("PolicyService/ListPolicies", request, pb.ListPoliciesResponse)
            return Page(answer.policies, answer.next_page_token)

        return AsyncPager(fetch)

    async def update(
        self,
        policy: pb.Policy,
        *,
        update_mask: tuple[str, ...] = (),
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> pb.Policy:
        """Change the fields of the mask, `*` for all of them; without a mask those that are set."""
        request = pb.UpdatePolicyRequest(
            policy=policy,
            update_mask=FieldMask(paths=update_mask),
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        answer = await self._transport.unary("PolicyService/UpdatePolicy", request, pb.UpdatePolicyResponse)
        return answer.policy

    async def delete(
        self, name: str, *, etag: str = "", request_id: str | None = None, validate_only: bool = False
    ) -> None:
        request = pb.DeletePolicyRequest(
            name=name, etag=etag, request_id=request_id or new_request_id(), validate_only=validate_only
        )
        await self._transport.unary("PolicyService/DeletePolicy", request, pb.DeletePolicyResponse)

    async def apply(self, policy: pb.Policy, *, validate_only: bool = False) -> Applied:
        """Make the stored policy of this name what `policy` says: created, updated as a whole, or left as it is.

        An etag in `policy` is taken at its word: another version fails with `Aborted`.
        """
        (change,) = (await self.apply_all([policy], validate_only=validate_only)).changes
        return Applied(change.policy, change_of(change))

    async def apply_all(
        self,
        policies: Sequence[pb.Policy],
        *,
        managed_by: str = "",
        prune: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> pb.ApplyPoliciesResponse:
        """Make the stored policies what this set says, all of it or nothing.

        With `managed_by` the set is kept by that name, and `prune` deletes what that name keeps and the set lacks. With
        `validate_only` nothing is stored, and the answer names the tables that another policy would govern.
        """
        request = pb.ApplyPoliciesRequest(
            policies=policies,
            managed_by=managed_by,
            prune=prune,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        return await self._transport.unary("PolicyService/ApplyPolicies", request, pb.ApplyPoliciesResponse)

    async def preview(
        self, policy: pb.Policy | str, *, page_size: int = 0, page_token: str = ""
    ) -> pb.PreviewPolicyResponse:
        """What a policy would do, stored under this name or as written here: a page of the tables that it matches, and
        the operation types that no attached executor can do.
        """
        request = pb.PreviewPolicyRequest(page_size=page_size, page_token=page_token)
        if isinstance(policy, str):
            request.name = policy
        else:
            request.policy.CopyFrom(policy)
        return await self._transport.unary("PolicyService/PreviewPolicy", request, pb.PreviewPolicyResponse)

    def preview_tables(self, policy: pb.Policy | str, *, page_size: int = 0) -> AsyncPager[pb.PreviewedTable]:
        """Every table that the policy matches, and who would govern it."""

        async def fetch(token: str) -> Page[pb.PreviewedTable]:
            answer = await self.preview(policy, page_size=page_size, page_token=token)
            return Page(answer.tables, answer.next_page_token)

        return AsyncPager(fetch)


def change_of(change: pb.PolicyChange) -> Change:
    """What was done to the policy, in a word."""
    return _CHANGES[change.kind]


def written(policy: pb.Policy) -> pb.Policy:
    """The policy as its author wrote it."""
    written = pb.Policy()
    written.CopyFrom(policy)
    for field in _KEPT_BY_SERVER:
        written.ClearField(field)
    return written
