"""One operator's door for several workers: what they answer becomes one answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.admin.door import worker_socket_name
from engine.admin.gather import commands_of_all
from engine.admin.merge import RULES, Row, merge
from engine.admin.server import COMMANDS, AdminServer
from engine.base.errors import EngineError, StorageError


def test_every_command_has_a_rule() -> None:
    assert RULES.keys() == COMMANDS.keys()


def test_status_is_summed_and_balanced_only_if_all_are() -> None:
    one: Row = {"node": "mx", "uptime_s": 5.0, "accepting": True, "trouble": None, "accepted": 3, "queued": 1}
    one |= {"balanced": True, "oldest_s": None}
    two = {
        **one,
        "uptime_s": 7.0,
        "accepted": 4,
        "queued": 0,
        "trouble": "disk full",
        "accepting": False,
        "oldest_s": 9,
    }
    assert merge("status", [[one], [two]], {}) == [
        {
            "node": "mx",
            "uptime_s": 7.0,
            "accepting": False,
            "trouble": "disk full",
            "accepted": 7,
            "queued": 1,
            "balanced": True,
            "oldest_s": 9,
        }
    ]
    assert merge("status", [[one], [{**two, "balanced": False}]], {})[0]["balanced"] is False
    assert merge("status", [[one], [one]], {})[0]["oldest_s"] is None


def test_queues_of_one_destination_are_one() -> None:
    row: Row = {"destination": "a.test", "queued": 2, "held": 0, "oldest_s": 5.0, "next_s": None, "site": None}
    other = {**row, "queued": 3, "held": 1, "oldest_s": 6.0, "next_s": 3.0, "site": "mx.a.test"}
    further = {**row, "destination": "b.test", "next_s": 1.0}
    assert merge("queues", [[row, further], [other, {**other, "next_s": 2.0}]], {}) == [
        {"destination": "a.test", "queued": 8, "held": 2, "oldest_s": 6.0, "next_s": 2.0, "site": "mx.a.test"},
        further,
    ]


def test_a_list_shows_the_oldest_of_all() -> None:
    rows = [
        [{"id": "c", "age_s": 1.0}, {"id": "d", "age_s": 0.5}],
        [{"id": "a", "age_s": 9.0}, {"id": "b", "age_s": 2}],
    ]
    assert [row["id"] for row in merge("list", rows, {"limit": 3})] == ["a", "b", "c"]
    assert [row["id"] for row in merge("list", rows, {})] == ["a", "b", "c", "d"]


def test_an_action_says_how_many_it_touched_everywhere() -> None:
    answers = [[{"deliveries": 3, "in_attempt": 1}], [{"deliveries": 4, "in_attempt": 0}]]
    assert merge("purge", answers, {}) == [{"deliveries": 7, "in_attempt": 1}]


async def ask(data_dir: Path, workers: Sequence[object], command: str, **arguments: Any) -> list[Row]:
    """What the supervisor says when the workers say this: rows, or an error; None is one that does not run."""

    def said(answer: object) -> Any:
        async def command(**arguments: Any) -> AsyncIterator[Row]:
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, list)
            for row in answer:
                yield row

        return command

    servers = []
    for number, answer in enumerate(workers):
        if answer is not None:
            servers.append(AdminServer({command: said(answer)}, data_dir / worker_socket_name(number)))
            await servers[-1].start()
    try:
        commands = commands_of_all(data_dir, lambda: range(len(workers)))
        return [row async for row in commands[command](**arguments)]
    finally:
        for server in servers:
            await server.close()


def test_what_one_worker_has_the_others_need_not_know(tmp_path: Path) -> None:
    unknown = EngineError("x is not queued")
    assert asyncio.run(ask(tmp_path, [unknown, [{"id": "x"}]], "show", message_id="x")) == [{"id": "x"}]
    with pytest.raises(EngineError, match="x is not queued"):
        asyncio.run(ask(tmp_path, [unknown, unknown], "show", message_id="x"))


def test_a_fault_of_one_worker_is_told_when_the_others_have_done_it(tmp_path: Path) -> None:
    done = [{"deliveries": 1, "in_attempt": 0}]
    with pytest.raises(EngineError, match="disk"):
        asyncio.run(ask(tmp_path, [done, StorageError("disk")], "hold", target="*"))
    with pytest.raises(EngineError, match="worker 1 does not answer"):
        asyncio.run(ask(tmp_path, [done, None], "purge", target="*"))
    with pytest.raises(EngineError, match="worker 1 does not answer"):
        asyncio.run(ask(tmp_path, [EngineError("unknown"), None], "show", message_id="x"))


def test_status_shows_who_does_not_answer(tmp_path: Path) -> None:
    (row,) = asyncio.run(ask(tmp_path, [[{"accepted": 1, "trouble": None}], None], "status"))
    assert row == {"accepted": 1, "trouble": "worker 1 does not answer"}
