"""The spool on a real disk: S1 to S5 as far as one process shows them, and faults of the file operations (a seam)."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from engine.storage.spool import journal
from engine.storage.spool.entry import State
from engine.storage.spool.files import DiskFiles
from engine.storage.spool.spool import Spool

CONTENT = b"Subject: x\r\n\r\nbody\r\n"


class FaultyFiles(DiskFiles):
    """The real disk, with faults to order: the next `write` or `sync` fails, having done half of its work."""

    def __init__(self):
        self.fail: dict[str, int] = {}

    def write(self, descriptor, pieces):
        if self._due("write"):
            os.write(descriptor, b"".join(pieces)[: sum(map(len, pieces)) // 2])
            raise StorageError(os.strerror(errno.ENOSPC))
        super().write(descriptor, pieces)

    def sync(self, descriptor):
        if self._due("sync"):
            raise StorageError(os.strerror(errno.EIO))
        super().sync(descriptor)

    def _due(self, what):
        self.fail[what] = self.fail.get(what, 0) - 1
        return self.fail[what] >= 0


def open_spool(path: Path, files=None, **settings) -> Spool:
    events = EventJournal(path / "events", 1 << 20, 86400)
    spool = Spool(
        path / "journal", SpoolSettings(min_free=0.0, **settings), events, Metrics(), owner="n/0", files=files
    )
    spool.start()
    return spool


def envelope(name: str, recipients: int = 1) -> Envelope:
    rcpts = tuple(Recipient(f"r{n}@example.org") for n in range(recipients))
    return Envelope(name, "ada@example.net", rcpts, 1000.0, 9e9, len(CONTENT))


def outcome(index: int, status: Status) -> Outcome:
    return Outcome(index=index, status=status, scope=Scope.RECIPIENT, status_code="2.0.0", reply="250 ok")


async def put(spool: Spool, name: str, recipients: int = 1, content: bytes = CONTENT) -> Envelope:
    made = envelope(name, recipients)
    await spool.accept(made, content, [("example.org", tuple(range(recipients)))])
    return made


def live(spool: Spool) -> dict[str, list[tuple[int, ...]]]:
    return {name: [d.indexes for d in m.deliveries if d.state is not State.FINAL] for name, m in spool.messages.items()}


def types(path: Path) -> list[tuple[str, str]]:
    return [(event["message"], event["type"]) for event in read_events(path / "events")]


def test_s1_what_was_accepted_is_there_after_a_restart_and_what_is_final_is_gone(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        made = await put(spool, "a", recipients=3)
        await put(spool, "b")
        delivery = spool.messages["a"].deliveries[0]
        delivery.attempts, delivery.due_at, delivery.last = 1, 2000.0, "450 later"
        await spool.settle(delivery, made, 1500.0, "other", [outcome(0, Status.DELIVERED), outcome(1, Status.DEFERRED)])
        done = spool.messages["b"].deliveries[0]
        await spool.settle(done, envelope("b"), 1500.0, "other", [outcome(0, Status.FAILED)])
        assert live(spool) == {"a": [(1, 2)]}
        # no close: a crash does not say goodbye

    async def after():
        spool = open_spool(tmp_path)
        assert live(spool) == {"a": [(1, 2)]}
        delivery = spool.messages["a"].deliveries[0]
        assert (delivery.attempts, delivery.due_at, delivery.last) == (1, 2000.0, "450 later")
        assert delivery.state is State.WAITING
        assert await spool.load(spool.messages["a"]) == (envelope("a", 3), CONTENT)
        assert spool.last_id == "b"
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
        first = spool.messages["a"].segment.path
        files.fail[fault] = 1
        with pytest.raises(StorageError):
            await put(spool, "b")
        assert spool.refusal() == "452 4.3.0 Storage failure, try again later"
        left = first.read_bytes()
        while spool.refusal() is not None:  # noqa: ASYNC110  # the spool tells nobody when it is well again
            await asyncio.sleep(0.005)
        await put(spool, "c")
        assert first.read_bytes() == left
        assert spool.messages["c"].segment.path != first
        assert set(live(spool)) == {"a", "c"}

    asyncio.run(story())
    spool = asyncio.run(_reopened(tmp_path))
    assert set(spool) == {"a", "c"}, "the client of b was told no: nobody may deliver it"


async def _reopened(path: Path) -> list[str]:
    spool = open_spool(path)
    names = list(spool.messages)
    await spool.close()
    return names


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
    assert asyncio.run(_reopened(tmp_path)) == ["a"]


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
        assert len(list((tmp_path / "journal").glob("*.log"))) == 2

    asyncio.run(story())
    assert asyncio.run(_reopened(tmp_path)) == ["a", "c"]


def test_s4_an_outcome_outlives_a_failed_write(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "RETRY_S", 0.01)
    files = FaultyFiles()

    async def story():
        spool = open_spool(tmp_path, files)
        made = await put(spool, "a")
        files.fail["sync"] = 2
        await spool.settle(spool.messages["a"].deliveries[0], made, 1.0, "other", [outcome(0, Status.DELIVERED)])
        await spool.close()

    asyncio.run(story())
    assert asyncio.run(_reopened(tmp_path)) == []
    assert types(tmp_path) == [("a", "received"), ("a", "delivered")]


def test_s5_a_damaged_record_is_set_aside_and_the_rest_goes_on(tmp_path, caplog):
    async def before():
        spool = open_spool(tmp_path)
        for name in "abc":
            await put(spool, name)
        return spool.messages["b"].segment.path, spool.messages["b"].offset

    path, offset = asyncio.run(before())
    data = bytearray(path.read_bytes())
    data[offset + 60] ^= 1
    path.write_bytes(data)
    assert asyncio.run(_reopened(tmp_path)) == ["a", "c"]
    assert [p.name for p in (tmp_path / "journal" / "damaged").iterdir()] == [f"{path.stem}.{offset}"]
    assert "set aside" in caplog.text


def test_s5_content_that_went_bad_on_disk_is_an_error_and_not_a_wrong_mail(tmp_path):
    async def story():
        spool = open_spool(tmp_path, hot_bytes=Size(0))
        await put(spool, "a")
        message = spool.messages["a"]
        data = bytearray(message.segment.path.read_bytes())
        data[message.offset + message.length - 3] ^= 1
        message.segment.path.write_bytes(data)
        with pytest.raises(StorageError, match="damaged"):
            await spool.load(message)

    asyncio.run(story())


def test_files_go_when_all_their_messages_are_final_oldest_first(tmp_path):
    async def story():
        spool = open_spool(tmp_path, segment_bytes=Size(2000))
        for n in range(20):
            await put(spool, f"m{n:02}", content=b"x" * 500)
        files = lambda: len(list((tmp_path / "journal").glob("*.log")))  # noqa: E731
        many = files()
        assert many > 4
        for n in range(1, 20):
            name = f"m{n:02}"
            delivery = spool.messages[name].deliveries[0]
            await spool.settle(delivery, envelope(name), 1.0, "other", [outcome(0, Status.DELIVERED)])
        assert files() >= many, "the first message still lives, and later files hold the outcomes of others"
        await spool.compact()
        await spool.close()
        assert files() <= 2
        assert live(spool) == {"m00": [(0,)]}

    asyncio.run(story())
    assert asyncio.run(_reopened(tmp_path)) == ["m00"]
    assert types(tmp_path).count(("m00", "received")) == 1, "carrying forward is no second acceptance"


def test_e1_events_that_a_crash_cut_off_are_written_at_the_next_start(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        made = await put(spool, "a", recipients=2)
        delivery = spool.messages["a"].deliveries[0]
        delivery.attempts = 1
        await spool.settle(delivery, made, 1.0, "other", [outcome(0, Status.DELIVERED), outcome(1, Status.DEFERRED)])

    asyncio.run(before())
    complete = list(read_events(tmp_path / "events"))
    assert len(complete) == 4
    (file,) = (tmp_path / "events").glob("*.log")
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        file.write_bytes(b"".join(lines[:kept]) + lines[kept][:-5])
        asyncio.run(_reopened(tmp_path))
        assert list(read_events(tmp_path / "events")) == complete, kept
        for other in (tmp_path / "events").glob("*.log"):
            if other != file:
                other.unlink()


def test_the_content_of_young_messages_stays_in_memory_up_to_the_bound(tmp_path):
    async def story():
        spool = open_spool(tmp_path, hot_bytes=Size(10_000))
        for n in range(20):
            await put(spool, f"m{n:02}", content=b"x" * 2000)
        hot = [name for name, message in spool.messages.items() if message.hot]
        assert hot == ["m16", "m17", "m18", "m19"]
        assert (await spool.load(spool.messages["m00"]))[1] == b"x" * 2000
        await spool.close()

    asyncio.run(story())


def test_intake_is_refused_while_the_disk_is_nearly_full(tmp_path):
    class Small(DiskFiles):
        left = (0.05, 1.0)

        def free(self, path):
            return self.left

    async def story():
        files = Small()
        events = EventJournal(tmp_path / "events", 1 << 20, 86400)
        spool = Spool(tmp_path / "journal", SpoolSettings(min_free=0.1), events, Metrics(), owner="n/0", files=files)
        spool.start()
        assert spool.refusal() == "452 4.3.1 Insufficient system storage (5% of the disk is free)"
        files.left = (1.0, 0.01)
        await spool.look_at_disk()
        assert spool.refusal() == "452 4.3.1 Insufficient system storage (1% of the inodes are free)"
        files.left = (0.2, 0.2)
        await spool.look_at_disk()
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
        spool = open_spool(tmp_path, Stubborn(), segment_bytes=Size(2000))
        for n in range(12):
            made = await put(spool, f"m{n:02}", content=b"x" * 500)
            await spool.settle(
                spool.messages[made.id].deliveries[0], made, 1.0, "other", [outcome(0, Status.DELIVERED)]
            )
        await spool.sync_events()  # behind the unlink in the journal's thread; no goodbye: a crash

    asyncio.run(story())
    assert asyncio.run(_reopened(tmp_path)) == []


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
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "notes.log").write_text("hello")
    assert asyncio.run(_reopened(tmp_path)) == []
    assert "notes.log is no file of the journal" in caplog.text
    assert (tmp_path / "journal" / "notes.log").read_text() == "hello"
