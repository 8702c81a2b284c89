"""A policy: which tables, which operations and how. What its author wrote is kept in full; nothing is added to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Final, Self, get_args

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from control_plane.domain.budget import Budget
from control_plane.domain.document import BROKEN_RULES, FLOORS, Broken, Document
from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.floors import Floors
from control_plane.domain.health_thresholds import HealthThresholds
from control_plane.domain.identifiers import OperationType, PolicyName, is_clean
from control_plane.domain.pattern import Pattern
from control_plane.domain.removal_config import ExpireSnapshotsConfig, OrphanCleanupConfig
from control_plane.domain.rewriting_config import (
    ComputeStatisticsConfig,
    RewriteDataFilesConfig,
    RewriteManifestsConfig,
    RewritePositionDeletesConfig,
)
from control_plane.domain.schedule import never_due
from control_plane.domain.schedule_config import ScheduleConfig
from control_plane.domain.scheduling import PolicyMode
from control_plane.domain.thresholds import Thresholds
from control_plane.domain.trigger_conditions import TriggerConditions

OperationConfig = (
    RewriteDataFilesConfig
    | RewritePositionDeletesConfig
    | RewriteManifestsConfig
    | ExpireSnapshotsConfig
    | OrphanCleanupConfig
    | ComputeStatisticsConfig
)

MIN_PRIORITY: Final = -10_000
MAX_PRIORITY: Final = 10_000
DEFAULT_PRIORITY: Final = 0
MAX_DESCRIPTION_LENGTH: Final = 2_000
MAX_TAGS: Final = 64
MAX_MANAGED_BY_LENGTH: Final = 128

_NAME_RULE: Final = "1 to 63 of a-z, 0-9 and -, first and last a letter or digit"
_LABELS: Final = frozenset({"description", "tags", "managed_by"})

_Key = Annotated[str, Field(min_length=1, max_length=128)]
_Value = Annotated[str, Field(max_length=256)]


class PolicySpec(Document):
    """What the author of a policy writes. Unset is None, an empty text or an empty collection, and stays so."""

    name: PolicyName
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_LENGTH)] = ""
    table_pattern: str
    enabled: bool | None = None
    priority: Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY)] | None = None
    tags: Annotated[dict[_Key, _Value], Field(max_length=MAX_TAGS)] = Field(default_factory=dict)
    managed_by: Annotated[str, Field(max_length=MAX_MANAGED_BY_LENGTH)] = ""
    mode: Annotated[PolicyMode, Field(strict=False)] | None = None
    rewrite_data_files: RewriteDataFilesConfig | None = None
    rewrite_data_files_schedule: ScheduleConfig | None = None
    rewrite_position_deletes: RewritePositionDeletesConfig | None = None
    rewrite_position_deletes_schedule: ScheduleConfig | None = None
    rewrite_manifests: RewriteManifestsConfig | None = None
    rewrite_manifests_schedule: ScheduleConfig | None = None
    expire_snapshots: ExpireSnapshotsConfig | None = None
    expire_snapshots_schedule: ScheduleConfig | None = None
    orphan_cleanup: OrphanCleanupConfig | None = None
    orphan_cleanup_schedule: ScheduleConfig | None = None
    compute_statistics: ComputeStatisticsConfig | None = None
    compute_statistics_schedule: ScheduleConfig | None = None
    health_thresholds: HealthThresholds | None = None
    trigger_conditions: TriggerConditions | None = None
    budget: Budget | None = None

    @classmethod
    def stored(cls, document: Mapping[str, Any]) -> Self:
        """The spec of a document that was accepted before; the deployment's floors may have risen since."""
        return cls.model_validate(document)

    @property
    def document(self) -> dict[str, Any]:
        """The spec as its author wrote it: JSON names and values, without what was left unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def is_enabled(self) -> bool:
        return self.enabled is not False

    @property
    def effective_priority(self) -> int:
        return DEFAULT_PRIORITY if self.priority is None else self.priority

    @property
    def operation_types(self) -> tuple[OperationType, ...]:
        """The operations that it configures, in the order of a run."""
        return tuple(kind for kind in OperationType if self.config(kind) is not None)

    @property
    def effective_mode(self) -> PolicyMode:
        return self.mode or PolicyMode.ACTIVE

    @property
    def runs(self) -> bool:
        """Whether anything may be done under it."""
        return self.is_enabled and self.effective_mode is PolicyMode.ACTIVE

    @cached_property
    def thresholds(self) -> Thresholds:
        """What the tables that it governs are held against."""
        return (self.health_thresholds or HealthThresholds()).effective

    def config(self, operation_type: OperationType) -> OperationConfig | None:
        """How it does the operation; None: it does not."""
        config: OperationConfig | None = getattr(self, operation_type.lower())
        return config

    def schedule(self, operation_type: OperationType) -> ScheduleConfig | None:
        """When it does the operation; None: only when somebody triggers it."""
        schedule: ScheduleConfig | None = getattr(self, _schedule_field(operation_type))
        return schedule

    def conditions(self, operation_type: OperationType) -> TriggerConditions | None:
        """What its slots run under; which of it speaks of the operation, `domain.gates` says."""
        return self.trigger_conditions if self.config(operation_type) is not None else None

    @cached_property
    def pattern(self) -> Pattern:
        return Pattern.parse(self.table_pattern)

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not _is_policy_name(name):
            raise ValueError(f"{name[:80]!r} is no policy name; write {_NAME_RULE}")
        return name

    @field_validator("table_pattern")
    @classmethod
    def _pattern(cls, text: str) -> str:
        try:
            Pattern.parse(text)
        except InvalidArgument as error:
            raise ValueError(error.violations[0].description) from error
        return text

    @field_validator("description", "managed_by")
    @classmethod
    def _text(cls, text: str) -> str:
        if not is_clean(text.translate(_LINE_BREAKS)):
            raise ValueError("holds control characters; remove them")
        return text

    @field_validator("tags")
    @classmethod
    def _tags(cls, tags: dict[str, str]) -> dict[str, str]:
        if not all(is_clean(key) and is_clean(value) for key, value in tags.items()):
            raise ValueError("hold control characters; remove them")
        return tags

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        for kind in OperationType:
            schedule, field = self.schedule(kind), _schedule_field(kind)
            if schedule is None:
                continue
            if self.config(kind) is None:
                yield to_camel(field), f"schedules what {to_camel(kind.lower())} does not configure; add that too"
            elif never_due(schedule):
                yield to_camel(field) + ".cronExpression", "never falls inside its window and on its allowed days"


def _schedule_field(operation_type: OperationType) -> str:
    return f"{operation_type.lower()}_schedule"


_LINE_BREAKS: Final = {ord("\n"): " ", ord("\r"): " ", ord("\t"): " "}


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it is kept. Its generation rises when what it does changes, its etag with every change."""

    spec: PolicySpec
    generation: int
    etag: str
    create_time: datetime
    update_time: datetime

    @property
    def name(self) -> PolicyName:
        return self.spec.name


