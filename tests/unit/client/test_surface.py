"""What the client offers by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

import floe_client
from floe_client import InvalidArgument, TableName


def test_the_client_exports_exactly_what_is_meant_for_use() -> None:
    assert sorted(floe_client.__all__) == floe_client.__all__
    assert floe_client.__all__ == [
        *("Aborted", "AlreadyExists", "Applied", "AsyncFloe", "AsyncOperationHandle", "AsyncPager", "AsyncTrigger"),
        *("Cancelled", "Changed", "DeadlineExceeded", "FailedPrecondition", "FieldViolation", "Floe", "FloeError"),
        *("InternalError", "InvalidArgument", "NotFound", "OperationFailed", "OperationHandle", "OutOfRange", "Page"),
        *("Pager", "PermissionDenied", "Progressed", "ResourceExhausted", "TableName", "Trigger", "Unauthenticated"),
        *("Unavailable", "Unimplemented", "is_terminal", "types"),
    ]


@pytest.mark.parametrize("name", floe_client.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(floe_client, name) is not None


def test_a_name_that_is_not_exported_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Transport'"):
        _ = floe_client.Transport


@pytest.mark.parametrize("program", ["import floe_client", "import floe_client.cli.app", "import floe_client.errors"])
def test_grpc_is_not_imported_before_it_is_used(program: str) -> None:
    check = f"{program}\nimport sys\nassert not {{'grpc', 'google.protobuf', 'rich', 'ruamel'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_the_client_works_without_opentelemetry() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from floe_client.tracing import client_span\n"
        "with client_span('/floe.v1.A/B', 'here') as metadata: assert metadata == ()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.b.c", TableName("a", ("b",), "c")),
        ("a.b.c.d", TableName("a", ("b", "c"), "d")),
        ('lake."a.b".t', TableName("lake", ("a.b",), "t")),
        ('lake.n."say ""hi"""', TableName("lake", ("n",), 'say "hi"')),
    ],
)
def test_a_table_name_is_read_and_written_the_same(text: str, name: TableName) -> None:
    assert TableName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize("text", ["", "t", "n.t", "a..t", 'a."b.t', 'a."b"c.t', "a. b.t", 'a.b"c.t', "a.b."])
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no table name"):
        TableName.parse(text)
