"""The table of sent SMS: what is committed survives the process; nothing is lost when the disk takes nothing."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import StorageError
from engine.message.sms import SentPart
from engine.protocol.receipt_ids import Form, form_of, forms, looked_up_as, lookups, stored_as
from engine.storage.tables import sent, sent_db
from engine.storage.tables.sent import SentTable
from engine.storage.tables.sent_db import ParkedRow, Row
from tests.support.sms_stage import play, until


def part(carrier_id: str = "1", number: int = 1, parts: int = 1, **more: object) -> SentPart:
    fields: dict[str, object] = {
        "carrier": "one", "message": "m", "index": 0, "sent_at": 1.0, "deadline": 10.0, "sender": "ACME",
        "recipient": "+447700900123",
    }  # fmt: skip
    return SentPart(carrier_id=carrier_id, part=number, parts=parts, **(fields | more))  # type: ignore[arg-type]


async def find(table: SentTable, id: str, carrier: str = "one") -> list[Row]:
    found: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
    table.find((carrier, looked_up_as(id)), found.set_result)
    return await found


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes into the database, and does not end."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    yield
    other.execute("rollback")
    other.close()


ids = st.one_of(
    st.integers(0, 5000).map("{:x}".format), st.integers(0, 5000).map(str), st.integers(0, 5000).map("{:06X}".format),
    st.integers(0, 1 << 256).map("{:x}".format), st.text(max_size=70),
)  # fmt: skip


@given(ids, ids)
def test_one_form_in_the_table_finds_what_all_forms_would(stored: str, other: str) -> None:
    for told in (other, stored, stored.upper(), *(text for _, text in forms(stored))):
        meant = [form for form, text in forms(stored) if text in lookups(told)]
        assert (form_of(stored, told) is not None) == bool(meant)
        if meant:
            assert stored_as(stored) in looked_up_as(told), (stored, told)
            assert form_of(stored, told) is (Form.EXACT if stored == told else meant[0])


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        one = table.new_keys(2.0, 2)
        long = [part("00Ab", 1, 2, price="0.03"), part("c", 2, 2)]
        table.add(one, long, ["ab", "c"])
        other = table.new_keys(2.0)
        table.add(other, [part("é\ud800", recipient="+49", deadline=5.0)], ["é\ud800"])
        await table.park(ParkedRow(table.new_keys(2.0), "one", 2.0, "00ff"))
        table.update([(one, 2, 0)])
        assert (one, other) == (2_000_000, 2_000_002)
        await table.close()
        assert (tmp_path / "sms.db").stat().st_mode & 0o777 == 0o600

        table = SentTable(tmp_path / "sms.db")
        assert table.new_keys(1.0) == 2_000_004, "no key twice, whatever the clock says"
        rows = [Row(one, 2, 0, long[0]), Row(one + 1, None, 0, long[1])]
        assert await find(table, "AB") == rows, "with the other parts"
        assert await find(table, "AB", "two") == await find(table, "ab0") == []
        assert [row.key for row in table.waiting(2)] == [one + 1, other]
        assert table.last_to("+447700900123") == long[1] and table.last_to("+44") is None
        assert [row.part for row in table.of_message("m")][:2] == long
        assert table.parked() == [ParkedRow(2_000_003, "one", 2.0, "00ff")]
        assert [row.key for row in await table.overdue(7.0, 10)] == [other]
        assert await table.overdue(11.0, 1) != []
        await table.unpark([2_000_003])
        assert table.parked() == []
        table.update([(other, None, 1)])
        assert await table.prune(3.0, 10) == 1, "what is waited for stays"
        assert len(table.of_message("m")) == 2
        await table.close()

    play(story)


def test_what_is_not_committed_yet_is_the_last_to_its_number(tmp_path: Path) -> None:
    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        table.add(1, [part("1"), part("2")], ["1", "2"])
        for _ in range(50):
            found = table.last_to("+447700900123")
            assert found is not None and found.carrier_id == "2"
            await asyncio.sleep(0.0005)
        await table.close()

    play(story)


def test_a_disk_that_takes_nothing_keeps_nobody_waiting_and_gets_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "RETRY_S", 0.01)
    monkeypatch.setattr(sent_db, "_BUSY_S", 0.0)

    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        with locked(tmp_path / "sms.db"):
            assert table.add(1, [part("1")], ["1"]) is None, "it survives the process already"
            assert await find(table, "1") == [] and table.failure is not None
            table.add(2, [part("2")], ["2"])
            assert await find(table, "9") == [], "nobody waits for good"
        await until(lambda: table.failure is None)
        assert [row.part.carrier_id for row in table.of_message("m")] == ["1", "2"]
        await table.close()

    play(story)


def test_a_path_that_is_none_is_an_error(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "link").symlink_to(tmp_path / "sms.db")
        for path in (tmp_path / "link", tmp_path / "no" / "sms.db", tmp_path):
            with pytest.raises(StorageError):
                SentTable(path)

    play(story)


_WRITER = """
import asyncio, sys
from pathlib import Path
from engine.storage.tables.sent import SentTable
from tests.unit.test_sent_table import part

