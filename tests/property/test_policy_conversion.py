"""A policy keeps every word on its way from the wire to the domain, to the store's document, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.document import Document
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import OperationType, TableName
from control_plane.domain.policy import Policy, PolicySpec, validate_policy
from control_plane.domain.removal_config import ExpireSnapshotsConfig
from control_plane.domain.resolution import resolve
from control_plane.domain.rewriting_config import RewriteDataFilesConfig
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
messages = st.builds(
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
)


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
    kept_by_floe = {"generation", "etag", "createTime", "updateTime"}
    pairs: list[tuple[Any, type[Document], set[str]]] = [
        (pb.Policy, PolicySpec, kept_by_floe),
        (pb.RewriteDataFilesConfig, RewriteDataFilesConfig, set()),
        (pb.ExpireSnapshotsConfig, ExpireSnapshotsConfig, set()),
    ]
    for message, model, beside in pairs:
        on_the_wire = {field.json_name for field in message.DESCRIPTOR.fields}
        assert on_the_wire == {field.alias for field in model.model_fields.values()} | beside


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
