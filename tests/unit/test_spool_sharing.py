"""A content that many deliveries share is stored once: in a spool, in the stream, and in the spool that takes it in."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.units import Size
from engine.message.content import whole
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Status
from engine.queue.scope import Scope
from engine.storage.spool import backlog, importer
from engine.storage.spool.extract import Extract, messages_in
from engine.storage.spool.frame import FrameType, scan
from engine.storage.spool.importer import Importer
from engine.storage.spool.records import encode_envelope, stored_header
from engine.storage.spool.segment import Segment
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import COLUMNS
from engine.storage.spool.view import SpoolView
from tests.support.spool_tools import (
    CONTENT,
    Bench,
    bench,
    exported,
    killed,
    messages,
    name_of,
    names,
    take_in,
    verified,
)  # fmt: skip

MANY = [f"d{n:02d}.test" for n in range(40)]
DELIVERED = Status.DELIVERED, Status.DELIVERED


def letter(number: int, lines: int = 400) -> bytes:
    """Each is another; the long ones are read in parts."""
    return b"Subject: letter %d\r\n\r\n" % number + b"of %d to all of you, as they say\r\n" % number * lines


def bytes_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def copies(directory: Path, content: bytes) -> int:
    """How often a content lies in the files of a spool; of a large one, all but its head."""
    body = content.partition(b"\r\n\r\n")[2]
    return sum(path.read_bytes().count(body) for path in directory.rglob("*") if path.is_file())


def frames(directory: Path, kind: FrameType) -> int:
    """How many of a kind there are in the journal."""
    found = 0
    for path in directory.glob("journal/*.log"):
        found += sum(one.type == kind for one in scan(path.read_bytes(), Segment(path).salt))
    return found


async def post(spool: Bench) -> dict[str, bytes]:
    """What is to be delivered: recipients with the content each gets."""
    found = {}
    for delivery in await spool.spool.reader.peek(np.array(spool.rows(), dtype=np.uint32)):
        assert delivery.message.hot is not None
        envelope, content = delivery.message.hot
        for index in delivery.indexes:
            assert envelope.recipients[index].address not in found
            found[f"{envelope.id} {envelope.recipients[index].address}"] = whole(content)
    return found


def mail(number: int, domains: Sequence[str]) -> dict[str, bytes]:
    """What `post` has of a letter that `put` put in."""
    return {f"{name_of(number)} {n}@{domain}": letter(number) for domain in domains for n in "ab"}


# There and back.


@pytest.mark.parametrize("large_bytes", [1 << 20, 1000], ids=["small", "large"])
@pytest.mark.parametrize("old", [False, True], ids=["young", "old"])
@pytest.mark.parametrize("folders", [False, True], ids=["together", "apart"])
def test_a_content_crosses_once_and_goes_to_the_right_recipients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_bytes: int, old: bool, folders: bool
) -> None:
    """Whichever way it lies here: in the journal, in a file of shared contents, in its own; in whatever folders."""
    if folders:
        monkeypatch.setattr(backlog, "FOLDER_FROM", 1)

    async def story() -> None:
        limits = {"large_bytes": Size(large_bytes)}
        async with bench(tmp_path / "old", **limits) as here:
            for number in (1, 2, 3):
                content = await here.spool.apart(letter(number))
                await here.put(name_of(number), *(MANY if number < 3 else ["d00.test"]), content=content)
            if old:
                await here.age()
            await here.settle(name_of(1), 7, Status.DELIVERED, Status.DEFERRED)
            await here.settle(name_of(2), 8, *DELIVERED)
            sent, stream = await post(here), exported(here.directory)
        assert len(sent) == 80 + 80 + 2 - 3
        assert len(messages(stream)) == 3
        assert [stream.count(letter(number)) for number in (1, 2, 3)] == [1, 1, 1]

        new = Bench(tmp_path / "new", **limits)
        await new.spool.load_backlog()
        assert await take_in(new, stream) == (80, 0)
        assert await take_in(new, stream) == (0, 80)
        assert frames(new.directory, FrameType.TAKEN_IN) == 3

        async def check(spool: Bench) -> None:
            assert [copies(spool.directory, letter(number)) for number in (1, 2, 3)] == [1, 1, 1]
            contents = sum(len(letter(number)) for number in (1, 2, 3))
            assert bytes_of(spool.directory) < contents + 80 * 1000, "a record for each delivery, and three contents"
            assert await post(spool) == sent
            assert verified(spool.directory).faults == []

        await check(new)
        await killed(new)
        async with bench(tmp_path / "new", journal_files=10, **limits) as new:
            await check(new)
        async with bench(tmp_path / "new", **limits) as new:
            await new.age()
            await check(new)
            assert frames(new.directory, FrameType.TAKEN_IN) == 0
            back = exported(new.directory)
            assert sorted(messages(back), key=repr) == sorted(messages(stream), key=repr)
        async with bench(tmp_path / "new", **limits) as new:
            await check(new)
            for name, number in names(stream):
                await new.settle(name, number, *DELIVERED)
            await new.age()
            assert await post(new) == {}
            assert [copies(new.directory, letter(number)) for number in (1, 2, 3)] == [0, 0, 0]

    asyncio.run(story())


@pytest.mark.parametrize("aged", [False, True])
def test_a_large_content_gets_a_file_of_its_own_and_keeps_it_while_it_lives(tmp_path: Path, aged: bool) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", "two.test", content=letter(1))
            await old.put(name_of(2), "one.test")
            live, stream = await old.live(), exported(old.directory)
        large = tmp_path / "new" / "spool" / "0" / "large"
        async with bench(tmp_path / "new", large_bytes=Size(1000)) as new:
            assert await take_in(new, stream) == (3, 0)
            if aged:
                await new.age()
            assert [file.stat().st_size for file in large.iterdir()] == [
                len(letter(1)) - len(b"Subject: letter 1\r\n\r\n")
            ]
            assert await new.live() == live
            assert exported(new.directory) == stream
            assert await take_in(new, stream) == (0, 3)
            assert len(list(large.iterdir())) == 1, "what is left out leaves no file"
        async with bench(tmp_path / "new") as again:
            assert verified(again.directory).faults == []
            for number, left in ((1, 1), (0, 0)):
                assert await again.live() == live
                await again.settle(name_of(1), number, *DELIVERED)
                await again.spool.work(at_once=True)
                assert len(list(large.iterdir())) == left
                del live[name_of(1), number]
            assert await again.live() == live

    asyncio.run(story())


def test_deliveries_of_one_message_that_lie_apart_with_contents_of_their_own_are_exported_together(
    tmp_path: Path,
) -> None:
    """They were taken in one by one: two grew old, one is young, and each has its content with it."""

    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", "two.test", "three.test", content=letter(1))
            await old.put(name_of(2), "one.test", content=letter(2))
            sent = await post(old)
            streams = [exported(old.directory, scope) for scope in ("two.test", "one.test", "three.test")]
        async with bench(tmp_path / "new") as new:
            for stream in streams:
                await new.age()
                await take_in(new, stream)
            assert (await post(new), copies(new.directory, letter(1))) == (sent, 3)
            stream = exported(new.directory)
        assert [stream.count(letter(number)) for number in (1, 2)] == [1, 1]
        async with bench(tmp_path / "third") as third:
            assert await take_in(third, stream) == (4, 0)
            assert (await post(third), copies(third.directory, letter(1))) == (sent, 1)

    asyncio.run(story())


def test_of_a_message_that_is_partly_queued_the_rest_is_taken_in(tmp_path: Path) -> None:
    """And of its envelope what concerns the rest."""

    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), *MANY, content=letter(1))
            await old.put(name_of(2), "d00.test", content=letter(2))
            sent, stream, part = await post(old), exported(old.directory), exported(old.directory, "d05.test")
        async with bench(tmp_path / "new") as new:
            assert await take_in(new, part) == (1, 0)
            await new.age()
            assert await take_in(new, stream) == (40, 1)
            assert await take_in(new, stream) == (0, 41)
            assert (await post(new), copies(new.directory, letter(1))) == (sent, 2)
            for one in await new.spool.reader.peek(np.array(new.rows(), dtype=np.uint32)):
                assert one.message.hot is not None
                known = {recipient.address for recipient in one.message.hot[0].recipients}
                assert ("a@d05.test" in known) == (one.destination == "d05.test")
        async with bench(tmp_path / "new") as new:
            assert await post(new) == sent
            await new.age()
            assert (await post(new), copies(new.directory, letter(1))) == (sent, 2)
            assert verified(new.directory).faults == []

    asyncio.run(story())


# What was written before, what is damaged, what is much.


def test_a_delivery_that_an_earlier_program_took_in_is_still_known(tmp_path: Path) -> None:
    """A STORED frame in the journal."""

    async def story() -> None:
        envelope = Envelope(name_of(1), "ada@home.test", (Recipient("a@one.test"),), 1000.0, 9e9, len(CONTENT))
        old = Bench(tmp_path)
        await old.spool.load_backlog()
        journal = old.spool._journal
        snapshot = ["one.test", (0,), 2000.0, 1, (), 0, "said"]
        number = journal.next_number()
        header = stored_header(number, 3, snapshot, None, encode_envelope(envelope))
        await journal.append(number, FrameType.STORED, header, CONTENT)
        await killed(old)
        for _ in range(2):
            async with bench(tmp_path) as spool:
                assert await spool.live() == {(name_of(1), 3): ((0,), 1, 2000.0, CONTENT)}
                assert names(exported(spool.directory)) == [(name_of(1), 3)]
                await spool.age()

    asyncio.run(story())


def damage(path: Path, content: bytes) -> None:
    data = path.read_bytes()
    at = data.index(content)
    path.write_bytes(data[:at] + b"x" + data[at + 1 :])


def test_s5_a_damaged_record_takes_only_its_own_delivery_out_of_an_export(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), "one.test", "two.test", "three.test", content=letter(1))
            await spool.age()
        [segment] = spool.directory.glob("mail/*/*.seg")
        damage(segment, b"a@two.test")
        with SnapshotFiles(spool.directory) as files:
            extract = Extract([SpoolView(spool.directory, files)], Scope.parse("*", None).rows)
            stream = b"".join(extract.pieces("old.test/0", 3000.0, "*"))
        assert names(stream) == [(name_of(1), 0), (name_of(1), 2)]
        [problem] = extract.problems
        assert "is damaged" in problem

    asyncio.run(story())


def test_s5_one_copy_of_a_content_that_is_whole_serves_all_deliveries(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            await old.put(name_of(1), "one.test", "two.test", "three.test", content=letter(1))
            streams = [exported(old.directory, scope) for scope in ("two.test", "one.test")]
            await old.age()
            sent, shared = await post(old), next(old.directory.glob("shared/*.con"))
        async with bench(tmp_path / "old", journal_files=10) as old:
            for number in (0, 1):
                await old.settle(name_of(1), number, *[Status.REMOVED] * 2)
            for stream in streams:
                await take_in(old, stream)
        damage(shared, letter(1))
        assert [stream.count(letter(1)) for stream in [exported(old.directory)]] == [1]
        async with bench(tmp_path / "new") as new:
            assert await take_in(new, exported(old.directory)) == (3, 0)
            assert await post(new) == sent

    asyncio.run(story())


def test_an_import_keeps_no_more_than_a_slice_and_divides_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "_SLICE_BYTES", 2 * len(letter(1)))
    monkeypatch.setattr(importer, "_SLICE_DELIVERIES", 60)

    async def story() -> None:
        async with bench(tmp_path / "old") as old:
            for number in range(1, 9):
                await old.put(name_of(number), *MANY[: 5 * number], content=letter(number))
            stream = exported(old.directory)
        counts: list[int] = []
        stores = Spool.take_in

        def counted(spool: Spool, *arguments: object) -> object:
            counts[-1] += 1
            return stores(spool, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Spool, "take_in", counted)
        async with bench(tmp_path / "new") as new:
            taking = Importer(new.spool)
            for start in range(0, len(stream), 5000):
                counts.append(0)
                await taking.feed(stream[start : start + 5000])
            await taking.end()
            assert taking.taken == sum(5 * number for number in range(1, 9))
            assert [count for count in counts if count] == [2, 2, 2, 2]
            assert [copies(new.directory, letter(number)) for number in range(1, 9)] == [1] * 8

    asyncio.run(story())


rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=60)


@given(rows, st.randoms(use_true_random=False))
def test_rows_of_one_message_come_together_and_messages_in_the_order_of_their_places(
    keys: list[tuple[int, int]], chance: Random
) -> None:
    """keys: id and node of each."""
    places = [100 * n for n in range(len(keys))]
    chance.shuffle(places)
    values = {
        "id": [one for one, _ in keys], "node": [node for _, node in keys], "place": places, "length": range(len(keys)),
        "state_place": [7] * len(keys), "number": range(len(keys)),
    }  # fmt: skip
    columns = {name: np.array(list(column), dtype=COLUMNS[name]) for name, column in values.items()}
    found = list(messages_in(columns))
    assert sorted(spot.number for spots in found for spot in spots) == list(range(len(keys)))
    assert all(places[spot.number] == spot.place for spots in found for spot in spots)
    in_order = dict.fromkeys(key for _, key in sorted(zip(places, keys, strict=True)))
    assert [{keys[spot.number] for spot in spots} for spots in found] == [{key} for key in in_order]
