"""What an action may answer instead of doing its work."""

from __future__ import annotations


class Refused(Exception):
    """The action must not, or cannot, be carried out on this table as it was asked for. The message says why and what
    to do."""
