"""Whose settings are whose: programs that share an environment or a file skip each other's, and refuse nobody's."""

from __future__ import annotations

from typing import Final

CONTROL_PLANE_SECTIONS: Final = frozenset(
    {
        "grpc",
        "executor_api",
        "store",
        "lease",
        "guards",
        "capacity",
        "retention",
        "observing",
        "scheduler",
        "discovery",
        "health",
        "debt",
        "shutdown",
    }
)
EXECUTOR_SECTIONS: Final = frozenset({"executor", "engine_type", "spark", "observation"})

CONTROL_PLANE_WORDS: Final = CONTROL_PLANE_SECTIONS | {"control_plane", "database"}
"""First words of the control plane's names, those of later versions and of the original Floe among them."""

EXECUTOR_WORDS: Final = EXECUTOR_SECTIONS | {
    "engine",
    "trino",
    "secret",
    "secrets",
    "catalogs",
    "watchdog",
}
"""First words of the executor's names, secrets among them."""

OTHER_WORDS: Final = frozenset(
    {"address", "client", "demo", "dev", "output", "rest", "server", "run", "test", "timeout"}
)
"""First words of the names of the client, of `floe dev` and of the demonstration."""
