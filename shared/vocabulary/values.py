"""The kinds of values that settings have: durations as ISO 8601, addresses on this machine."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Annotated, Any

import isodate
from pydantic import BeforeValidator, PlainSerializer


def loopback_address(text: str) -> str:
    """`host:port` on this machine; anything else is refused with the reason."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"{text!r} is no address; write host:port, such as 127.0.0.1:9090")
    if host == "localhost":
        return text
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; write 127.0.0.1, [::1] or localhost") from None
    if not address.is_loopback:
        raise ValueError(
            f"{host} can be reached from other machines, and callers are not identified yet; listen on 127.0.0.1, "
            "[::1] or localhost"
        )
    return text


def iso_duration(value: Any) -> timedelta:
    """Numbers are refused: nobody could tell seconds from minutes."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        try:
            parsed = isodate.parse_duration(value)
        except (ValueError, OverflowError):
            parsed = None
        if isinstance(parsed, timedelta) and parsed >= timedelta(0):
            return parsed
    raise ValueError(f"{str(value)[:80]!r} is no duration; write ISO 8601, such as PT15S, PT10M or P7D")


def written_duration(value: timedelta) -> str:
    return str(isodate.duration_isoformat(value))


IsoTimedelta = Annotated[timedelta, BeforeValidator(iso_duration), PlainSerializer(written_duration)]
