from __future__ import annotations

from collections.abc import Mapping

import pytest
from sqlalchemy.engine import make_url

from executor.assignment import Catalog
from executor.catalogs.locations import local_path, normalize_location, same_location
from executor.catalogs.properties import pyiceberg_properties
from executor.errors import ConfigurationError


def rest(**properties: str) -> Mapping[str, object]:
    record = Catalog(name="lake", type="rest", uri="http://127.0.0.1:8181", warehouse="w")
    return pyiceberg_properties(record, properties)


def jdbc(uri: str, **properties: str) -> Mapping[str, object]:
    named = {key.replace("_", "."): value for key, value in properties.items()}
    return pyiceberg_properties(Catalog(name="lake", type="jdbc", uri=uri, warehouse="file:///w"), named)


def test_a_rest_catalog_without_credentials_sends_no_authorization() -> None:
    assert rest()["auth"] == {"type": "noop"}


@pytest.mark.parametrize("key", ["token", "credential", "header.Authorization", "rest.sigv4-enabled"])
def test_a_configured_credential_is_left_to_do_its_work(key: str) -> None:
    properties = rest(**{key: "x"})

    assert "auth" not in properties
    assert properties[key] == "x"


def test_basic_authentication_is_translated_from_the_java_names() -> None:
    properties = rest(**{"rest.auth.type": "basic", "rest.auth.basic.username": "u", "rest.auth.basic.password": "p"})

    assert properties["auth"] == {"type": "basic", "basic": {"username": "u", "password": "p"}}


def test_basic_authentication_without_a_password_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="password"):
        rest(**{"rest.auth.type": "basic", "rest.auth.basic.username": "u"})


def test_a_jdbc_uri_becomes_an_sqlalchemy_one_with_its_login_quoted() -> None:
    properties = jdbc(
        "jdbc:postgresql://db.example:5433/cat?sslmode=require&currentSchema=iceberg",
        jdbc_user="a@b",
        jdbc_password="p:/?#",
    )

    url = make_url(str(properties["uri"]))
    assert (url.drivername, url.host, url.port, url.database) == ("postgresql+psycopg2", "db.example", 5433, "cat")
    assert (url.username, url.password) == ("a@b", "p:/?#")
    assert dict(url.query) == {"connect_timeout": "10", "sslmode": "require", "options": "-csearch_path=iceberg"}
    assert properties["init_catalog_tables"] == "false"
    assert not any(key.startswith("jdbc.") for key in properties)


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("jdbc:mysql://h/d", "jdbc:postgresql://"),
        ("postgresql://h/d", "jdbc:postgresql://"),
        ("jdbc:postgresql://u:p@h/d", "jdbc.user"),
        ("jdbc:postgresql://h/d?password=p", "jdbc.password"),
        ("jdbc:postgresql://h/d?socketFactory=x", "socketFactory"),
        ("jdbc:postgresql://h", "database"),
    ],
)
def test_a_jdbc_uri_that_cannot_be_honoured_is_refused(uri: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        jdbc(uri)


def test_an_unknown_catalog_type_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'hive'"):
        pyiceberg_properties(Catalog(name="lake", type="hive", uri="thrift://h"), {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("file:/a/b", "file:///a/b"),
        ("/a/b/", "file:///a/b"),
        ("file://localhost/a/b", "file:/a/b/"),
        ("file:///a//b", "file:/a/b"),
        ("s3a://bucket/a/", "s3://bucket/a"),
        ("S3N://bucket/a", "s3://bucket/a"),
    ],
)
def test_spellings_of_one_place_are_the_same_location(one: str, other: str) -> None:
    assert same_location(one, other)
    assert normalize_location(normalize_location(one)) == normalize_location(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/a", "s3://bucket/b"),
        ("s3://bucket/a//b", "s3://bucket/a/b"),
        ("s3://bucket/a", "gs://bucket/a"),
        ("file:///a", "s3://a"),
        ("file:///A", "file:///a"),
    ],
)
def test_other_places_are_not(one: str, other: str) -> None:
    assert not same_location(one, other)


def test_only_file_locations_have_a_local_path() -> None:
    assert local_path("file:/a/b") == "/a/b"
    assert local_path("s3://bucket/a") is None
