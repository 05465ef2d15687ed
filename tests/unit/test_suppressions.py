"""Suppressions: the table, its filter in memory, what other processes change, and who was erased."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.errors import StorageError
from engine.storage.tables import suppressions
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.suppression import KEY_NAME, MAIL, SMS, Cause, Hasher, Suppression, load_key, one_line
from engine.storage.tables.suppression_entries import LIFTED, Entries
from engine.storage.tables.suppression_table import SuppressionTable
from engine.storage.tables.suppressions import Suppressions
from tests.support.clock import FakeClock

ADA = "ada@example.org"
Story = Callable[[Suppressions], Coroutine[Any, Any, None]]


def row(address: str = ADA, **more: Any) -> Suppression:
    return Suppression(**{"address": address, "cause": Cause.HARD_BOUNCE, "since": 1.0, "who": "test"} | more)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[SuppressionTable]:
    """As another process has it."""
    table = SuppressionTable(tmp_path)
    yield table
    table.close()


def run(path: Path, clock: FakeClock, *stories: Story) -> None:
    """Each story is a life of the process."""

    async def life(story: Story) -> None:
        known = Suppressions(path, clock)
        try:
            await story(known)
        finally:
            await known.close()

    for story in stories:
        asyncio.run(life(story))


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, LIFTED, 50, 200])), max_size=60), st.randoms())
@settings(deadline=None)
def test_the_arrays_know_what_a_dictionary_knows(changes: list[tuple[int, int]], rng: random.Random) -> None:
    """In however many steps they are made; numbers from all of the range, near each other, too."""
    spread = [rng.choice((n, (1 << 63) - 1 - n, n << 57)) for n in range(41)]
    entries, known, cut = Entries.none(), dict[int, int](), rng.randrange(len(changes) + 1)
    for part in (changes[:cut], changes[cut:]):
        numbers = np.array([spread[n] for n, _ in part], np.uint64)
        entries = entries.changed(numbers, np.array([until for _, until in part], np.uint32), now=100.0)
    for n, until in changes:
        known[spread[n]] = until
    for number in spread:
        until = known.get(number)
        assert entries.until(number) == (until if until in (0, 200) else None)
    assert len(entries) == sum(until in (0, 200) for until in known.values())


def test_who_is_found_in_each_state_of_the_memory(
    tmp_path: Path, clock: FakeClock, table: SuppressionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table itself right after a start, recent changes, arrays: the same answers."""
    monkeypatch.setattr(suppressions, "MAX_RECENT", 3)
    table.add([
        row(), row("b@x.org", tenant="shop"), row("c@x.org", tenant="shop", stream="news"),
        row("late@x.org", until=clock.time() + 10), row("447700900123", channel=SMS, stream="acme"),
        row("447700900124", channel=SMS), row("447700900125", channel=SMS, tenant="shop"),
    ])  # fmt: skip

    def ask(known: Suppressions) -> None:
        assert known.mail(ADA) and known.mail("Ada@EXAMPLE.org", "anyone", "any")
        assert [known.mail("b@x.org", *scope) for scope in ((), ("shop",), ("bank",))] == [False, True, False]
        streams = (("shop",), ("shop", "news"), ("bank", "news"), ("", "news"))
        assert [known.mail("c@x.org", *scope) for scope in streams] == [False, True, False, False]
        assert known.mail("late@x.org") is (clock.time() < late)
        assert not known.mail("d@x.org", "shop", "news")
        assert known.sms("+ACME", "+447700900123", "any") and not known.sms("bank", "447700900123")
        assert known.sms("any", "+447700900124") and not known.mail("447700900124")
        assert known.sms("any", "447700900125", "shop") and not known.sms("any", "447700900125", "bank")
        assert known.holds(row()) and not known.holds(row(tenant="shop"))
        assert not known.holds(row("late@x.org")) and not known.holds(row("d@x.org"))

    late = clock.time() + 10

    async def story(known: Suppressions) -> None:
        ask(known)
        clock.advance(20)
        ask(known)
        await known.grow()
        ask(known)
        assert len(known) == 6  # what has lapsed is not kept
        await known.add(row("e@x.org"))
        assert known.mail("e@x.org")
        assert known.holds(row("e@x.org", until=clock.time() + 5))
        for n in range(4):
            await known.add(row(f"{n}@x.org"))
        await known.upkeep()
        assert known._growing is not None
        await known._growing
        await known.upkeep()
        assert known.mail("3@x.org") and not known._recent
        ask(known)

    run(tmp_path, clock, story)


def test_what_another_process_changes_is_seen_within_a_second(
    tmp_path: Path, clock: FakeClock, table: SuppressionTable
) -> None:
    async def story(known: Suppressions) -> None:
        assert not known.mail(ADA)
        table.add([row()])
        clock.advance(1)
        assert known.mail(ADA)
        table.lift([row(cause=Cause.MANUAL)])
        clock.advance(1)
        assert not known.mail(ADA)

    run(tmp_path, clock, story)


