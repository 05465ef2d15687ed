"""One operator's door for several workers: what they answer becomes one answer."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.admin.client import ask as client_ask
from engine.admin.commands import COMMANDS
from engine.admin.door import SOCKET_NAME, worker_socket_name
from engine.admin.gather import Past, commands_of_all
from engine.admin.merge import RULES, Row, merge
from engine.admin.server import AdminServer
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


def test_a_destination_of_several_workers_is_one() -> None:
    one, other = ["a.test", "b.test"], ["b.test", "b.test via r:25"]
    assert merge("status", [[{"destinations": one}], [{"destinations": other}]], {}) == [{"destinations": 3}]
    assert merge("status", [[{"destinations": one}], [{"destinations": 300_000}]], {}) == [{"destinations": 300_002}]


def test_holds_and_moves_of_all_are_told_once() -> None:
    moves = [{"scope": "a.test", "relay": "r:25"}, {"scope": "*", "relay": "r:25"}]
    rows: list[list[Row]] = [[{"holds": ["*", "a.test"], "moves": moves[:1]}], [{"holds": ["a.test"], "moves": moves}]]
    assert merge("status", rows, {}) == [{"holds": ["*", "a.test"], "moves": moves}]


def test_queues_of_one_destination_are_one() -> None:
    row: Row = {
        "destination": "a.test",
        "via": "",
        "queued": 2,
        "held": 0,
        "oldest_s": 5.0,
        "next_s": None,
        "site": None,
    }
    other = {**row, "queued": 3, "held": 1, "oldest_s": 6.0, "next_s": 3.0, "site": "mx.a.test"}
    further = {**row, "destination": "b.test", "next_s": 1.0}
    assert merge("queues", [[row, further], [other, {**other, "next_s": 2.0}]], {}) == [
        {
            "destination": "a.test",
            "via": "",
            "queued": 8,
            "held": 2,
            "oldest_s": 6.0,
            "next_s": 2.0,
            "site": "mx.a.test",
        },
        further,
    ]


def test_figures_of_spools_are_summed_and_shares_are_of_the_sums() -> None:
    journal: Row = {"files": 1, "bytes": 100, "live_bytes": 100, "dead": 0.0}
    folder: Row = {"folder": "a", "deliveries": 1, "bytes": 100, "live_bytes": 50, "dead": 0.5}
    one: Row = {"clean": True, "oldest_s": None, "journal": journal, "contents": {"files": 1}}
    one["folders"] = [folder, {**folder, "folder": "b", "deliveries": 3}]
    other = {**one, "clean": False, "oldest_s": 4.0, "journal": {**journal, "live_bytes": 0, "dead": 1.0}}
    other["folders"] = [{**folder, "deliveries": 4, "live_bytes": 100, "dead": 0.0}, {**folder, "folder": "c"}]
    (row,) = merge("spool_status", [[one], [other]], {"most": 2})
    assert row == {
        "clean": False,
        "oldest_s": 4.0,
        "journal": {"files": 2, "bytes": 200, "live_bytes": 100, "dead": 0.5},
        "contents": {"files": 2},
        "folders": [
            {"folder": "a", "deliveries": 5, "bytes": 200, "live_bytes": 150, "dead": 0.25},
            {**folder, "folder": "b", "deliveries": 3},
        ],
    }
    assert merge("spool_status", [[one]], {"most": 10}) == [{**one, "folders": one["folders"][::-1]}]


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


async def ask(
    data_dir: Path, workers: Sequence[object], command: str, *, past: Past = lambda _: [], **arguments: Any
) -> list[Row]:
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
        commands = commands_of_all(data_dir, lambda: range(len(workers)), past)
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


def test_status_counts_what_workers_did_that_have_ended(tmp_path: Path) -> None:
    def past(answered: Mapping[int, Row]) -> list[Row]:
        return [{"accepted": 2}, {"accepted": 3 + 10 * answered[0]["accepted"]}]

    (row,) = asyncio.run(ask(tmp_path, [[{"accepted": 1, "balanced": True}]], "status", past=past))
    assert row == {"accepted": 16, "balanced": True}
    with pytest.raises(EngineError, match="worker 0 does not answer"):
        asyncio.run(ask(tmp_path, [None], "status", past=past))


# Commands with a body.


class Told:
    """What a worker was told with a body: its arguments, and how much of the body it read."""

    def __init__(self, answer: object, most: int = -1) -> None:
        """answer: rows, or an error. most: bytes to read before it is given."""
        self.answer = answer
        self.arguments: dict[str, Any] = {}
        self.bytes = 0
        self._most = most

    async def __call__(self, body: asyncio.StreamReader, **arguments: Any) -> AsyncIterator[Row]:
        self.arguments = arguments
        while piece := await body.read(1 << 16):
            self.bytes += len(piece)
            if 0 <= self._most <= self.bytes:
                break
        if isinstance(self.answer, Exception):
            raise self.answer
        assert isinstance(self.answer, list)
        for row in self.answer:
            yield row


BODY = b"x" * (3 << 20)


async def pour(data_dir: Path, command: str, *workers: Told | None) -> list[Row]:
    """What the supervisor says to a command with BODY; None is a worker that does not run."""
    doors = {number: worker for number, worker in enumerate(workers) if worker is not None}
    servers = [AdminServer({command: worker}, data_dir / worker_socket_name(n)) for n, worker in doors.items()]
    for server in servers:
        await server.start()
    body = asyncio.StreamReader()
    body.feed_data(BODY)
    body.feed_eof()
    try:
        commands = commands_of_all(data_dir, lambda: range(len(workers)))
        return [row async for row in commands[command](body)]
    finally:
        for server in servers:
            await server.close()


def removed(count: int, in_attempt: int = 0) -> list[Row]:
    return [{"deliveries": count, "in_attempt": in_attempt}]


def test_what_is_removed_is_asked_of_all_and_summed(tmp_path: Path) -> None:
    workers = Told(removed(3)), Told(removed(4, 1))
    assert asyncio.run(pour(tmp_path, "spool_purge", *workers)) == removed(7, 1)
    assert [worker.bytes for worker in workers] == [len(BODY)] * 2


def test_what_is_taken_in_goes_to_the_first_worker_which_is_told_of_the_others(tmp_path: Path) -> None:
    first, *others = Told([{"owner": "a/0", "taken": 2, "left_out": 1}]), Told([]), Told([])
    assert asyncio.run(pour(tmp_path, "spool_import", first, *others))[0]["taken"] == 2
    assert (first.bytes, first.arguments) == (len(BODY), {"others": [1, 2]})
    assert [other.bytes for other in others] == [0, 0]


def test_a_worker_that_fails_in_the_middle_is_named_and_the_others_finish(tmp_path: Path) -> None:
    broken, whole = Told(StorageError("disk; 2 deliveries were removed before"), most=1), Told(removed(4))
    with pytest.raises(
        EngineError, match=r"^worker 0: disk; 2 deliveries were removed before; the others are done, with 4 deliveries$"
    ):
        asyncio.run(pour(tmp_path, "spool_purge", broken, whole))
    assert whole.bytes == len(BODY)
    with pytest.raises(EngineError, match=r"^worker 1 does not answer; the others are done, with 4 deliveries$"):
        asyncio.run(pour(tmp_path, "spool_purge", Told(removed(4)), None))


def test_the_answer_comes_through_to_who_still_sends(tmp_path: Path) -> None:
    """A refusal in the middle of a body, to one that reads only when all is sent, or cannot be."""

    async def story() -> list[dict[str, Any]]:
        refusing = Told(EngineError("another node's"), most=1)
        server = AdminServer({"spool_purge": refusing}, tmp_path / SOCKET_NAME)
        await server.start()
        try:
            return await asyncio.to_thread(lambda: list(client_ask(tmp_path, "spool_purge", body=lambda: [BODY] * 5)))
        finally:
            await server.close()

    with pytest.raises(EngineError, match=r"^another node's$"):
        asyncio.run(story())


def test_what_all_workers_say_is_said_once(tmp_path: Path) -> None:
    def refusing() -> Told:
        return Told(EngineError("another node's"), most=1)

    with pytest.raises(EngineError, match=r"^another node's$"):
        asyncio.run(pour(tmp_path, "spool_purge", refusing(), refusing()))
    with pytest.raises(EngineError, match=r"^worker 0: damaged; worker 1: another node's$"):
        asyncio.run(pour(tmp_path, "spool_purge", Told(EngineError("damaged")), refusing()))
    with pytest.raises(EngineError, match=r"^worker 0 does not answer$"):
        asyncio.run(pour(tmp_path, "spool_import", None, Told([])))
