"""The folder tree is the architecture; these tests are what makes it so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import grimp
import pytest
from grimp import ImportGraph

ENGINES = ("pyspark", "py4j", "trino", "pyiceberg", "pyarrow", "duckdb")


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return grimp.build_graph("control_plane", "executor", "shared", "floe_client")


def test_every_import_contract_is_kept() -> None:
    checked = _python("-c", "from importlinter.cli import lint_imports_command as lint; lint()")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Contracts:" in checked.stdout


def test_the_control_plane_starts_without_any_engine() -> None:
    started = _python("-c", _blocking(ENGINES) + "import control_plane.cli\n")

    assert started.returncode == 0, started.stderr


def test_the_client_starts_without_the_service() -> None:
    service = ("control_plane", "executor", "shared", "asyncpg", "floe.execution", *ENGINES)
    started = _python("-c", _blocking(service) + "import floe_client.cli\n")

    assert started.returncode == 0, started.stderr


def test_the_executor_starts_without_the_control_plane_and_without_its_engine() -> None:
    # Engines and readers load at the last moment: `floe-executor --help` needs none of them.
    started = _python("-c", _blocking(("control_plane", "asyncpg", "pyspark", "trino")) + "import executor.cli\n")

    assert started.returncode == 0, started.stderr


def test_what_is_shared_is_imported_by_both_planes(graph: ImportGraph) -> None:
    modules = {module for module in graph.modules if module.startswith("shared.")}
    leaves = {module for module in modules if not graph.find_children(module)}

    lonely = {
        module: missing
        for module in sorted(leaves)
        if (missing := [plane for plane in ("control_plane", "executor") if not _reaches(graph, plane, module)])
    }

    assert leaves
    assert not lonely, f"these modules of shared/ are not imported by both planes: {lonely}"


def _reaches(graph: ImportGraph, plane: str, module: str) -> bool:
    return graph.chain_exists(importer=plane, imported=module, as_packages=True)


def _blocking(names: Sequence[str]) -> str:
    return f"import sys\nfor name in {list(names)!r}: sys.modules[name] = None\n"


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100, check=False)
