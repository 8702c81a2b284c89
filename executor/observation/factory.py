"""Builds the observation lane from an executor's settings."""

from __future__ import annotations

from executor.engines.registry import Setup
from executor.observation.lane import ObservationLane


def create(setup: Setup) -> ObservationLane:
    """The lane; its worker processes start when it is warmed, or with the first looks."""
    return ObservationLane(setup.slots, secrets=setup.secrets_directory)
