"""Which message of ours something is about: notes that are not written yet, and Message-IDs that several have."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.base.settings_tracking import LedgerSettings
from engine.feedback import known
from engine.feedback.known import Known
from engine.message.ids import IdSource
from engine.message.return_path import ReturnPaths
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.sent import Sent
from engine.storage.ledger.writer import Ledger
from tests.support.clock import FakeClock

PATHS = ReturnPaths({1: bytes(32)})


class Desk:
    """The ledgers of two workers, and what the first one knows."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock(1_767_268_800.0)
        self.ids = IdSource("mx.test", 1, self.clock)
        self.own, self.other = (Ledger(path, n, LedgerSettings(), 1000.0, self.clock) for n in (0, 1))
        self.reader = LedgerReader(path)
        self.known = Known(self.own, self.reader, self.nobody)

    async def nobody(self, message: str) -> list[str]:
        return []

    def sent(self, *recipients: str, message_id: str = "") -> Sent:
        id = self.ids.next()
        return Sent(id=id, at=self.clock.time(), recipients=recipients, message_id=message_id or f"{id}@mx.test")


def run(path: Path, story: Callable[[Desk], Awaitable[None]]) -> None:
    async def life() -> None:
        desk = Desk(path)
        try:
            await story(desk)
        finally:
            desk.reader.close()
            await desk.own.close()
            await desk.other.close()

    asyncio.run(life())


def test_a_note_that_another_worker_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    """Or its recipient would be told in the case that the token came back in."""

    async def story(desk: Desk) -> None:
        sent = desk.sent("Ada@Far.test")
        named = PATHS.named(PATHS.local_part(sent.id, "Ada@Far.test").upper())
        assert named is not None and named.recipient == "ADA@FAR.TEST"
        await desk.known.look()
        assert await desk.known.recipient(named, desk.known.message(sent.id)) == "ADA@FAR.TEST"

        looking = asyncio.ensure_future(desk.known.message_soon(sent.id))
        await asyncio.sleep(0)
        desk.other.note(sent)
        await desk.other.keep()
        assert await desk.known.recipient(named, await looking) == "Ada@Far.test"

    run(tmp_path, story)


def test_it_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_AGAIN_S", 0.0)

    async def story(desk: Desk) -> None:
        assert await desk.known.message_soon(desk.ids.next()) is None

    run(tmp_path, story)


def test_of_two_messages_with_one_message_id_neither_has_the_only_recipient(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        alone, first, second = desk.sent("a@x.org"), *(desk.sent(f"{c}@x.org", message_id="m@shop") for c in "bc")
        several = desk.sent("d@x.org", "e@x.org")
        for sent in (alone, first, several):
            desk.other.note(sent)
        await desk.other.keep()
        desk.own.note(second)
        await desk.known.look()
        found = [desk.known.only_recipient(sent) for sent in (alone, first, second, several, None)]
        assert found == ["a@x.org", "", "", "", ""]

    run(tmp_path, story)
