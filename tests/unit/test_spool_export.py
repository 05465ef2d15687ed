"""A backlog moves to another node: a snapshot that holds still, the stream, what another spool makes of it."""

import asyncio
import shutil
from collections.abc import Set
from pathlib import Path

import pytest

from engine.base.errors import EngineError, StorageError
from engine.base.units import Size
from engine.message.content import head_of
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Status
from engine.queue.scope import Scope
from engine.storage.events.reader import read_events
from engine.storage.spool.export import Exported, StreamError, StreamReader, StreamWriter
from engine.storage.spool.extract import Extract
from engine.storage.spool.importer import Importer
from engine.storage.spool.keys import Key, LiveKeys
from engine.storage.spool.names import Names
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.view import SpoolView
from tests.support.spool_tools import (
    ALL_FIVE,
    CONTENT,
    Bench,
    bench,
    both_generations,
    exported,
    killed,
    name_of,
    verified,
)  # fmt: skip


def deliveries(stream: bytes) -> list[Exported]:
    reader = StreamReader()
    found = list(reader.feed(stream))
    reader.end()
    return found


def names(stream: bytes) -> list[tuple[str, int]]:
    return sorted((one.envelope.id, one.number) for one in deliveries(stream))


async def take_in(spool: Bench, stream: bytes) -> tuple[int, int]:
    importer = Importer(spool.spool)
    await importer.feed(stream)
    await importer.end()
    return importer.taken, importer.left_out


# Export.


def test_export_has_every_delivery_once_with_its_state_and_content_running_or_stopped(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await both_generations(spool)
            live = await spool.live()
            running = exported(spool.directory)
        for stream in (running, exported(spool.directory)):
            found = {
                (one.envelope.id, one.number): (tuple(one.snapshot[1]), one.snapshot[3], one.snapshot[2], one.content)
                for one in deliveries(stream)
            }
            assert found == live
            assert sorted(found) == ALL_FIVE
        async with bench(tmp_path) as spool:
            assert await spool.live() == live
        tried = next(one for one in deliveries(running) if (one.envelope.id, one.number) == (name_of(1), 0))
        assert tried.snapshot == ["one.test", (1,), 2000.0, 1, (), 0, "said"]

    asyncio.run(story())


def test_export_tells_nobody_of_recipients_elsewhere(tmp_path: Path) -> None:
    async def story() -> bytes:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), "one.test", "two.test")
            return exported(spool.directory, "two.test")

    [only] = deliveries(asyncio.run(story()))
    assert [recipient.address for recipient in only.envelope.recipients] == ["", "", "a@two.test", "b@two.test"]


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ("*", ALL_FIVE),
        ("two.test", [(name_of(1), 1), (name_of(5), 0)]),
        ("tenant:acme", [(name_of(1), 0), (name_of(1), 1)]),
        ("batch:sale", [(name_of(2), 0)]),
        ("class:transactional", [(name_of(4), 0)]),
        (name_of(1), [(name_of(1), 0), (name_of(1), 1)]),
        ("nobody.test", []),
    ],
)
def test_export_of_a_scope_has_what_is_in_it(tmp_path: Path, scope: str, wanted: list[tuple[str, int]]) -> None:
    async def story() -> bytes:
        async with bench(tmp_path) as spool:
            await both_generations(spool)
            return exported(spool.directory, scope)

    assert names(asyncio.run(story())) == wanted


def test_a_snapshot_stays_readable_while_its_files_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await both_generations(spool)
            with SnapshotFiles(spool.directory) as files:
                await spool.age()
                for name, number in ALL_FIVE:
                    await spool.settle(name, number, Status.DELIVERED, Status.DELIVERED)
                await spool.age()
                extract = Extract([SpoolView(spool.directory, files)], Scope("all").rows)
                assert names(b"".join(extract.pieces("old.test/0", 3000.0, "*"))) == ALL_FIVE
            assert names(exported(spool.directory)) == []

    asyncio.run(story())


def test_a_snapshot_writes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), "one.test")

    asyncio.run(story())
    directory = tmp_path / "spool" / "0"
    with SnapshotFiles(directory) as files:
        for attempt in (
            lambda: files.create(directory / "x"), lambda: files.unlink(files.paths[0]), lambda: files.write(1, [b""]),
        ):  # fmt: skip
            with pytest.raises(StorageError, match="reading only"):
                attempt()
    with pytest.raises(StorageError, match="there is no spool"):
        SnapshotFiles(tmp_path / "elsewhere")


