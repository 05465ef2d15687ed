"""Large contents in the spool: S1, S4, S5, and that no file outlives its message. Faults of the file operations."""

import asyncio
import errno
import os
import stat
import threading

import pytest
from crc32c import crc32c

from engine.base.errors import StorageError
from engine.message.content import SLICE_BYTES, LargeFile, head_of
from engine.message.outcome import Status
from engine.storage.spool import journal
from engine.storage.spool.entry import State
from engine.storage.spool.files import DiskFiles
from tests.support.large import HEAD, REST, large_files, written
from tests.support.spool import (
    cool,
    envelope,
    find,
    live,
    open_spool,
    outcome,
    put,
    put_many,
    rows_of,
    settle,
    take,
    whole_spool,
)  # fmt: skip
from tests.support.spool_tools import verified


class RecordingFiles(DiskFiles):
    """The real disk; `done` names what was asked of it. fail: operations that raise. gate: writes wait for it."""

    def __init__(self):
        self.done: list[tuple[str, str]] = []
        self.fail: set[str] = set()
        self.gate: threading.Event | None = None
        self.names_of: dict[int, str] = {}

    def _do(self, what, name):
        self.done.append((what, name))
        if what in self.fail:
            raise StorageError(os.strerror(errno.EIO))

    def create(self, path):
        self._do("create", path.parent.name)
        descriptor = super().create(path)
        self.names_of[descriptor] = path.parent.name
        return descriptor

    def open(self, path):
        descriptor = super().open(path)
        self.names_of[descriptor] = path.parent.name
        return descriptor

    def write(self, descriptor, pieces):
        if self.gate is not None:
            self.gate.wait()
        self._do("write", self.names_of[descriptor])
        super().write(descriptor, pieces)

    def sync(self, descriptor):
        self._do("sync", self.names_of[descriptor])
        super().sync(descriptor)

    def append(self, descriptor, pieces):
        self.write(descriptor, pieces)
        self.sync(descriptor)

    def close(self, descriptor):
        super().close(descriptor)
        self._do("close", self.names_of.pop(descriptor))


def files_in(path):
    return [file.name for file in large_files(path / "spool")]


async def put_large(spool, name="a", recipients=1):
    """A large message to one destination; its delivery, in hand."""
    return await put(spool, name, recipients, await written(spool))


async def rest_of(spool, delivery):
    """Envelope, and what its content's file gives."""
    made, content = await spool.reader.load(delivery)
    assert content.head == HEAD
    return made, b"".join(content.rest())


def test_a_content_is_given_back_in_slices_and_checked(tmp_path):
    async def story():
        spool = open_spool(tmp_path)
        content = await written(spool)
        assert (len(content), content.head) == (len(HEAD) + len(REST), HEAD)
        slices = list(content.rest())
        assert b"".join(slices) == REST
        assert {len(piece) for piece in slices[:-1]} == {SLICE_BYTES}
        assert content.file == LargeFile(content.file.name, len(REST), crc32c(REST))
        assert head_of(content) == HEAD
        (name,) = files_in(tmp_path)
        assert stat.S_IMODE((tmp_path / "spool" / "large" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "spool" / "large").stat().st_mode) == 0o700
        await spool.close()

    asyncio.run(story())


def test_a_content_that_is_all_head_needs_no_file(tmp_path):
    async def story():
        spool = open_spool(tmp_path)
        assert await written(spool, b"") == HEAD
        assert files_in(tmp_path) == []
        await spool.close()

    asyncio.run(story())


def test_s1_the_file_is_synced_and_closed_before_the_frame_is_written(tmp_path):
    async def story():
        files = RecordingFiles()
        spool = open_spool(tmp_path, files)
        await put_large(spool)
        first = files.done.index(("write", "journal"))
        assert files.done[:first][-3:] == [("sync", "large"), ("close", "large"), ("create", "journal")]
        await spool.close()

    asyncio.run(story())


