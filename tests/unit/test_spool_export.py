"""What an export has of a spool: every delivery once, with its state; and a snapshot that holds still."""

import asyncio
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.message.outcome import Status
from engine.queue.scope import Scope
from engine.storage.spool.extract import Extract
from engine.storage.spool.snapshot import SnapshotFiles
from engine.storage.spool.view import SpoolView
from tests.support.spool_tools import ALL_FIVE, bench, both_generations, exported, messages, name_of, names


def test_export_has_every_delivery_once_with_its_state_and_content_running_or_stopped(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as spool:
            await both_generations(spool)
            live = await spool.live()
            running = exported(spool.directory)
        for stream in (running, exported(spool.directory)):
            found = {
                (one.envelope.id, number): (tuple(snapshot[1]), snapshot[3], snapshot[2], one.content)
                for one in messages(stream)
                for number, snapshot in one.deliveries.items()
            }
            assert found == live
            assert names(stream) == ALL_FIVE
        async with bench(tmp_path) as spool:
            assert await spool.live() == live
        tried = next(one for one in messages(running) if one.envelope.id == name_of(1))
        assert tried.deliveries[0] == ["one.test", (1,), 2000.0, 1, (), 0, "said"]

    asyncio.run(story())


def test_export_tells_nobody_of_recipients_elsewhere(tmp_path: Path) -> None:
    async def story() -> bytes:
        async with bench(tmp_path) as spool:
            await spool.put(name_of(1), "one.test", "two.test")
            return exported(spool.directory, "two.test")

    [only] = messages(asyncio.run(story()))
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
