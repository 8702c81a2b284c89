"""A policy keeps every word on its way from the wire to the domain, to the store's document, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.document import Document
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationType, TableName
from control_plane.domain.policy import Policy, PolicySpec, validate_policy
from control_plane.domain.resolution import resolve
from control_plane.rpc.convert.policies import policy_to_proto, spec_from_proto
from floe.v1 import policy_pb2 as pb

FLOORS = Floors()
TIMES = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))

int32 = st.integers(1, 2**31 - 1)
words = st.text(alphabet="abc_é ", min_size=1, max_size=5).map(str.strip).filter(bool)
durations = st.sampled_from(["P7D", "PT36H", "P1DT2H", "P2W", "PT3600S"])


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def sizes(drawn: list[int]) -> dict[str, int]:
    low, middle, high = sorted(drawn)
    return {"min_file_size_bytes": low, "target_file_size_bytes": middle, "max_file_size_bytes": high}


layouts = st.one_of(
    st.sampled_from([{}, {"strategy": "BINPACK"}, {"strategy": "SORT"}]),
    st.lists(words, min_size=1, max_size=3, unique=True).map(
        lambda columns: {"strategy": "SORT", "sort_order": [f"`{column}` DESC" for column in columns]}
    ),
    st.lists(words, min_size=1, max_size=3, unique=True).map(
        lambda columns: {"strategy": "ZORDER", "z_order_columns": columns}
    ),
)
rewrites = st.builds(
    lambda layout, size, rest: pb.RewriteDataFilesConfig(**layout, **size, **rest),
    layouts,
    st.just({}) | st.lists(st.integers(1, 2**63 - 1), min_size=3, max_size=3, unique=True).map(sizes),
    st.fixed_dictionaries(
        {},
        optional={
            "min_input_files": int32,
            "max_file_group_size_bytes": st.integers(1, 2**63 - 1),
            "max_concurrent_file_group_rewrites": st.integers(1, 1_000),
            "partial_progress_enabled": st.booleans(),
            "partial_progress_max_commits": int32,
            "partial_progress_max_failed_commits": st.integers(0, 9),
            "filter": st.sampled_from(["a = 1", "region = 'eu' AND day > DATE '2026-01-31'"]),
            "rewrite_job_order": st.sampled_from(["NONE", "BYTES_ASC", "BYTES_DESC", "FILES_ASC", "FILES_DESC"]),
            "delete_file_threshold": st.integers(0, 9),
            "delete_ratio_threshold": st.floats(min_value=0, max_value=1, exclude_min=True),
            "use_starting_sequence_number": st.booleans(),
            "remove_dangling_deletes": st.booleans(),
            "output_spec_id": st.integers(0, 9),
            "max_files_to_rewrite": int32,
            "branch": st.just("main"),
            "only_closed_partitions_after": durations,
        },
    ),
)
expiries = st.one_of(
    st.builds(
        pb.ExpireSnapshotsConfig,
        retain_last=optional(int32),
        max_snapshot_age=optional(durations),
        clean_expired_metadata=optional(st.booleans()),
    ),
    st.lists(st.integers(1, 2**63 - 1), max_size=3, unique=True).map(
        lambda ids: pb.ExpireSnapshotsConfig(expire_snapshot_ids=ids)
    ),
)
counts = st.integers(0, 2**31 - 1)
amounts = st.floats(min_value=0, max_value=100)
types = st.sampled_from([kind.value for kind in OperationType])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


schedules = st.builds(
    lambda when, window, rest: pb.ScheduleConfig(**when, **window, **rest),
    st.sampled_from([{"cron_expression": "0 2 * * MON-FRI"}, {"cron_expression": "*/5 * * * *"}])
    | durations.map(lambda length: {"interval": length}),
    st.sampled_from([{}, {"window_start": "01:00", "window_end": "04:30", "at_window_end": "CANCEL"}]),
    some(
        time_zone=st.sampled_from(["UTC", "Europe/Zurich", "America/St_Johns"]),
        allowed_days=st.just(["MONDAY", "WEDNESDAY"]),
        timeout=durations,
        jitter=st.sampled_from(["PT1M", "PT30S"]),
        enabled=st.booleans(),
    ),
)
conditions = some(
    small_file_percentage_above=amounts,
    small_file_count_above=counts,
    reducible_file_count_above=counts,
    total_file_size_above_bytes=st.integers(0, 2**63 - 1),
    delete_file_count_above=counts,
    delete_file_ratio_above=amounts,
    snapshot_count_above=counts,
    snapshot_age_above_days=amounts,
    partition_count_above=counts,
    partition_skew_above=amounts,
    manifest_count_above=counts,
    manifest_size_above_bytes=counts,
    min_interval_minutes=st.integers(0, 1_000),
    critical_pipeline_max_delay_minutes=st.integers(1, 1_000),
    critical_pipeline=st.just(False),
    trigger_logic=st.sampled_from(["OR", "AND"]),
    expression=st.just("smallFileCount > 1"),
)
triggers = st.builds(
    lambda shared, per, minutes: pb.TriggerConditions(
        **shared,
        per_operation={kind: pb.OperationConditions(**own) for kind, own in per.items()},
        per_operation_min_interval_minutes=minutes,
    ),
    conditions,
    st.dictionaries(types, conditions, max_size=2),
    st.dictionaries(types, st.integers(0, 1_000), max_size=2),
)
pairs = some(warning=st.floats(0.01, 0.1), critical=st.floats(1e12, 1e13)).map(
    lambda pair: pb.HealthThresholds.Pair(**pair)
)
thresholds = st.builds(
    lambda rest: pb.HealthThresholds(**rest),
    some(
        preset=st.sampled_from(["DEFAULT", "STRICT", "RELAXED"]),
        small_file_size_bytes=st.integers(1, 1_000),
        large_file_size_bytes=st.integers(2**40, 2**41),
        **{field.name: pairs for field in pb.HealthThresholds.DESCRIPTOR.fields if field.message_type is not None},
    ),
)
limits = some(tables=counts, operations=counts, bytes=st.integers(0, 2**63 - 1), engine_seconds=counts).map(
    lambda fields: pb.Budget.Limits(**fields)
)
budgets = some(per_pass=limits, per_hour=limits).map(lambda fields: pb.Budget(**fields))
summaries = some(
    contains_null=st.booleans(), contains_nan=st.booleans(), lower_bound=st.just("") | words, upper_bound=words
).map(lambda fields: pb.RewriteManifestsConfig.PartitionSummary(**fields))
rewrite_ifs = some(
    path=words,
    length=counts,
    content=st.sampled_from(["DATA", "DELETES"]),
    snapshot_id=st.integers(1, 2**63 - 1),
    partition_summaries=st.lists(summaries, max_size=2),
    **{
        name: counts
        for name in (
            *("spec_id", "sequence_number", "min_sequence_number", "added_files_count", "existing_files_count"),
            *("deleted_files_count", "added_rows_count", "existing_rows_count", "deleted_rows_count", "first_row_id"),
        )
    },
).map(lambda fields: pb.RewriteManifestsConfig.RewriteIf(**fields))
manifests = some(
    spec_id=counts,
    sort_by=st.lists(words, max_size=3, unique=True),
    staging_location=words,
    rewrite_if=rewrite_ifs,
).map(lambda fields: pb.RewriteManifestsConfig(**fields))
position_deletes = some(target_file_size_bytes=int32, rewrite_all=st.just(False), filter=st.just("a = 1")).map(
    lambda fields: pb.RewritePositionDeletesConfig(**fields)
)
orphans = st.builds(
    lambda age, rest: pb.OrphanCleanupConfig(**age, **rest),
    st.sampled_from([{}, {"retention_period_in_days": 3}, {"older_than": "P2D"}]),
    some(
        location=st.just("s3://bucket/lake/t"),
        prefix_mismatch_mode=st.sampled_from(["ERROR", "IGNORE"]),
        equal_schemes=st.dictionaries(words, words, max_size=2),
        equal_authorities=st.dictionaries(words, words, max_size=2),
        max_files=int32,
        max_bytes=st.integers(1, 2**63 - 1),
        max_share_of_table=st.floats(min_value=0.01, max_value=1),
    ),
)
statistics = some(columns=st.lists(words, max_size=3, unique=True), partition_statistics=st.booleans()).map(
    lambda fields: pb.ComputeStatisticsConfig(**fields)
)


def scheduled(message: pb.Policy, drawn: list[pb.ScheduleConfig | None]) -> pb.Policy:
    """With schedules for the operations that it configures."""
    for kind, schedule in zip(OperationType, drawn, strict=True):
        if schedule is not None and message.HasField(kind.lower()):  # type: ignore[arg-type]  # the field's name is ours
            getattr(message, f"{kind.lower()}_schedule").CopyFrom(schedule)
    return message


unscheduled = st.builds(
    pb.Policy,
    name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    description=st.just("") | words,
    table_pattern=st.sampled_from(["*", "lake.**", "lake.sales.*, !lake.sales.tmp", "events", "/lake\\..*/"]),
    enabled=optional(st.booleans()),
    priority=optional(st.integers(-10_000, 10_000)),
    tags=st.dictionaries(words, st.just("") | words, max_size=3),
    managed_by=st.just("") | words,
    rewrite_data_files=optional(rewrites),
    expire_snapshots=optional(expiries),
    rewrite_position_deletes=optional(position_deletes),
    rewrite_manifests=optional(manifests),
    orphan_cleanup=optional(orphans),
    compute_statistics=optional(statistics),
    mode=optional(st.sampled_from(["ACTIVE", "SHADOW"])),
    health_thresholds=optional(thresholds),
    trigger_conditions=optional(triggers),
    budget=optional(budgets),
)
messages = st.builds(scheduled, unscheduled, st.lists(optional(schedules), min_size=6, max_size=6))


@given(messages, st.integers(1, 2**40), st.text(alphabet="abc", max_size=5), TIMES, TIMES)
def test_proto_to_domain_to_proto_is_the_identity(
    message: pb.Policy, generation: int, etag: str, create_time: datetime, update_time: datetime
) -> None:
    message.generation = generation
    message.etag = etag
    message.create_time.FromDatetime(create_time)
    message.update_time.FromDatetime(update_time)

    spec = validate_policy(spec_from_proto(message), floors=FLOORS)
    policy = Policy(spec, generation=generation, etag=etag, create_time=create_time, update_time=update_time)

    assert policy_to_proto(policy) == message


@given(messages)
def test_the_stored_document_is_the_written_one(message: pb.Policy) -> None:
    written = spec_from_proto(message)
    spec = validate_policy(written, floors=FLOORS)

    stored = json.loads(json.dumps(spec.document))

    assert PolicySpec.stored(stored) == spec
    assert spec_from_proto(policy_to_proto(Policy(spec, 1, "e", datetime.now(UTC), datetime.now(UTC)))) == written


def test_the_proto_and_the_domain_have_the_same_fields() -> None:
    pairs = fields_beside(pb.Policy.DESCRIPTOR, PolicySpec)
    names = {message for message, _, _ in pairs}

    for message, on_the_wire, in_the_domain in pairs:
        beside = {"generation", "etag", "createTime", "updateTime"} if message == "Policy" else set()
        assert on_the_wire == in_the_domain | beside, message
    assert len(names) == 16


def fields_beside(descriptor: Any, model: type[Document]) -> list[tuple[str, set[str], set[str | None]]]:
    """The fields of a message and of its model, and of all that stand in them."""
    found = [
        (
            descriptor.name,
            {field.json_name for field in descriptor.fields},
            {f.alias for f in model.model_fields.values()},
        )
    ]
    for name, field in model.model_fields.items():
        wire = descriptor.fields_by_name[name].message_type
        if wire is not None and wire.GetOptions().map_entry:
            wire = wire.fields_by_name["value"].message_type
        if wire is not None:
            inner = document_in(field.annotation)
            assert inner is not None, name
            found.extend(fields_beside(wire, inner))
    return found


def document_in(annotation: Any) -> type[Document] | None:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return annotation
    return next((found for each in get_args(annotation) if (found := document_in(each)) is not None), None)


@given(st.lists(st.tuples(messages, TIMES), max_size=5, unique_by=lambda drawn: drawn[0].name), st.randoms())
def test_who_governs_does_not_depend_on_the_order_of_the_policies(drawn: list[Any], random: Any) -> None:
    table = TableName.parse("lake.sales.events")
    policies = [
        Policy(PolicySpec.stored(spec_from_proto(message)), generation=1, etag="e", create_time=time, update_time=time)
        for message, time in drawn
    ]
    expected = resolve(policies, table, OperationType.REWRITE_DATA_FILES)

    random.shuffle(policies)

    assert resolve(policies, table, OperationType.REWRITE_DATA_FILES) == expected
