"""Writes the tables of docs/policies.md: `python -m control_plane.policy_reference [--check] FILE`.

The page is written by hand but for what stands between `<!-- fields of NAME -->` and `<!-- end -->`: there, types and
limits come from the models that validate a policy, meanings and defaults from the comments of the proto.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from control_plane.domain.budget import Budget, BudgetLimits
from control_plane.domain.duration import IsoDuration
from control_plane.domain.health_thresholds import HealthThresholds, Pair
from control_plane.domain.identifiers import OperationType
from control_plane.domain.policy import PolicySpec
from control_plane.domain.removal_config import ExpireSnapshotsConfig, OrphanCleanupConfig
from control_plane.domain.rewriting_config import (
    ComputeStatisticsConfig,
    PartitionSummary,
    RewriteDataFilesConfig,
    RewriteIf,
    RewriteManifestsConfig,
    RewritePositionDeletesConfig,
)
from control_plane.domain.schedule_config import ScheduleConfig
from control_plane.domain.thresholds import DEFAULT, RELAXED, STRICT, Limits, Thresholds
from control_plane.domain.trigger_conditions import OperationConditions, TriggerConditions

PROTO: Final = Path(__file__).parents[1] / "proto" / "floe" / "v1" / "policy.proto"

_MESSAGES: Final[Mapping[str, type[BaseModel]]] = {
    "Policy": PolicySpec,
    "RewriteDataFilesConfig": RewriteDataFilesConfig,
    "RewritePositionDeletesConfig": RewritePositionDeletesConfig,
    "RewriteManifestsConfig": RewriteManifestsConfig,
    "RewriteManifestsConfig.RewriteIf": RewriteIf,
    "RewriteManifestsConfig.PartitionSummary": PartitionSummary,
    "ExpireSnapshotsConfig": ExpireSnapshotsConfig,
    "OrphanCleanupConfig": OrphanCleanupConfig,
    "ComputeStatisticsConfig": ComputeStatisticsConfig,
    "ScheduleConfig": ScheduleConfig,
    "TriggerConditions": TriggerConditions,
    "OperationConditions": OperationConditions,
    "HealthThresholds": HealthThresholds,
    "HealthThresholds.Pair": Pair,
    "Budget": Budget,
    "Budget.Limits": BudgetLimits,
}
_BLOCK: Final = re.compile(r"(<!-- fields of (?P<name>[\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MESSAGE: Final = re.compile(r"\s*message (\w+) {")
_FIELD: Final = re.compile(r"\s*(?:optional |repeated )?(?:map<[^>]+>|[\w.]+) (\w+) = \d+")
_COMMENT: Final = re.compile(r"\s*// ?(.*)")
# `Unset: 5.`, and `; unset: 5.` at the end of another sentence.
_SNAKE: Final = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
_DEFAULT: Final = re.compile(r"(?:^|(?<=\. )|; )[Uu]nset: (?P<default>.+?)(?:\.(?= [A-Z`])|\.?$)")


def page(text: str) -> str:
    """The page with its tables as they should be."""
    comments = _comments(PROTO.read_text(encoding="utf-8"))
    return _BLOCK.sub(lambda block: f"{block[1]}\n{_table(block['name'], comments)}\n\n{block[3]}", text)


def tabled(text: str) -> set[str]:
    """The messages that the page has a table of."""
    return {block["name"] for block in _BLOCK.finditer(text)}


def _table(name: str, comments: Mapping[str, str]) -> str:
    if name == "presets":
        return "\n".join(_presets())
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *_rows(name, comments)])


def _presets() -> Iterator[str]:
    yield "| field | DEFAULT | STRICT | RELAXED |\n|---|---|---|---|"
    for field in fields(Thresholds):
        limits = (_limits(getattr(preset, field.name)) for preset in (DEFAULT, STRICT, RELAXED))
        yield f"| `{to_camel(field.name)}` | {' | '.join(limits)} |"


def _limits(limits: Limits | float) -> str:
    if isinstance(limits, Limits):
        return f"{_limits(limits.warning)} / {_limits(limits.critical)}"
    return f"{limits:,}"


def _rows(name: str, comments: Mapping[str, str]) -> Iterator[str]:
    for field_name, field in _MESSAGES[name].model_fields.items():
        comment = comments[f"{name}.{field_name}"]
        found = _DEFAULT.search(comment)
        default = found["default"] if found else ""
        meaning = comment[: found.start()] + comment[found.end() :] if found else comment
        if found and found[0].startswith("; "):
            meaning = f"{comment[: found.start()]}.{comment[found.end() :]}"
        cells = (
            f"`{field.alias}`",
            _type(field),
            "required" if field.is_required() else default or "–",
            _SNAKE.sub(lambda name: f"`{to_camel(name[1])}`", " ".join(meaning.split())),
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(field: FieldInfo) -> str:
    kind, limits = _unwrapped(field.annotation, list(field.metadata))
    if get_origin(kind) is dict:
        key, value = (_named(*_unwrapped(each, [])) for each in get_args(kind))
        return f"map{_entries(limits)}: {key} → {value}"
    if get_origin(kind) is tuple:
        return f"list{_entries(limits)}: {_named(*_unwrapped(get_args(kind)[0], []))}"
    return _named(kind, limits)


def _unwrapped(kind: Any, limits: list[Any]) -> tuple[Any, list[Any]]:
    """The bare type, and what bounds it."""
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            limits = [*limits, *(each for one in more for each in _constraints(one))]
        elif get_origin(kind) in (Union, UnionType):
            (kind,) = (each for each in get_args(kind) if each is not NoneType)
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        else:
            return kind, limits


def _constraints(metadata: Any) -> Sequence[Any]:
    return metadata.metadata if isinstance(metadata, FieldInfo) else [metadata]


def _named(kind: Any, limits: Sequence[Any]) -> str:
    if kind is OperationType:
        return "operation type"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f"`{word.value}`" for word in kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "object"
    word = {str: "text", int: "integer", float: "number", bool: "`true`, `false`", IsoDuration: "duration"}[kind]
    bounds = _bounds(limits)
    if kind is str and (longest := _limit(limits, "max_length")) is not None:
        return f"{word}, at most {longest:,} characters"
    return f"{word}, {bounds}" if bounds else word


def _bounds(limits: Sequence[Any]) -> str:
    written = []
    lows = [low for each in limits if (low := getattr(each, "ge", None)) is not None]
    # Limits of 32 and 64 bits say nothing to whoever writes a policy.
    highs = [high for each in limits if (high := getattr(each, "le", None)) is not None and high + 1 not in _WORDS]
    if lows:
        written.append(f"from {max(lows):,}")
    if (above := _limit(limits, "gt")) is not None:
        written.append(f"above {above:,}")
    if highs:
        written.append(f"to {min(highs):,}")
    return " ".join(written)


_WORDS: Final = (2**31, 2**63)


def _entries(limits: Sequence[Any]) -> str:
    longest = _limit(limits, "max_length")
    return f" of at most {longest:,}" if longest is not None else ""


def _limit(limits: Sequence[Any], name: str) -> Any:
    return next((limit for each in limits if (limit := getattr(each, name, None)) is not None), None)


def _comments(proto: str) -> Mapping[str, str]:
    """The comment above each field, by message and field; a field without one has an empty one."""
    comments: dict[str, str] = {}
    messages: list[str] = []
    above: list[str] = []
    for line in proto.splitlines():
        if comment := _COMMENT.fullmatch(line):
            above.append(comment[1])
            continue
        if message := _MESSAGE.match(line):
            messages.append(message[1])
        elif line.strip().endswith("{"):
            messages.append("")
        elif messages and line.strip() in ("}", "};"):
            messages.pop()
        elif messages and (field := _FIELD.match(line)):
            comments[f"{'.'.join(messages)}.{field[1]}"] = " ".join(" ".join(above).split())
        above = []
    return comments


def main(arguments: Sequence[str]) -> int:
    check = "--check" in arguments
    (file,) = (Path(argument) for argument in arguments if argument != "--check")
    text = file.read_text(encoding="utf-8")
    fresh = page(text)
    if check and fresh != text:
        sys.stderr.write(f"the tables of {file} are not what the models and the proto say; run `make gen`\n")
        return 1
    if not check:
        file.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
