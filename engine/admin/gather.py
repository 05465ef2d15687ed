"""The operator's door of a supervisor: every command goes to all workers, each at a socket of its own.

What is asked for may be at one worker only: that the others do not know it is an error only when all say so. A worker
that does not answer, or cannot, is an error once the others have done what they were told; `status` shows it instead.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.admin.colleagues import Unknown, answer_at, ask_worker, open_door
from engine.admin.merge import RULES, Row, merge
from engine.admin.server import WITH_BODY, Command
from engine.base.errors import EngineError, NetworkError

#: Where a body goes, and what will come back.
_Stream = tuple[asyncio.StreamWriter, asyncio.Future[list[Row]]]
_PIECE_BYTES = 256 << 10

Past = Callable[[Mapping[int, Row]], Sequence[Mapping[str, Any]]]


def commands_of_all(
    data_dir: Path, workers: Callable[[], Iterable[int]], past: Past | None = None
) -> dict[str, Command]:
    """The commands, on all workers. workers: the numbers of those there should be. past: what `status` counts besides,
    given what each of them answers."""
    commands: dict[str, Command] = {name: partial(_ask_all, data_dir, workers, name) for name in RULES}
    commands["status"] = partial(_ask_all, data_dir, workers, "status", past=past, names=True)
    for name in WITH_BODY:
        commands[name] = partial(_pass_on, data_dir, workers, name)
    return commands


async def _pass_on(
    data_dir: Path, workers: Callable[[], Iterable[int]], command: str, body: asyncio.StreamReader, **arguments: Any
) -> AsyncIterator[Row]:
    """A command with a body: what is to be removed goes to each worker; what is taken in to the first, which asks the
    others what they have of it already."""
    numbers = list(workers())
    if command == "spool_import":
        arguments["others"] = numbers[1:]
        numbers = numbers[:1]
    answers: dict[int, asyncio.Future[list[Row]]] = {}
    streams: list[_Stream] = []
    told: list[list[Row]] = []
    faults: dict[int, EngineError] = {}
    try:
        for number in numbers:
            try:
                reader, writer = await open_door(data_dir, number, command, arguments)
            except NetworkError as exc:
                faults[number] = exc
                continue
            answers[number] = asyncio.ensure_future(answer_at(number, reader, writer))
            streams.append((writer, answers[number]))
        await _pour(body, streams)
        for number, answer in answers.items():
            try:
                told.append(await answer)
            except EngineError as exc:
                faults[number] = exc
    finally:
        for answer in answers.values():
            answer.cancel()  # of an operator who went away; else they are done
    rows = merge(command, told, arguments)
    if faults:
        raise EngineError(_why(faults, len(numbers), sum(row.get("deliveries", 0) for row in rows)))
    for row in rows:
        yield row


async def _pour(body: asyncio.StreamReader, streams: Sequence[_Stream]) -> None:
    """Send a body to each that has not answered yet; the others get all of it, whatever one of them says."""
    while not all(answer.done() for _, answer in streams) and (piece := await body.read(_PIECE_BYTES)):
        for writer, answer in streams:
            if not answer.done():
                writer.write(piece)
                with contextlib.suppress(ConnectionError):  # it has said why, or is gone; its answer tells
                    await writer.drain()
    for writer, answer in streams:
        if not answer.done():
            with contextlib.suppress(OSError):
                writer.write_eof()


def _why(faults: Mapping[int, EngineError], asked: int, done: int) -> str:
    """What went wrong, and where; what all of them say, once. done: deliveries that the others have dealt with."""
    if len(faults) == asked and len(texts := {str(fault) for fault in faults.values()}) == 1:
        return texts.pop()
    told = [
        str(fault) if isinstance(fault, NetworkError) else f"worker {number}: {fault}"
        for number, fault in sorted(faults.items())
    ]
    if len(faults) < asked:
        told.append(f"the others are done, with {done} deliveries")
    return "; ".join(told)


async def _ask_all(
    data_dir: Path, workers: Callable[[], Iterable[int]], command: str, *, past: Past | None = None, **arguments: Any
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
    if told and past is not None:
        answered = {n: rows[0] for n, rows in zip(numbers, answers, strict=True) if not isinstance(rows, BaseException)}
        told.append([dict(row) for row in past(answered)])
    rows = merge(command, told, arguments)
    if faults and command == "status" and rows:
        rows[0]["trouble"] = "; ".join(map(str, filter(None, (rows[0].get("trouble"), *faults))))
        faults = []
    for row in rows:
        yield row
    if faults:
        raise EngineError("; ".join(map(str, faults)))
