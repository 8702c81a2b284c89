"""How the way operations ended slows their schedule: the failure back-off and the no-change throttle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.domain.catalog import Table
from control_plane.domain.operation import FailureClass
from control_plane.domain.scheduling import Outcomes, Step, Target
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.domain.wording import span


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether outcomes hold a slot back, and until when. `until` None while it holds: until something changes."""

    holds: bool
    step: Step | None = None
    words: str = ""
    """Why it holds, in a sentence."""
    until: datetime | None = None


FREE = Hold(False)


def back_off_hold(outcomes: Outcomes, target: Target, table: Table, *, now: datetime, rules: SchedulingRules) -> Hold:
    """After so many failures in a row, one probe each back-off; a success clears it.

    What failed as INVALID fails again as long as the policy and the table stay as they are. A new generation of the
    policy lets it run at once, a change of the table once the back-off has passed: every writer's commit is one.
    """
    failures = outcomes.consecutive_failures
    if failures < rules.failures_before_back_off or outcomes.last_failure_time is None:
        return FREE
    until = outcomes.last_failure_time + rules.back_off
    words = f"it failed {failures} times in a row, last {span(now - outcomes.last_failure_time)} ago"
    failed = f"backOff: {words}"
    if outcomes.last_failure_class is FailureClass.INVALID:
        if _under_other_policy(outcomes, target):
            return Hold(False, Step("backOff", f"{failed} as INVALID; the policy has changed since → probe", True))
        known = bool(outcomes.last_metadata_location)
        if known and not table_changed(outcomes, table, since=outcomes.last_failure_time):
            text = f"{failed} as INVALID → waits until its policy or the table changes"
            words = f"{words}, as INVALID: its policy or the table has to change first"
            return Hold(True, Step("backOff", text, False), words)
    if until > now:
        words = f"{words}; it may try again in {span(until - now)}"
        return Hold(True, Step("backOff", f"{failed} → waits {span(until - now)}", False), words, until)
    return Hold(False, Step("backOff", f"{failed}; {span(rules.back_off)} have passed → one probe", True))


def back_off_end(outcomes: Outcomes, *, rules: SchedulingRules) -> datetime | None:
    """When the back-off after the last failure ends. None: there is none."""
    if outcomes.consecutive_failures < rules.failures_before_back_off or outcomes.last_failure_time is None:
        return None
    return outcomes.last_failure_time + rules.back_off


def throttle_hold(
    outcomes: Outcomes, table: Table, *, interval: timedelta, newly_met: bool, now: datetime, rules: SchedulingRules
) -> Hold:
    """After so many successes in a row that changed nothing, the interval of the schedule stretches step by step.

    It ends at once when a writer has committed since, or when conditions are met now that were not met then.
    """
    unchanged = outcomes.consecutive_no_change
    if unchanged < rules.no_changes_before_throttle or outcomes.last_success_time is None:
        return FREE
    stretched = stretched_interval(unchanged, interval, rules=rules)
    until = outcomes.last_success_time + stretched
    words = f"{unchanged} runs in a row changed nothing, so that {span(interval)} stretch to {span(stretched)}"
    found = f"noChangeThrottle: {words}"
    if until <= now:
        return Hold(False, Step("noChangeThrottle", f"{found}, which have passed → passed", True))
    if table_changed(outcomes, table, since=outcomes.last_success_time):
        return Hold(False, Step("noChangeThrottle", f"{found}; the table has changed since → passed", True))
    if newly_met:
        return Hold(False, Step("noChangeThrottle", f"{found}; conditions are newly met → passed", True))
    return Hold(True, Step("noChangeThrottle", f"{found} → waits {span(until - now)}", False), words, until)


def stretched_interval(unchanged: int, interval: timedelta, *, rules: SchedulingRules) -> timedelta:
    """The interval after so many runs in a row that changed nothing."""
    steps = unchanged - rules.no_changes_before_throttle + 1
    if steps < 1:
        return interval
    # Bounded before it is raised to the power: a count has no limit, a float has one.
    factor = min(rules.throttle_most, rules.throttle_step ** min(steps, 64))
    return max(interval * factor, rules.throttle_at_least)


def table_changed(outcomes: Outcomes, table: Table, *, since: datetime) -> bool:
    """Whether the table was seen, after `since`, at another metadata file than the one that the last operation began
    at.
    """
    if not outcomes.last_metadata_location:
        return False
    seen = [(table.last_seen_time, table.metadata_location)]
    if table.health is not None:
        seen.append((table.health.measure_time, table.health.metrics.metadata_location))
    return any(time > since and location not in ("", outcomes.last_metadata_location) for time, location in seen)


def _under_other_policy(outcomes: Outcomes, target: Target) -> bool:
    """Another generation, or another policy that happens to have the same number."""
    if target.policy_generation != outcomes.last_failure_generation:
        return True
    return outcomes.last_failure_time is not None and target.since > outcomes.last_failure_time
