"""The directory that one executor has for itself while it lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from executor.errors import ConfigurationError


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[Path]:
    """Hold the directory, made if need be. Raises `ConfigurationError` naming the process that has it."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the state directory {directory} cannot be used ({error.strerror}); set FLOE_EXECUTOR__STATE_DIRECTORY"
        ) from error
    try:
        try:
            # The kernel gives it back with the process, however that ends.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise ConfigurationError(
                f"the state directory {directory} is in use by process {holder}; stop it, or set "
                "FLOE_EXECUTOR__STATE_DIRECTORY to another one"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield directory
    finally:
        os.close(descriptor)
