"""Conditions in CEL, the Common Expression Language: what the fields of a policy's conditions cannot say.

A policy's expression is that part of CEL which speaks of numbers: the figures of a health report, numbers, comparisons,
arithmetic, `&&`, `||`, `!` and `? :`. Nothing in it loops, calls or allocates, so its cost is bounded by its length and
it may be evaluated on the event loop.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise, product
from typing import Final

import cel
from pydantic.alias_generators import to_camel

from control_plane.domain.health import FIGURE_NAMES, HealthReport, figure

MAX_LENGTH: Final = 1_000

FIELDS: Final[Mapping[str, str]] = {to_camel(name): name for name in FIGURE_NAMES} | {n: n for n in FIGURE_NAMES}
"""The names that an expression may use, in camelCase and in snake_case, and the figure that each of them means."""

_FOLDED: Final = {to_camel(name).lower(): to_camel(name) for name in FIGURE_NAMES}
# A number is written as CEL writes integers and doubles; hexadecimal and unsigned ones have no use here.
_TOKEN: Final = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>&&|\|\||[<>=!]=|[<>!?:()+*/-])"
)
_INTEGER: Final = re.compile(r"[0-9]+")
_POSITION: Final = re.compile(r"<input>:(?P<line>\d+):(?P<column>\d+):")
_CONSTANTS: Final = frozenset({"true", "false"})
_TRIAL_NUMBERS: Final = 20
_TRIAL_STRIDES: Final = 3
# All that the evaluation of numbers can fail with: types that do not fit, overflow, division.
_FAILURES: Final = (TypeError, ValueError, RuntimeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled condition. Equal texts are equal expressions."""

    text: str
    fields: tuple[str, ...]
    """The names that it uses, as written."""
    _program: cel.Program

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def compile(cls, text: str) -> Expression:
        """The expression that `text` writes. ValueError says in a sentence what is wrong with it."""
        if not text.strip():
            raise ValueError("the expression is empty; leave it out, or write one such as smallFileCount > 100")
        if len(text) > MAX_LENGTH:
            raise ValueError(f"the expression has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed")
        tokens = list(_tokens(text))
        names = tuple(dict.fromkeys(token for kind, token in tokens if kind == "name" and token not in _CONSTANTS))
        _check_calls(tokens)
        _check_names(names)
        if not names:
            raise ValueError("the expression uses no field of the health report, so it would always say the same")
        expression = cls(text=text, fields=names, _program=_program(text, tokens))
        expression._check_types([float(token) for kind, token in tokens if kind == "number"])
        return expression

    def evaluate(self, report: HealthReport, *, now: datetime | None = None) -> bool | None:
        """Whether it holds of the report; ages are those at `now`, by default when it was measured.

        None: unknown, because a figure that it uses is unknown, or because it cannot be reckoned with these figures
        (as nothing divided by nothing).
        """
        at = now or report.measure_time
        values = {name: figure(report.metrics, FIELDS[name], now=at).value for name in self.fields}
        if any(value is None for value in values.values()):
            return None
        try:
            verdict = self._program.execute({name: float(value) for name, value in values.items() if value is not None})
        except _FAILURES:
            return None
        return verdict if isinstance(verdict, bool) else None

    @property
    def figures(self) -> Sequence[tuple[str, str]]:
        """The names that it uses, each with the figure that it means."""
        return [(name, FIELDS[name]) for name in self.fields]

    def _check_types(self, numbers: Sequence[float]) -> None:
        """Try it on figures around the numbers that it names, so that each of its branches is likely taken."""
        some = sorted(set(numbers))[:_TRIAL_NUMBERS]
        around = [0.0, 1.0, 1e12, *(number + step for number in some for step in (-1.0, 0.0, 1.0))]
        for start, stride in product(range(len(around)), range(_TRIAL_STRIDES)):
            values = {name: around[(start + i * stride) % len(around)] for i, name in enumerate(self.fields)}
            try:
                verdict = self._program.execute(values)
            except TypeError as error:
                # Nothing divided by nothing has no order either, and that is not the author's mistake.
                if 0.0 in values.values() and "/" in self.text:
                    continue
                raise ValueError(
                    "the expression mixes numbers and truths; compare numbers first, as in "
                    "smallFileCount > 100 && deleteFileCount > 10"
                ) from error
            except (ValueError, RuntimeError, ArithmeticError):
                continue
            if not isinstance(verdict, bool):
                raise ValueError(
                    f"the expression gives a {type(verdict).__name__}, and must be true or false; compare it, as in "
                    "smallFileCount > 100"
                )


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise ValueError(
                f"the expression has {text[position : position + 20]!r} at character {position + 1}; allowed are "
                "fields of the health report, numbers, true, false, && || ! ? : == != < <= > >= + - * / and parentheses"
            )
        position = found.end()
        if found.lastgroup != "space":
            yield found.lastgroup, found.group()


def _check_calls(tokens: Sequence[tuple[str, str]]) -> None:
    for (kind, token), (_, following) in pairwise(tokens):
        if kind == "name" and following == "(":
            raise ValueError(f"the expression calls {token}(); functions and macros are not allowed, only figures are")


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in FIELDS:
            nearest = difflib.get_close_matches(name.lower().replace("_", ""), _FOLDED, n=1, cutoff=0.6)
            known = ", ".join(map(to_camel, FIGURE_NAMES))
            advice = f"did you mean {_FOLDED[nearest[0]]}?" if nearest else f"known are {known}"
            raise ValueError(f"the expression names {name[:80]}, which no health report has; {advice}")


def _program(text: str, tokens: Sequence[tuple[str, str]]) -> cel.Program:
    # Figures are doubles, and CEL reckons with two of a kind only: whole numbers are read as doubles too.
    doubles = " ".join(f"{t}.0" if kind == "number" and _INTEGER.fullmatch(t) else t for kind, t in tokens)
    try:
        return cel.compile(doubles)
    except ValueError as error:
        raise ValueError(
            f"the expression is no condition in CEL{_place(text)}; write one such as smallFilePercent >= 20 && "
            "dataFileCount > 100"
        ) from error


def _place(text: str) -> str:
    """Where the parser stumbles over the text as it was written."""
    try:
        cel.compile(text)
    except ValueError as error:
        if "recursion" in str(error).lower():
            return " that can be read: it nests too deeply"
        found = _POSITION.search(str(error))
        return f" at line {found['line']}, character {found['column']}" if found else ""
    return ""


@lru_cache(maxsize=1_024)
def compiled(text: str) -> Expression:
    """The expression of a stored policy, compiled once."""
    return Expression.compile(text)
