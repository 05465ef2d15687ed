"""Asking one of a node's workers at its own door: for the supervisor, and for a worker that must know of the others."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.admin.door import worker_socket_name
from engine.admin.merge import Row
from engine.base.errors import EngineError, NetworkError

Door = tuple[asyncio.StreamReader, asyncio.StreamWriter]
#: The longest row: the header of a message, as JSON, and its recipients.
_MAX_ROW_BYTES = 64 << 20


class Unknown(EngineError):
    """This worker does not have what was asked for."""


async def ask_worker(
    data_dir: Path, number: int, command: str, *, body: bytes | None = None, **arguments: Any
) -> list[Row]:
    """The rows one worker answers. Raises Unknown, NetworkError (it does not answer), EngineError (what it says)."""
    reader, writer = await open_door(data_dir, number, command, arguments)
    if body is not None:
        writer.write(body)
        writer.write_eof()
    return await answer_at(number, reader, writer)


async def open_door(data_dir: Path, number: int, command: str, arguments: Mapping[str, Any]) -> Door:
    """Say a command; a body may follow. Raises NetworkError."""
    try:
        reader, writer = await asyncio.open_unix_connection(data_dir / worker_socket_name(number), limit=_MAX_ROW_BYTES)
    except OSError as exc:
        raise NetworkError(f"worker {number} does not answer") from exc
    writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
    return reader, writer


async def answer_at(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[Row]:
    """What the worker answers; then the door is closed. Raises as `ask_worker`."""
    rows: list[Row] = []
    try:
        while line := await reader.readline():
            answer = json.loads(line)
            if "row" in answer:
                rows.append(answer["row"])
            elif "error" in answer:
                raise (Unknown if answer.get("unknown") else EngineError)(answer["error"])
            else:
                return rows
    except OSError as exc:
        raise NetworkError(f"worker {number} went away in the middle of its answer") from exc
    finally:
        writer.close()
    raise NetworkError(f"worker {number} went away in the middle of its answer")
