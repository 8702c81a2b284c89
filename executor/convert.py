"""Leases, assignments and results between the wire and the executor's own values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from executor import assignment as own
from floe.execution.v1 import assignment_pb2 as pb


class UnknownRequest(ValueError):
    """A message asks for something that this version does not know, or leaves out what it needs."""


def lease(message: pb.Lease) -> own.Lease:
    return own.Lease(own.OperationId(message.operation_id), message.epoch, message.token)


def lease_to_wire(value: own.Lease) -> pb.Lease:
    return pb.Lease(operation_id=value.operation, epoch=value.epoch, token=value.token)


def assignment(message: pb.Assignment) -> own.Assignment:
    """Raises `UnknownRequest` with what is not understood."""
    return own.Assignment(
        lease=lease(message.lease),
        attempt=message.attempt,
        table=table(message.table, catalog(message.catalog)),
        action=_action(message),
        policy=message.policy_name,
        timeout=message.timeout.ToTimedelta(),
        cancel_grace=message.cancel_grace.ToTimedelta(),
        earlier=stamps(message.earlier),
        earlier_snapshots=tuple(message.earlier_snapshot_ids),
        traceparent=message.traceparent,
        solo=message.solo,
    )


def _action(message: pb.Assignment) -> own.Action:
    match message.WhichOneof("action"):
        case "rewrite_data_files":
            return _rewrite(message.rewrite_data_files)
        case "expire_snapshots":
            return expiry(message.expire_snapshots)
        case _:
            raise UnknownRequest("this executor's version does not know the action of the assignment; upgrade it")


def _rewrite(message: pb.RewriteDataFiles) -> own.RewriteDataFiles:
    def optional(field: str) -> int | None:
        return getattr(message, field) if message.HasField(field) else None  # type: ignore[arg-type]  # by name

    try:
        return own.RewriteDataFiles(
            strategy=own.RewriteStrategy(message.strategy or own.RewriteStrategy.BINPACK),
            sort_order=tuple(message.sort_order),
            z_order_columns=tuple(message.z_order_columns),
            target_file_size_bytes=optional("target_file_size_bytes"),
            min_file_size_bytes=optional("min_file_size_bytes"),
            max_file_size_bytes=optional("max_file_size_bytes"),
            min_input_files=optional("min_input_files"),
            max_file_group_size_bytes=optional("max_file_group_size_bytes"),
            max_concurrent_file_group_rewrites=optional("max_concurrent_file_group_rewrites"),
            partial_progress_enabled=message.partial_progress_enabled,
            partial_progress_max_commits=optional("partial_progress_max_commits"),
            partial_progress_max_failed_commits=optional("partial_progress_max_failed_commits"),
            filter=message.filter if message.HasField("filter") else None,
            rewrite_job_order=own.RewriteJobOrder(message.rewrite_job_order or own.RewriteJobOrder.NONE),
            delete_file_threshold=optional("delete_file_threshold"),
            delete_ratio_threshold=message.delete_ratio_threshold
            if message.HasField("delete_ratio_threshold")
            else None,
            use_starting_sequence_number=message.use_starting_sequence_number,
            remove_dangling_deletes=message.remove_dangling_deletes,
            output_spec_id=optional("output_spec_id"),
            max_files_to_rewrite=optional("max_files_to_rewrite"),
            branch=message.branch if message.HasField("branch") else None,
            only_closed_partitions_before=(
                _time(message.only_closed_partitions_before)
                if message.HasField("only_closed_partitions_before")
                else None
            ),
        )
    except ValueError as unknown:
        raise UnknownRequest(f"rewrite_data_files: {unknown}; upgrade this executor") from unknown


def expiry(message: pb.ExpireSnapshots) -> own.ExpireSnapshots:
    """Raises `UnknownRequest` without its two instants."""
    if not message.HasField("older_than") or not message.HasField("floor"):
        raise UnknownRequest("expire_snapshots: older_than and floor must both be set; without them nothing is expired")
    return own.ExpireSnapshots(
        older_than=_time(message.older_than),
        retain_last=message.retain_last,
        floor=_time(message.floor),
        clean_expired_metadata=message.clean_expired_metadata,
        snapshot_ids=tuple(message.snapshot_ids),
    )


def orphan_cleanup(message: pb.OrphanCleanup) -> own.OrphanCleanup:
    """Raises `UnknownRequest` without its two instants or its caps."""
    if not message.HasField("older_than") or not message.HasField("floor"):
        raise UnknownRequest("orphan_cleanup: older_than and floor must both be set; without them nothing is removed")
    if message.max_files < 1 or not 0 < message.max_share_of_table <= 1:
        raise UnknownRequest("orphan_cleanup: max_files and max_share_of_table must be set; nothing goes without caps")
    try:
        mode = own.PrefixMismatchMode(message.prefix_mismatch_mode or own.PrefixMismatchMode.ERROR)
    except ValueError as unknown:
        raise UnknownRequest(f"orphan_cleanup: {unknown}; upgrade this executor") from unknown
    return own.OrphanCleanup(
        older_than=_time(message.older_than),
        floor=_time(message.floor),
        max_files=message.max_files,
        max_share_of_table=message.max_share_of_table,
        max_bytes=message.max_bytes if message.HasField("max_bytes") else None,
        prefix_mismatch_mode=mode,
        equal_schemes=dict(message.equal_schemes),
        equal_authorities=dict(message.equal_authorities),
        location=message.location,
    )


def catalog(message: pb.CatalogRecord) -> own.Catalog:
    return own.Catalog(
        name=message.name,
        type=message.type,
        uri=message.uri,
        warehouse=message.warehouse,
        properties=dict(message.properties),
        secrets=dict(message.secrets),
        generation=message.generation,
    )


def table(message: pb.TableRef, within: own.Catalog) -> own.Table:
    return own.Table(within, tuple(message.namespace), message.name, message.uuid, message.location)


def stamps(messages: Iterable[pb.Stamp]) -> tuple[own.Stamp, ...]:
    return tuple(own.Stamp(own.OperationId(each.operation_id), each.epoch) for each in messages)


def plan_to_wire(held: own.Lease, plan: own.Plan) -> pb.PlanReport:
    return pb.PlanReport(
        lease=lease_to_wire(held),
        base_snapshot_id=plan.base_snapshot,
        base_metadata_location=plan.base_metadata_location,
        max_commits=plan.max_commits,
        expected_groups=plan.expected_groups,
        expiring_snapshot_ids=plan.expiring_snapshots,
        retained_snapshot_ids=plan.retained_snapshots,
    )


def progress_to_wire(held: own.Lease, progress: own.Progress) -> pb.ProgressReport:
    return pb.ProgressReport(
        lease=lease_to_wire(held),
        phase=progress.phase,
        groups_done=progress.groups_done,
        groups_total=progress.groups_total,
        tasks_done=progress.tasks_done,
        tasks_total=progress.tasks_total,
        bytes_written=progress.bytes_written,
        estimated=progress.estimated,
    )


def result_to_wire(held: own.Lease, result: own.Result) -> pb.Result:
    failure = result.failure
    message = pb.Result(
        lease=lease_to_wire(held),
        outcome=result.outcome,
        effects=result.effects,
        cancelled=result.cancelled,
        skip_reason=result.skipped or "",
        snapshot_ids=result.snapshots,
        metrics=result.metrics,
        commits_answered=result.commits_answered,
    )
    if failure is not None:
        # `class` is a keyword here, so that the field has no attribute.
        message.failure.CopyFrom(pb.Failure(**{"class": failure.kind.value, "message": failure.message}))
    return message


def result(message: pb.Result) -> own.Result:
    """What `result_to_wire` wrote; results wait on disk in the wire's form."""
    failure = message.failure if message.HasField("failure") else None
    return own.Result(
        outcome=own.Outcome(message.outcome),
        effects=own.Effects(message.effects),
        failure=own.Failure(own.FailureClass(getattr(failure, "class")), failure.message) if failure else None,
        cancelled=message.cancelled,
        skipped=message.skip_reason or None,
        snapshots=tuple(message.snapshot_ids),
        metrics=dict(message.metrics),
        commits_answered=message.commits_answered,
    )


def wall_time() -> Timestamp:
    """The machine's wall clock; the control plane compares it with its own."""
    now = Timestamp()
    now.GetCurrentTime()
    return now


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
