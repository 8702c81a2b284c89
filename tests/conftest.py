"""Fixtures that every test may ask for live in `tests/support/`, one subject a module, and are listed here."""

from __future__ import annotations

import signal

# A shell that runs the tests in the background has SIGINT ignored, and so would every process that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.support.iceberg",
    "tests.support.postgres",
    "tests.support.processes",
    "tests.support.spark",
    "tests.support.stores",
]
