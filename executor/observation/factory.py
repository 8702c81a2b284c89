"""Builds the observation lane from an executor's settings."""

from __future__ import annotations

from executor.engines.registry import Setup
from executor.observation.lane import ObservationLane
from executor.observation.settings import LaneSettings


def create(setup: Setup) -> ObservationLane:
    """The lane; its worker processes start when it is warmed, or with the first looks."""
    cache_bytes = setup.options["manifest_cache_bytes"]
    settings = LaneSettings(
        secrets=setup.secrets_directory,
        max_scan_bytes=setup.options["max_scan_bytes"],
        sample_limit=setup.options["sample_limit"],
        cache_directory=setup.state_directory / "manifests" if cache_bytes else None,
        cache_bytes=cache_bytes,
    )
    return ObservationLane(setup.slots, settings=settings)
