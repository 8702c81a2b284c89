"""Files stay small, are named for what they hold, and speak of the product alone."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LONGEST = 500
GENERATED = ("shared/gen/", "requirements/")
FORBIDDEN_MODULES = {"util", "utils", "common", "helper", "helpers", "misc", "base"}
# What every engine must offer is its base, by the name that the field gives it.
ALLOWED_MODULES = {"executor/engines/base.py"}
EMPTY_WORDS = re.compile(r"(Manager|Handler|Helper|Helpers|Util|Utils|Impl)$")
# Put together here so that this file does not hold what it looks for.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
]
MACHINE_PATHS = ["/" + "work/main", "/" + "work/shared", "/" + "root/", "/" + "home/"]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {path: len(_text(path).splitlines()) for path in _sources() if not path.startswith("tests/")}

    assert not {path: length for path, length in lengths.items() if length > LONGEST}


def test_no_module_is_named_for_nothing() -> None:
    named = {path for path in _sources() if Path(path).stem in FORBIDDEN_MODULES}

    assert named <= ALLOWED_MODULES


def test_no_class_is_named_by_an_empty_word() -> None:
    named = [
        f"{path}: {node.name}"
        for path in _sources()
        for node in ast.walk(ast.parse(_text(path)))
        if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name)
    ]

    assert not named


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path
        for path in _sources()
        if not path.startswith("tests/") and _text(path).strip() and ast.get_docstring(ast.parse(_text(path))) is None
    ]

    assert not silent


def test_no_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    found = [
        f"{path}: {needle}"
        for path in _tracked()
        for text in [_text(path)]
        for needle in (*HOSTS, *MACHINE_PATHS)
        if needle in text
    ]

    assert not found


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = [
        f"{path}: {target}"
        for path in _tracked()
        if path.endswith(".md")
        for target in LINK.findall(_text(path))
        if not target.startswith(("http://", "https://", "mailto:"))
        and not (ROOT / path).parent.joinpath(target).exists()
    ]

    assert not broken


def _sources() -> Iterator[str]:
    return (path for path in _tracked() if path.endswith(".py") and not path.startswith(GENERATED))


def _tracked() -> list[str]:
    """What is in the repository or would be with the next commit; deleted files are left out."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({path for path in listed if path and (ROOT / path).is_file()})


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="ignore")
