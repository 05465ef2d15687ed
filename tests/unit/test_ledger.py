"""The ledger: what was noted is found again, by any process, after any crash, and not for ever."""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.settings_tracking import LedgerSettings
from engine.base.units import Size
from engine.message.ids import IdSource
from engine.storage.ledger import reader, segment, writer
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.record import Damage, Record, scan
from engine.storage.ledger.segments import ledger_directory, segment_names
from engine.storage.ledger.sent import Sent, decode_sent, table_hash
from engine.storage.ledger.writer import Ledger
from tests.support.clock import FakeClock
from tests.support.sms_stage import until

KEEP_S = 1000.0
LINKS = ("https://shop.test/a", "https://shop.test/b?x=1&y=2", "https://shop.test/a")
TABLE = table_hash(LINKS)


class Desk:
    """Writers of a node, and messages for them."""

    def __init__(self, data_dir: Path, segment_bytes: int = 1 << 20) -> None:
        self.data_dir = data_dir
        self.clock = FakeClock(1_767_268_800.0)
        self.settings = LedgerSettings(segment_bytes=Size(segment_bytes))
        self._ids: dict[int, IdSource] = {}

    def ledger(self, worker: int = 0) -> Ledger:
        return Ledger(self.data_dir, worker, self.settings, KEEP_S, self.clock)

    def sent(self, *recipients: str, worker: int = 0, id: str = "", **more: object) -> Sent:
        ids = self._ids.setdefault(worker, IdSource("mx.test", worker, self.clock))
        id = id or ids.next()
        fields: dict[str, object] = {"message_id": f"{id}@mx.test", "sender": "ada@home.test", **more}
        return Sent(id=id, at=self.clock.time(), recipients=recipients or ("bob@one.test",), **fields)  # type: ignore[arg-type]

    def files(self, worker: int = 0) -> list[Path]:
        return [name.log_path for name in segment_names(ledger_directory(self.data_dir, worker))]


def reading(data_dir: Path) -> LedgerReader:
    """A reader that has seen everything."""
    found = LedgerReader(data_dir)
    while found.refresh():
        pass
    return found


async def noted(ledger: Ledger, *notes: Sent) -> None:
    for sent in notes:
        ledger.note(sent, LINKS if sent.table == TABLE else ())
        await ledger.keep()


async def closed(ledger: Ledger, *notes: Sent) -> None:
    await noted(ledger, *notes)
    await ledger.close()


@pytest.mark.parametrize("close", [False, True], ids=["growing", "closed"])
def test_what_was_noted_is_found_by_everything_that_comes_back(tmp_path: Path, close: bool) -> None:
    desk = Desk(tmp_path)
    first = desk.sent(
        "bob@one.test", "Carl@Two.Test", tenant="shop", stream="news", batch="b", level="full", table=TABLE
    )
    second = desk.sent(message_id="client@home.test")

    async def story() -> None:
        ledger = desk.ledger()
        await noted(ledger, first, second)
        ledger.delivered(first.id, 1, 17.5)
        ledger.short(8_000_000_000, first.id, 1)
        await ledger.keep()
        if close:
            await ledger.close()
        found = reading(tmp_path)
        assert found.find(first.id) == first and found.find(second.id) == second
        assert found.links(first) == LINKS and found.links(second) == ()
        assert found.by_message_id(f"{first.id}@mx.test") == first
        assert found.by_message_id("client@home.test") == second
        assert (found.delivered_at(first.id, 1), found.delivered_at(first.id, 0)) == (17.5, None)
        assert (found.by_short(8_000_000_000), found.by_short(8_000_000_001)) == ((first, 1), None)
        unknown = desk.sent()
        assert found.find(unknown.id) is found.find("no id") is found.by_message_id("no@where") is None
        assert found.delivered_at(unknown.id, 0) is found.delivered_at("no id", 0) is None
        assert found.links(desk.sent(table=b"x" * 16)) == ()
        found.close()
        assert found.find(first.id) == first
        if not close:
            await ledger.close()

    asyncio.run(story())
    assert [file.stat().st_mode & 0o777 for file in desk.files()] == [0o600]
    assert all(file.with_suffix(".index").exists() for file in desk.files())


