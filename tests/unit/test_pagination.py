"""Page tokens and watch cursors are opaque, bound to their query, and refused when they are not ours."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.errors import InvalidArgument
from control_plane.ports.operations import Cursor
from control_plane.rpc.pagination import MAX_PAGE_BYTES, Paging, read_cursor, write_cursor
from floe.v1 import catalog_pb2, policy_pb2, table_pb2


def token_after(*keys: str, catalog: str = "lake") -> str:
    rows = [*keys, "zzz"]
    paging = Paging.of(table_pb2.ListTablesRequest(page_size=len(keys), catalog=catalog))
    return paging.cut(rows, lambda name: table_pb2.Table(name=name), lambda name: (name,))[1]


@given(st.lists(st.text(min_size=1), unique=True, max_size=30), st.integers(1, 10))
def test_page_after_page_gives_each_row_once(names: list[str], size: int) -> None:
    rows = sorted(names)
    seen: list[str] = []
    token = ""
    while True:
        paging = Paging.of(policy_pb2.ListPoliciesRequest(page_size=size, page_token=token))
        after = paging.after[0] if paging.after else ""
        page = [row for row in rows if row > after][: paging.limit]
        shown, token = paging.cut(page, lambda name: policy_pb2.Policy(description=name), lambda name: (name,))
        seen.extend(message.description for message in shown)
        assert len(shown) <= size
        if not token:
            break

    assert seen == rows


def test_the_size_has_a_default_and_a_maximum_and_is_not_negative() -> None:
    assert Paging.of(policy_pb2.ListPoliciesRequest()).size == 50
    assert Paging.of(policy_pb2.ListPoliciesRequest(page_size=5_000)).size == 1_000
    with pytest.raises(InvalidArgument, match="pageSize"):
        Paging.of(policy_pb2.ListPoliciesRequest(page_size=-1))


def test_a_token_is_url_safe_and_taken_with_another_page_size() -> None:
    token = token_after("lake.ns.\N{SNOWMAN}?>")

    paging = Paging.of(table_pb2.ListTablesRequest(page_size=7, page_token=token, catalog="lake"))

    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert paging.after == ("lake.ns.\N{SNOWMAN}?>",)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda token: table_pb2.ListTablesRequest(page_token=token, catalog="other"),
        lambda token: table_pb2.ListTablesRequest(page_token=token, catalog="lake", pattern="*"),
        lambda token: catalog_pb2.ListCatalogsRequest(page_token=token),
    ],
)
def test_a_token_of_another_query_is_refused(request_of: object) -> None:
    assert callable(request_of)
    with pytest.raises(InvalidArgument, match="belongs to another query"):
        Paging.of(request_of(token_after("a")))


@pytest.mark.parametrize(
    "token", ["x", "%%%", "AAAA", "é", "A" * 20_000, base64.urlsafe_b64encode(b"[" * 9_000).decode()]
)
def test_what_never_was_a_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="is no page token"):
        Paging.of(table_pb2.ListTablesRequest(page_token=token, catalog="lake"))


def test_a_page_ends_early_before_it_outgrows_what_clients_accept() -> None:
    rows = [f"{n:02}" for n in range(10)]
    paging = Paging.of(policy_pb2.ListPoliciesRequest(page_size=10))

    shown, token = paging.cut(
        rows, lambda name: policy_pb2.Policy(description=name * (MAX_PAGE_BYTES // 8)), lambda name: (name,)
    )

    assert 0 < len(shown) < 10
    following = Paging.of(policy_pb2.ListPoliciesRequest(page_size=10, page_token=token))
    assert following.after == (rows[len(shown) - 1],)


@given(st.builds(Cursor, st.text(), st.integers(0, 2**63), st.integers(0, 2**63)))
def test_a_cursor_survives_the_wire(cursor: Cursor) -> None:
    assert read_cursor(write_cursor(cursor)) == cursor


def test_no_cursor_is_none_and_nonsense_is_refused() -> None:
    assert read_cursor("") is None
    for text in ("x", "AAAA", base64.urlsafe_b64encode(b'["a","b",1]').decode()):
        with pytest.raises(InvalidArgument, match="cursor"):
            read_cursor(text)
