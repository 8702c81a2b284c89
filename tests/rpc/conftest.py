"""Fixtures of the tests that speak to a server."""

from __future__ import annotations

from tests.support.api import api

__all__ = ["api"]
