"""YAML and JSON documents, read as plain data, each value with the line that it stands in.

Only plain data is read: no tags, no anchors, no keys twice, and within limits, since a file may come from anybody.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from floe_client.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_BYTES: Final = 1_048_576
MAX_DEPTH: Final = 32
MAX_DOCUMENTS: Final = 1_000
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_PLAIN: Final = "tag:yaml.org,2002:"
# Fields of texts in which people write a bare number.
_DURATIONS: Final = frozenset(
    {"interval", "timeout", "jitter", "max_snapshot_age", "older_than", "only_closed_partitions_after"}
)
_PLAIN_TAGS: Final = frozenset(
    _PLAIN + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
)

M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its data, and the line of each value by its JSON path."""

    source: str
    value: dict[str, Any]
    lines: Mapping[str, int]

    def place(self, path: str) -> str:
        """`file:line` of the path, or of the nearest value above it that is in the file."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return f"{self.source}:{self.lines.get(path, 1)}"

    def located(self, error: InvalidArgument) -> InvalidArgument:
        """The error, its violations named by file and line too. Paths may begin with the resource, as in `policy.x`."""
        violations = []
        for bad in error.violations:
            first, _, rest = bad.field.partition(".")
            path = rest if first in ("policy", "catalog") and first not in self.value else bad.field
            violations.append(FieldViolation(f"{self.place(path)} {path}".rstrip(), bad.description))
        if not violations:
            return InvalidArgument(f"{self.source}: {error.message}", reason=error.reason, metadata=error.metadata)
        message = f"{self.source}: {len(violations)} field{'s are' if len(violations) > 1 else ' is'} wrong"
        return InvalidArgument(message, reason=error.reason, metadata=error.metadata, violations=violations)

    def message(self, kind: type[M]) -> M:
        """The document as a message. What the message does not have is refused, with the nearest that it has."""
        from google.protobuf.json_format import ParseDict, ParseError

        if violations := list(_wrong(kind.DESCRIPTOR, self.value, "")):
            raise self.located(InvalidArgument("", reason="INVALID_ARGUMENT", violations=violations))
        try:
            return ParseDict(self.value, kind())
        except ParseError as error:
            raise InvalidArgument(f"{self.source}: {error}", reason="INVALID_ARGUMENT") from None


def read_documents(source: str) -> list[Document]:
    """The documents of a file, of all files of a directory in the order of their names, or of standard input (`-`).

    None at all is an error: an empty set of policies would be a mistake more often than a wish.
    """
    if source == "-":
        return parse_documents(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    path = Path(source)
    try:
        if path.is_dir():
            files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and each.is_file())
            if not files:
                raise InvalidArgument(f"{source} holds no .yaml, .yml or .json file")
            return [document for file in files for document in parse_documents(_read(file), str(file))]
        return parse_documents(_read(path), source)
    except OSError as error:
        raise InvalidArgument(f"cannot read {source}: {error.strerror}") from error


def parse_documents(content: bytes, source: str) -> list[Document]:
    """The documents of one file; a list at the top is one document for each of its entries."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(content) > MAX_BYTES:
        raise InvalidArgument(f"{source} is larger than {MAX_BYTES:,} bytes; split it")
    yaml = YAML(typ="safe", pure=True)
    documents: list[Document] = []
    try:
        for node in _top(yaml.compose_all(content.decode())):
            lines: dict[str, int] = {}
            value = _value(node, "", source, lines, yaml.constructor)
            if not isinstance(value, dict):
                raise InvalidArgument(f"{source}:{lines['']}: a document has to be a mapping of field names to values")
            documents.append(Document(source, value, lines))
            if len(documents) > MAX_DOCUMENTS:
                raise InvalidArgument(f"{source} holds more than {MAX_DOCUMENTS:,} documents; split it")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{source} is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError:
        raise InvalidArgument(f"{source} is nested too deeply") from None
    except YAMLError as error:
        raise InvalidArgument(_yaml_error(error, source)) from None
    if not documents:
        raise InvalidArgument(f"{source} holds no document")
    return documents


