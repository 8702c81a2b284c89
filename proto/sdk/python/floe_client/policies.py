"""Policies: stored, read, and brought to what a file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from google.protobuf.field_mask_pb2 import FieldMask

from floe.v1 import policy_pb2 as pb
from floe_client.errors import Aborted, AlreadyExists, NotFound
from floe_client.paging import AsyncPager, Page
from floe_client.transport import Transport, new_request_id

Change = Literal["created", "updated", "unchanged"]

_KEPT_BY_SERVER: Final = ("generation", "etag", "create_time", "update_time")
_TRIES: Final = 3


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

    async def get(self, name: str) -> pb.Policy:
        request = pb.GetPolicyRequest(name=name)
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

        A rival's change between our reading and our writing is not overwritten blindly: it is read, and then replaced.
        An etag in `policy` is taken at its word: another version fails with `Aborted`.
        """
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                return await self._apply(policy, validate_only=validate_only)
            except (Aborted, AlreadyExists) as error:
                if last or policy.etag or error.reason == "REQUEST_ID_REUSED":
                    raise
        raise AssertionError("the last try returns or raises")

    async def _apply(self, policy: pb.Policy, *, validate_only: bool) -> Applied:
        try:
            stored = await self.get(policy.name)
        except NotFound as error:
            if error.reason != "POLICY_NOT_FOUND":
                raise
            return Applied(await self.create(policy, validate_only=validate_only), "created")
        if written(stored) == written(policy):
            return Applied(stored, "unchanged")
        wanted = pb.Policy()
        wanted.CopyFrom(policy)
        wanted.etag = policy.etag or stored.etag
        updated = await self.update(wanted, update_mask=("*",), validate_only=validate_only)
        return Applied(updated, "updated")


def written(policy: pb.Policy) -> pb.Policy:
    """The policy as its author wrote it."""
    written = pb.Policy()
    written.CopyFrom(policy)
    for field in _KEPT_BY_SERVER:
        written.ClearField(field)
    return written
