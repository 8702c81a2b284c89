"""Why a table's operations run, wait or do not run, over the wire."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import grpc

from control_plane.domain import health
from control_plane.domain.health import HealthMetrics, Metric
from control_plane.domain.identifiers import OperationType
from control_plane.domain.scheduling import DecisionReason, PolicyMode, SlotVerdict
from control_plane.domain.thresholds import DEFAULT
from floe.v1 import decision_pb2, operation_pb2, policy_pb2, system_pb2, table_pb2
from floe.v1 import trigger_pb2 as pb
from tests.support.api import ORDERS, Api, know_table, refused, register_catalog
from tests.support.scheduling import decided

EXPLAIN = pb.ExplainTriggerRequest(catalog="lake", namespace="sales", table="orders")
EXPIRE = operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS
REWRITE = operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES


async def test_without_any_policy_it_says_so_for_every_operation(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)

    answers = await explained(api)

    assert len(answers) == len(OperationType)
    assert {answer.reason for answer in answers.values()} == {"no_governing_policy"}
    assert not any(answer.would_run for answer in answers.values())
    assert "no enabled policy configures EXPIRE_SNAPSHOTS" in answers[EXPIRE].text


async def test_conditions_are_shown_with_actual_and_limit(api: Api) -> None:
    await measured(api, small=12, files=100)
    await write_policy(api, "tidy", rewrite_data_files={}, trigger_conditions={"small_file_percentage_above": 20})

    answer = (await explained(api))[REWRITE]

    assert (answer.would_run, answer.reason, answer.policy_name) == (False, "conditions_not_met", "tidy")
    assert answer.verdict == decision_pb2.SLOT_VERDICT_SKIPPED
    assert answer.text == "would not run: 12 % of the data files are small, the policy asks for at least 20 %"
    assert "smallFilePercentageAbove 20: actual 12 → not met" in [step.text for step in answer.steps]


async def test_a_condition_that_is_met_runs(api: Api) -> None:
    await measured(api, small=40, files=100)
    await write_policy(api, "tidy", rewrite_data_files={}, trigger_conditions={"small_file_percentage_above": 20})

    answer = (await explained(api))[REWRITE]

    assert (answer.would_run, answer.reason) == (True, "conditions_met")


async def test_a_table_that_nobody_measured_waits_for_that(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await write_policy(api, "tidy", rewrite_data_files={}, trigger_conditions={"small_file_count_above": 1})

    answer = (await explained(api))[REWRITE]

    assert (answer.would_run, answer.reason) == (False, "no_health")
    assert answer.verdict == decision_pb2.SLOT_VERDICT_DEFERRED


async def test_who_governs_is_named_and_who_does_not_with_the_reason(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await write_policy(api, "wide", table_pattern="*", expire_snapshots={})
    await write_policy(api, "close", table_pattern="lake.sales.orders", expire_snapshots={})
    await write_policy(api, "tried", table_pattern="*", mode="SHADOW", priority=9, expire_snapshots={})

    answers = [each for each in await every(api) if each.operation_type == EXPIRE]

    active, shadow = answers
    assert (active.policy_name, active.mode) == ("close", "ACTIVE")
    assert [(loser.policy_name, loser.reason) for loser in active.losers] == [("wide", "LESS_SPECIFIC")]
    assert (shadow.policy_name, shadow.mode, shadow.would_run) == ("tried", "SHADOW", False)


async def test_a_change_of_a_policy_shows_at_once(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await write_policy(api, "tidy", expire_snapshots={})
    assert (await explained(api))[EXPIRE].policy_name == "tidy"

    await api.policies.DeletePolicy(policy_pb2.DeletePolicyRequest(name="tidy"))

    assert (await explained(api))[EXPIRE].reason == "no_governing_policy"


async def test_a_pause_is_a_blocker(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await write_policy(api, "tidy", expire_snapshots={})
    await api.system.Pause(system_pb2.PauseRequest(catalog="lake", reason="moving house"))

    answer = (await explained(api))[EXPIRE]

    assert answer.would_run
    assert any("moving house" in blocker for blocker in answer.blockers)


async def test_the_last_decision_is_there(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    await write_policy(api, "tidy", expire_snapshots={})
    await decided(api.store, ORDERS, reason=DecisionReason.OVERLAP, verdict=SlotVerdict.SKIPPED)

    answer = (await explained(api))[EXPIRE]

    assert (answer.last_decision.reason, answer.last_decision.verdict) == ("overlap", decision_pb2.SLOT_VERDICT_SKIPPED)


async def test_decisions_are_listed_newest_first_a_page_at_a_time(api: Api) -> None:
    await register_catalog(api)
    await know_table(api)
    for minutes in range(5):
        verdict = SlotVerdict.FIRED if minutes % 2 else SlotVerdict.SKIPPED
        await decided(api.store, ORDERS, later=timedelta(minutes=minutes), verdict=verdict, mode=PolicyMode.SHADOW)

    first = await api.tables.ListDecisions(table_pb2.ListDecisionsRequest(page_size=3))
    rest = await api.tables.ListDecisions(table_pb2.ListDecisionsRequest(page_size=3, page_token=first.next_page_token))
    fired = await api.tables.ListDecisions(
        table_pb2.ListDecisionsRequest(
            catalog="lake", namespace="sales", table="orders", verdicts=[decision_pb2.SLOT_VERDICT_FIRED]
        )
    )

    times = [decision.decide_time.seconds for decision in (*first.decisions, *rest.decisions)]
    assert (len(times), rest.next_page_token) == (5, "")
    assert times == sorted(times, reverse=True)
    assert len(fired.decisions) == 2


async def test_wrong_questions_are_refused_by_their_fields(api: Api) -> None:
    await register_catalog(api)
    unknown = await refused(api.triggers.ExplainTrigger(EXPLAIN))
    half = await refused(api.tables.ListDecisions(table_pb2.ListDecisionsRequest(namespace="sales")))
    verdict = await refused(
        api.tables.ListDecisions(table_pb2.ListDecisionsRequest(verdicts=[decision_pb2.SLOT_VERDICT_UNSPECIFIED]))
    )

    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "TABLE_NOT_FOUND")
    assert half.fields == ["catalog", "table"]
    assert verdict.fields == ["verdicts[0]"]


async def test_kept_reports_are_listed_newest_first(api: Api) -> None:
    for small in (1, 2, 3):
        await measured(api, small=small, files=10, first=small == 1)
    request = table_pb2.ListHealthReportsRequest(catalog="lake", namespace="sales", table="orders", page_size=2)

    first = await api.tables.ListHealthReports(request)
    request.page_token = first.next_page_token
    rest = await api.tables.ListHealthReports(request)

    assert [_small(report) for report in (*first.reports, *rest.reports)] == [3, 2, 1]
    assert rest.next_page_token == ""


async def explained(api: Api) -> dict[int, pb.TriggerExplanation]:
    return {each.operation_type: each for each in await every(api) if each.mode == "ACTIVE"}


async def every(api: Api) -> list[pb.TriggerExplanation]:
    return list((await api.triggers.ExplainTrigger(EXPLAIN)).explanations)


async def write_policy(api: Api, name: str, **fields: object) -> None:
    policy = policy_pb2.Policy(**{"name": name, "table_pattern": "lake.**", **fields})  # type: ignore[arg-type]  # by name
    for field, value in fields.items():
        if value == {}:
            getattr(policy, field).SetInParent()
    await api.policies.CreatePolicy(policy_pb2.CreatePolicyRequest(policy=policy))


async def measured(api: Api, *, small: int, files: int, first: bool = True) -> None:
    if first:
        await register_catalog(api)
        await know_table(api)
    table = await api.store.tables.get(ORDERS)
    metrics = HealthMetrics(small_file_count=Metric.exact(small), data_file_count=Metric.exact(files))
    report = health.assess(metrics, DEFAULT, now=await api.store.now())
    await api.store.tables.save_report(ORDERS, table.uuid, report)


def _small(report: table_pb2.HealthReport) -> float:
    return next(metric.value for metric in report.metrics if metric.name == "small_file_count")


async def test_a_trigger_that_respects_conditions_withholds_what_would_not_run(api: Api) -> None:
    await measured(api, small=12, files=100)
    await write_policy(api, "tidy", rewrite_data_files={}, trigger_conditions={"small_file_percentage_above": 20})
    await write_policy(api, "expiry", expire_snapshots={})

    wanted = pb.TriggerMaintenanceRequest(pattern="lake.**", respect_conditions=True)
    (run,) = (await api.triggers.TriggerMaintenance(wanted)).runs

    assert [operation.type for operation in run.operations] == [EXPIRE]
    assert [(one.operation_type, one.policy_name, one.reason) for one in run.withheld] == [
        (REWRITE, "tidy", "conditions_not_met")
    ]
    assert "12 % of the data files are small" in run.withheld[0].text


async def test_a_table_whose_property_turns_maintenance_off_is_blocked_by_that(api: Api) -> None:
    await register_catalog(api)
    known = await know_table(api)
    await write_policy(api, "tidy", expire_snapshots={})
    assert not [words for words in (await explained(api))[EXPIRE].blockers if "floe.enabled" in words]
    await api.store.tables.seen([replace(known, maintenance_enabled=False)])

    answer = (await explained(api))[EXPIRE]

    assert [words for words in answer.blockers if "floe.enabled" in words]
