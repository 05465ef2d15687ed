"""The table of opt-outs and its command: the last word holds, what was said is kept, a running daemon sees changes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.cli.main import main
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.optouts import OptOut, OptOuts
from tests.support.clock import FakeClock

PHONE = "+447700900123"


def row(sender: str = "60999", recipient: str = PHONE, at: float = 1.0) -> OptOut:
    return OptOut(sender=sender, recipient=recipient, at=at, cause="answer", message="m", evidence="STOP")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "providers.toml").write_text("")
    path = tmp_path / "postrider.toml"
    path.write_text("[node]\ndata_dir = 'data'\n")
    return path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(config: Path, clock: FakeClock) -> Iterator[OptOuts]:
    (config.parent / "data").mkdir()
    db = Grouped(config.parent / "data" / "sms.db")
    table = OptOuts(db, clock)
    yield table
    table.close()
    db.close_now()


def postrider(config: Path, *argv: str) -> int:
    return main(["sms", "optout", *argv, "-c", str(config)])


def test_the_last_word_holds_and_none_is_lost(table: OptOuts, clock: FakeClock) -> None:
    async def story() -> None:
        for n, suppressed in enumerate((True, False, True)):
            await table.set(row(at=float(n)), suppressed)
            assert table.suppressed("60999", PHONE) is suppressed
        await table.set(row("other"), True)
        await table.set(row("other"), False)

    asyncio.run(story())
    clock.advance(5)
    assert table.suppressed("60999", PHONE)
    assert [(entry.sender, entry.at) for entry in table.entries()] == [("60999", 2.0)]
    assert table._grouped.read("select count(*) from optouts") == [(5,)]


def test_numbers_and_senders_are_compared_as_carriers_write_them(table: OptOuts) -> None:
    asyncio.run(_set(table, row("+Acme")))
    assert table.suppressed("ACME", PHONE[1:]) and table.suppressed("acme", PHONE)
    assert not table.suppressed("acme2", PHONE) and not table.suppressed("", PHONE)


async def _set(table: OptOuts, entry: OptOut, suppressed: bool = True) -> None:
    await table.set(entry, suppressed)


def test_it_holds_before_it_is_written(table: OptOuts, clock: FakeClock) -> None:
    """And what of the same pair is older in the table changes nothing."""

    async def story() -> None:
        await table.set(row(), False)
        stored = table.set(row(), True)
        clock.advance(5)
        assert table.suppressed("60999", PHONE)
        await stored

    asyncio.run(story())


def test_a_write_that_fails_says_so_and_suppresses_all_the_same(table: OptOuts, clock: FakeClock) -> None:
    table._grouped.change("alter table optouts rename to gone")

    async def story() -> None:
        with pytest.raises(StorageError):
            await table.set(row(), True)
        assert table.suppressed("60999", PHONE)
        clock.advance(5)
        assert table.suppressed("60999", PHONE)  # the table cannot be read either

    asyncio.run(story())


def test_one_bad_change_takes_no_other_with_it(table: OptOuts) -> None:
    async def story() -> None:
        stored = [table.set(row("a"), True), table.set(row("b\ud800"), True), table.set(row("c"), True)]
        results = await asyncio.gather(*stored, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), StorageError, type(None)]

    asyncio.run(story())
    assert [entry.sender for entry in table.entries()] == ["a", "c"]


def test_the_command_and_a_running_daemon(
    config: Path, table: OptOuts, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert postrider(config, "add", "60999", PHONE, "--note", "wrote a letter") == 0
    clock.advance(1)
    assert table.suppressed("60999", PHONE)
    assert postrider(config, "add", "60999", PHONE) == 0
    assert "already" in capsys.readouterr().out
    assert postrider(config, "list", "--json") == 0
    [listed] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (listed["recipient"], listed["cause"], listed["evidence"]) == (PHONE[1:], "operator", "wrote a letter")
    assert postrider(config, "remove", "60999", PHONE) == 0
    clock.advance(1)
    assert not table.suppressed("60999", PHONE)
    assert postrider(config, "remove", "60999", PHONE) == 1
    assert "not suppressed" in capsys.readouterr().err
    assert postrider(config, "list") == 0


@pytest.mark.parametrize("argv", [("60999", "nobody"), ("", PHONE), ("x" * 22, PHONE), ("60999", "+" + "1" * 16)])
def test_what_is_no_number_is_refused(config: Path, argv: tuple[str, str]) -> None:
    assert postrider(config, "add", *argv) == 2


def test_the_command_without_a_data_dir(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert postrider(config, "list", "--json") == 0
    assert capsys.readouterr().out == ""
    assert (config.parent / "data" / "sms.db").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "sms.db").write_text("no database, and long enough to be looked at" * 50)
    with pytest.raises(StorageError):
        Grouped(tmp_path / "sms.db")