def test_a_large_import_is_seen_at_once_and_then_kept_in_memory(
    tmp_path: Path, clock: FakeClock, table: SuppressionTable
) -> None:
    async def story(known: Suppressions) -> None:
        assert not known.mail("0@x.org")
        assert table.add([row(f"{n}@x.org") for n in range(2500)]) == 2500
        clock.advance(1)
        assert known.mail("0@x.org") and known.mail("2499@x.org") and not known.mail("2500@x.org")
        table.lift([row("7@x.org")])
        assert not known.mail("7@x.org")
        await known.grow()
        assert known.mail("2499@x.org") and not known.mail("7@x.org") and len(known) == 2499
        assert table.add([row("7@x.org"), row("8@x.org")]) == 1
        clock.advance(1)
        assert known.mail("7@x.org")

    run(tmp_path, clock, story)


def test_what_is_changed_while_the_arrays_are_made_is_not_lost(
    tmp_path: Path, clock: FakeClock, table: SuppressionTable
) -> None:
    table.add([row(f"{n}@x.org") for n in range(50)])

    async def story(known: Suppressions) -> None:
        growing = asyncio.create_task(known.grow())
        await asyncio.sleep(0)
        stored = [known.add(row()), known.lift(row("1@x.org"))]
        table.add([row("other@x.org")])
        await growing
        assert known.mail(ADA) and not known.mail("1@x.org") and known.mail("other@x.org")
        await asyncio.gather(*stored)
        await known.grow()
        assert known.mail(ADA) and not known.mail("1@x.org") and known.mail("2@x.org")

    run(tmp_path, clock, story)


def test_F2_it_holds_before_it_is_written_and_if_it_cannot_be(tmp_path: Path, clock: FakeClock) -> None:
    async def story(known: Suppressions) -> None:
        await known.add(row())
        stored = known.lift(row())
        clock.advance(5)
        assert not known.mail(ADA)
        await stored
        known.db.change("alter table suppressions rename to gone")
        with pytest.raises(StorageError):
            await known.add(row())
        clock.advance(5)
        assert known.mail(ADA)  # nor can the table be read
        known.db.change("alter table gone rename to suppressions")
        await known.grow()
        assert known.mail(ADA)

    run(tmp_path, clock, story)


def test_a_table_that_is_asked_and_does_not_answer_is_an_error(
    tmp_path: Path, clock: FakeClock, table: SuppressionTable
) -> None:
    table.add([row()])

    async def story(known: Suppressions) -> None:
        known.db.change("alter table suppressions rename to gone")
        with pytest.raises(StorageError):
            known.mail(ADA)

    run(tmp_path, clock, story)


def test_one_bad_change_takes_no_other_with_it(tmp_path: Path, clock: FakeClock) -> None:
    async def story(known: Suppressions) -> None:
        stored = [known.add(row(address)) for address in ("a", "b\ud800", "c")]
        results = await asyncio.gather(*stored, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), StorageError, type(None)]

    async def after(known: Suppressions) -> None:
        assert [known.mail(address) for address in "abc"] == [True, False, True]

    run(tmp_path, clock, story, after)


def test_why(tmp_path: Path, clock: FakeClock, table: SuppressionTable) -> None:
    table.add([row(since=1_700_000_000.0), row("b@x.org", tenant="shop", cause=Cause.COMPLAINT)])

    async def story(known: Suppressions) -> None:
        assert await known.why("ADA@example.org") == "the recipient is suppressed: hard bounce, since 2023-11-14"
        assert "complaint" in await known.why("b@x.org", "shop")
        assert await known.why("b@x.org", "bank") == "the recipient is suppressed"

    run(tmp_path, clock, story)


def test_what_is_held_as_long_is_not_added_again(table: SuppressionTable) -> None:
    assert table.add([row(until=5.0), row(until=5.0), row(until=4.0)]) == 1
    assert table.add([row(until=6.0), row(tenant="shop"), row()]) == 3
    assert table.add([row(), row(until=9.0)]) == 0
    person = table.hasher.person(MAIL, ADA)
    assert {(held.scope, held.until) for held in table.held(person, now=100.0)} == {("global", 0.0), ("tenant", 0.0)}
    table.lift([row(tenant="shop", evidence="asked  us\r\nto")])
    assert [held.scope for held in table.held(person, 100.0)] == ["global"]
    assert [(one.evidence, lifted) for one, lifted in table.history(person)][-1] == ("asked us to", True)
    assert [held.address for held in table.all_held(100.0)] == [ADA]
    assert list(table.all_held(100.0, channel=SMS)) == list(table.all_held(100.0, cause="stop")) == []


