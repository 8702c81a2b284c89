"""Services of the control plane on a store, put together as `control_plane.app` does it."""

from __future__ import annotations

from control_plane.ports.records import Clock, Store
from control_plane.services.governing import GoverningPolicies
from control_plane.services.recovery import RecoveryService
from control_plane.services.sightings import Sightings
from tests.support.stores import RULES


def sightings(store: Store, clock: Clock) -> Sightings:
    return Sightings(store, GoverningPolicies(store, clock))


def recovery(store: Store, clock: Clock) -> RecoveryService:
    return RecoveryService(store, clock, sightings(store, clock), rules=RULES)
