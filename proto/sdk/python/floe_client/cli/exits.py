"""How `floe` ends: its exit codes, and what it says when something failed."""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import Final

from floe_client.errors import FloeError


class Exit(IntEnum):
    """Exit codes are API: scripts branch on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    INVALID = 7
    INTERNAL = 8
    INTERRUPTED = 130


EXPLAINED: Final = (
    "0 done; 1 an operation that was waited for did not succeed, or a check did not pass; 2 wrong usage; 3 not found; "
    "4 denied; 5 conflict, or the state of things forbids it; 6 nobody answered in time; 7 invalid input; "
    "8 the server failed; 130 interrupted."
)

_BY_CODE: Final = {
    "OPERATION_FAILED": Exit.FAILED,
    "CANCELLED": Exit.FAILED,
    "NOT_FOUND": Exit.NOT_FOUND,
    "PERMISSION_DENIED": Exit.DENIED,
    "UNAUTHENTICATED": Exit.DENIED,
    "ALREADY_EXISTS": Exit.CONFLICT,
    "ABORTED": Exit.CONFLICT,
    "FAILED_PRECONDITION": Exit.CONFLICT,
    "OUT_OF_RANGE": Exit.CONFLICT,
    "UNAVAILABLE": Exit.UNAVAILABLE,
    "DEADLINE_EXCEEDED": Exit.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": Exit.UNAVAILABLE,
    "INVALID_ARGUMENT": Exit.INVALID,
}

_ADVICE: Final = {
    "CATALOG_IN_USE": "wait for its operations to end, or delete with --force",
    "CATALOG_NOT_FOUND": "`floe catalog list` names the known ones; `floe catalog create` registers one",
    "CATALOG_UNREACHABLE": "`floe catalog check NAME` says step by step what works",
    "CURSOR_EXPIRED": "list again and watch from there",
    "ETAG_MISMATCH": "somebody changed it since you read it: read it again, then repeat",
    "EXECUTOR_NOT_FOUND": "`floe executor list` names the attached ones",
    "NO_EXECUTOR": "`floe executor list` says which are attached; `floe-executor serve` starts one",
    "NO_GOVERNING_POLICY": "apply a policy whose tablePattern matches the table: `floe policy apply -f FILE`",
    "OPERATION_NOT_FOUND": "`floe op list` names the known ones",
    "PATTERN_MISMATCH": "name another policy, or leave --policy out",
    "POLICY_DISABLED": "enable it: set `enabled: true` and apply it again",
    "POLICY_NOT_FOUND": "`floe policy list` names the known ones",
    "REQUEST_ID_REUSED": "take a new request id for a new request",
    "TABLE_NOT_FOUND": "`floe table list` names the known ones; `floe catalog check NAME --refresh` looks anew",
}
_NOBODY: Final = "is it running? `floe dev` starts everything here; --server or FLOE_SERVER names another"


def exit_code(error: FloeError) -> Exit:
    return _BY_CODE.get(error.code, Exit.INTERNAL)


def advice(error: FloeError) -> str:
    """What to do about it; empty where the message says all."""
    if error.code == "UNAVAILABLE" and not error.reason:
        return _NOBODY
    return _ADVICE.get(error.reason, "")


def report(error: FloeError, *, as_json: bool) -> None:
    """Say on standard error what failed, where, and what to do."""
    if as_json:
        document = {
            "status": error.code,
            "reason": error.reason,
            "message": error.message,
            "metadata": dict(error.metadata),
            "fieldViolations": [{"field": bad.field, "description": bad.description} for bad in error.violations],
            "hint": advice(error),
        }
        print(json.dumps({"error": document}, ensure_ascii=False), file=sys.stderr)
        return
    reason = f" [{error.reason}]" if error.reason else ""
    lines = [f"floe: {error.message}{reason}"]
    lines += [f"  {bad.field}: {bad.description}" for bad in error.violations if bad.description not in error.message]
    if hint := advice(error):
        lines.append(f"  {hint}")
    print("\n".join(printable(line) for line in lines), file=sys.stderr)


def printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)
