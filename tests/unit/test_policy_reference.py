"""docs/policies.md: its tables are what the models and the proto say, its examples are policies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from control_plane.domain.floors import Floors
from control_plane.domain.policy import validate_policy
from control_plane.policy_reference import _MESSAGES, main, page, tabled

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "policies.md").read_text(encoding="utf-8")
EXAMPLES = [
    example
    for name in ("policies.md", "cli.md")
    for example in re.findall(r"```yaml\n(name: .*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
]


def test_the_tables_are_what_the_models_and_the_proto_say() -> None:
    assert page(PAGE) == PAGE, "run `make gen`"


def test_every_part_of_a_policy_has_a_table() -> None:
    # Those of an operation are those of all.
    assert tabled(PAGE) - {"presets"} == _MESSAGES.keys() - {"OperationConditions"}


def test_every_field_has_a_meaning() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count(" | ") == 3]

    assert len(rows) > 100
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.split()[1] for example in EXAMPLES])
def test_the_examples_are_policies(example: str) -> None:
    document = YAML(typ="safe", pure=True).load(example)

    assert validate_policy(document, floors=Floors()).document == document


def test_a_stale_page_is_told_and_written(tmp_path: Path) -> None:
    file = tmp_path / "policies.md"
    file.write_text("<!-- fields of Budget -->\nold\n<!-- end -->\n", encoding="utf-8")

    assert main(["--check", str(file)]) == 1
    assert main([str(file)]) == 0
    assert main(["--check", str(file)]) == 0
    assert "| `perPass` | object | – | In one pass of the scheduler. |" in file.read_text(encoding="utf-8")
