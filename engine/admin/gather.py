"""The operator's door of a supervisor: every command goes to all workers, each at a socket of its own.

What is asked for may be at one worker only: that the others do not know it is an error only when all say so. A worker
that does not answer, or cannot, is an error once the others have done what they were told; `status` shows it instead.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.admin.door import worker_socket_name
from engine.admin.merge import RULES, Row, merge
from engine.admin.server import WITH_BODY, Command
from engine.base.errors import EngineError, NetworkError

_Door = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_PIECE_BYTES = 256 << 10
#: The longest row: the header of a message, as JSON, and its recipients.
_MAX_ROW_BYTES = 64 << 20


class Unknown(EngineError):
    """This worker does not have what was asked for."""


def commands_of_all(data_dir: Path, workers: Callable[[], Iterable[int]]) -> dict[str, Command]:
    """The commands, on all workers. workers: the numbers of those there should be."""
    commands: dict[str, Command] = {name: partial(_ask_all, data_dir, workers, name) for name in RULES}
    for name in WITH_BODY:
        commands[name] = partial(_pass_on, data_dir, workers, name)
    return commands


async def ask_worker(data_dir: Path, number: int, command: str, **arguments: Any) -> list[Row]:
    """The rows one worker answers. Raises Unknown, NetworkError (it does not answer), EngineError (what it says)."""
    reader, writer = await _asked(data_dir, number, command, arguments)
    return await _answer(number, reader, writer)


async def _asked(data_dir: Path, number: int, command: str, arguments: Mapping[str, Any]) -> _Door:
    try:
        reader, writer = await asyncio.open_unix_connection(data_dir / worker_socket_name(number), limit=_MAX_ROW_BYTES)
    except OSError as exc:
        raise NetworkError(f"worker {number} does not answer") from exc
    writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
    return reader, writer


async def _answer(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[Row]:
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


async def _pass_on(
    data_dir: Path, workers: Callable[[], Iterable[int]], command: str, body: asyncio.StreamReader, **arguments: Any
) -> AsyncIterator[Row]:
    """A command with a body: what is taken in goes to the first worker, what is to be removed to each."""
    numbers = list(workers())[: 1 if command == "spool_import" else None]
    doors = [await _asked(data_dir, number, command, arguments) for number in numbers]
    answers = [asyncio.ensure_future(_answer(number, *door)) for number, door in zip(numbers, doors, strict=True)]
    while (piece := await body.read(_PIECE_BYTES)) and not any(answer.done() for answer in answers):
        for _, writer in doors:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):  # it has said why, or is gone; its answer tells
                await writer.drain()
    for _, writer in doors:
        with contextlib.suppress(OSError):
            writer.write_eof()
    for row in merge(command, await asyncio.gather(*answers), arguments):
        yield row


async def _ask_all(
    data_dir: Path, workers: Callable[[], Iterable[int]], command: str, **arguments: Any
) -> AsyncIterator[Row]:
    numbers = list(workers())
    answers = await asyncio.gather(
        *(ask_worker(data_dir, number, command, **arguments) for number in numbers), return_exceptions=True
    )
    told = [answer for answer in answers if not isinstance(answer, BaseException)]
    unknown = [answer for answer in answers if isinstance(answer, Unknown)]
    faults = [answer for answer in answers if isinstance(answer, BaseException) and not isinstance(answer, Unknown)]
    if unknown and not told and not faults:
        raise unknown[0]
    rows = merge(command, told, arguments)
    if faults and command == "status" and rows:
        rows[0]["trouble"] = "; ".join(map(str, filter(None, (rows[0].get("trouble"), *faults))))
        faults = []
    for row in rows:
        yield row
    if faults:
        raise EngineError("; ".join(map(str, faults)))
