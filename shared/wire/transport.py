"""gRPC channel options that must match on both ends.

A client that pings more often than its server allows is cut off with ENHANCE_YOUR_CALM.
"""

from __future__ import annotations

from typing import Final

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""The largest message of the public API, in both directions."""

MAX_EXECUTION_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""The largest message between control plane and executor: a catalog's listing comes in one."""

MAX_METADATA_BYTES: Final = 16 * 1024

KEEPALIVE_INTERVAL_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
# Half of what a client keeps to: a ping that was held up and its successor may arrive close together.
MIN_ACCEPTED_PING_INTERVAL_MS: Final = KEEPALIVE_INTERVAL_MS // 2

Options = list[tuple[str, int]]


def client_options(*, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    """Options of a channel whose streams live long: a dead peer is noticed within interval + timeout, idle or not."""
    return [*_both_ends(max_message_bytes), ("grpc.enable_retries", 0)]


def server_options(*, max_message_bytes: int = MAX_MESSAGE_BYTES, max_concurrent_streams: int = 1_000) -> Options:
    """Options of a server that accepts what `client_options` does."""
    return [
        *_both_ends(max_message_bytes),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_ACCEPTED_PING_INTERVAL_MS),
        ("grpc.max_concurrent_streams", max_concurrent_streams),
        # Without this a second server on the port would be let in, and take half of the calls.
        ("grpc.so_reuseport", 0),
    ]


def _both_ends(max_message_bytes: int) -> Options:
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ]