def test_notes_of_one_message_are_one_message(tmp_path: Path) -> None:
    """A delivery that was stored by itself knows its own recipients; a note for bounces says nothing of links."""
    desk = Desk(tmp_path)
    tracked = desk.sent("bob@one.test", "", level="full", table=TABLE)
    plain = desk.sent("", "carl@two.test", id=tracked.id, message_id="")

    async def story() -> None:
        ledger = desk.ledger()
        await noted(ledger, tracked)
        size = desk.files()[0].stat().st_size
        await noted(ledger, tracked)
        assert desk.files()[0].stat().st_size == size, "what is known is not written again"
        desk.clock.advance(1.0)
        await noted(ledger, plain)
        found = reading(tmp_path).find(tracked.id)
        assert found is not None and found.recipients == ("bob@one.test", "carl@two.test")
        assert (found.level, found.table, found.message_id) == ("full", TABLE, tracked.message_id)
        await ledger.close()

    asyncio.run(story())


def test_of_messages_with_one_message_id_the_one_that_went_to_an_address_counts(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test", message_id="same@home.test") for n in range(5)]
    asyncio.run(closed(desk.ledger(), *notes))
    found = reading(tmp_path)
    assert found.by_message_id("same@home.test", "USER1@one.test") == notes[1]
    assert found.by_message_id("same@home.test") == notes[4]
    assert found.by_message_id("same@home.test", "nobody@one.test") == notes[4]


def test_a_file_that_is_full_or_old_is_followed_by_another_with_its_own_tables(tmp_path: Path) -> None:
    desk = Desk(tmp_path, segment_bytes=2000)
    notes = [desk.sent(f"user{n}@one.test", level="full", table=TABLE) for n in range(60)]
    asyncio.run(closed(desk.ledger(), *notes))
    assert len(desk.files()) > 4
    for file in desk.files():
        records = [
            each for each in scan(file.read_bytes(), int(file.name.split(".")[1], 16)) if isinstance(each, Record)
        ]
        assert [record.kind for record in records].count(2) == 1, "a table, once"
    found = reading(tmp_path)
    assert [found.find(sent.id) for sent in notes] == notes
    assert found.find(desk.sent().id) is None

    async def later() -> None:
        ledger = desk.ledger()
        await noted(ledger, desk.sent())
        count = len(desk.files())
        desk.clock.advance(KEEP_S / 8)
        await noted(ledger, desk.sent())
        assert len(desk.files()) == count + 1
        await ledger.close()

    asyncio.run(later())


def test_files_go_when_they_are_old_and_the_one_that_is_written_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path, segment_bytes=500)
    old, new = desk.sent(), desk.sent()

    async def story() -> None:
        await closed(desk.ledger(), old)
        reader = reading(tmp_path)
        assert reader.find(old.id) == old
        desk.clock.advance(KEEP_S + 1)
        ledger = desk.ledger()
        await noted(ledger, new)
        await ledger.upkeep()
        assert len(desk.files()) == 1
        while reader.refresh():
            pass
        assert reader.find(old.id) is None and reader.find(new.id) == new
        await ledger.close()

    asyncio.run(story())


