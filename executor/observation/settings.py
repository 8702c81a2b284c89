"""What a lane tells each of its workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LaneSettings:
    secrets: Path | None = None
    max_scan_bytes: int = 256 * 1024**2
    """Without a mode, an inspection that would have to read more bytes of new manifests takes a sample."""
    sample_limit: int = 10_000
    cache_directory: Path | None = None
    """Where what was learnt from manifests outlives a worker; None: nowhere."""
    cache_bytes: int = 512 * 1024**2
