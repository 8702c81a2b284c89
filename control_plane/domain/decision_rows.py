"""Decisions as they are stored: identity, words, and what becomes of slots that nobody decided in time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from control_plane.domain.identifiers import OperationId
from control_plane.domain.schedule import slot_text
from control_plane.domain.schedule_config import ScheduleConfig
from control_plane.domain.scheduling import (
    Decision,
    DecisionId,
    DecisionReason,
    PolicyMode,
    SlotFacts,
    SlotVerdict,
    Step,
)
from control_plane.domain.slot_checks import Finding

_DECISIONS: Final = UUID("5a1f3c52-7d0e-4c1b-9a60-0f3b1f0c7d11")
"""The name space of decision ids: one slot has one, however often it is decided."""


@dataclass(frozen=True, slots=True)
class Clerk:
    """Writes decisions about the slots of one target."""

    facts: SlotFacts
    schedule: ScheduleConfig | None
    now: datetime
    term: int

    def decision(
        self,
        slot: datetime,
        finding: Finding,
        *,
        operation: OperationId | None = None,
        last_slot: datetime | None = None,
        slots: int = 1,
    ) -> Decision:
        assert finding.verdict is not None and finding.reason is not None, "what is stored has a verdict and a reason"
        target = self.facts.target
        identity = (target.catalog, target.table_key, target.type, target.mode, target.policy, slot.isoformat())
        return Decision(
            id=DecisionId(str(uuid5(_DECISIONS, "\n".join(identity)))),
            catalog=target.catalog,
            table_key=target.table_key,
            table=self.facts.table.name,
            type=target.type,
            mode=target.mode,
            policy=target.policy,
            policy_generation=target.policy_generation,
            slot=slot,
            slot_text=slot_text(self.schedule, slot) if self.schedule is not None else f"{slot:%Y-%m-%d %H:%M:%S} UTC",
            verdict=finding.verdict,
            reason=finding.reason,
            text=sentence(finding, target.mode),
            steps=tuple(finding.steps),
            time=self.now,
            term=self.term,
            last_slot=last_slot,
            slots=slots,
            operation=operation,
            next_eligible=finding.next_eligible,
        )


def given_up(finding: Finding, schedule: ScheduleConfig, last: datetime) -> Finding:
    """What a slot ends with that waited until another came due."""
    if finding.verdict is SlotVerdict.FIRED:
        return caught_up(schedule, last)
    return replace(finding, verdict=SlotVerdict.SKIPPED, wants_inspection=False)


def caught_up(schedule: ScheduleConfig, last: datetime) -> Finding:
    text = f"not decided in its time; the slot {slot_text(schedule, last)} was decided in its place"
    return Finding(
        verdict=SlotVerdict.SKIPPED,
        reason=DecisionReason.CATCH_UP,
        text=text,
        steps=(Step("catchUp", text, False),),
    )


def sentence(finding: Finding, mode: PolicyMode, *, supposed: bool = False) -> str:
    """What became of a slot, or with `supposed` what would become of one that were due now."""
    fired = "would run" if supposed else "would have fired" if mode is PolicyMode.SHADOW else "fired"
    if supposed and mode is PolicyMode.SHADOW:
        fired = "would run, were its policy not a shadow"
    lead = {SlotVerdict.FIRED: fired, SlotVerdict.SKIPPED: "would not run" if supposed else "skipped"}
    lead[SlotVerdict.DEFERRED] = "would wait" if supposed else "waits"
    return f"{lead[finding.verdict]}: {finding.text}" if finding.verdict is not None else finding.text
