"""How much a policy's scheduled operations may take at most."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from control_plane.domain.document import Document, Int64

Limit = Annotated[Int64, Field(ge=0)]


class BudgetLimits(Document):
    """0 and None: unlimited. One operation is one operation, whatever it changes."""

    tables: Limit | None = None
    operations: Limit | None = None
    bytes: Limit | None = None
    engine_seconds: Limit | None = None


class Budget(Document):
    """Limits of one pass of the scheduler, and of any hour."""

    per_pass: BudgetLimits | None = None
    per_hour: BudgetLimits | None = None