# Import.


def test_what_is_imported_is_what_was_exported_and_a_second_time_is_left_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            live, stream = await old.live(), exported(old.directory)
        async with bench(tmp_path / "new") as new:
            assert await take_in(new, stream) == (5, 0)
            assert await new.live() == live
            assert await take_in(new, stream) == (0, 5)
            await new.age()
            assert await take_in(new, stream) == (0, 5)
            assert await new.live() == live
        received = [e for e in read_events(tmp_path / "new" / "events" / "0") if e["type"] == "received"]
        assert len(received) == sum(len(indexes) for indexes, *_ in live.values())
        assert {event["at"] for event in received} == {1000.0}

    asyncio.run(story())


@pytest.mark.parametrize("aged", [False, True])
def test_s3_what_was_imported_survives_a_crash_in_either_generation(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            live, stream = await old.live(), exported(old.directory)
        new = Bench(tmp_path / "new")
        await new.spool.load_backlog()
        await take_in(new, stream)
        if aged:
            await new.age()
        await new.settle(name_of(2), 0, Status.DELIVERED, Status.DEFERRED, due_at=2500.0)
        await new.settle(name_of(1), 1, Status.DELIVERED, Status.DELIVERED)
        await killed(new)
        live[name_of(2), 0] = (1,), 1, 2500.0, CONTENT
        del live[name_of(1), 1]
        async with bench(tmp_path / "new") as again:
            assert await again.live() == live
        assert verified(tmp_path / "new" / "spool" / "0").faults == []

    asyncio.run(story())


def test_e1_received_events_of_an_import_that_a_crash_cut_off_are_repeated(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            stream = exported(old.directory)
        async with bench(tmp_path / "new") as new:
            await take_in(new, stream)
        whole = list(read_events(tmp_path / "new" / "events" / "0"))
        shutil.rmtree(tmp_path / "new" / "events")
        async with bench(tmp_path / "new"):
            pass
        assert list(read_events(tmp_path / "new" / "events" / "0")) == whole

    asyncio.run(story())


def test_deliveries_of_one_message_can_come_one_by_one(tmp_path: Path) -> None:
    """Two exports by destination, imported one after the other, with a restart between them."""

    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", "two.test")
            live = await old.live()
            streams = [exported(old.directory, scope) for scope in ("two.test", "one.test")]
        for stream in streams:
            async with bench(tmp_path / "new") as new:
                assert await take_in(new, stream) == (1, 0)
        async with bench(tmp_path / "new") as new:
            assert await new.live() == live
            await new.age()
            assert await new.live() == live

    asyncio.run(story())


@pytest.mark.parametrize("aged", [False, True])
def test_what_was_purged_here_can_come_back(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path, journal_files=10) as spool:
            await spool.put(name_of(1), "one.test", "two.test")
            if aged:
                await spool.age()
            live, stream = await spool.live(), exported(spool.directory)
            await spool.settle(name_of(1), 0, Status.REMOVED, Status.REMOVED)
            assert await take_in(spool, stream) == (1, 1)
            assert await spool.live() == live
        async with bench(tmp_path, journal_files=10) as spool:
            assert await spool.live() == live
            await spool.age()
        async with bench(tmp_path) as spool:
            assert await spool.live() == live
            await spool.age()
        async with bench(tmp_path) as spool:
            assert await spool.live() == live

    asyncio.run(story())


def test_messages_of_two_nodes_that_differ_in_the_node_alone_are_two(tmp_path: Path) -> None:
    async def story() -> None:
        streams = []
        for node in ("AAAA", "BBBB"):
            async with bench(tmp_path / node) as old:
                await old.put(name_of(1, node), "one.test")
                streams.append(exported(old.directory))
        async with bench(tmp_path / "new", segment_bytes=1) as new:
            for stream in streams:
                assert await take_in(new, stream) == (1, 0)
                await new.age()
        assert len(list(new.directory.glob("mail/*/*.seg"))) == 2
        async with bench(tmp_path / "new") as again:
            assert sorted(await again.live()) == [(name_of(1, "AAAA"), 0), (name_of(1, "BBBB"), 0)]

    asyncio.run(story())


def test_an_import_stops_at_the_first_fault_and_says_how_many_it_took(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            stream = exported(old.directory)
        async with bench(tmp_path / "new") as new:
            importer = Importer(new.spool)
            await importer.feed(stream[:-50])
            with pytest.raises(EngineError, match=r"cut short after 5 deliveries; 5 deliveries were taken in before"):
                await importer.end()
            assert await take_in(new, stream) == (0, 5)

    asyncio.run(story())


def test_what_another_spool_of_the_node_has_is_left_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await both_generations(old)
            stream = exported(old.directory)
        asked: list[Set[Key]] = []

        async def elsewhere(wanted: Set[Key]) -> Set[Key]:
            asked.append(wanted)
            return set(ALL_FIVE[:2])

        async with bench(tmp_path / "new") as new:
            importer = Importer(new.spool, elsewhere=elsewhere)
            await importer.feed(stream)
            await importer.end()
            assert (importer.taken, importer.left_out, sorted(await new.live())) == (3, 2, ALL_FIVE[2:])
            assert asked == [set(ALL_FIVE)]

            async def silent(_: Set[Key]) -> Set[Key]:
                raise EngineError("worker 1 does not answer")

            importer = Importer(new.spool, elsewhere=silent)
            await importer.feed(stream)
            with pytest.raises(EngineError, match="worker 1 does not answer; 0 deliveries were taken in before"):
                await importer.end()

    asyncio.run(story())


def test_the_keys_of_a_spool_are_those_of_what_lives_in_either_generation(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "one") as one, bench(tmp_path / "other", segment_bytes=Size(1)) as other:
            await both_generations(one)
            for node in ("AAAA", "BBBB", "node"):
                await other.put(name_of(4, node), "one.test", "two.test")
                await other.age()
            await other.settle(name_of(4), 1, Status.DELIVERED, Status.DELIVERED)
        found = []
        for path in ("one", "other"):
            with SnapshotFiles(tmp_path / path / "spool" / "0") as files:
                found.append(LiveKeys.of(SpoolView(tmp_path / path / "spool" / "0", files)))
        here, there = found
        never = {(name_of(3), 0), (name_of(4), 1), (name_of(4, "CCCC"), 0), (name_of(9), 0)}
        assert here.among({*ALL_FIVE, *never}) == set(ALL_FIVE)
        assert there.among({(name_of(4), 0), (name_of(4, "BBBB"), 1), *never}) == {
            (name_of(4), 0),
            (name_of(4, "BBBB"), 1),
        }
        assert here.common(there) == there.common(here) == [(name_of(4), 0)]
        nothing = LiveKeys([], Names())
        assert (nothing.among(set(ALL_FIVE)), nothing.common(here), here.common(nothing)) == (set(), [], [])

    asyncio.run(story())


LARGE = b"Subject: large\r\n\r\n" + b"line\r\n" * 2000


@pytest.mark.parametrize("aged", [False, True])
def test_a_large_content_gets_a_file_of_its_own_and_keeps_it_while_it_lives(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", "two.test", content=LARGE)
            await old.put(name_of(2), "one.test")
            live, stream = await old.live(), exported(old.directory)
        large = tmp_path / "new" / "spool" / "0" / "large"
        async with bench(tmp_path / "new", large_bytes=Size(1000)) as new:
            assert await take_in(new, stream) == (3, 0)
            if aged:
                await new.age()
            assert [file.stat().st_size for file in large.iterdir()] == [12_000, 12_000]
            assert await new.live() == live
            assert exported(new.directory) == stream
            assert await take_in(new, stream) == (0, 3)
            assert len(list(large.iterdir())) == 2, "what is left out leaves no file"
        async with bench(tmp_path / "new") as again:
            assert await again.live() == live
            assert verified(again.directory).faults == []
            await again.settle(name_of(1), 1, Status.DELIVERED, Status.DELIVERED)
            await again.spool.work(at_once=True)
            assert len(list(large.iterdir())) == 1
            del live[name_of(1), 1]
            assert await again.live() == live

    asyncio.run(story())


def test_a_header_without_a_body_needs_no_file_however_long(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path, large_bytes=Size(10)) as spool:
            for content in (b"Subject: a long one\r\n", b"Subject: a long one\r\n\r\n"):
                assert await spool.spool.apart(content) == content
            assert list((spool.directory / "large").iterdir()) == []
            bodies = [await spool.spool.apart(b"\r\n" + CONTENT), await spool.spool.apart(CONTENT)]
            assert [head_of(body) for body in bodies] == [b"\r\n", b"Subject: x\r\n\r\n"]

    asyncio.run(story())


def test_after_a_restart_no_file_has_the_number_of_a_large_one(tmp_path: Path) -> None:
    """The newest file of all may be a large content's."""

    async def story() -> None:
        async with bench(tmp_path, large_bytes=Size(1000)) as spool:
            await spool.put(name_of(1), "one.test")
            await spool.put(name_of(2), "one.test", content=await spool.spool.apart(LARGE))
            before = {int(file.name[:12]) for file in spool.directory.rglob("*.*.*")}
        async with bench(tmp_path) as spool:
            await spool.put(name_of(3), "one.test")
            files = [int(file.name[:12]) for file in spool.directory.rglob("*.*.*")]
            assert sorted(files) == sorted(set(files))
            assert max(files) > max(before)

    asyncio.run(story())


# The stream.


def a_stream(*, version: int = 1) -> bytes:
    writer = StreamWriter()
    envelope = Envelope(name_of(1), "a@b.test", (Recipient("c@d.test"),), 1.0, 2.0, len(CONTENT))
    pieces = [writer.begin("old.test/0", 1.0, "*")]
    pieces += writer.add(envelope, 0, ["d.test", (0,), 1.0, 0, (), 0, ""], CONTENT)
    return b"".join([*pieces, writer.end()])


def test_p2_a_stream_is_the_same_however_it_is_cut() -> None:
    stream = a_stream()
    for size in (1, 7, 40, 41, 1000):
        reader = StreamReader()
        found: list[Exported] = []
        for start in range(0, len(stream), size):
            found += reader.feed(stream[start : start + size])
        reader.end()
        assert [one.content for one in found] == [CONTENT]


def test_every_cut_of_a_stream_is_noticed() -> None:
    stream = a_stream()
    for length in range(len(stream)):
        with pytest.raises(StreamError):
            deliveries(stream[:length])
    with pytest.raises(StreamError, match="follows its end"):
        deliveries(stream + b"x")
    with pytest.raises(StreamError, match="out of order"):
        deliveries(stream + stream)


def test_a_stream_without_one_of_its_deliveries_is_noticed() -> None:
    """Whole frames, so no checksum of a frame would tell."""
    writer = StreamWriter()
    envelope = Envelope(name_of(1), "a@b.test", (Recipient("c@d.test"),), 1.0, 2.0, len(CONTENT))
    begin = writer.begin("old.test/0", 1.0, "*")
    writer.add(envelope, 0, ["d.test", (0,), 1.0, 0, (), 0, ""], CONTENT)
    with pytest.raises(StreamError, match="out of order"):
        deliveries(begin + writer.end())


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("its recipients", {"indexes": (1,)}),
        ("its recipients", {"indexes": ()}),
        ("its recipients", {"indexes": (0, 0)}),
        ("its addresses", {"address": "c@d.test>\r\nDATA"}),
        ("its content", {"content": b"bare\nline\r\n"}),
        ("its destination", {"destination": ""}),
        ("its class", {"message_class": 7}),
        ("its id", {"name": "not an id"}),
        ("its times", {"due_at": float("nan")}),
        ("its number", {"number": 70000}),
    ],
)  # fmt: skip
def test_a_delivery_that_the_queue_could_not_take_is_refused(what: str, change: dict[str, object]) -> None:
    use: dict[str, object] = {
        "indexes": (0,), "address": "c@d.test", "content": CONTENT, "destination": "d.test", "message_class": 1,
        "name": name_of(1), "due_at": 1.0, "number": 0, **change,
    }  # fmt: skip
    writer, content = StreamWriter(), use["content"]
    assert isinstance(content, bytes)
    recipients = (Recipient(str(use["address"])),)
    envelope = Envelope(str(use["name"]), "a@b.test", recipients, 1.0, 2.0, len(content), use["message_class"])  # type: ignore[arg-type]
    snapshot = [use["destination"], use["indexes"], use["due_at"], 0, (), 0, ""]
    stream = writer.begin("old.test/0", 1.0, "*")
    stream += b"".join(writer.add(envelope, use["number"], snapshot, content))  # type: ignore[arg-type]
    with pytest.raises(StreamError, match=what):
        deliveries(stream + writer.end())


def test_a_stream_of_a_newer_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("engine.storage.spool.export.STREAM_VERSION", 2)
        stream = a_stream()
    with pytest.raises(StreamError, match="is of version 2, which this program does not know"):
        deliveries(stream)


def test_what_is_no_stream_is_called_so() -> None:
    with pytest.raises(StreamError, match="this is no export of a spool"):
        deliveries(b"From ada@home.test Thu Jan  1 00:00:00 1970\n" * 3)
