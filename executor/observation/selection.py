"""Which data files a rewrite would take, and how many it would leave: Iceberg's own selection rules, computed from
sizes.

Follows `BinPackRewriteFilePlanner` and `SizeBasedFileRewritePlanner` of Apache Iceberg 1.10 to 1.12: a file is a
candidate when its size is outside the wanted range or too many of its rows are deleted; candidates of one partition
are packed in order into groups, and a group is rewritten when it has enough files, enough content, too much content,
or a file with too many deletes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from executor.observation.model import FileSizeRules

TARGET_PROPERTY = "write.target-file-size-bytes"

_DEFAULT_TARGET = 512 * 1024**2
_DEFAULT_MIN_INPUT_FILES = 5
_DEFAULT_GROUP_SIZE = 100 * 1024**3
_DEFAULT_DELETE_RATIO = 0.3


@dataclass(frozen=True, slots=True)
class Selection:
    """The rules with every default filled in."""

    target: int
    minimum: int
    maximum: int
    min_input_files: int = _DEFAULT_MIN_INPUT_FILES
    max_group_size: int = _DEFAULT_GROUP_SIZE
    delete_ratio: float = _DEFAULT_DELETE_RATIO

    @classmethod
    def of(cls, rules: FileSizeRules, properties: Mapping[str, str]) -> Selection:
        """The rules of a policy over the table's properties over Iceberg's defaults. Raises ValueError for a property
        that is no size."""
        target = rules.target if rules.target is not None else int(properties.get(TARGET_PROPERTY, _DEFAULT_TARGET))
        if target <= 0:
            raise ValueError(f"table property {TARGET_PROPERTY} is {target}, it must be positive")
        return cls(
            target=target,
            minimum=rules.minimum if rules.minimum is not None else target * 3 // 4,
            maximum=rules.maximum if rules.maximum is not None else target * 9 // 5,
            min_input_files=rules.min_input_files or _DEFAULT_MIN_INPUT_FILES,
            max_group_size=rules.max_group_size or _DEFAULT_GROUP_SIZE,
            delete_ratio=rules.delete_ratio or _DEFAULT_DELETE_RATIO,
        )

    def expected_output_files(self, input_size: int) -> int:
        """How many files a rewrite of that many bytes writes."""
        if input_size < self.target:
            return 1
        whole, remainder = divmod(input_size, self.target)
        if remainder == 0:
            return whole
        # A remainder that is itself large enough stays a file; a small one is spread if the others grow by less than
        # a tenth.
        largest_average = min(Fraction(11, 10) * self.target, Fraction((self.target + self.maximum) // 2))
        spread = remainder <= self.minimum and input_size // whole < largest_average
        return whole if spread else whole + 1


class Candidate(NamedTuple):
    """A data file that a rewrite would consider; `forced` if the share of its deleted rows alone is reason enough."""

    partition: object
    size: int
    forced: bool = False


class Reducible(NamedTuple):
    files: int
    """How many files fewer there would be."""
    size: int
    """How many bytes would be read and written for it."""

    def plus(self, other: Reducible) -> Reducible:
        return Reducible(self.files + other.files, self.size + other.size)


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates that would be rewritten together."""

    count: int = 0
    size: int = 0
    forced: bool = False

    def joined(self, other: Group) -> Group:
        return Group(self.count + other.count, self.size + other.size, self.forced or other.forced)

    def outcome(self, selection: Selection) -> Reducible:
        if not self._rewritten(selection):
            return Reducible(0, 0)
        return Reducible(max(0, self.count - selection.expected_output_files(self.size)), self.size)

    def _rewritten(self, selection: Selection) -> bool:
        if self.count == 0:
            return False
        return (
            (self.count > 1 and self.count >= selection.min_input_files)
            or (self.count > 1 and self.size > selection.target)
            or self.size > selection.maximum
            or self.forced
        )


def reducible(candidates: Iterable[Candidate], selection: Selection) -> Reducible:
    """What a rewrite would gain and cost. Candidates come partition by partition, each in the order of a scan; memory
    is constant.

    Iceberg packs with a look-back of one: a group is closed by the first file that does not fit.
    """
    total = Reducible(0, 0)
    group = Group()
    partition: object = None
    for candidate in candidates:
        if group.count and (candidate.partition != partition or group.size + candidate.size > selection.max_group_size):
            total = total.plus(group.outcome(selection))
            group = Group()
        partition = candidate.partition
        group = group.joined(Group(1, candidate.size, candidate.forced))
    return total.plus(group.outcome(selection))
