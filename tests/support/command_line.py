"""The installed `floe` command, run against a scripted server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.v1 import operation_pb2
from tests.support.scripted_server import ScriptedServer


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def start(server: ScriptedServer, *arguments: str) -> Process:
    floe = Path(sys.executable).with_name("floe")
    environment = {**os.environ, "FLOE_SERVER": server.address, "NO_COLOR": "1"}
    return await asyncio.create_subprocess_exec(floe, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)


async def run(server: ScriptedServer, *arguments: str, stdin: str = "") -> Ended:
    process = await start(server, *arguments)
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def operation(state: operation_pb2.OperationState.ValueType) -> operation_pb2.Operation:
    return operation_pb2.Operation(
        id="op-1",
        type=operation_pb2.OPERATION_TYPE_REWRITE_DATA_FILES,
        state=state,
        catalog="lake",
        namespace=["sales"],
        table="orders",
        etag=str(state),
    )
