"""Parts put together: by set, in time, within bounds, and none lost."""

from dataclasses import replace
from itertools import permutations

import pytest

from engine.protocol.sms_alphabets import Fault
from engine.protocol.sms_reassembly import Assembled, Key, Piece, Reassembly

KEY = Key("carrier", "491701234567", "12345", 7, 3)
ONE, TWO, THREE = Piece(b"one ", id="1"), Piece(b"two ", id="2"), Piece(b"three", id="3")


def add_all(reassembly: Reassembly, *numbered: tuple[int, Piece], key: Key = KEY, now: float = 0) -> list[Assembled]:
    return [out for number, piece in numbered for out in reassembly.add(key, number, piece, now)]


@pytest.mark.parametrize("order", list(permutations([(1, ONE), (2, TWO), (3, THREE)])))
def test_complete_when_every_number_is_there_in_whatever_order(order: list[tuple[int, Piece]]) -> None:
    reassembly = Reassembly()
    assert add_all(reassembly, *order[:2]) == []
    [done] = add_all(reassembly, order[2])
    assert (done.pieces, done.missing, done.decode().text) == ((ONE, TWO, THREE), (), "one two three")
    assert (reassembly.messages, reassembly.body_bytes, reassembly.due_at()) == (0, 0, None)


def test_repetitions_are_ignored_before_and_after() -> None:
    reassembly = Reassembly()
    again = replace(ONE, id="another")
    assert add_all(reassembly, (1, ONE), (1, again), (2, TWO), (1, ONE)) == []
    assert len(add_all(reassembly, (3, THREE))) == 1
    assert add_all(reassembly, (2, TWO), (1, again), now=299) == []
    assert reassembly.messages == 0
    add_all(reassembly, (2, TWO), now=300)
    assert reassembly.messages == 1, "by now it is another message"


def test_one_missing_is_not_complete_however_many_come() -> None:
    reassembly = Reassembly()
    assert add_all(reassembly, *[(1, ONE), (2, TWO)] * 5) == []
    assert reassembly.messages == 1


@pytest.mark.parametrize("field", ["carrier", "source", "destination", "reference", "total"])
def test_each_part_of_the_key_tells_messages_apart(field: str) -> None:
    reassembly = Reassembly()
    other = replace(KEY, **{field: 9 if field in ("reference", "total") else "other"})
    add_all(reassembly, (1, ONE), (2, TWO))
    add_all(reassembly, (3, THREE), key=other)
    assert reassembly.messages == 2


def test_partial_after_thirty_minutes_with_marks() -> None:
    reassembly = Reassembly()
    add_all(reassembly, (2, TWO), now=10)
    add_all(reassembly, (3, THREE), now=1000)
    add_all(reassembly, (1, ONE), key=replace(KEY, reference=8), now=20)
    assert reassembly.due_at() == 1810
    assert reassembly.expire(1809.9) == []
    [partial] = reassembly.expire(1810)
    assert (partial.missing, partial.first_at) == ((1,), 10)
    assert partial.decode().text == "[part 1 of 3 is missing]two three"
    [other] = reassembly.expire(5000)
    assert other.decode().text == "one [part 2 of 3 is missing][part 3 of 3 is missing]"
    assert (reassembly.messages, reassembly.body_bytes) == (0, 0)


def test_a_reference_used_again_begins_a_new_message_and_loses_nothing() -> None:
    reassembly = Reassembly()
    add_all(reassembly, (1, ONE), (2, TWO))
    [old] = add_all(reassembly, (1, Piece(b"uno ")))
    assert (old.pieces, old.missing) == ((ONE, TWO, None), (3,))
    [new] = add_all(reassembly, (3, Piece(b"tres")), (2, Piece(b"dos ")))
    assert new.decode().text == "uno dos tres"
    [next_one] = add_all(reassembly, (1, ONE), (2, TWO), (3, THREE))
    assert next_one.missing == (), "also at once after a complete one"


def test_the_oldest_make_room() -> None:
    reassembly = Reassembly(max_messages=2)
    for reference in (1, 2):
        assert add_all(reassembly, (1, ONE), key=replace(KEY, reference=reference)) == []
    [oldest] = add_all(reassembly, (1, ONE), key=replace(KEY, reference=3))
    assert (oldest.key.reference, oldest.missing) == (1, (2, 3))

    reassembly = Reassembly(max_bytes=10)
    add_all(reassembly, (1, ONE), (2, TWO))
    [oldest] = add_all(reassembly, (1, ONE), key=replace(KEY, reference=3))
    assert oldest.pieces == (ONE, TWO, None)
    assert reassembly.body_bytes == 4


def test_a_character_that_the_sender_cut_is_whole_again() -> None:
    smile = "😀".encode("utf-16-be")
    key = replace(KEY, total=2)
    [done] = add_all(Reassembly(), (1, Piece(b"\0a" + smile[:2], 8)), (2, Piece(smile[2:], 8)), key=key)
    assert (done.decode().text, done.decode().faults) == ("a😀", Fault.NONE)
    [done] = add_all(Reassembly(), (2, Piece(b"e")), (1, Piece(b"5 \x1b")), key=key)
    assert (done.decode().text, done.decode().faults) == ("5 €", Fault.NONE)


def test_parts_in_different_codings_are_read_each_in_its_own() -> None:
    key = replace(KEY, total=2)
    [done] = add_all(Reassembly(), (1, Piece(b"hi ")), (2, Piece("привет".encode("utf-16-be"), 8)), key=key)
    assert done.decode().text == "hi привет"
    [done] = add_all(Reassembly(), (1, Piece(b"\1", 4)), (2, Piece(b"\2", 4)), key=key)
    assert done.decode().text is None