def test_a_file_that_goes_while_it_is_looked_into_is_none(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    sent = desk.sent()
    asyncio.run(closed(desk.ledger(), sent))
    found = reading(tmp_path)
    for path in ledger_directory(tmp_path).iterdir():
        path.unlink()
    assert found.find(sent.id) is found.by_message_id(sent.message_id) is None


def test_every_workers_ledger_is_read_and_ids_of_one_moment_are_told_apart(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{worker}@one.test", worker=worker) for worker in range(3)]
    found = reading(tmp_path)
    assert found.find(notes[0].id) is None
    for worker, sent in enumerate(notes):
        asyncio.run(closed(desk.ledger(worker), sent))
    while found.refresh():
        pass
    assert [found.find(sent.id) for sent in notes] == notes


_FOLLOW = """
import sys
from engine.storage.ledger.reader import LedgerReader
reader = LedgerReader(sys.argv[1])
for line in sys.stdin:
    while reader.refresh():
        pass
    sent = reader.find(line.strip())
    links = reader.links(sent) if sent is not None else ()
    print(sent.recipients[0] if sent is not None else "none", len(links), flush=True)
"""


def test_a_reader_of_another_process_follows_the_writer(tmp_path: Path) -> None:
    """From before there is a ledger, over several files: what `keep` returned for is there."""
    desk = Desk(tmp_path, segment_bytes=1500)
    command = [sys.executable, "-c", _FOLLOW, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None

        def ask(sent: Sent) -> str:
            assert other.stdin is not None and other.stdout is not None
            print(sent.id, file=other.stdin, flush=True)
            return other.stdout.readline().strip()

        async def story() -> None:
            ledger = desk.ledger()
            assert ask(desk.sent()) == "none 0"
            notes = [desk.sent(f"user{n}@one.test", level="full", table=TABLE) for n in range(40)]
            for sent in notes:
                await noted(ledger, sent)
                assert ask(sent) == f"{sent.recipients[0]} {len(LINKS)}"
            for sent in notes:
                assert ask(sent) == f"{sent.recipients[0]} {len(LINKS)}"
            await ledger.close()

        asyncio.run(story())
        other.stdin.close()
        assert other.wait() == 0


def test_a_reader_keeps_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, followed while they grew or looked into afterwards."""
    monkeypatch.setattr(reader, "_MOST_OPEN", 3)
    desk = Desk(tmp_path, segment_bytes=200)

    async def story() -> None:
        ledger, found = desk.ledger(), LedgerReader(tmp_path)
        notes = [desk.sent(f"user{n}@one.test") for n in range(30)]
        before = len(os.listdir("/proc/self/fd"))
        for sent in notes:
            await noted(ledger, sent)
            while found.refresh():
                pass
        await ledger.close()
        while found.refresh():
            pass
        assert len(desk.files()) > 10
        assert len(os.listdir("/proc/self/fd")) <= before + 2
        assert [found.find(sent.id) for sent in notes] == notes
        assert len(os.listdir("/proc/self/fd")) <= before + 2 * 3 + 2
        found.close()

    asyncio.run(story())


def test_what_nobody_waits_for_is_written_soon(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    sent = desk.sent()

    async def story() -> None:
        ledger = desk.ledger()
        ledger.note(sent)
        assert not ledger_directory(tmp_path).exists(), "nothing is on disk at once"
        await until(lambda: desk.files() and desk.files()[0].stat().st_size, "the note")
        assert reading(tmp_path).find(sent.id) == sent
        await ledger.close()

    asyncio.run(story())


def _written(desk: Desk, notes: list[Sent]) -> tuple[Path, bytes]:
    """The one file of these, without its index, as after a crash."""
    asyncio.run(closed(desk.ledger(), *notes))
    [file] = desk.files()
    file.with_suffix(".index").unlink()
    return file, file.read_bytes()


def test_any_torn_tail_leaves_what_is_whole_before_it(tmp_path: Path) -> None:
    """S3: of every prefix; a reader sees it at once, and the next start makes the index and goes on."""
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test") for n in range(3)]
    file, data = _written(desk, notes)
    salt = int(file.name.split(".")[1], 16)
    ends = [each.end for each in scan(data, salt) if isinstance(each, Record)]
    for size in range(len(data) + 1):
        file.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        found = reading(tmp_path)
        assert [found.find(sent.id) for sent in notes] == [*notes[:whole], *[None] * (3 - whole)]
        found.close()
    for size in (ends[1] + 5, ends[0] - 1, 0):
        file.write_bytes(data[:size])
        asyncio.run(_started(desk))
        whole = sum(end <= size for end in ends)
        assert file.exists() is bool(whole)
        assert not whole or (file.stat().st_size, file.with_suffix(".index").exists()) == (ends[whole - 1], True)
        found = reading(tmp_path)
        assert [found.find(sent.id) for sent in notes] == [*notes[:whole], *[None] * (3 - whole)]
        file.with_suffix(".index").unlink(missing_ok=True)


async def _started(desk: Desk) -> None:
    ledger = desk.ledger()
    await ledger.upkeep()
    await ledger.close()


def test_a_damaged_record_is_passed_over_and_the_rest_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S5: wherever the damage is, with an index and without."""
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test") for n in range(3)]
    file, data = _written(desk, notes)
    _, second, third = (each.offset for each in scan(data, int(file.name.split(".")[1], 16)))
    for at in range(second, third):
        file.write_bytes(data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :])
        found = reading(tmp_path)
        assert [found.find(sent.id) for sent in notes] == [notes[0], None, notes[2]], at
        found.close()
    assert "damaged from byte" in caplog.text
    file.write_bytes(data)
    asyncio.run(_started(desk))
    file.write_bytes(data[: second + 40] + b"?" + data[second + 41 :])
    found = reading(tmp_path)
    assert [found.find(sent.id) for sent in notes] == [notes[0], None, notes[2]]


def test_a_record_inside_another_is_not_taken_for_one(tmp_path: Path) -> None:
    """Who writes an address that looks like a record does not know the salt of the file."""
    desk = Desk(tmp_path)
    victim = desk.sent("victim@one.test")
    _, record = _written(desk, [victim])
    [file] = desk.files()
    for salt in range(20):
        forged = record[:28] + b"\0\0\0\0" + record[32:]
        found = list(scan(b"junk" + forged, salt))
        assert all(isinstance(each, Damage) for each in found)
    assert not any(isinstance(each, Record) for each in scan(record, int(file.name.split(".")[1], 16) ^ 1))


@pytest.mark.parametrize("at", [3, 30, 50, 60, 82, 86, 100, -1])
def test_a_damaged_index_is_none(tmp_path: Path, at: int) -> None:
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test") for n in range(20)]
    asyncio.run(closed(desk.ledger(), *notes))
    index = desk.files()[0].with_suffix(".index")
    data = bytearray(index.read_bytes())
    data[at] ^= 0xFF
    index.write_bytes(data)
    found = reading(tmp_path)
    assert [found.find(sent.id) for sent in notes] == notes
    assert found.by_message_id(notes[7].message_id) == notes[7]


def test_long_records_and_many_are_followed_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the steps cut (P2), and with the tables that a growing file has."""
    monkeypatch.setattr(segment, "_RECENT", 10)
    desk = Desk(tmp_path)
    notes = [desk.sent(*(f"user{n}.{index}@one.test" for index in range(n % 7 * 10 + 1))) for n in range(80)]

    async def story() -> None:
        ledger = desk.ledger()
        await noted(ledger, *notes)
        for chunk in (33, 100, 997, 1 << 20):
            monkeypatch.setattr(reader, "_CHUNK", chunk)
            found = LedgerReader(tmp_path)
            await found.follow()
            assert [found.find(sent.id) for sent in notes] == notes
        await ledger.close()

    asyncio.run(story())


def test_damage_that_is_longer_than_a_step_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test") for n in range(10)]
    file, data = _written(desk, notes)
    places = [each.offset for each in scan(data, int(file.name.split(".")[1], 16))]
    file.write_bytes(data[: places[2]] + bytes(places[8] - places[2]) + data[places[8] :])
    monkeypatch.setattr(reader, "_CHUNK", 200)
    found = reading(tmp_path)
    assert [sent.recipients[0][4] for sent in notes if found.find(sent.id)] == ["0", "1", "8", "9"]


def test_who_waits_is_told_that_the_disk_took_nothing_and_what_was_noted_is_written_later(tmp_path: Path) -> None:
    """S4: in another file; nothing that was noted is lost."""
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test", level="full", table=TABLE) for n in range(6)]

    async def story() -> None:
        ledger = desk.ledger()
        await noted(ledger, notes[0])
        for sent in notes[1:4]:
            ledger.note(sent, LINKS)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            for _ in range(2):
                with pytest.raises(StorageError, match="cannot be written"):
                    await ledger.keep()
            ledger.note(notes[4])
            with pytest.raises(StorageError):
                await ledger.keep()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await noted(ledger, notes[5])
        found = reading(tmp_path)
        assert [found.find(sent.id) for sent in notes] == notes
        assert found.links(notes[5]) == LINKS
        await ledger.upkeep()
        await ledger.close()
        found = reading(tmp_path)
        assert [found.find(sent.id) for sent in notes] == notes
        assert all(file.stat().st_size for file in desk.files())

    asyncio.run(story())


def test_a_disk_that_takes_nothing_for_too_long_loses_the_oldest_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory is bounded; what is lost is said."""
    monkeypatch.setattr(writer, "MAX_WAITING_BYTES", 1000)
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test") for n in range(20)]

    async def story() -> None:
        ledger = desk.ledger()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            for sent in notes:
                ledger.note(sent)
                with pytest.raises(StorageError):
                    await ledger.keep()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await ledger.keep()
        found = reading(tmp_path)
        there = [found.find(sent.id) is not None for sent in notes]
        assert there == sorted(there) and 0 < sum(there) < 10
        assert "notes are lost" in caplog.text
        # Noted again, it is written again.
        await noted(ledger, notes[0])
        found.refresh()
        assert found.find(notes[0].id) == notes[0]
        await ledger.close()

    asyncio.run(story())


def test_many_who_wait_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each returns only when its own note is on disk."""
    syncs = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(1), sync(fd)))
    desk = Desk(tmp_path)
    notes = [desk.sent(f"user{n}@one.test") for n in range(200)]

    async def one(ledger: Ledger, sent: Sent) -> None:
        ledger.note(sent)
        await ledger.keep()
        assert reading(tmp_path).find(sent.id) == sent

    async def story() -> None:
        ledger = desk.ledger()
        await asyncio.gather(*(one(ledger, sent) for sent in notes))
        await ledger.keep()
        assert len(syncs) < 10
        await ledger.close()

    asyncio.run(story())


def test_the_notes_of_an_earlier_version_are_read() -> None:
    """The shape on disk: fields are appended, never moved."""
    packed = b"\x93\xae0Hs7kQpf3Za2Wq\xcb?\xf8\x00\x00\x00\x00\x00\x00\xa3a@b"
    assert decode_sent(packed) == Sent(id="0Hs7kQpf3Za2Wq", at=1.5, sender="a@b")
