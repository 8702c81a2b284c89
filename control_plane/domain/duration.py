"""Lengths of time as people write them in a policy: ISO 8601, such as `P7D` or `PT36H`, kept as written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import isodate
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

MAX_DURATION: Final = timedelta(days=36_500)
_MAX_LENGTH: Final = 64


class IsoDuration(str):
    """An ISO 8601 duration of a fixed length, above zero. Two that are equally long are equal only if written alike."""

    __slots__ = ()

    def __new__(cls, text: str) -> IsoDuration:
        _parse(text)
        return super().__new__(cls, text)

    @property
    def length(self) -> timedelta:
        return _parse(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(strict=True))


def _parse(text: str) -> timedelta:
    advice = "write an ISO 8601 duration such as P7D or PT36H"
    if len(text) > _MAX_LENGTH or not text.isascii():
        raise ValueError(f"is no duration; {advice}")
    try:
        parsed = isodate.parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no duration; {advice}") from error
    if not isinstance(parsed, timedelta):
        raise ValueError(f"{text!r} has years or months, whose length varies; write days")
    if parsed <= timedelta(0):
        raise ValueError(f"{text!r} is not longer than zero; {advice}")
    if parsed > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than {MAX_DURATION.days} days, the most that is allowed")
    return parsed
