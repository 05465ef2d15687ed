"""Large contents in the spool: S1, S4, S5, and that no file outlives its message. Faults of the file operations."""

import asyncio
import errno
import os
import stat
import threading

import pytest
from crc32c import crc32c

from engine.base.errors import StorageError
from engine.message.content import SLICE_BYTES, LargeContent, LargeFile, head_of
from engine.message.outcome import Status
from engine.storage.spool import journal
from engine.storage.spool.files import DiskFiles
from tests.unit.test_spool import envelope, open_spool, outcome

HEAD = b"Subject: x\r\n\r\n"
REST = os.urandom(3 * SLICE_BYTES + 5)


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

    def write(self, descriptor, pieces):
        if self.gate is not None:
            self.gate.wait()
        self._do("write", self.names_of[descriptor])
        super().write(descriptor, pieces)

    def sync(self, descriptor):
        self._do("sync", self.names_of[descriptor])
        super().sync(descriptor)

    def close(self, descriptor):
        super().close(descriptor)
        self._do("close", self.names_of.pop(descriptor))


async def written(spool, rest: bytes = REST) -> LargeContent:
    writer = spool.large()
    for start in range(0, len(rest), 100_000):
        writer.feed(rest[start : start + 100_000])
        await writer.room()
    return await writer.finish(HEAD)


async def put(spool, name: str = "a", recipients: int = 1) -> LargeContent:
    content = await written(spool)
    splits = [(f"d{n}.example", (n,)) for n in range(recipients)]
    await spool.accept(envelope(name, recipients), content, splits)
    return content


def files_in(path):
    return sorted(os.listdir(path / "large"))


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
        assert stat.S_IMODE((tmp_path / "large" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "large").stat().st_mode) == 0o700
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
        await put(spool)
        first = files.done.index(("write", "journal"))
        assert files.done[:first][-3:] == [("sync", "large"), ("close", "large"), ("create", "journal")]
        await spool.close()

    asyncio.run(story())


def test_a_message_has_its_content_after_a_restart_and_its_file_until_the_last_delivery_is_final(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        await put(spool, recipients=2)

    async def after():
        spool = open_spool(tmp_path)
        message = spool.messages["a"]
        made, content = await spool.load(message)
        assert made == envelope("a", 2)
        assert (content.head, b"".join(content.rest())) == (HEAD, REST)
        first, second = message.deliveries
        await spool.settle(first, made, 1.0, "other", [outcome(0, Status.DELIVERED)])
        await spool.sync_events()
        assert len(files_in(tmp_path)) == 1
        await spool.settle(second, made, 1.0, "other", [outcome(1, Status.FAILED)])
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(before())
    asyncio.run(after())


def test_a_message_carried_forward_keeps_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.storage.spool.spool.COMPACT_FILES", 0)
    monkeypatch.setattr("engine.storage.spool.spool.COMPACT_RATIO", 0)

    async def before():
        spool = open_spool(tmp_path)
        await put(spool)
        await spool.compact()
        await spool.close()

    async def after():
        spool = open_spool(tmp_path)
        _, content = await spool.load(spool.messages["a"])
        assert b"".join(content.rest()) == REST
        await spool.close()

    asyncio.run(before())
    asyncio.run(after())


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
        assert spool.messages == {}
        await spool.close()
        assert files_in(tmp_path) == []

    asyncio.run(story())


def test_what_no_message_names_is_removed_at_the_start(tmp_path):
    async def before():
        spool = open_spool(tmp_path)
        await put(spool)
        await written(spool)
        spool.large().feed(REST)  # a session in the middle of its message
        assert len(files_in(tmp_path)) >= 2

    async def after():
        spool = open_spool(tmp_path)
        assert files_in(tmp_path) == [spool.messages["a"].large.name]
        await spool.close()

    asyncio.run(before())
    asyncio.run(after())


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
    [(flip, ""), (cut_off, "has 10 bytes"), (os.unlink, "is missing"), (replace_by_a_link, "has 5 bytes")],
)
def test_s5_damage_is_reported_and_read_as_an_error_before_the_last_slice(tmp_path, caplog, damage, told):
    async def before():
        spool = open_spool(tmp_path)
        await put(spool)
        await spool.close()
        damage(tmp_path / "large" / spool.messages["a"].large.name)

    async def after():
        spool = open_spool(tmp_path)
        assert told in caplog.text
        made, content = await spool.load(spool.messages["a"])
        assert (made, content.head) == (envelope("a"), HEAD), "an operator can settle it"
        got: list[bytes] = []
        with pytest.raises(StorageError):
            got.extend(content.rest())
        assert sum(map(len, got)) < len(REST)
        await spool.close()

    asyncio.run(before())
    asyncio.run(after())