def test_a_message_has_its_content_after_a_restart_and_its_file_until_the_last_delivery_is_final(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        await put_many(spool, "a", ["one.test", "two.test"], await written(spool))

    async def after():
        spool = await whole_spool(tmp_path)
        rows = rows_of(spool)
        spool.table.move_many(rows, State.LOADING)
        first, second = await spool.reader.read(rows)
        made, rest = await rest_of(spool, first)
        assert [recipient.address for recipient in made.recipients] == ["r@one.test", "r@two.test"]
        assert rest == REST
        await settle(spool, first, Status.DELIVERED)
        await spool.work(at_once=True)
        assert len(files_in(tmp_path)) == 1
        assert (await rest_of(spool, second))[1] == REST
        await settle(spool, second, Status.FAILED)
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(before())
    asyncio.run(after())


def test_an_outcome_that_is_not_final_keeps_the_file(tmp_path):
    async def story():
        spool = await whole_spool(tmp_path)
        delivery = await put_large(spool, recipients=2)
        await spool.settle(delivery, envelope("a", 2), 1.0, "other", [outcome(0), outcome(1, Status.DEFERRED)])
        cool(spool)
        await spool.work(at_once=True)
        assert (await rest_of(spool, await take(spool, "a")))[1] == REST
        await spool.close()
        assert len(files_in(tmp_path)) == 1

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["create", "write", "sync", "close"])
def test_s4_a_file_that_failed_is_removed_and_never_named(tmp_path, fault):
    async def story():
        files = RecordingFiles()
        spool = open_spool(tmp_path, files)
        files.fail = {fault}
        with pytest.raises(StorageError):
            await written(spool)
        files.fail = set()
        assert spool.refusal() is None
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(story())


@pytest.mark.parametrize("fed", [0, 10, SLICE_BYTES, 5 * SLICE_BYTES])
def test_an_abort_at_any_time_leaves_no_file(tmp_path, fed):
    async def story():
        spool = open_spool(tmp_path)
        writer = spool.large()
        writer.feed(bytes(fed))
        writer.abort()
        writer.abort()
        with pytest.raises(StorageError):
            await writer.finish(HEAD)
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(story())


def test_a_finished_content_is_not_aborted(tmp_path):
    async def story():
        spool = open_spool(tmp_path)
        writer = spool.large()
        writer.feed(REST)
        content = await writer.finish(HEAD)
        writer.abort()
        await spool.close()
        assert b"".join(content.rest()) == REST

    asyncio.run(story())


def test_a_writer_takes_no_more_than_a_few_slices_ahead_of_the_disk(tmp_path):
    async def story():
        files = RecordingFiles()
        spool = open_spool(tmp_path, files)
        files.gate = threading.Event()
        writer = spool.large()
        fed = 0

        async def feed():
            nonlocal fed
            for _ in range(20):
                writer.feed(bytes(SLICE_BYTES))
                fed += 1
                await writer.room()

        task = asyncio.create_task(feed())
        for _ in range(100):
            await asyncio.sleep(0)
        assert fed == 4, "one that is written, and a little more than two that wait"
        files.gate.set()
        await task
        assert len(await writer.finish(HEAD)) == len(HEAD) + 20 * SLICE_BYTES
        await spool.close()

    asyncio.run(story())


def test_a_frame_that_was_refused_takes_its_file_along(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "RETRY_S", 0.01)

    async def story():
        files = RecordingFiles()
        spool = open_spool(tmp_path, files)
        content = await written(spool)
        files.fail = {"sync"}
        with pytest.raises(StorageError):
            await spool.accept(envelope("a"), content, [("example.org", (0,))])
        files.fail = set()
        assert not spool.in_hand
        assert not [one for one in spool.segments.values() if one.path.suffix == ".dat"]
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(story())


def test_s1_a_frame_whose_waiter_was_cancelled_keeps_its_file(tmp_path):
    """It may become durable all the same, and is delivered then."""

    async def story():
        spool = await whole_spool(tmp_path)
        stored = spool.accept(envelope("a"), await written(spool), [("example.org", (0,))])
        waiter = asyncio.ensure_future(stored)
        await asyncio.sleep(0)
        waiter.cancel()
        await put(spool, "b")
        assert waiter.cancelled() and stored.done() and stored.exception() is None
        delivery = find(spool, "a")
        assert (await rest_of(spool, delivery))[1] == REST
        await settle(spool, delivery)
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(story())


def test_what_a_crash_kept_from_its_frame_goes_after_the_next_start(tmp_path):
    """Contents without a frame, whole or not; nobody was told of them."""

    async def before():
        spool = await whole_spool(tmp_path)
        await put_large(spool)
        await written(spool)
        spool.large().feed(REST)  # a session in the middle of its message
        assert len(files_in(tmp_path)) >= 2

    async def after():
        spool = await whole_spool(tmp_path)
        assert await live(spool) == {"a": [(0,)]}
        await spool.work(at_once=True)
        delivery = await take(spool, "a")
        assert files_in(tmp_path) == [(await spool.reader.load(delivery))[1].file.name]
        await spool.close()

    asyncio.run(before())
    asyncio.run(after())


