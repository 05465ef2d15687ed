"""The operator's door of a supervisor: every command goes to all workers, each at a socket of its own.

What is asked for may be at one worker only: that the others do not know it is an error only when all say so. A worker
that does not answer, or cannot, is an error once the others have done what they were told; `status` shows it instead.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from engine.admin.door import worker_socket_name
from engine.admin.merge import RULES, Row, merge
from engine.admin.server import Command
from engine.base.errors import EngineError, NetworkError

#: The longest row: the header of a message, as JSON, and its recipients.
_MAX_ROW_BYTES = 64 << 20


class Unknown(EngineError):
    """This worker does not have what was asked for."""


def commands_of_all(data_dir: Path, workers: Callable[[], Iterable[int]]) -> dict[str, Command]:
    """The commands, on all workers. workers: the numbers of those there should be."""
    return {name: partial(_ask_all, data_dir, workers, name) for name in RULES}


async def ask_worker(data_dir: Path, number: int, command: str, **arguments: Any) -> list[Row]:
    """The rows one worker answers. Raises Unknown, NetworkError (it does not answer), EngineError (what it says)."""
    rows: list[Row] = []
    try:
        reader, writer = await asyncio.open_unix_connection(data_dir / worker_socket_name(number), limit=_MAX_ROW_BYTES)
    except OSError as exc:
        raise NetworkError(f"worker {number} does not answer") from exc
    try:
        writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
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
