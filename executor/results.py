"""Results on disk until the control plane has answered them: a process may end, what it did is still told."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from executor import convert
from executor.assignment import Lease, Result
from floe.execution.v1 import assignment_pb2 as pb

logger = structlog.get_logger(__name__)

_SUFFIX: Final = ".result"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9-]")


class ResultStore:
    """One file a result, in the wire's form. Every method blocks; `save` returns once the result survives a crash."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, lease: Lease, result: Result) -> None:
        path = self._path(lease)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            file.write(convert.result_to_wire(lease, result).SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, lease: Lease) -> None:
        """It was answered. May be repeated."""
        self._path(lease).unlink(missing_ok=True)

    def load(self) -> Mapping[Lease, Result]:
        """All that wait, of earlier processes too. What cannot be read is put aside, for a person to look at."""
        found: dict[Lease, Result] = {}
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                message = pb.Result.FromString(path.read_bytes())
                found[convert.lease(message.lease)] = convert.result(message)
            except (DecodeError, ValueError):
                logger.exception("result.unreadable", path=str(path))
                with contextlib.suppress(OSError):
                    path.replace(path.with_suffix(".unreadable"))
        return found

    def _path(self, lease: Lease) -> Path:
        # A token too: two control planes may number alike.
        name = f"{_UNSAFE.sub('_', lease.operation)[:64]}-{lease.epoch}-{lease.token.hex()[:32]}"
        return self._directory / f"{name}{_SUFFIX}"
