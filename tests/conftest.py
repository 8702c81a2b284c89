"""Fixtures that every test may ask for live in `tests/support/`, one subject a module, and are listed here."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.iceberg",
    "tests.support.postgres",
    "tests.support.processes",
    "tests.support.spark",
    "tests.support.stores",
]
