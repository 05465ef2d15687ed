"""Whether a spool's files are whole, and what they hold: every fault is found, and nothing else is called one."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.base.errors import StorageError
from engine.message.outcome import Status
from engine.queue.scope import Scope
from engine.storage.spool.extract import Extract
from engine.storage.spool.importer import Importer
from engine.storage.spool.index import encode_index
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.survey import NEEDED, Survey
from engine.storage.spool.view import SpoolView
from tests.support.spool_tools import CONTENT, bench, both_generations, exported, name_of, names, verified


async def a_spool(path: Path) -> Path:
    """Closed, with an index, a side file, a shared content and a journal."""
    async with bench(path) as spool:
        await both_generations(spool)
    return spool.directory


def test_verify_counts_a_whole_spool_and_finds_no_fault(tmp_path: Path) -> None:
    directory = asyncio.run(a_spool(tmp_path))
    found = verified(directory)
    assert (found.faults, found.notes) == ([], [])
    kinds = ("deliveries", "recipients", "message", "stored", "outcome", "dead", "content", "index")
    assert {kind: found.counts[kind] for kind in kinds} == {
        "deliveries": 5, "recipients": 9, "message": 2, "stored": 4, "outcome": 3, "dead": 1, "content": 1, "index": 1,
    }  # fmt: skip


def test_verify_of_a_running_spool_that_changes_finds_no_fault(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            look = asyncio.create_task(asyncio.to_thread(verified, spool.directory))
            for number in range(1, 60):
                await spool.put(name_of(number), "one.test", "two.test")
                if number % 3 == 0:
                    await spool.settle(name_of(number), 0, Status.DELIVERED, Status.DELIVERED)
                if number % 5 == 0:
                    await spool.age()
                if look.done():
                    assert look.result().faults == []
                    look = asyncio.create_task(asyncio.to_thread(verified, spool.directory))
            assert (await look).faults == []

    asyncio.run(story())


@pytest.mark.parametrize("suffix", [".log", ".seg", ".sta", ".con", ".idx"])
def test_verify_finds_a_flipped_bit_in_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    directory = asyncio.run(a_spool(tmp_path))
    path = next(directory.rglob(f"*{suffix}"))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert [fault for fault in verified(directory).faults if path.name in fault]


def test_a_torn_tail_is_no_fault(tmp_path: Path) -> None:
    directory = asyncio.run(a_spool(tmp_path))
    path = max(directory.glob("journal/*.log"))
    path.write_bytes(path.read_bytes() + path.read_bytes()[:50])
    found = verified(directory)
    assert found.faults == []
    assert [note for note in found.notes if path.name in note]


def test_verify_finds_a_content_that_is_gone(tmp_path: Path) -> None:
    directory = asyncio.run(a_spool(tmp_path))
    for path in directory.glob("shared/*.con"):
        path.unlink()
    assert [fault for fault in verified(directory).faults if "whose content is gone" in fault]


def test_a_shared_content_that_is_damaged_is_told_once(tmp_path: Path) -> None:
    async def story() -> Path:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), *(f"d{number}.test" for number in range(9)))
            await spool.put(name_of(2), "one.test", "two.test")
            await spool.age()
        return spool.directory

    directory = asyncio.run(story())
    [path] = directory.glob("shared/*.con")
    data = path.read_bytes()
    path.write_bytes(data.replace(CONTENT, CONTENT.replace(b"body", b"bodx"), 1))
    damage, lost = verified(directory).faults
    assert damage.endswith("are no whole record")
    assert "there is no content at" in lost and lost.endswith(f"; needed by 9 deliveries, {name_of(1)} the first")


def test_a_segment_that_is_gone_is_a_fault_and_an_export_tells_of_it(tmp_path: Path) -> None:
    """Its index is there and says how many lived in it; those that ended since then are not counted."""
    directory = asyncio.run(a_spool(tmp_path))
    segment = next(directory.glob("mail/*/*.seg"))
    segment.unlink()
    told = [f"mail/=small/{segment.name} is gone; its index lists 3 deliveries"]
    assert verified(directory).faults == told
    with SnapshotFiles(directory) as files:
        extract = Extract([SpoolView(directory, files)], Scope.parse("*", None).rows)
        stream = b"".join(extract.pieces("old.test/0", 3000.0, "*"))
    assert (extract.problems, names(stream)) == (told, [(name_of(4), 0), (name_of(5), 0)])


def test_verify_finds_a_message_that_its_index_forgot(tmp_path: Path) -> None:
    """An index of what lived at another time, with a valid checksum."""

    async def story() -> Path:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), "one.test")
            await spool.age()
            [segment] = [s for s in spool.spool.segments.values() if s.path.suffix == ".seg"]
            row = spool.rows()[0]
            await spool.put(name_of(2), "one.test")
            await spool.age()
            columns = spool.spool.table.columns(np.array([row], dtype=np.uint32))
            short = encode_index(segment, columns, spool.spool.texts)
        segment.index.write_bytes(short)
        return spool.directory

    faults = verified(asyncio.run(story())).faults
    assert [fault for fault in faults if name_of(2) in fault and "not in the index" in fault]


def test_verify_finds_a_delivery_that_lives_twice(tmp_path: Path) -> None:
    directory = asyncio.run(a_spool(tmp_path))
    own = next(directory.glob("mail/*/*.seg"))
    other = directory / "mail" / "other.test"
    other.mkdir()
    for path in (own, own.with_suffix(".sta"), own.with_suffix(".idx")):
        if path.suffix != ".idx":
            shutil.copy(path, other / path.name)
    assert [fault for fault in verified(directory).faults if "lives twice" in fault]


def test_a_spool_of_a_later_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("engine.storage.spool.records.VERSION", 2)
        asyncio.run(a_spool(tmp_path))
    with pytest.raises(StorageError, match="a version this program does not know"):
        verified(tmp_path / "spool" / "0")


# Figures.


def test_figures_of_a_running_and_of_a_stopped_spool_agree(tmp_path: Path) -> None:
    async def story() -> tuple[dict[str, object], Path]:
        async with bench(tmp_path) as spool:
            await both_generations(spool)
            survey = Survey(spool.spool.segments)
            for rows in spool.spool.table.select():
                survey.add(spool.spool.table.columns(rows, NEEDED))
            return survey.row(1000.0, 5), spool.directory

    running, directory = asyncio.run(story())
    with SnapshotFiles(directory) as files:
        view = SpoolView(directory, files)
        survey = Survey(view.segments)
        for part in view.parts():
            survey.unindexed += len(part.unindexed)
            for rows in part.table.select():
                survey.add(part.table.columns(rows, NEEDED))
    stopped = survey.row(1000.0, 5)
    assert stopped["clean"]
    assert [(row["folder"], row["deliveries"], row["recipients"]) for row in stopped["folders"]] == [("=small", 3, 5)]
    for key in ("deliveries", "recipients", "oldest_s"):
        assert running[key] == stopped[key]
    assert (stopped["deliveries"], stopped["recipients"]) == (5, 9)


# Large contents.


async def a_large_one(path: Path) -> tuple[Path, bytes]:
    """A spool with one content in a file of its own, for two destinations, one of them in the old generation."""
    rest = b"A line of a large message.\r\n" * 20_000
    async with bench(path) as spool:
        writer = spool.spool.large()
        writer.feed(rest)
        content = await writer.finish(CONTENT)
        await spool.put(name_of(1), "one.test", "two.test", content=content)
        await spool.age()
    return spool.directory, CONTENT + rest


def test_a_large_content_is_verified_exported_and_taken_in(tmp_path: Path) -> None:
    async def story() -> None:
        directory, content = await a_large_one(tmp_path / "old")
        assert verified(directory).faults == []
        stream = exported(directory)
        async with bench(tmp_path / "new") as new:
            importer = Importer(new.spool)
            await importer.feed(stream)
            await importer.end()
            assert [live[-1] for live in (await new.live()).values()] == [content, content]

    asyncio.run(story())


def test_verify_finds_a_large_content_that_is_gone_or_damaged(tmp_path: Path) -> None:
    directory, _ = asyncio.run(a_large_one(tmp_path))
    [path] = directory.glob("large/*.dat")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    [fault] = verified(directory).faults
    assert fault.startswith(f"large/{path.name}: ") and f"; needed by 2 deliveries, {name_of(1)} the first" in fault
    path.unlink()
    assert verified(directory).faults
