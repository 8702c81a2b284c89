"""Errors that stop an executor, or one assignment of it, for a reason that only its operator can remove."""

from __future__ import annotations


class ConfigurationError(Exception):
    """Something configured is missing or wrong. The message names it, says where it was looked for and what to do;
    never a value."""
