"""What all parts of a policy have in common: how they are written, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from control_plane.domain.floors import NO_FLOORS, Floors
from control_plane.domain.identifiers import MAX_PART_LENGTH, is_clean

BROKEN_RULES: Final = "broken_rules"
"""The type of the validation error whose context lists, as `broken`, (field, description) of rules across fields."""

FLOORS: Final = "floors"
"""The key of the deployment's `Floors` in the validation context; without it there are none."""

Broken = tuple[str, str]


def name_checked(text: str) -> str:
    if not text or text != text.strip() or not is_clean(text):
        raise ValueError("must be a name: not empty, no white space around it, no control characters")
    return text


# A value must have its own JSON type. Tuples and enumerations are relaxed where they stand, since JSON has neither.
Int32 = Annotated[int, Field(le=2**31 - 1)]
Int64 = Annotated[int, Field(le=2**63 - 1)]
PositiveInt32 = Annotated[Int32, Field(ge=1)]
PositiveInt64 = Annotated[Int64, Field(ge=1)]
Name = Annotated[str, Field(max_length=MAX_PART_LENGTH), AfterValidator(name_checked)]


class Document(BaseModel):
    """A part of a policy as it is written: JSON names outside, Python names inside, nothing unknown, never changed."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        allow_inf_nan=False,
    )

    def _broken_rules(self, info: ValidationInfo) -> Iterator[Broken]:
        """The rules across fields that do not hold, each with the JSON name of the field to change."""
        yield from ()

    @model_validator(mode="after")
    def _check_rules(self, info: ValidationInfo) -> Self:
        broken = list(self._broken_rules(info))
        if broken:
            raise PydanticCustomError(BROKEN_RULES, "rules across fields do not hold", {"broken": broken})
        return self


def floors_of(info: ValidationInfo) -> Floors:
    """Those of the deployment; none where none were given, as when a stored document is read."""
    floors: Floors = (info.context or {}).get(FLOORS, NO_FLOORS)
    return floors


def repeated(values: Sequence[Any], *, key: Callable[[Any], str] = str) -> str:
    """The first value whose key was there before; empty if there is none."""
    seen: set[str] = set()
    for value in values:
        if key(value) in seen:
            return str(value)
        seen.add(key(value))
    return ""


def ascending(*fields: tuple[str, float | None]) -> Iterator[Broken]:
    """Each set value must be below the next set one."""
    known = [(name, value) for name, value in fields if value is not None]
    for (lower, low), (upper, high) in pairwise(known):
        if low >= high:
            yield upper, f"must be above {lower}, which is {low}"
