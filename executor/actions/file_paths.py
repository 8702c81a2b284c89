"""One comparable form for each file path, so that two spellings of one file are never taken for two files.

The form merges more than it has to: that keeps a file which might go, and never lets one go that is needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_URI: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/]*))?(?P<path>/.*|)", re.DOTALL)
_SAME_SCHEMES: Final = {"s3a": "s3", "s3n": "s3"}
_MOST_DECODINGS: Final = 8


@dataclass(frozen=True, slots=True)
class FilePath:
    """`key` is the path alone: percent-decoded to the end, in Unicode's composed form, without empty steps."""

    scheme: str
    authority: str
    key: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> str:
        return self.key.rpartition("/")[0]

    def is_under(self, folder: FilePath) -> bool:
        """Whether it lies in the folder, at any depth; `/t2/x` does not lie in `/t`. Prefixes are not compared."""
        return self.key.startswith(folder.key.rstrip("/") + "/")


class Prefixes:
    """Which schemes and which authorities mean the same; s3a and s3n always mean s3."""

    def __init__(self, schemes: Mapping[str, str], authorities: Mapping[str, str]) -> None:
        self._schemes = {**_SAME_SCHEMES, **_single(schemes)}
        self._authorities = _single(authorities)

    def differ(self, one: FilePath, other: FilePath) -> bool:
        return self._canonical(one) != self._canonical(other)

    def _canonical(self, path: FilePath) -> tuple[str, str]:
        return (
            self._schemes.get(path.scheme, path.scheme),
            self._authorities.get(path.authority, path.authority),
        )


def parse(text: str) -> FilePath | None:
    """The path in its comparable form; None if it is not absolute, steps upwards, or is not understood."""
    matched = _URI.fullmatch(text)
    if matched is None:
        scheme, authority, path = "file", "", text
    else:
        scheme, authority, path = matched["scheme"].lower(), matched["authority"] or "", matched["path"] or "/"
        if scheme == "file" and authority.lower() == "localhost":
            authority = ""
    if not path.startswith("/"):
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        return None  # A name in no known encoding.
    for _ in range(_MOST_DECODINGS):
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    else:
        return None
    steps = [step for step in unicodedata.normalize("NFC", path).split("/") if step]
    if any(step in (".", "..") for step in steps):
        return None
    return FilePath(scheme, authority, "/" + "/".join(steps))


def _single(equal: Mapping[str, str]) -> dict[str, str]:
    """As Iceberg's `equalSchemes` has it, a key may name several, with commas between them."""
    return {name.strip(): meant for names, meant in equal.items() for name in names.split(",")}