async def main():
    table = SentTable(Path(sys.argv[1]))
    n = 0
    while True:
        for _ in range(20):
            key = table.new_keys(1.0)
            assert table.add(key, [part(str(n))], [str(n)]) is None
            assert table.update([(key, n, n % 2)]) is None
            n += 1
        print(n, flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_what_was_added_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "sms.db"
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 2000:  # some of it is in the database, some is not
                break
        os.kill(process.pid, signal.SIGKILL)
        said = max([2000, *(int(line) for line in process.stdout if line.endswith("\n"))])

    async def story() -> None:
        table = SentTable(path)
        there = [(row.part.carrier_id, row.state, row.fate) for row in table.of_message("m")]
        assert there[:said] == [(str(n), n, n % 2) for n in range(said)]
        assert len(await find(table, "1")) == 1
        await table.close()

    play(story)


def killed(path: Path, *stories: str) -> None:
    """Run each in a process of its own, which ends without any clean-up; `table` is there."""
    for story in stories:
        code = _STORY.format(story=textwrap.indent(story, "    "))
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[2])


_STORY = """
import asyncio, os, sys
from pathlib import Path
from engine.storage.tables.sent import SentTable
from tests.unit.test_sent_table import find, part

async def main():
    table = SentTable(Path(sys.argv[1]))
{story}
    os._exit(0)

asyncio.run(main())
"""


def test_what_ended_is_not_waited_for_again_after_many_kills(tmp_path: Path) -> None:
    add = 'table.add({0}, [part("{0}")], ["{0}"])'
    killed(
        tmp_path / "sms.db",
        add.format(1) + "\ntable.update([(1, 5, 1)])",
        'assert [row.fate for row in await find(table, "1")] == [1]\ntable.update([(1, 4, 0)])\n' + add.format(2),
        "table.update([(2, 6, 2), (1, 7, 2)])",
    )

    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        assert [(row.key, row.state, row.fate) for row in table.of_message("m")] == [(1, 7, 2), (2, 6, 2)]
        assert table.waiting(9) == []
        await table.close()

    play(story)


def test_what_the_ring_has_no_room_for_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "_RING_BYTES", 1000)
    monkeypatch.setattr(sent, "_LATER_S", 3600.0)

    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        keys = [table.new_keys(1.0) for _ in range(50)]
        waits = [table.add(key, [part(str(key))], [str(key)]) for key in keys]
        first = next(number for number, wait in enumerate(waits) if wait is not None)
        assert 1 <= first < 10 and all(wait is not None for wait in waits[first:])
        assert table.busy and waits[first] is waits[-1]
        await asyncio.wait_for(waits[-1], 60)  # type: ignore[arg-type]
        killed(tmp_path / "sms.db", "assert len(table.of_message('m')) == 50")
        assert table.add(table.new_keys(1.0), [part("x")], ["x"]) is None, "there is room again"
        await table.close()

    play(story)


