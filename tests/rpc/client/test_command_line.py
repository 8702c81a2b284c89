"""The installed `floe` command against a scripted server: output for people and machines, exit codes, ^C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sys
from pathlib import Path

import grpc
import pytest

from floe.v1 import catalog_pb2, operation_pb2, policy_pb2, system_pb2, table_pb2, trigger_pb2
from tests.support.command_line import operation, run, start
from tests.support.scripted_server import Hang, Refusal, ScriptedServer

LIST, WATCH = "OperationService/ListOperations", "OperationService/WatchOperations"
GET, TRIGGER = "OperationService/GetOperation", "TriggerService/TriggerMaintenance"
APPLY = "PolicyService/ApplyPolicies"
STATS = "OperationService/GetOperationStats"
Kind = policy_pb2.PolicyChange
POLICY = "name: compact\ntablePattern: lake.**\nrewriteDataFiles:\n  minInputFiles: 2\n"


def change(state: operation_pb2.OperationState.ValueType) -> operation_pb2.WatchOperationsResponse:
    event = operation_pb2.OperationEvent(sequence=int(state), event="moved", to_state=state, operation=operation(state))
    return operation_pb2.WatchOperationsResponse(cursor=f"c{state}", event=event)


def script_run(server: ScriptedServer, end: operation_pb2.OperationState.ValueType) -> None:
    queued = operation(operation_pb2.OPERATION_STATE_QUEUED)
    run = trigger_pb2.Run(id="run-1", operations=[queued])
    progress = operation_pb2.OperationProgressUpdate(
        operation_id="op-1", progress=operation_pb2.OperationProgress(phase="rewriting", groups_done=1, groups_total=4)
    )
    server.script(TRIGGER, trigger_pb2.TriggerMaintenanceResponse(trigger_id="t", runs=[run]))
    server.script(LIST, operation_pb2.ListOperationsResponse(operations=[queued], watch_cursor="c0"))
    server.script(
        WATCH,
        [
            change(operation_pb2.OPERATION_STATE_RUNNING),
            operation_pb2.WatchOperationsResponse(progress=progress),
            change(end),
            Hang(),
        ],
    )
    ended = operation(end)
    if end == operation_pb2.OPERATION_STATE_FAILED:
        ended.failure.message = "out of memory"
    server.script(GET, operation_pb2.GetOperationResponse(operation=ended))


async def test_a_trigger_that_is_waited_for_tells_each_change_in_a_line(server: ScriptedServer) -> None:
    script_run(server, operation_pb2.OPERATION_STATE_SUCCEEDED)

    ended = await run(server, "trigger", "lake.sales.orders", "--wait")

    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "REWRITE_DATA_FILES of lake.sales.orders op-1 queued"
    assert [line.split("  ")[3] for line in lines[1:]] == [
        "QUEUED",
        "RUNNING",
        "rewriting, group 1 of 4",
        "SUCCEEDED",
    ]
    assert "\x1b" not in ended.out


async def test_a_failed_operation_ends_with_1_and_says_why(server: ScriptedServer) -> None:
    script_run(server, operation_pb2.OPERATION_STATE_FAILED)

    ended = await run(server, "trigger", "lake.sales.orders", "--wait", "-o", "json")

    assert ended.code == 1
    assert "operation op-1 ended FAILED: out of memory" in ended.err
    assert ended.json["runs"][0]["operations"][0]["state"] == "OPERATION_STATE_FAILED"


async def test_an_interrupted_wait_leaves_the_operation_and_says_how_to_stop_it(server: ScriptedServer) -> None:
    script_run(server, operation_pb2.OPERATION_STATE_SUCCEEDED)
    server.script(WATCH, [Hang()])

    process = await start(server, "trigger", "lake.sales.orders", "--wait")
    async with asyncio.timeout(60):
        await server.called(WATCH)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

    assert process.returncode == 130
    assert "the operation goes on. To stop: floe op cancel op-1" in err.decode()
    assert not server.requests("OperationService/CancelOperation")


async def test_a_watch_for_machines_is_one_json_document_a_line(server: ScriptedServer) -> None:
    script_run(server, operation_pb2.OPERATION_STATE_SUCCEEDED)

    ended = await run(server, "op", "watch", "op-1", "-o", "json")

    assert ended.code == 0, ended.err
    documents = [json.loads(line) for line in ended.out.splitlines()]
    assert [document["operation"]["state"] for document in documents if "operation" in document] == [
        "OPERATION_STATE_QUEUED",
        "OPERATION_STATE_RUNNING",
        "OPERATION_STATE_SUCCEEDED",
    ]
    assert documents[2]["progress"]["progress"]["groupsTotal"] == "4"
    assert documents[-1]["cursor"] == "c7"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(grpc.StatusCode.NOT_FOUND, "no policy x", "POLICY_NOT_FOUND"), 3),
        (Refusal(grpc.StatusCode.PERMISSION_DENIED, "not yours"), 4),
        (Refusal(grpc.StatusCode.FAILED_PRECONDITION, "not now"), 5),
        (Refusal(grpc.StatusCode.UNAVAILABLE, "down", "STORE_UNAVAILABLE"), 6),
        (Refusal(grpc.StatusCode.INVALID_ARGUMENT, "a name is needed"), 7),
        (Refusal(grpc.StatusCode.INTERNAL, "internal error"), 8),
    ],
)
async def test_what_the_server_refuses_decides_the_exit_code(
    server: ScriptedServer, refusal: Refusal, code: int
) -> None:
    server.script("PolicyService/GetPolicy", refusal)

    ended = await run(server, "policy", "get", "x", "-o", "json")

    assert ended.code == code
    assert json.loads(ended.err)["error"]["status"] == refusal.code.name
    assert ended.out == ""


async def test_wrong_usage_ends_with_2(server: ScriptedServer) -> None:
    assert (await run(server, "policy", "apply")).code == 2


async def test_nobody_there_ends_with_6_and_says_what_to_do(server: ScriptedServer) -> None:
    ended = await run(server, "status", "--server", "127.0.0.1:1")

    assert ended.code == 6
    assert "floe dev" in ended.err


def applied(*changes: tuple[policy_pb2.PolicyChange.Kind.ValueType, str]) -> policy_pb2.ApplyPoliciesResponse:
    return policy_pb2.ApplyPoliciesResponse(
        changes=[policy_pb2.PolicyChange(kind=kind, policy=policy_pb2.Policy(name=name)) for kind, name in changes]
    )


async def test_policies_are_applied_from_standard_input(server: ScriptedServer) -> None:
    server.script(APPLY, applied((Kind.KIND_CREATED, "compact")))

    ended = await run(server, "policy", "apply", "-f", "-", stdin=POLICY)

    assert (ended.code, ended.out) == (0, "policy compact created\n"), ended.err
    (request,) = server.requests(APPLY)
    assert request.policies[0].rewrite_data_files.min_input_files == 2
    assert not request.validate_only


async def test_a_directory_is_applied_as_one_set_that_prunes(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY + "---\n" + POLICY.replace("compact", "second"))
    (tmp_path / "b.json").write_text(
        '[{"name": "third", "tablePattern": "*"}, {"name": "fourth", "tablePattern": "*"}]'
    )
    server.script(APPLY, applied((Kind.KIND_UPDATED, "compact"), (Kind.KIND_DELETED, "old")))

    ended = await run(server, "policy", "apply", "-f", str(tmp_path), "--managed-by", "us", "--prune", "--dry-run")

    assert ended.out == "policy compact would be updated\npolicy old would be deleted\n", ended.err
    (request,) = server.requests(APPLY)
    assert [each.name for each in request.policies] == ["compact", "second", "third", "fourth"]
    assert (request.managed_by, request.prune, request.validate_only) == ("us", True, True)


async def test_what_is_wrong_in_a_set_is_named_by_file_and_line(server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICY + "---\nname: other\ntablePattern: ..\n")
    server.script(
        APPLY,
        Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "1 field is wrong",
            "INVALID_ARGUMENT",
            violations=(("policies[1].tablePattern", "has an empty part"),),
        ),
    )

    ended = await run(server, "policy", "validate", "-f", str(file))

    assert ended.code == 7
    assert f"{file}:7 tablePattern: has an empty part" in ended.err
    assert all(request.validate_only for request in server.requests(APPLY))


async def test_valid_files_are_said_to_be_so(server: ScriptedServer) -> None:
    server.script(APPLY, applied((Kind.KIND_UNCHANGED, "compact")))

    ended = await run(server, "policy", "validate", "-f", "-", stdin=POLICY)

    assert (ended.code, ended.out) == (0, "1 policy is valid: compact\n"), ended.err


async def test_a_difference_shows_values_and_tables(server: ScriptedServer) -> None:
    new = policy_pb2.Policy(name="compact", priority=2, tags={"a": "b"})
    answer = policy_pb2.ApplyPoliciesResponse(
        changes=[
            policy_pb2.PolicyChange(kind=Kind.KIND_UPDATED, policy=new, changed_paths=["priority", "tags"]),
            policy_pb2.PolicyChange(kind=Kind.KIND_CREATED, policy=policy_pb2.Policy(name="new")),
            policy_pb2.PolicyChange(kind=Kind.KIND_UNCHANGED, policy=policy_pb2.Policy(name="same")),
        ],
        governing_changes=[
            policy_pb2.GoverningChange(
                catalog="lake",
                namespace=["a.b"],
                table="t",
                operation_type=operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS,
                mode="ACTIVE",
                new_policy_name="new",
            )
        ],
        governing_change_count=3,
        governing_table_count=2,
    )
    server.script(APPLY, answer)
    old = policy_pb2.Policy(name="compact", priority=1)
    server.script("PolicyService/GetPolicy", policy_pb2.GetPolicyResponse(policy=old))

    ended = await run(server, "policy", "diff", "-f", "-", stdin=POLICY)

    lines = ended.out.splitlines()
    assert lines[:4] == [
        "~ policy compact",
        "    priority: 1 → 2",
        '    tags: unset → {"a": "b"}',
        "+ policy new",
    ], ended.err
    assert lines[4:6] == ["1 of 3 policies are as they should be", "2 tables would be governed by another policy:"]
    assert lines[7].split() == ['lake."a.b".t', "EXPIRE_SNAPSHOTS", "ACTIVE", "-", "new"]
    assert lines[8] == "the first 1 of 3 changes"
    assert server.requests(APPLY)[0].validate_only


async def test_a_preview_shows_who_governs_and_what_nobody_can_do(server: ScriptedServer) -> None:
    operation = policy_pb2.PreviewedOperation(
        operation_type=operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS,
        governing_policy_name="strong",
        reason="LOWER_PRIORITY",
        detail="its priority is 0, that of strong is 9",
    )
    server.script(
        "PolicyService/PreviewPolicy",
        policy_pb2.PreviewPolicyResponse(
            tables=[
                policy_pb2.PreviewedTable(catalog="lake", namespace=["sales"], table="orders", operations=[operation])
            ],
            impossible_types=[operation_pb2.OPERATION_TYPE_ORPHAN_CLEANUP],
        ),
    )

    by_name = await run(server, "policy", "preview", "weak")
    by_file = await run(server, "policy", "preview", "-f", "-", stdin=POLICY)
    neither = await run(server, "policy", "preview")

    assert by_name.out == by_file.out
    assert by_name.out.splitlines()[1].startswith("lake.sales.orders  EXPIRE_SNAPSHOTS  strong")
    assert "no attached executor can do ORPHAN_CLEANUP" in by_name.err
    assert [request.WhichOneof("subject") for request in server.requests("PolicyService/PreviewPolicy")] == [
        "name",
        "policy",
    ]
    assert neither.code == 7


async def test_a_bare_number_for_a_duration_is_refused_with_the_form_to_write(
    server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY + "rewriteDataFilesSchedule:\n  interval: 6\n")

    ended = await run(server, "policy", "apply", "-f", str(file))

    assert ended.code == 7
    assert (
        "rewriteDataFilesSchedule.interval: must be a duration with its unit, such as PT6H or P7D, not 6" in ended.err
    )
    assert not server.calls


async def test_a_file_with_a_mistake_is_refused_without_a_call(server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("minInputFiles", "minInputFile"))

    ended = await run(server, "policy", "apply", "-f", str(file))

    assert ended.code == 7
    assert f"{file}:4 rewriteDataFiles.minInputFile: is not known; did you mean minInputFiles?" in ended.err
    assert not server.calls


async def test_a_policy_is_shown_as_the_yaml_that_would_apply_it(server: ScriptedServer) -> None:
    config = policy_pb2.RewriteDataFilesConfig(strategy="SORT", sort_order=["5"], target_file_size_bytes=2**40)
    policy = policy_pb2.Policy(
        name="compact",
        table_pattern="lake.**",
        enabled=False,
        tags={"cost": "12"},
        rewrite_data_files=config,
        etag="v1",
        generation=3,
    )
    policy.trigger_conditions.per_operation["EXPIRE_SNAPSHOTS"].total_file_size_above_bytes = 2**40
    policy.expire_snapshots_schedule.interval = "P1D"
    server.script("PolicyService/GetPolicy", policy_pb2.GetPolicyResponse(policy=policy))
    server.script(APPLY, applied((Kind.KIND_UNCHANGED, "compact")))

    shown = await run(server, "policy", "get", "compact")
    again = await run(server, "policy", "apply", "-f", "-", stdin=shown.out)

    assert again.out == "policy compact unchanged\n", again.err
    (sent,) = server.requests(APPLY)[0].policies
    policy.ClearField("etag")
    policy.ClearField("generation")
    assert sent == policy
    assert f"totalFileSizeAboveBytes: {2**40}" in shown.out


async def test_a_check_that_does_not_pass_ends_with_1(server: ScriptedServer) -> None:
    checks = [
        catalog_pb2.CatalogCheck(check="reachable", passed=True, detail="answered"),
        catalog_pb2.CatalogCheck(check="authenticated", detail="401", hint="set the secret LAKE_TOKEN"),
    ]
    server.script("CatalogService/CheckCatalog", catalog_pb2.CheckCatalogResponse(checks=checks))

    ended = await run(server, "catalog", "check", "lake")

    assert ended.code == 1
    assert ended.out.splitlines()[2].split("  ")[-1].strip() == "set the secret LAKE_TOKEN"


async def test_a_catalogs_properties_and_secrets_are_sent_as_written(server: ScriptedServer) -> None:
    server.script(
        "CatalogService/CreateCatalog", lambda request: catalog_pb2.CreateCatalogResponse(catalog=request.catalog)
    )

    ended = await run(
        server,
        *("catalog", "create", "lake", "--type", "jdbc", "--uri", "jdbc:postgresql://db/lake"),
        *("--property", "a=b=c", "--secret", "jdbc.password=LAKE_PASSWORD"),
    )

    assert ended.out == "catalog lake created\n", ended.err
    catalog = server.requests("CatalogService/CreateCatalog")[0].catalog
    assert catalog.type == catalog_pb2.CATALOG_TYPE_JDBC
    assert dict(catalog.properties) == {"a": "b=c"}
    assert dict(catalog.secrets) == {"jdbc.password": "LAKE_PASSWORD"}


async def test_health_is_shown_with_what_is_not_known(server: ScriptedServer) -> None:
    health = table_pb2.HealthReport(
        status=table_pb2.HEALTH_STATUS_CRITICAL,
        score=70,
        metrics=[
            table_pb2.HealthMetric(name="total_file_bytes", knowledge=table_pb2.KNOWLEDGE_EXACT, value=2048),
            table_pb2.HealthMetric(name="small_file_count", knowledge=table_pb2.KNOWLEDGE_UNKNOWN),
        ],
        issues=[
            table_pb2.HealthIssue(
                type="TOO_MANY_SNAPSHOTS", severity=table_pb2.ISSUE_SEVERITY_CRITICAL, points=30, message="600 of 500"
            )
        ],
    )
    table = table_pb2.Table(catalog="lake", namespace=["a.b"], name="t", health=health)
    server.script("TableService/InspectTable", table_pb2.InspectTableResponse(table=table))

    ended = await run(server, "table", "inspect", 'lake."a.b".t')

    assert ended.code == 0, ended.err
    words = [line.split() for line in ended.out.splitlines()]
    assert ["table", 'lake."a.b".t'] in words
    assert ["CRITICAL", "TOO_MANY_SNAPSHOTS", "-30", "600", "of", "500"] in words
    assert ["total_file_bytes", "2.0", "KiB", "exact"] in words
    assert ["small_file_count", "-", "unknown"] in words


async def test_a_pause_names_its_scope(server: ScriptedServer) -> None:
    server.script("SystemService/Pause", system_pb2.PauseResponse(pause=system_pb2.PauseScope(catalog="lake")))

    ended = await run(server, "pause", "lake", "--reason", "migration", "--until", "2126-12-24T18:00:00+01:00")

    assert ended.out == "lake paused; `floe resume lake` ends it\n", ended.err
    (request,) = server.requests("SystemService/Pause")
    assert (request.catalog, request.table, request.reason) == ("lake", "", "migration")
    assert request.until.ToJsonString() == "2126-12-24T17:00:00Z"


async def test_an_empty_list_leaves_standard_output_empty(server: ScriptedServer) -> None:
    server.script("PolicyService/ListPolicies", policy_pb2.ListPoliciesResponse())

    for_people, for_machines = [
        await run(server, "policy", "list"),
        await run(server, "policy", "list", "-o", "json"),
    ]

    assert (for_people.code, for_people.out) == (0, "")
    assert for_machines.json == {"policies": []}


async def test_a_list_of_operations_is_filtered_by_the_server(server: ScriptedServer) -> None:
    server.script(
        LIST,
        operation_pb2.ListOperationsResponse(operations=[operation(operation_pb2.OPERATION_STATE_FAILED)] * 2),
    )

    ended = await run(
        server, *("op", "list", "--table", "lake.sales.orders", "--state", "failed", "--limit", "1", "-o", "json")
    )

    assert len(ended.json["operations"]) == 1
    (request,) = server.requests(LIST)
    assert request.page_size == 1
    assert list(request.filter.namespace) == ["sales"]
    assert list(request.filter.states) == [operation_pb2.OPERATION_STATE_FAILED]


async def test_operations_in_numbers_leave_out_what_nobody_knows(server: ScriptedServer) -> None:
    known = operation_pb2.OperationFigures(
        total=1_204, states={"SUCCEEDED": 1_200, "FAILED": 4}, failures={"ENGINE": 4}, success_rate=0.9967
    )
    known.median_seconds, known.p95_seconds = 2.5, 200
    known.metrics.files_rewritten, known.metrics.bytes_rewritten = 12_000, 5 * 1_024**2
    waiting = operation_pb2.OperationFigures(total=1, states={"QUEUED": 1})
    kinds = (operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES, operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS)
    types = [
        operation_pb2.OperationTypeFigures(type=k, figures=f) for k, f in zip(kinds, (known, waiting), strict=True)
    ]
    server.script(STATS, operation_pb2.GetOperationStatsResponse(overall=known, types=types))

    ended = await run(server, "op", "stats", "--catalog", "lake", "--window", "36h")

    assert ended.code == 0, ended.err
    heading, compaction, expiry, overall = (re.split(r" {2,}", line.strip()) for line in ended.out.splitlines())
    assert compaction == [
        *("REWRITE_DATA_FILES", "1,204", "1200 SUCCEEDED, 4 FAILED", "99.7%", "2.5s", "3m20s"),
        *("12,000 files, 5.0 MiB", "4 ENGINE"),
    ]
    assert expiry == ["EXPIRE_SNAPSHOTS", "1", "1 QUEUED"]
    assert (heading[0], overall[0]) == ("TYPE", "all")
    (request,) = server.requests(STATS)
    assert (request.filter.catalog, request.window.seconds) == ("lake", 36 * 3_600)


async def test_on_a_terminal_bars_are_drawn(server: ScriptedServer) -> None:
    script_run(server, operation_pb2.OPERATION_STATE_SUCCEEDED)
    ours, theirs = pty.openpty()
    floe = Path(sys.executable).with_name("floe")
    environment = {**os.environ, "FLOE_SERVER": server.address, "TERM": "xterm", "COLUMNS": "150"}

    process = await asyncio.create_subprocess_exec(
        floe, "trigger", "lake.sales.orders", "--wait", stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    try:
        async with asyncio.timeout(60):
            drawn, code = await asyncio.gather(asyncio.to_thread(read_all, ours), process.wait())
    finally:
        os.close(ours)

    assert code == 0, drawn
    assert "━" in drawn
    assert "group 1 of 4" in drawn
    assert "op-1  SUCCEEDED" in drawn


def read_all(terminal: int) -> str:
    """What is written to a terminal until its other end is closed, which Linux reports as an error."""
    pieces: list[bytes] = []
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 4096):
            pieces.append(piece)
    return b"".join(pieces).decode()
