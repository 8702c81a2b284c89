"""Telling a repeated result from another one."""

from __future__ import annotations

import hashlib
import json

from control_plane.domain.operation import Result
from control_plane.store.codec import plain


def result_digest(result: Result) -> bytes:
    """The same for equal results, whatever the order of their metrics."""
    return hashlib.sha256(json.dumps(plain(result, Result), sort_keys=True).encode()).digest()
