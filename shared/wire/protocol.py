"""The version of the protocol between the planes."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
"""What this build speaks. It rises when an older peer would misunderstand, not when a field is added."""

# Executors are upgraded after the control plane, so that it serves the version before its own as well.
ACCEPTED_PROTOCOL_VERSIONS: Final = range(max(1, PROTOCOL_VERSION - 1), PROTOCOL_VERSION + 1)
