"""What was learnt from manifests on disk: bounded, shared, and never wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from executor.observation.manifest_cache import ROWS, ManifestCache, ManifestKey

_DAY = 86_400


def key(number: int = 1) -> ManifestKey:
    return ManifestKey(f"s3://lake/t/metadata/{number}-m0.avro", 4_000 + number, number, 3)


def rows(count: int = 100, seed: int = 0) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "content": 0,
                "is_dv": False,
                "spec": 0,
                "partition": 2**64 - 1,
                "path": seed + each,
                "referenced": None,
                "size": 1_000,
                "records": 10,
                "sequence": 3,
                "location": None,
                "format": "PARQUET",
            }
            for each in range(count)
        ],
        schema=ROWS,
    )


def size(directory: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in directory.iterdir())


def used(directory: Path, known: set[Path], *, days_ago: int) -> set[Path]:
    """Pretend that what was written since was last used then; all that there is now."""
    now = set(directory.iterdir())
    for file in now - known:
        then = file.stat().st_mtime - days_ago * _DAY
        os.utime(file, (then, then))
    return now


@pytest.mark.parametrize("count", [0, 1, 5_000])
def test_another_process_reads_what_was_written(tmp_path: Path, count: int) -> None:
    ManifestCache(tmp_path, limit=10**8).put(key(), rows(count))

    assert ManifestCache(tmp_path, limit=10**8).get(key()) == rows(count)


def test_a_part_of_a_larger_table_is_kept_as_that_part(tmp_path: Path) -> None:
    cache = ManifestCache(tmp_path, limit=10**8)

    cache.put(key(), rows(100).slice(30, 20))

    assert cache.get(key()) == rows(20, seed=30)
    assert size(tmp_path) < 8_192


def test_what_was_never_written_is_not_there(tmp_path: Path) -> None:
    cache = ManifestCache(tmp_path / "never", limit=10**8)

    assert not cache.holds(key())
    assert cache.get(key()) is None


@pytest.mark.parametrize("other", [{"length": 1}, {"snapshot": 99}, {"sequence": 4}, {"path": "s3://lake/u.avro"}])
def test_a_manifest_that_only_shares_the_path_is_another_one(tmp_path: Path, other: dict[str, int | str]) -> None:
    cache = ManifestCache(tmp_path, limit=10**8)
    cache.put(key(), rows())

    assert cache.get(key()._replace(**other)) is None  # type: ignore[arg-type]  # one field each


def _flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: _flip(file, 0),
        lambda file: _flip(file, -1),
        lambda file: _flip(file, file.stat().st_size // 2),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"something else"),
    ],
    ids=["first byte", "last byte", "a byte within", "cut short", "empty", "foreign"],
)
def test_a_damaged_entry_is_thrown_away(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    cache = ManifestCache(tmp_path, limit=10**8)
    cache.put(key(), rows())
    (file,) = tmp_path.iterdir()

    damage(file)

    assert cache.get(key()) is None
    assert list(tmp_path.iterdir()) == []
    cache.put(key(), rows())
    assert cache.get(key()) == rows()


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    cache = ManifestCache(tmp_path, limit=10**8)
    cache.put(key(1), rows(1))
    (one,) = tmp_path.iterdir()
    cache.put(key(2), rows(2))
    (two,) = set(tmp_path.iterdir()) - {one}

    two.replace(one)

    assert cache.get(key(1)) is None


def test_the_entries_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = ManifestCache(tmp_path, limit=200_000)
    known: set[Path] = set()
    for number in range(1, 11):
        cache.put(key(number), rows())
        known = used(tmp_path, known, days_ago=20 - number)
    # Used again, however old it is.
    assert cache.get(key(1)) is not None

    for number in range(11, 21):
        cache.put(key(number), rows())

    held = [number for number in range(1, 21) if cache.holds(key(number))]
    assert size(tmp_path) <= 200_000
    assert held[0] == 1
    assert held[1:] == list(range(held[1], 21))
    assert held[1] > 2


def test_a_new_process_does_not_begin_to_count_anew(tmp_path: Path) -> None:
    for number in range(1, 101):
        ManifestCache(tmp_path, limit=200_000).put(key(number), rows())

    assert size(tmp_path) <= 200_000


def test_one_entry_does_not_push_all_others_out(tmp_path: Path) -> None:
    cache = ManifestCache(tmp_path, limit=200_000)
    cache.put(key(1), rows())

    cache.put(key(2), rows(10_000))

    assert cache.get(key(1)) is not None
    assert not cache.holds(key(2))


def test_a_directory_that_cannot_be_used_costs_nothing_but_the_entries(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ManifestCache(tmp_path / "file" / "below", limit=10**8)

    cache.put(key(), rows())

    assert not cache.holds(key())
    assert cache.get(key()) is None


def test_nothing_unfinished_is_left_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    cache = ManifestCache(tmp_path, limit=10**8)
    monkeypatch.setattr(Path, "replace", full)

    cache.put(key(), rows())

    assert list(tmp_path.iterdir()) == []