def test_what_is_pending_is_found_pruned_and_overdue_as_if_it_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "_LATER_S", 3600.0)

    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        table.add(1, [part("1")], ["1"])
        assert [row.key for row in await find(table, "1")] == [1]
        table.add(2, [part("2", message="n", recipient="+1")], ["2"])
        table.update([(1, 3, 1), (2, 4, 0)])
        table.add_ended(3, part("3", message="n", recipient="+1"), 9, 1)
        assert not table.busy
        assert [(row.key, row.state, row.fate) for row in table.of_message("n")] == [(2, 4, 0), (3, 9, 1)]
        assert [(row.key, row.state) for row in table.of_message("m")] == [(1, 3)]
        assert table.last_to("+1") == part("2", message="n", recipient="+1"), "the other was sent to nobody"
        assert [row.key for row in await table.overdue(11.0, 10)] == [2]
        table.update([(2, 5, 2)])
        assert await table.prune(1.0, 10) == 3
        await table.close()

    play(story)


def test_what_is_heard_of_during_a_look_is_not_overdue(tmp_path: Path) -> None:
    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        for key in (1, 2, 3):
            table.add(key, [part(str(key), message=f"m{key}")], [str(key)])
        assert [row.key for row in await table.overdue(11.0, 10)] == [1, 2, 3]
        looking = asyncio.ensure_future(table.overdue(11.0, 10))
        await asyncio.sleep(0)  # the thread has it now; its answer cannot come before this turn is over
        table.update([(2, 2, 1)])
        assert [row.key for row in await looking] == [1, 3]
        table.add(4, [part("4", message="m4")], ["4"])
        looking = asyncio.ensure_future(table.overdue(11.0, 10))
        while table._under_way is None:  # noqa: ASYNC110  # the table tells nobody
            await asyncio.sleep(0)
        table.update([(3, 2, 1)])
        assert [row.key for row in await looking] == [1, 4], "also while what came before is written"
        await table.close()

    play(story)


def test_a_change_survives_a_kill_between_the_database_and_the_ring(tmp_path: Path) -> None:
    killed(
        tmp_path / "sms.db",
        """
table._ring.drop = lambda end: None
table.add(1, [part("1")], ["1"])
await find(table, "1")
table.update([(1, 5, 1)])
""",
    )

    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        assert [(row.state, row.fate) for row in table.of_message("m")] == [(5, 1)]
        await table.close()

    play(story)


def test_the_last_change_counts_also_after_writes_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "RETRY_S", 0.01)
    monkeypatch.setattr(sent_db, "_BUSY_S", 0.0)

    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        with locked(tmp_path / "sms.db"):
            table.add(1, [part("1")], ["1"])
            looked_up = asyncio.ensure_future(find(table, "1"))
            await until(lambda: table._under_way is not None)
            table.update([(1, 3, 0)])
            await looked_up
            assert table.failure is not None
            table.update([(1, 5, 1)])
        assert [(row.state, row.fate) for row in table.of_message("m")] == [(5, 1)]
        await until(lambda: table.failure is None and not table.busy)
        assert [(row.state, row.fate) for row in table.of_message("m")] == [(5, 1)]
        await table.close()

    play(story)


def test_what_cannot_be_looked_up_keeps_nothing_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        table = SentTable(tmp_path / "sms.db")
        real = sent_db.SentDb.find
        monkeypatch.setattr(sent_db.SentDb, "find", lambda *_: (_ for _ in ()).throw(sqlite3.DatabaseError("torn")))
        parked = table.park(ParkedRow(5, "one", 1.0, "00"))
        assert await find(table, "1") == []
        await parked
        assert table.failure is None and table.parked() == [ParkedRow(5, "one", 1.0, "00")]
        monkeypatch.setattr(sent_db.SentDb, "find", real)
        table.add(6, [part("1")], ["1"])
        assert len(await find(table, "1")) == 1
        await table.close()

    play(story)
