from __future__ import annotations

from pathlib import Path

import pytest

from executor.assignment import Catalog
from executor.catalogs.secrets import resolve
from executor.errors import ConfigurationError


def catalog(**secrets: str) -> Catalog:
    return Catalog(
        name="lake",
        type="rest",
        uri="http://127.0.0.1:1",
        properties={"scope": "all", "token": "plain"},
        secrets=secrets,
    )


def test_a_secret_is_found_in_the_environment_under_its_folded_name() -> None:
    resolved = resolve(
        catalog(credential="lake.client-1"), environ={"FLOE_SECRET_LAKE_CLIENT_1": "id:x"}, directory=None
    )

    assert dict(resolved) == {"scope": "all", "token": "plain", "credential": "id:x"}


def test_a_secret_is_read_from_the_directory_without_its_trailing_newline(tmp_path: Path) -> None:
    (tmp_path / "lake-token").write_text("a b \n")

    assert resolve(catalog(token="lake-token"), environ={}, directory=tmp_path)["token"] == "a b "


def test_the_environment_wins_over_the_directory(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("file")

    assert (
        resolve(catalog(token="t"), environ={"FLOE_SECRET_T": "environment"}, directory=tmp_path)["token"]
        == "environment"
    )


def test_a_missing_secret_names_itself_and_both_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as failure:
        resolve(catalog(token="lake-token"), environ={"OTHER": "hidden"}, directory=tmp_path)

    message = str(failure.value)
    assert "'lake-token'" in message
    assert "FLOE_SECRET_LAKE_TOKEN" in message
    assert str(tmp_path / "lake-token") in message
    assert "hidden" not in message


def test_without_a_directory_the_message_says_how_to_give_one() -> None:
    with pytest.raises(ConfigurationError, match="FLOE_SECRETS_DIR"):
        resolve(catalog(token="t"), environ={}, directory=None)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", "x" * 129, "naïve", "a\n"])
def test_a_name_that_could_leave_the_directory_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no secret name"):
        resolve(catalog(token=name), environ={}, directory=tmp_path)


def test_values_are_never_printed() -> None:
    resolved = resolve(catalog(credential="c"), environ={"FLOE_SECRET_C": "hunter2"}, directory=None)

    assert "credential" in repr(resolved)
    for text in (repr(resolved), str(resolved), f"{resolved}", f"{resolved!r}"):
        assert "hunter2" not in text
        assert "plain" not in text
