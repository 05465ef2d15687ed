"""The spool on a real disk: S1 to S5 as far as one process shows them, and faults of the file operations (a seam)."""

import asyncio
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.outcome import Status
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from engine.storage.spool import journal
from engine.storage.spool.entry import State
from engine.storage.spool.files import DiskFiles, Room
from engine.storage.spool.spool import Spool
from tests.support.spool import (
    CONTENT,
    FaultyFiles,
    after_restart,
    cool,
    envelope,
    find,
    id_of,
    live,
    name_of,
    open_spool,
    outcome,
    put,
    rows_of,
    settle,
    take,
    whole_spool,
)  # fmt: skip


def types(path: Path) -> list[tuple[str, str]]:
    return [(name_of(event["message"]), event["type"]) for event in read_events(path / "events")]


def queued(path: Path) -> list[str]:
    """The messages that the next process finds."""
    return list(asyncio.run(after_restart(path, live)))


def journal_files(path: Path) -> list[Path]:
    return sorted((path / "spool" / "journal").glob("*.log"))


def test_s1_what_was_accepted_is_there_after_a_restart_and_what_is_final_is_gone(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        delivery = await put(spool, "a", recipients=3)
        done = await put(spool, "b")
        delivery.attempts, delivery.due_at, delivery.last = 1, 2000.25, "450 later"
        fates = [outcome(0, Status.DELIVERED), outcome(1, Status.DEFERRED)]
        await spool.settle(delivery, envelope("a", 3), 1500.0, "other", fates)
        await settle(spool, done, Status.FAILED)
        assert await live(spool) == {"a": [(1, 2)]}
        # no close: a crash does not say goodbye

    async def after():
        spool = await whole_spool(tmp_path)
        assert await live(spool) == {"a": [(1, 2)]}
        (row,) = rows_of(spool)
        assert spool.table.get(row, "state") == State.WAITING
        assert spool.table.get(row, "due_at") == 2001, "whole seconds, never too early"
        delivery = await take(spool, "a")
        assert (delivery.attempts, delivery.due_at, delivery.last) == (1, 2000.25, "450 later")
        assert await spool.reader.load(delivery) == (envelope("a", 3), CONTENT)
        assert spool.last_id == id_of("b")
        await spool.close()

    asyncio.run(before())
    asyncio.run(after())


@pytest.mark.parametrize("fault", ["write", "sync"])
def test_s4_a_failed_batch_is_refused_and_its_file_never_written_again(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(journal, "RETRY_S", 0.01)
    files = FaultyFiles()

    async def story():
        spool = open_spool(tmp_path, files)
        await put(spool, "a")
        first = find(spool, "a").segment.path
        files.fail[fault] = 1
        with pytest.raises(StorageError):
            await put(spool, "b")
        assert spool.refusal() == "452 4.3.0 Storage failure, try again later"
        left = first.read_bytes()
        while spool.refusal() is not None:  # noqa: ASYNC110  # the spool tells nobody when it is well again
            await asyncio.sleep(0.005)
        later = await put(spool, "c")
        assert first.read_bytes() == left
        assert later.segment.path != first
        assert set(await live(spool)) == {"a", "c"}

    asyncio.run(story())
    assert queued(tmp_path) == ["a", "c"], "the client of b was told no: nobody may deliver it"


def test_who_is_told_may_store_more_at_once(tmp_path):
    """In the same turn: it is in the next batch, also if another callback fails, and the spool is closed then."""

    async def story():
        spool = open_spool(tmp_path)
        later = []

        def more(stored):
            later.append(spool.accept(envelope("b"), CONTENT, [("example.org", (0,))]))

        def fails(stored):
            raise asyncio.CancelledError

        first = spool.accept(envelope("a"), CONTENT, [("example.org", (0,))])
        first.add_done_callback(fails)
        first.add_done_callback(more)
        beside = spool.accept(envelope("c"), CONTENT, [("example.org", (0,))])
        first.add_done_callback(lambda _: later.append(beside.done()))
        await first
        await spool.close()
        assert later[0].done() and later[0].exception() is None and len(later) == 2

    asyncio.run(story())
    assert queued(tmp_path) == ["a", "b", "c"]


def test_s4_what_a_failed_batch_left_in_the_file_is_cut_off(tmp_path, monkeypatch):
    """Half of it may be whole records. A crash before the next file says they are void must not bring them back."""
    monkeypatch.setattr(journal, "RETRY_S", 60.0)
    files = FaultyFiles()

    async def story():
        spool = open_spool(tmp_path, files)
        await put(spool, "a")
        files.fail["write"] = 1
        refused = [spool.accept(envelope(name), CONTENT, [("example.org", (0,))]) for name in "bcde"]
        assert all(isinstance(e, StorageError) for e in await asyncio.gather(*refused, return_exceptions=True))

    asyncio.run(story())
    assert queued(tmp_path) == ["a"]


def test_a_disk_that_stays_full_gets_no_file_for_each_try(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "RETRY_S", 0.001)
    files = FaultyFiles()

    async def story():
        spool = open_spool(tmp_path, files)
        await put(spool, "a")
        files.fail["write"] = 20
        with pytest.raises(StorageError):
            await put(spool, "b")
        while spool.refusal() is not None:  # noqa: ASYNC110  # the spool tells nobody when it is well again
            await asyncio.sleep(0.001)
        assert files.fail["write"] <= 0
        await put(spool, "c")
        assert len(journal_files(tmp_path)) == 2

    asyncio.run(story())
    assert queued(tmp_path) == ["a", "c"]


def test_s4_an_outcome_outlives_a_failed_write(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "RETRY_S", 0.01)
    files = FaultyFiles()

    async def story():
        spool = open_spool(tmp_path, files)
        delivery = await put(spool, "a")
        files.fail["sync"] = 2
        await settle(spool, delivery)
        await spool.close()

    asyncio.run(story())
    assert queued(tmp_path) == []
    assert types(tmp_path) == [("a", "received"), ("a", "delivered")]


def test_s5_a_damaged_record_is_set_aside_and_the_rest_goes_on(tmp_path, caplog):
    async def before():
        spool = open_spool(tmp_path)
        for name in "abc":
            await put(spool, name)
        return find(spool, "b").segment.path, find(spool, "b").offset

    path, offset = asyncio.run(before())
    data = bytearray(path.read_bytes())
    data[offset + 60] ^= 1
    path.write_bytes(data)
    assert queued(tmp_path) == ["a", "c"]
    assert [p.name for p in (tmp_path / "spool" / "journal" / "damaged").iterdir()] == [f"{path.stem}.{offset}"]
    assert "set aside" in caplog.text


def test_s5_content_that_went_bad_on_disk_is_an_error_and_not_a_wrong_mail(tmp_path):
    async def story():
        spool = await whole_spool(tmp_path, hot_bytes=Size(0))
        delivery = await put(spool, "a")
        path = delivery.segment.path
        data = bytearray(path.read_bytes())
        data[delivery.offset + delivery.length - 3] ^= 1
        path.write_bytes(data)
        with pytest.raises(StorageError, match="damaged"):
            await spool.reader.load(delivery)
        cool(spool)
        rows = rows_of(spool)
        spool.table.move_many(rows, State.LOADING)
        [(row, error)] = await spool.reader.read(rows)
        assert row == rows[0] and "damaged" in str(error)
        assert spool.table.get(row, "state") == State.LOADING, "it stays, whatever is done with it"
        [seen] = await spool.reader.peek(rows)
        assert (seen.message.id, seen.destination, seen.indexes) == (id_of("a"), "example.org", (0,))
        assert "damaged" in seen.last, "people are told why it stays"
        assert await spool.reader.envelope(seen) == envelope("a"), "only the content is lost"
        await spool.close()

    asyncio.run(story())


def test_files_go_when_all_their_messages_are_final_oldest_first(tmp_path):
    async def story():
        spool = await whole_spool(tmp_path, segment_bytes=Size(4096), journal_files=100)
        deliveries = [await put(spool, f"m{n:02}", content=b"x" * 1000) for n in range(20)]
        many = len(journal_files(tmp_path))
        assert many > 4
        for delivery in deliveries[1:]:
            await settle(spool, delivery)
        await spool.work()
        assert len(journal_files(tmp_path)) >= many, "the first message still lives; later files hold others' outcomes"
        await settle(spool, deliveries[0])
        await spool._mover._soon
        assert len(journal_files(tmp_path)) == 1
        assert await live(spool) == {}
        await spool.close()

    asyncio.run(story())
    assert queued(tmp_path) == []


def test_what_lives_in_the_oldest_file_is_moved_when_there_are_too_many(tmp_path):
    async def story():
        spool = await whole_spool(tmp_path, segment_bytes=Size(4096), journal_files=2)
        deliveries = [await put(spool, f"m{n:02}", content=b"x" * 1000) for n in range(20)]
        for delivery in deliveries[1:]:
            await settle(spool, delivery)
        await spool.work()
        assert len(journal_files(tmp_path)) <= 2
        assert await live(spool) == {"m00": [(0,)]}
        assert deliveries[0].segment.path.parent.name == "=small"
        await spool.close()

    asyncio.run(story())
    assert queued(tmp_path) == ["m00"]
    assert types(tmp_path).count(("m00", "received")) == 1, "to be moved is no second acceptance"


def test_e1_events_that_a_crash_cut_off_are_written_at_the_next_start(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        delivery = await put(spool, "a", recipients=2)
        delivery.attempts = 1
        fates = [outcome(0, Status.DELIVERED), outcome(1, Status.DEFERRED)]
        await spool.settle(delivery, envelope("a", 2), 1.0, "other", fates)

    asyncio.run(before())
    complete = list(read_events(tmp_path / "events"))
    assert len(complete) == 4
    (file,) = (tmp_path / "events").glob("*.log")
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        file.write_bytes(b"".join(lines[:kept]) + lines[kept][:-5])
        queued(tmp_path)
        assert list(read_events(tmp_path / "events")) == complete, kept
        for other in (tmp_path / "events").glob("*.log"):
            if other != file:
                other.unlink()


def test_the_content_of_young_messages_stays_in_memory_up_to_the_bound(tmp_path):
    async def story():
        spool = open_spool(tmp_path, hot_bytes=Size(9_000))
        for n in range(20):
            await put(spool, f"m{n:02}", content=b"x" * 2000)
        hot = sorted(name_of(d.message.id) for d in spool.in_hand if d.message.hot)
        assert hot == ["m16", "m17", "m18", "m19"]
        assert (await spool.reader.load(find(spool, "m00")))[1] == b"x" * 2000
        cool(spool)
        assert (spool.hands._hot, spool.hands._used) == ({}, 0), "what nobody has in hand is not kept"
        assert (await spool.reader.load(await take(spool, "m01")))[1] == b"x" * 2000
        await spool.close()

    asyncio.run(story())


def test_intake_is_refused_while_the_disk_is_nearly_full(tmp_path):
    class Small(DiskFiles):
        left = Room(5_000_000_000, 100_000_000_000, 1.0)

        def room(self, path):
            return self.left

    async def story():
        files = Small()
        events = EventJournal(tmp_path / "events", 1 << 20, 86400)
        spool = Spool(
            tmp_path / "spool",
            SpoolSettings(min_free=0.1, memory_guard=1.0),
            events,
            Metrics(),
            owner="n/0",
            files=files,
        )
        spool.start()
        assert spool.refusal() == "452 4.3.1 Insufficient system storage (5% of the disk is free)"
        files.left = Room(100_000_000_000, 100_000_000_000, 0.01)
        await spool.measure()
        assert spool.refusal() == "452 4.3.1 Insufficient system storage (1% of the inodes are free)"
        files.left = Room(20_000_000_000, 100_000_000_000, 0.2)
        await spool.measure()
        assert spool.refusal() is None
        await spool.close()

    asyncio.run(story())


def test_s2_a_file_that_cannot_be_unlinked_keeps_the_later_ones_that_say_its_messages_are_final(tmp_path):
    class Stubborn(DiskFiles):
        refuse = 1

        def unlink(self, path):
            self.refuse -= 1
            if self.refuse >= 0:
                raise StorageError("busy")
            super().unlink(path)

    async def story():
        spool = await whole_spool(tmp_path, Stubborn(), segment_bytes=Size(4096))
        for n in range(12):
            await settle(spool, await put(spool, f"m{n:02}", content=b"x" * 1000))
        await spool.sync_events()  # behind the unlink in the journal's thread; no goodbye: a crash
        assert len(journal_files(tmp_path)) > 1

    asyncio.run(story())
    assert queued(tmp_path) == []


def test_the_journals_thread_lives_through_a_fault_of_the_events(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "RETRY_S", 0.01)

    async def story():
        spool = open_spool(tmp_path)
        write, faults = EventJournal.write, [OSError("not what it promises")]

        def faulty(self, data):
            if faults:
                raise faults.pop()
            write(self, data)

        monkeypatch.setattr(EventJournal, "write", faulty)
        await put(spool, "a")
        assert spool.refusal() is not None, "the message is safe, but nothing new is taken"
        while spool.refusal() is not None:  # noqa: ASYNC110  # the spool tells nobody when it is well again
            await asyncio.sleep(0.005)
        await put(spool, "b")
        await spool.close()

    asyncio.run(story())
    assert types(tmp_path) == [("a", "received"), ("b", "received")]


def test_a_file_that_is_none_of_ours_is_left_alone(tmp_path, caplog):
    journal = tmp_path / "spool" / "journal"
    journal.mkdir(parents=True)
    (journal / "notes.log").write_text("hello")
    assert queued(tmp_path) == []
    assert "notes.log is no file of the spool" in caplog.text
    assert (journal / "notes.log").read_text() == "hello"
