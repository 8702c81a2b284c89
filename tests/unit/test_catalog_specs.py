"""The rules for a catalog that can be checked without reaching it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control_plane.domain.catalog import CatalogType
from control_plane.domain.catalog_spec import CatalogSpec, is_secret_key
from control_plane.domain.errors import InvalidArgument
from control_plane.domain.identifiers import CatalogName

REST = CatalogSpec(CatalogName("lake"), CatalogType.REST, "https://catalog.example:8181/iceberg")
JDBC = CatalogSpec(CatalogName("lake"), CatalogType.JDBC, "jdbc:postgresql://db:5432/catalog")


def violations(spec: CatalogSpec) -> list[str]:
    with pytest.raises(InvalidArgument) as refused:
        spec.checked_type()
    return [violation.field for violation in refused.value.violations]


@pytest.mark.parametrize(
    "spec",
    [
        REST,
        JDBC,
        replace(REST, uri="http://127.0.0.1:8181", warehouse="s3://bucket/lake"),
        replace(REST, warehouse="123456789012:s3tablescatalog/lake"),
        replace(REST, properties={"header.X-Iceberg-Access-Delegation": "vended-credentials", "s3.region": "eu"}),
        replace(REST, secrets={"credential": "lake.credential"}, properties={"token-refresh-enabled": "true"}),
        replace(JDBC, properties={"jdbc.user": "floe"}, secrets={"jdbc.password": "lake-password"}),
        replace(JDBC, uri="jdbc:postgresql://db/catalog?sslmode=require"),
    ],
)
def test_a_sound_catalog_is_accepted(spec: CatalogSpec) -> None:
    assert spec.checked_type() is spec.type


@pytest.mark.parametrize(
    ("spec", "change", "field"),
    [
        (REST, {"name": "Lake"}, "catalog.name"),
        (REST, {"name": "-lake"}, "catalog.name"),
        (REST, {"name": "l" * 64}, "catalog.name"),
        (REST, {"type": None}, "catalog.type"),
        (REST, {"uri": ""}, "catalog.uri"),
        (REST, {"uri": "file:///etc/passwd"}, "catalog.uri"),
        (REST, {"uri": "ftp://host/"}, "catalog.uri"),
        (REST, {"uri": "jdbc:postgresql://db/catalog"}, "catalog.uri"),
        (REST, {"uri": "https://"}, "catalog.uri"),
        (REST, {"uri": "https://user:pw@host/"}, "catalog.uri"),
        (REST, {"uri": "https://host:99999/"}, "catalog.uri"),
        (REST, {"uri": "https://host/?token=abc"}, "catalog.uri"),
        (REST, {"uri": "https://host/#x"}, "catalog.uri"),
        (REST, {"uri": "https://host/\nHost: other"}, "catalog.uri"),
        (REST, {"uri": "http://169.254.169.254/latest/meta-data"}, "catalog.uri"),
        (REST, {"uri": "http://[::ffff:169.254.169.254]/latest"}, "catalog.uri"),
        (JDBC, {"uri": "postgresql://db/catalog"}, "catalog.uri"),
        (JDBC, {"uri": "jdbc:mysql://db/catalog"}, "catalog.uri"),
        (JDBC, {"uri": "jdbc:postgresql://db"}, "catalog.uri"),
        (JDBC, {"uri": "jdbc:postgresql://db/c?user=x&password=y"}, "catalog.uri"),
        (REST, {"warehouse": "s3://key:secret@bucket/"}, "catalog.warehouse"),
        (REST, {"properties": {"token": "abc"}}, 'catalog.properties["token"]'),
        (REST, {"properties": {"s3.secret-access-key": "abc"}}, 'catalog.properties["s3.secret-access-key"]'),
        (REST, {"properties": {"header.Authorization": "Bearer x"}}, 'catalog.properties["header.Authorization"]'),
        (REST, {"properties": {"proxy": "http://u:p@proxy/"}}, 'catalog.properties["proxy"]'),
        (REST, {"properties": {"py-io-impl": "os.system"}}, 'catalog.properties["py-io-impl"]'),
        (REST, {"properties": {"uri": "http://other"}}, 'catalog.properties["uri"]'),
        (REST, {"secrets": {"credential": "my secret!"}}, 'catalog.secrets["credential"]'),
        (REST, {"secrets": {"credential": ".."}}, 'catalog.secrets["credential"]'),
        (REST, {"max_concurrent_operations": -1}, "catalog.maxConcurrentOperations"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(spec: CatalogSpec, change: dict[str, Any], field: str) -> None:
    assert field in violations(replace(spec, **change))


def test_every_wrong_field_is_named_at_once() -> None:
    assert violations(CatalogSpec(CatalogName("!"), None, "", max_concurrent_operations=-1)) == [
        "catalog.name",
        "catalog.type",
        "catalog.maxConcurrentOperations",
    ]


def test_what_stands_where_a_secrets_name_belongs_is_not_repeated() -> None:
    with pytest.raises(InvalidArgument) as refused:
        replace(REST, secrets={"credential": "hunter2 and more"}).checked_type()

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "key",
    ["token", "credential", "jdbc.password", "s3.secret-access-key", "s3.access-key-id", "adls.sas-token.x",
     "adls.account-key", "gcs.oauth2.token", "rest.auth.basic.password", "s3.session-token", "api_key"],
)  # fmt: skip
def test_keys_that_hold_secrets_are_recognised(key: str) -> None:
    assert is_secret_key(key)
