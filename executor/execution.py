"""One attempt in its thread: its trace, its engine, and what an exception out of the engine means."""

from __future__ import annotations

from dataclasses import replace

import structlog
from opentelemetry.trace import SpanKind

from executor.assignment import Effects, Failure, FailureClass, Outcome, Result
from executor.attempt import RunningAttempt
from executor.engines.base import Cancelled, DeadlinePassed, Engine
from shared.telemetry.traces import span_from

logger = structlog.get_logger(__name__)


def execute(engine: Engine, attempt: RunningAttempt) -> Result:
    """Have the engine carry the attempt out, in the calling thread; it never raises for what went wrong there."""
    assignment, lease = attempt.assignment, attempt.lease
    with span_from(
        assignment.traceparent,
        f"attempt {type(assignment.action).__name__}",
        kind=SpanKind.CONSUMER,
        attributes={
            "floe.operation_id": lease.operation,
            "floe.epoch": lease.epoch,
            "floe.attempt": assignment.attempt,
            "floe.table": assignment.table.qualified,
        },
    ) as span:
        result = attempt.explained(_engine_result(engine, attempt))
        span.set_attributes({"floe.outcome": result.outcome.value, "floe.effects": result.effects.value})
        logger.info(
            "attempt.ended",
            outcome=result.outcome,
            effects=result.effects,
            failure=result.failure.message if result.failure else None,
            cancelled=result.cancelled,
        )
        return result


def abandoned(attempt: RunningAttempt) -> Result:
    """The result of an attempt whose thread does not come back, because its engine is dead."""
    failure = Failure(FailureClass.ENGINE, "the engine ended while the attempt ran")
    return _unexplained(attempt, Result(Outcome.NO_CHANGE, Effects.NONE, failure))


def _engine_result(engine: Engine, attempt: RunningAttempt) -> Result:
    info = engine.info
    try:
        attempt.check()
        with span_from("", "engine.run", attributes={"floe.engine": info.name, "floe.engine_version": info.version}):
            return engine.run(attempt)
    except Cancelled:
        return _unexplained(attempt, Result(Outcome.NO_CHANGE, Effects.NONE, cancelled=True))
    except DeadlinePassed as passed:
        failure = Failure(FailureClass.UNAVAILABLE, str(passed))
        return _unexplained(attempt, Result(Outcome.NO_CHANGE, Effects.NONE, failure))
    except Exception as error:
        logger.exception("engine.failed")
        failure = Failure(FailureClass.ENGINE, f"the engine failed with {type(error).__name__}; see the executor's log")
        return _unexplained(attempt, Result(Outcome.NO_CHANGE, Effects.NONE, failure))


def _unexplained(attempt: RunningAttempt, result: Result) -> Result:
    """The engine did not say what it did: before its plan was stored that is nothing, after it nobody knows."""
    if not attempt.may_have_effects:
        return result
    return replace(result, effects=Effects.UNKNOWN, commits_answered=False)