def _top(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        if node is None or (node.id == "scalar" and node.value == ""):
            continue
        if node.id == "sequence" and str(node.tag) in _PLAIN_TAGS and not node.anchor:
            yield from node.value
        else:
            yield node


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


# Any: nodes and constructors of the YAML library have no types.
def _value(node: Any, path: str, source: str, lines: dict[str, int], constructor: Any) -> Any:
    line = node.start_mark.line + 1
    lines[path] = line
    if path.count(".") + path.count("[") > MAX_DEPTH:
        raise InvalidArgument(f"{source}:{line}: nested more than {MAX_DEPTH} levels deep")
    if node.anchor:
        raise InvalidArgument(f"{source}:{line}: anchors and aliases are not read; write the value out")
    if str(node.tag) not in _PLAIN_TAGS:
        raise InvalidArgument(f"{source}:{line}: the tag {_tag(node)} is not read; write a plain value")
    if node.id == "mapping":
        return _mapping(node, path, source, lines, constructor)
    if node.id == "sequence":
        return [_value(each, f"{path}[{index}]", source, lines, constructor) for index, each in enumerate(node.value)]
    if str(node.tag) == _PLAIN + "timestamp":
        return node.value
    return constructor.construct_object(node, deep=True)


def _mapping(node: Any, path: str, source: str, lines: dict[str, int], constructor: Any) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.id != "scalar" or str(key.tag) not in _PLAIN_TAGS or str(key.tag) == _PLAIN + "null":
            raise InvalidArgument(f"{source}:{line}: a field name has to be plain text")
        # Keys are taken as they stand: a tag named `on` or `1` is a text.
        name = str(key.value)
        if name in mapping:
            raise InvalidArgument(f"{source}:{line}: {name!r} stands here a second time; keep one")
        inner = f"{path}.{name}" if path else name
        mapping[name] = _value(value, inner, source, lines, constructor)
        lines[inner] = line
    return mapping


def _tag(node: Any) -> str:
    return "!!" + str(node.tag).removeprefix(_PLAIN) if str(node.tag).startswith(_PLAIN) else str(node.tag)


def _yaml_error(error: Exception, source: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{source}:{mark.line + 1}: {problem}" if mark is not None else f"{source}: {problem}"


def _wrong(descriptor: Any, value: Any, path: str) -> Iterator[FieldViolation]:
    """What in the document is no field of the message, or not of its field's kind."""
    if not isinstance(value, dict):
        yield FieldViolation(path, f"must be a mapping of field names to values, not {_kind(value)}")
        return
    fields = {field.json_name: field for field in descriptor.fields}
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        field = fields.get(name)
        if field is None:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
            yield FieldViolation(here, f"is not known; {advice}")
        elif inner is not None:
            yield from _wrong_field(field, inner, here)


def _wrong_field(field: Any, value: Any, path: str) -> Iterator[FieldViolation]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            yield FieldViolation(path, f"must be a mapping, not {_kind(value)}")
            return
        for key, inner in value.items():
            yield from _wrong_item(field.message_type.fields_by_name["value"], inner, f"{path}.{key}")
    elif field.is_repeated:
        if not isinstance(value, list):
            yield FieldViolation(path, f"must be a list, not {_kind(value)}")
            return
        for index, inner in enumerate(value):
            yield from _wrong_item(field, inner, f"{path}[{index}]")
    else:
        yield from _wrong_item(field, value, path)


def _wrong_item(field: Any, value: Any, path: str) -> Iterator[FieldViolation]:
    if field.message_type is not None:
        # The well-known types are written as plain values, which the parser checks.
        if not field.message_type.full_name.startswith("google.protobuf."):
            yield from _wrong(field.message_type, value, path)
        return
    wanted, fits = {
        field.CPPTYPE_STRING: ("a text; put it in quotes", isinstance(value, str)),
        field.CPPTYPE_BOOL: ("true or false", isinstance(value, bool)),
        field.CPPTYPE_ENUM: ("a name", isinstance(value, str)),
        field.CPPTYPE_DOUBLE: ("a number", isinstance(value, int | float) and not isinstance(value, bool)),
    }.get(field.cpp_type, ("a whole number", _is_whole(value)))
    if not fits:
        if field.name in _DURATIONS:
            wanted = "a duration with its unit, such as PT6H or P7D"
        yield FieldViolation(path, f"must be {wanted}, not {_kind(value)}")


def _is_whole(value: Any) -> bool:
    # In JSON, 64-bit numbers are written as texts.
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdecimal())


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return repr(value)[:60]
