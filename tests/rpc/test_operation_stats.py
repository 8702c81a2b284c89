"""OperationService.GetOperationStats over the wire."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.domain.identifiers import OperationType
from floe.v1 import operation_pb2 as pb
from tests.support import factories
from tests.support.api import Api, refused
from tests.support.scene import Scene
from tests.support.scheduling import FAILED


async def scene_of(api: Api) -> Scene:
    await api.store.catalogs.create(factories.catalog())
    await api.store.policies.create(factories.policy())
    return Scene(api.store)


async def stats(api: Api, **request: Any) -> pb.GetOperationStatsResponse:
    answer: pb.GetOperationStatsResponse = await api.operations.GetOperationStats(
        pb.GetOperationStatsRequest(**request)
    )
    return answer


def timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


async def test_the_numbers_say_how_operations_ended_and_what_they_did(api: Api) -> None:
    scene = await scene_of(api)
    done = await scene.running(await scene.attach())
    await scene.report(done.lease, factories.result(metrics={"files_rewritten": 12, "bytes_rewritten": 4_096}))
    failed = await scene.running(await scene.attach(), max_attempts=1)
    await scene.report(failed.lease, FAILED)
    checked = await scene.running(await scene.attach(), type=OperationType.EXPIRE_SNAPSHOTS)
    await scene.report(checked.lease, factories.committed())
    await scene.verify(checked.id)

    answer = await stats(api)

    overall = answer.overall
    assert (overall.total, dict(overall.states)) == (3, {"SUCCEEDED": 2, "FAILED": 1})
    assert (dict(overall.failures), dict(overall.verifications)) == ({"ENGINE": 1}, {"PASSED": 1})
    assert overall.success_rate == pytest.approx(2 / 3)
    assert overall.HasField("median_seconds") and overall.HasField("p95_seconds")
    assert (overall.metrics.files_rewritten, overall.metrics.bytes_rewritten) == (12, 4_096)
    assert not overall.metrics.HasField("files_added"), "nobody counted them"
    assert [each.type for each in answer.types] == [
        pb.OPERATION_TYPE_REWRITE_DATA_FILES,
        pb.OPERATION_TYPE_EXPIRE_SNAPSHOTS,
    ]
    assert dict(answer.types[1].figures.states) == {"SUCCEEDED": 1}


async def test_the_numbers_are_of_the_last_week_unless_told_otherwise(api: Api) -> None:
    scene = await scene_of(api)
    now = await api.store.now()
    for days in (1, 8):
        await scene.enqueue(create_time=now - timedelta(days=days))

    assert (await stats(api)).overall.total == 1
    assert (await stats(api, window=Duration(seconds=9 * 86_400))).overall.total == 2
    assert (await stats(api, since=timestamp(now - timedelta(days=9)))).overall.total == 2
    forever = Duration()
    forever.FromTimedelta(timedelta(days=3_652_000))
    assert (await stats(api, window=forever)).overall.total == 2


async def test_the_numbers_keep_to_the_filter(api: Api) -> None:
    scene = await scene_of(api)
    first = await scene.enqueue()
    await scene.enqueue(type=OperationType.EXPIRE_SNAPSHOTS)

    of_table = pb.OperationFilter(catalog=first.table.catalog, namespace=first.table.namespace, table=first.table.name)
    expiries = pb.OperationFilter(types=[pb.OPERATION_TYPE_EXPIRE_SNAPSHOTS])
    assert (await stats(api, filter=of_table)).overall.total == 1
    assert [each.type for each in (await stats(api, filter=expiries)).types] == [pb.OPERATION_TYPE_EXPIRE_SNAPSHOTS]
    assert (await stats(api, filter=pb.OperationFilter(policy_name="nightly"))).overall.total == 2
    assert (await stats(api, filter=pb.OperationFilter(policy_name="other"))).overall.total == 0


async def test_of_nothing_nothing_is_said(api: Api) -> None:
    answer = await stats(api)

    assert (answer.overall.total, list(answer.types)) == (0, [])
    for figure in ("success_rate", "median_seconds", "p95_seconds"):
        assert not answer.overall.HasField(figure)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetOperationStatsRequest(since=Timestamp(seconds=1), window=Duration(seconds=1)), "window"),
        (pb.GetOperationStatsRequest(since=Timestamp(seconds=32_503_680_000)), "since"),
        (pb.GetOperationStatsRequest(since=Timestamp(seconds=2**62)), "since"),
        (pb.GetOperationStatsRequest(window=Duration()), "window"),
        (pb.GetOperationStatsRequest(window=Duration(seconds=-5)), "window"),
        (pb.GetOperationStatsRequest(window=Duration(seconds=2**62)), "window"),
        (pb.GetOperationStatsRequest(filter=pb.OperationFilter(table="orders")), "filter.table"),
    ],
)
async def test_a_time_that_makes_no_sense_is_refused(
    api: Api, request_: pb.GetOperationStatsRequest, field: str
) -> None:
    refusal = await refused(api.operations.GetOperationStats(request_))

    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
