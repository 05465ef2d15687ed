"""What was noted a moment ago is found before anybody is told that a link has expired."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.base.clock import SystemClock
from engine.storage.ledger.reader import LedgerReader
from engine.tracking import memory as remembering
from engine.tracking.memory import Memory
from tests.support.tracking import LINKS, Mailing

Story = Callable[[Memory, Mailing], Awaitable[None]]


def run(path: Path, story: Story) -> None:
    async def life() -> None:
        mailing = Mailing(path)
        reader = LedgerReader(path)
        try:
            memory = Memory(reader, SystemClock())
            await memory.refresh()
            await asyncio.wait_for(story(memory, mailing), 20)
        finally:
            await mailing.close()
            reader.close()

    asyncio.run(life())


def test_what_was_noted_before_the_question_is_found_whoever_looked_a_moment_ago(tmp_path: Path) -> None:
    async def story(memory: Memory, mailing: Mailing) -> None:
        for number in range(10):
            sent = mailing.note("ada@one.test", sent_at=1.0)
            await mailing.keep()
            assert memory.find(sent.id, 0) is None
            assert await memory.awaited(sent.id, 0) == sent, number
            assert memory.find(sent.id, 0) == sent
            assert memory.links(sent) == LINKS

    run(tmp_path, story)


def test_many_who_ask_at_once_are_answered_by_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(memory: Memory, mailing: Mailing) -> None:
        looks = 0
        follow = LedgerReader.follow

        async def counted(reader: LedgerReader) -> None:
            nonlocal looks
            looks += 1
            await follow(reader)

        monkeypatch.setattr(LedgerReader, "follow", counted)
        noted = [mailing.note("ada@one.test") for _ in range(100)]
        await mailing.keep()
        assert await asyncio.gather(*[memory.awaited(sent.id, 0) for sent in noted]) == noted
        assert looks == 1

    run(tmp_path, story)


def test_what_is_young_is_waited_for_and_what_is_not_there_is_looked_for_once(tmp_path: Path) -> None:
    async def story(memory: Memory, mailing: Mailing) -> None:
        young, never = mailing.id(), mailing.id()
        waiting = asyncio.ensure_future(memory.awaited(young, 0))
        for _ in range(10):
            await asyncio.sleep(0)
        assert memory._looked_at and not waiting.done()
        sent = mailing.note("ada@one.test", message=young)
        await mailing.keep()
        assert await waiting == sent
        assert await memory.awaited(never, 0) is None
        looked_at = memory._looked_at
        assert await memory.awaited(never, 0) is None
        assert await memory.awaited_short(77) is None
        assert await memory.awaited_short(77) is None
        assert len(memory._unknown) == 2
        await memory.refresh()
        assert memory._unknown == set() and memory._looked_at > looked_at

    run(tmp_path, story)


def test_a_recipient_whom_another_note_names_is_found(tmp_path: Path) -> None:
    """A delivery that was stored by itself knows its own recipients only."""

    async def story(memory: Memory, mailing: Mailing) -> None:
        first = mailing.note("ada@one.test", "")
        await mailing.keep()
        await memory.refresh()
        assert memory.find(first.id, 0) == first
        assert memory.find(first.id, 1) is None
        mailing.note("", "bob@two.test", message=first.id, sent_at=first.at + 1)
        await mailing.keep()
        both = await memory.awaited(first.id, 1)
        assert both is not None and both.recipients == ("ada@one.test", "bob@two.test")
        nobody = await memory.awaited(first.id, 7)
        assert nobody is not None, "the link leads somewhere, whoever it is"

    run(tmp_path, story)


def test_so_many_wait_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "MAX_WAITING", 5)

    async def story(memory: Memory, mailing: Mailing) -> None:
        waiting = [asyncio.ensure_future(memory.awaited(mailing.id(), 0)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert memory._waiting == 5
        assert await memory.awaited(mailing.id(), 0) is None
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert memory._waiting == 0

    run(tmp_path, story)
