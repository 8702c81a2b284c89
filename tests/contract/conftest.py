"""The scene that most of the suite begins with."""

from __future__ import annotations

import pytest

from control_plane.ports.records import Store
from tests.support import factories
from tests.support.scene import Scene


@pytest.fixture
async def scene(any_store: Store) -> Scene:
    """A store with the catalog `lake` and the policy `nightly`."""
    await any_store.catalogs.create(factories.catalog())
    await any_store.policies.create(factories.policy())
    return Scene(any_store)
