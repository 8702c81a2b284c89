"""Writes docs/configuration.md from the settings: `python -m control_plane.config_reference [--check] FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from control_plane.config import ControlPlaneConfig
from control_plane.config_sources import settings_by_name
from shared.vocabulary.values import written_duration

_INTRODUCTION: Final = """# Configuration of the control plane

<!-- Generated from the settings by `python -m control_plane.config_reference`; do not edit. -->

Settings come from the environment, then from the YAML file that `FLOE_CONFIG` names, then from the defaults below.
In the file they stand in sections: `FLOE_LEASE__TTL` is `ttl` below `lease`. What nobody knows is refused.
Durations are ISO 8601 (`PT15S`, `PT10M`, `P7D`); a bare number is refused. What has several values is written as JSON.

`floe-control-plane check-config` prints the effective settings, secrets masked, and warns of what is allowed but
doubtful. `FLOE_STORE_TYPE` is the same as `FLOE_STORE__TYPE`, `FLOE_SCHEDULER_ENABLED` as `FLOE_SCHEDULER__ENABLED`.
Settings of the executor and of the client may stand in the same environment and file; they are left alone.
"""


def reference() -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for name, section in ControlPlaneConfig.model_fields.items():
        kind = section.annotation
        assert isinstance(kind, type) and issubclass(kind, BaseModel)
        yield f"## {name}\n\n{(kind.__doc__ or '').strip()}\n"
        yield "| setting | default | meaning |\n|---|---|---|"
        for setting, field in settings_by_name(kind, f"FLOE_{name.upper()}__"):
            yield f"| `{setting}` | {_default(field)} | {_meaning(field)} |"
        yield ""


def _default(field: FieldInfo) -> str:
    value = _written(field.get_default(call_default_factory=True))
    return f"`{value}`" if value else ""


def _written(value: Any) -> str:
    match value:
        case None:
            return ""
        case timedelta():
            return written_duration(value)
        case StrEnum():
            return str(value.value)
        case str() | Path():
            return str(value)
        case _:
            return json.dumps(value)


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    check = "--check" in arguments
    (file,) = (Path(argument) for argument in arguments if argument != "--check")
    if check:
        if not file.is_file() or file.read_text(encoding="utf-8") != reference():
            sys.stderr.write(f"{file} is not what the settings say; run `make gen`\n")
            return 1
        return 0
    file.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