def validate_policy(document: Mapping[str, Any], *, floors: Floors) -> PolicySpec:
    """The spec that the JSON document writes. InvalidArgument names every field that is wrong, by its JSON path."""
    try:
        return PolicySpec.model_validate(dict(document), context={FLOORS: floors})
    except ValidationError as error:
        # `from None`: pydantic's text repeats the whole input, which is not ours to log.
        raise InvalidArgument(_violations(error)) from None


def changes_what_it_does(old: PolicySpec, new: PolicySpec) -> bool:
    """Whether tables would be treated otherwise. Description, tags and `managedBy` are only labels."""
    return _deeds(old) != _deeds(new)


def _deeds(spec: PolicySpec) -> dict[str, Any]:
    deeds = spec.model_dump(exclude=set(_LABELS))
    return deeds | {"enabled": spec.is_enabled, "priority": spec.effective_priority, "mode": spec.effective_mode}


def _is_policy_name(name: str) -> bool:
    return (
        0 < len(name) <= 63
        and name.isascii()
        and all(character.isdigit() or character.islower() or character == "-" for character in name)
        and not (name.startswith("-") or name.endswith("-"))
    )


def _violations(error: ValidationError) -> list[FieldViolation]:
    return [violation for detail in error.errors(include_url=False) for violation in _violation(detail)]


def _violation(detail: ErrorDetails) -> Iterator[FieldViolation]:
    path = _json_path(detail["loc"])
    if detail["type"] == BROKEN_RULES:
        for field, description in detail["ctx"]["broken"]:
            yield FieldViolation(f"{path}.{field}" if path else field, description)
    else:
        yield FieldViolation(path, _description(detail))


def _json_path(location: tuple[str | int, ...]) -> str:
    """`("rewriteDataFiles", "sortOrder", 0)` as `rewriteDataFiles.sortOrder[0]`."""
    # A wrong key of a map is located by the key and the marker `[key]`.
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]")
    return "".join(parts).removeprefix(".")


def _description(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _unknown(detail["loc"])
        case "enum":
            return f"must be one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, is {_shown(detail['input'])}"
        case "greater_than":
            return f"must be above {context['gt']}, is {_shown(detail['input'])}"
        case "less_than_equal":
            return f"must be at most {context['le']}, is {_shown(detail['input'])}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters, has {len(detail['input'])}"
        case "string_too_short":
            return "must not be empty"
        case "too_long":
            return f"must have at most {context['max_length']} entries, has {context['actual_length']}"
        case "value_error":
            return str(context["error"])
    expected = _TYPES.get(kind)
    return f"must be {expected}, is {_shown(detail['input'])}" if expected else detail["msg"]


_TYPES: Final = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _unknown(location: tuple[str | int, ...]) -> str:
    """Say that a field is unknown, and which known one is nearest to it."""
    fields = sorted(_fields_beside(location))
    name = str(location[-1])
    folded = {field.lower(): field for field in fields}
    written = name.lower().replace("_", "")
    nearest = difflib.get_close_matches(written, folded, n=1, cutoff=0.6)
    if not nearest:
        nearest = [field for field in folded if len(written) > 2 and field.startswith(written)][:1]
    if nearest:
        return f"unknown field; did you mean {folded[nearest[0]]}?"
    return f"unknown field; known are {', '.join(fields)}"


def _fields_beside(location: tuple[str | int, ...]) -> Iterator[str]:
    """The JSON names of the fields of the document in which the last part of the location stands."""
    annotation: Any = PolicySpec
    for part in location[:-1]:
        document = _document_in(annotation)
        # Below a field of a document comes its value; below a key of a map or a place in a list comes what they hold.
        fields = {field.alias: field.annotation for field in document.model_fields.values()} if document else {}
        annotation = fields.get(str(part), annotation)
    document = _document_in(annotation)
    for field in document.model_fields.values() if document else ():
        if field.alias:
            yield field.alias


def _document_in(annotation: Any) -> type[BaseModel] | None:
    """The kind of document that a field holds: itself, or as an option, in a list or in a map."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for kind in get_args(annotation) if (found := _document_in(kind)) is not None), None)