def test_of_an_erased_person_nothing_is_left_but_a_keyed_hash(
    tmp_path: Path, clock: FakeClock, table: SuppressionTable
) -> None:
    table.add([row(evidence=f"550 {ADA} unknown"), row(tenant="shop"), row("b@x.org")], (1.0, ADA, "added"))

    async def story(known: Suppressions) -> None:
        await known.grow()
        table.erase(MAIL, ADA, 2.0, "bob")
        clock.advance(1)
        assert known.mail(ADA) and "erased" in await known.why(ADA)
        table.lift([replace(held, who="bob") for held in table.held(table.hasher.person(MAIL, ADA), 9.0)])
        clock.advance(1)
        assert not known.mail(ADA) and not known.mail(ADA, "shop")  # the narrower scope is gone, too
        table.erase(MAIL, ADA, 2.0, "bob")

    run(tmp_path, clock, story)
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"b@x.org" in everything and b"ada@" not in everything
    assert (tmp_path / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert [event[2:] for event in table.owed_events()] == [("", "suppression: somebody was erased, by bob")] * 2


def test_a_table_of_another_key_is_refused(tmp_path: Path, table: SuppressionTable) -> None:
    (tmp_path / KEY_NAME).unlink()
    with pytest.raises(StorageError, match="another"):
        SuppressionTable(tmp_path)
    (tmp_path / KEY_NAME).write_bytes(b"short")
    with pytest.raises(StorageError, match="not a number"):
        SuppressionTable(tmp_path)


def test_an_installation_of_before_finds_whom_it_suppressed(tmp_path: Path) -> None:
    """The form of the key has changed; the hashes have not."""
    key = bytes(range(100, 132))
    (tmp_path / KEY_NAME).write_bytes(key)
    assert load_key(tmp_path).person(MAIL, "ada@example.org") == Hasher(key).person(MAIL, "ada@example.org")
    for text in (f"1 {'ab' * 32}\n2 {'cd' * 32}\n", f"1 {'ab' * 64}\n"):
        (tmp_path / KEY_NAME).write_text(text)
        (tmp_path / KEY_NAME).chmod(0o600)
        with pytest.raises(StorageError, match="not one key of 32 bytes"):
            load_key(tmp_path)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "suppression.db").write_text("no database, and long enough to be looked at" * 50)
    with pytest.raises(StorageError):
        SuppressionTable(tmp_path)


def test_persons_of_different_channels_and_scopes_are_told_apart() -> None:
    hasher = Hasher(b"k" * 32)
    numbers = {hasher.person(channel, text) for channel in (MAIL, SMS) for text in ("a", "b", "\ud800", "")}
    salts = {hasher.salt(*scope) for scope in (("", ""), ("a", ""), ("", "a"), ("a", "b"), ("ab", ""), ("", "ab"))}
    assert len(numbers) == 8 and len(salts) == 6
    assert all(0 <= number < 1 << 63 for number in numbers | salts)
    assert Hasher(b"j" * 32).person(MAIL, "a") not in numbers


@given(st.text())
@settings(deadline=None)
def test_evidence_is_one_line_that_can_be_stored(text: str) -> None:
    line = one_line(text)
    assert line.isprintable() and len(line) <= 500
    assert one_line(line) == line
    line.encode()


def test_old_opt_outs_are_taken_over_once(tmp_path: Path, clock: FakeClock) -> None:
    old = Grouped(tmp_path / "sms.db")
    old.change("""
        create table optouts (
            change integer primary key autoincrement, sender text not null, recipient text not null,
            suppressed integer not null, at real not null, cause text not null, message text not null,
            evidence text not null
        );
        create index optouts_of_pair on optouts (sender, recipient, change);
        insert into optouts (sender, recipient, suppressed, at, cause, message, evidence) values
            ('60999', '447700900123', 1, 5.0, 'answer', 'm1', 'STOP'),
            ('acme', '447700900123', 1, 6.0, 'operator', '', 'wrote a letter'),
            ('acme', '447700900123', 0, 7.0, 'operator', '', '');
    """)
    for _ in range(2):
        table = SuppressionTable(tmp_path)
        [held] = table.all_held(100.0)
        assert (held.stream, held.address, held.cause, held.since) == ("60999", "447700900123", Cause.STOP, 5.0)
        assert (held.evidence, held.message, held.who) == ("STOP", "m1", "phone")
        assert [lifted for _, lifted in table.history(held.person)] == [False, False, True]
        table.close()
    assert old.read("select name from sqlite_master where name like 'optouts%'") == []
    old.close_now()

    async def story(known: Suppressions) -> None:
        assert known.sms("60999", "+447700900123") and not known.sms("ACME", "+447700900123")

    run(tmp_path, clock, story)


def test_a_take_over_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "sms.db")
    db.execute("create table optouts (sender, recipient)")  # not what it should be
    db.commit()
    db.close()
    with pytest.raises(StorageError):
        SuppressionTable(tmp_path)
    with pytest.raises(StorageError):
        SuppressionTable(tmp_path)