def test_a_content_that_is_being_written_is_nobody_elses_to_remove(tmp_path):
    async def story():
        spool = await whole_spool(tmp_path)
        content = await written(spool)
        await spool.work(at_once=True)
        await spool.accept(envelope("a"), content, [("example.org", (0,))])
        await spool.work(at_once=True)
        assert (await rest_of(spool, find(spool, "a")))[1] == REST
        await spool.close()

    asyncio.run(story())


def test_a_file_of_another_name_is_left_alone_and_told(tmp_path, caplog):
    folder = tmp_path / "spool" / "large"
    folder.mkdir(parents=True)
    for name in ("left-over", "notes.dat", "000000000001.0000000a.con"):
        (folder / name).write_text(name)

    async def story():
        spool = await whole_spool(tmp_path)
        await settle(spool, await put_large(spool))
        await spool.close()

    asyncio.run(story())
    assert {file.name: file.read_text() for file in large_files(tmp_path / "spool")} == {
        name: name for name in ("left-over", "notes.dat", "000000000001.0000000a.con")
    }
    for name in ("left-over", "notes.dat", "000000000001.0000000a.con"):
        assert f"large/{name} is no file of the spool; it is left as it is" in caplog.text


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("aged", [False, True])
def test_no_other_file_gets_the_number_of_a_large_content(tmp_path, lost, aged):
    """Whoever needs it is counted under that number, whether the file is there or not."""

    async def before():
        spool = await whole_spool(tmp_path, journal_files=0)
        await put(spool, "small")
        cool(spool)
        if aged:
            await age(spool)  # to a segment that takes the next one, too
        await put_large(spool)
        cool(spool)
        if aged:
            await age(spool)
        await spool.close()
        (file,) = large_files(tmp_path / "spool")
        newest = max(path.name for path in (tmp_path / "spool").rglob("0*") if path.suffix != ".log" or not aged)
        assert newest == file.name, "the newest of all files, but for a journal that says nothing of it"
        if lost:
            file.unlink()
        return int(file.name[:12])

    async def after(number):
        spool = await whole_spool(tmp_path)
        there = set(spool.segments)
        await put_large(spool, "b")
        assert len(spool.segments) - len(there) == 2, "a content and a journal file"
        assert min(set(spool.segments) - there) > number
        await settle(spool, await take(spool, "a"), Status.REMOVED)
        await spool.work(at_once=True)
        assert (await rest_of(spool, find(spool, "b")))[1] == REST
        await spool.close()
        assert len(files_in(tmp_path)) == 1

    asyncio.run(after(asyncio.run(before())))


async def age(spool):
    """Everything that is in the journal goes to the old generation."""
    await spool._journal.run(spool._journal.leave_file)
    await spool.work(at_once=True)


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_off(path):
    os.truncate(path, 10)


def replace_by_a_link(path):
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, ""),
        (cut_off, ""),
        (os.unlink, "with contents of queued messages is gone"),
        (replace_by_a_link, "large/moved is no file of the spool"),
    ],
)
@pytest.mark.parametrize("aged", [False, True])
def test_s5_damage_is_read_as_an_error_before_the_last_slice_and_the_message_can_be_removed(
    tmp_path, caplog, damage, told, aged
):
    async def before():
        spool = await whole_spool(tmp_path, journal_files=0)
        await put_large(spool)
        cool(spool)
        if aged:
            await age(spool)
        await spool.close()
        damage(large_files(tmp_path / "spool")[0])

    async def after():
        spool = await whole_spool(tmp_path)
        assert told in caplog.text
        delivery = await take(spool, "a")
        made, content = await spool.reader.load(delivery)
        assert (made, content.head) == (envelope("a"), HEAD), "an operator can settle it"
        got: list[bytes] = []
        with pytest.raises(StorageError, match=content.file.name):
            got.extend(content.rest())
        assert sum(map(len, got)) < len(REST)
        await settle(spool, delivery, Status.REMOVED)
        await spool.close()
        assert files_in(tmp_path) == ["moved"] * (damage is replace_by_a_link)

    asyncio.run(before())
    asyncio.run(after())
    assert verified(tmp_path / "spool").faults == []
