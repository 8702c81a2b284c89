"""Generates `shared/gen` from `proto/`, and checks that what is committed is what would be generated.

    python proto/generate.py             write shared/gen
    python proto/generate.py --check     fail when shared/gen is not what proto/ gives
    python proto/generate.py --lint      buf lint
    python proto/generate.py --breaking  buf breaking, against proto/released.binpb, or the last commit before a release

protoc builds every descriptor from the include files that googleapis-common-protos carries, so nothing needs a network.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GENERATED = ROOT / "shared" / "gen"
RELEASED = PROTO / "released.binpb"
BREAKING_RULES = ("buf.yaml", "buf.execution.yaml")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when shared/gen is stale")
    parser.add_argument("--lint", action="store_true", help="run buf lint")
    parser.add_argument("--breaking", action="store_true", help="run buf breaking")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="floe-proto-") as folder:
        scratch = Path(folder)
        results = [
            check(scratch) if asked.check else True,
            lint(scratch) if asked.lint else True,
            breaking(scratch) if asked.breaking else True,
        ]
        if not (asked.check or asked.lint or asked.breaking):
            write(scratch)
    return 0 if all(results) else 1


def write(scratch: Path) -> None:
    """Replace shared/gen by what proto/ gives, leaving untouched files untouched, so that builds stay warm."""
    fresh = generate(scratch / "gen")
    for stale in _files(GENERATED) - _files(fresh):
        (GENERATED / stale).unlink()
    for name in sorted(_files(fresh)):
        target = GENERATED / name
        if not target.exists() or not filecmp.cmp(fresh / name, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, target)
            print(f"wrote {target.relative_to(ROOT)}")


def check(scratch: Path) -> bool:
    fresh = generate(scratch / "gen")
    names = sorted(_files(fresh) | _files(GENERATED))
    _, differing, missing = filecmp.cmpfiles(fresh, GENERATED, names, shallow=False)
    for name in (*differing, *missing):
        print(f"shared/gen/{name} is not what proto/ gives: run `make gen` and commit the result", file=sys.stderr)
    return not differing and not missing


def lint(scratch: Path) -> bool:
    return _buf("lint", str(describe(PROTO, scratch / "lint.binpb")), "--config", str(PROTO / "buf.yaml"))


def breaking(scratch: Path) -> bool:
    """Compare with the last release; before the first one, with the last commit on main."""
    before = RELEASED if RELEASED.exists() else _last_commit(scratch)
    if before is None:
        print("buf breaking: no protos are released or committed yet, so there is nothing to break")
        return True
    now = describe(PROTO, scratch / "now.binpb")
    return all(
        _buf("breaking", str(now), "--against", str(before), "--config", str(PROTO / rules)) for rules in BREAKING_RULES
    )


def generate(out: Path) -> Path:
    out.mkdir()
    _protoc(
        PROTO,
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        # Abstract servicers and typed async stubs: mypy refuses a servicer that lacks a call.
        f"--mypy_grpc_out=quiet,only_async:{out}",
    )
    return out


def describe(proto: Path, image: Path) -> Path:
    _protoc(proto, "--include_imports", "--include_source_info", f"--descriptor_set_out={image}")
    return image


def _protoc(proto: Path, *outputs: str) -> None:
    sources = sorted(str(source.relative_to(proto)) for source in (proto / "floe").rglob("*.proto"))
    includes = (proto, Path(str(distribution("grpcio-tools").locate_file("grpc_tools/_proto"))), _googleapis())
    plugins = [f"--plugin=protoc-gen-{name}={_tool(f'protoc-gen-{name}')}" for name in ("mypy", "mypy_grpc")]
    command = ["protoc", *(f"-I{include}" for include in includes), *plugins, *outputs, *sources]
    if protoc.main(command) != 0:
        raise SystemExit(f"protoc failed on {proto}; its messages are above")


def _last_commit(scratch: Path) -> Path | None:
    """The descriptors of proto/ as main last committed it; None where there are none."""
    for branch in ("main", "HEAD"):
        git = ["git", "-C", str(ROOT), "archive", "--format=tar", branch, "proto/floe"]
        archive = subprocess.run(git, capture_output=True, check=False)
        if archive.returncode == 0:
            (scratch / "before").mkdir()
            subprocess.run(["tar", "-x", "-C", str(scratch / "before")], input=archive.stdout, check=True)
            return describe(scratch / "before" / "proto", scratch / "before.binpb")
    return None


def _buf(*arguments: str) -> bool:
    return subprocess.run([_tool("buf"), *arguments], cwd=ROOT, check=False).returncode == 0


def _tool(name: str) -> str:
    """A program of this environment, whether or not the environment is activated."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed beside {sys.executable}: run `make` to set the environment up")
    return found


def _googleapis() -> Path:
    """The folder above google/api/annotations.proto."""
    return Path(str(distribution("googleapis-common-protos").locate_file("")))


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for kind in ("*.py", "*.pyi") for file in folder.rglob(kind)}


if __name__ == "__main__":
    sys.exit(main())
