"""What operators are shown is true at every moment: while mail passes from disk to hand, and while a spool is read."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from engine.admin import actions, views
from engine.base.errors import EngineError, StorageError
from engine.storage.spool.entry import State
from tests.support.queue import Stage, breathe, play

HOUR = 3600.0


async def on_disk(s: Stage, name: str) -> int:
    """A message that is due and on disk; its row."""
    s.throttle("one.test").close(s.clock.time() + HOUR, "421 closed")
    letter = await s.put("a@one.test", name=name)
    [row] = letter.rows
    return row


def test_a_delivery_that_is_taken_in_hand_meanwhile_is_not_missed(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        row = await on_disk(s, "m0")
        s.spool.table.move(row, State.LOADING)
        listing = asyncio.ensure_future(s.view(views.listing))
        [delivery] = await s.spool.reader.read(np.array([row], dtype=np.uint32))
        assert not listing.done() and not s.spool.table.holds(row)
        assert [s.named(shown["id"]) for shown in await listing] == ["m0"]
        s.manager.seize(delivery)
        await s.settle(delivery)

    play(tmp_path, story)


def test_a_row_that_is_another_delivery_by_then_is_not_shown_as_the_one_before(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        row = await on_disk(s, "m0")
        peeked = asyncio.ensure_future(s.spool.reader.peek(np.array([row], dtype=np.uint32)))
        await asyncio.sleep(0)
        s.spool.table.set(row, "id", s.spool.table.get(row, "id") + 1)
        assert await peeked == []

    play(tmp_path, story)


def test_what_looks_at_all_waits_until_the_spool_is_read_and_a_hold_does_not(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        row = await on_disk(s, "m0")
        message = s.spool.id_of(row)
        s.spool.loading = True
        s.spool._load_ended.clear()
        asked = [
            asyncio.ensure_future(s.view(command, *arguments))
            for command, *arguments in (
                (views.listing,), (views.queues,), (views.show, message), (views.why, message),
                (actions.hold, message), (actions.retry, "two.test"),
            )
        ]  # fmt: skip
        assert (await s.status())["loading"]
        assert await s.do("hold", "one.test") == {"deliveries": 1, "in_attempt": 0}
        await breathe()
        assert not any(answer.done() for answer in asked)
        s.spool.loading = False
        s.spool._load_ended.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert str(answers.pop()).startswith("two.test: no queued message and no destination")
        assert [len(answer) for answer in answers if isinstance(answer, list)] == [1] * 5

    play(tmp_path, story)


def test_a_spool_that_was_not_read_to_its_end_is_told_to_everyone_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stage) -> None:
        await on_disk(s, "m0")
        await s.close()

        async def refuse(*_: object) -> None:
            raise StorageError("mail: Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr("engine.storage.spool.opening.Opening.load_backlog", refuse)
            with pytest.raises(StorageError):
                await s._begin()
        why = "the spool was not read to its end, and needs a restart: mail: Input/output error"
        assert (await s.status())["trouble"] == why
        with pytest.raises(StorageError, match=why):
            await s.view(views.listing)
        await s.restart()
        assert [s.named(row["id"]) for row in await s.view(views.listing)] == ["m0"]

    play(tmp_path, story)


def test_a_field_of_several_lines_is_shown_with_a_space_before_each(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        letter = await s.put("a@one.test", content=b"Subject: a\r\n\tb\r\n \t c\td\r\nTo: x\r\n\r\n\tbody\r\n")
        [row] = await s.view(views.show, letter.id)
        assert row["header"] == "Subject: a\n b\n c\td\nTo: x\n"

    play(tmp_path, story)


def test_retry_says_what_stays_held(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await s.do("hold", "one.test")
        letter = await s.put("a@one.test")
        for target in ("one.test", letter.id, "*"):
            assert await s.do("retry", target) == {"deliveries": 0, "in_attempt": 0, "held": 1}

    play(tmp_path, story)


def test_a_message_that_is_settled_is_not_queued_and_a_word_is_no_message(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        letter = await s.put("a@one.test")
        await s.do("purge", letter.id)
        for view in (views.show, views.why):
            with pytest.raises(EngineError, match=f"^{letter.id} is not queued; what became of it: "):
                await s.view(view, letter.id)
        with pytest.raises(EngineError, match=r"^bob: neither the id of a message nor an address, nor the number"):
            await s.view(views.why, "bob")

    play(tmp_path, story)


def test_the_limit_of_a_queue_that_is_held_is_the_hold(tmp_path: Path) -> None:
    """Whatever its site says; while something of it could go, that counts."""

    async def story(s: Stage) -> None:
        s.connections["mx.one.test"] = 1
        for _ in range(2):
            await s.put("a@one.test")
        assert s.agent("one.test").take()
        [row] = await s.view(views.queues)
        assert row["limit"] == "1 of 1 connections to mx.one.test in use"
        await s.do("hold", "one.test")
        [row] = await s.view(views.queues)
        assert (row["held"], row["attempt"], row["limit"]) == (1, 1, "held by an operator")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("relay:127.0.0.1:5600 2/1000/20", "the relay 127.0.0.1:5600"),
        ("relay:ada@[::1]:25", "the relay ada@[::1]:25"),
        ("provider:big", "the provider big"),
        ("mx1.one.test,mx2.one.test 5/100/-", "mx1.one.test,mx2.one.test"),
        ("IPv6:2001:db8::1", "IPv6:2001:db8::1"),
    ],
)
def test_limits_are_those_of_something_people_know(key: str, words: str) -> None:
    assert views._in_words(key) == words


def test_status_names_what_operators_have_said_of_more_than_a_message(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for target in ("quiet.example", "class:transactional", "*"):
            await s.do("hold", target)
        letter = await s.put("a@one.test")
        await s.do("hold", letter.id)
        await s.do("move", letter.id, "127.0.0.1:2500")
        assert (await s.status())["moves"] == []
        await s.do("move", "one.test", "127.0.0.1:2501")
        status = await s.status()
        assert status["holds"] == ["*", "class:transactional", "quiet.example"]
        assert status["moves"] == [{"scope": "one.test", "relay": "127.0.0.1:2501"}]
        await s.do("resume", "*")
        assert (await s.status())["holds"] == []

    play(tmp_path, story)


def test_status_names_destinations_to_who_has_several_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stage) -> None:
        await s.put("a@one.test", "b@two.test")
        assert (await s.status())["destinations"] == 2
        [row] = await s.view(views.status, True)
        assert sorted(row["destinations"]) == ["one.test", "two.test"]
        monkeypatch.setattr(views, "_MOST_NAMES", 1)
        [row] = await s.view(views.status, True)
        assert row["destinations"] == 2

    play(tmp_path, story)
