"""Ids that come back in another form than they were given out in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.receipt_ids import Form, Habit, forms, lookups

BIG = 0xB39E7745C0FF4713AE5C8F3B817F2C9A


def matched(given_out: str, receipt: str) -> Form | None:
    """The form by which a receipt finds the message."""
    stored = {text: form for form, text in forms(given_out)}
    return next((stored[text] for text in lookups(receipt) if text in stored), None)


@pytest.mark.parametrize(
    ("given_out", "receipt", "form"),
    [
        ("7", "7", Form.EXACT),
        ("0a1b", "0a1b", Form.EXACT),
        ("0A1B", "0a1b", Form.FOLDED),
        ("0a1b", "0A1B", Form.EXACT),
        ("0000000007", "7", Form.STRIPPED),
        ("7", "0000000007", Form.EXACT),
        ("000A1B", "a1b", Form.STRIPPED),
        ("00", "0", Form.STRIPPED),
        ("0A1B", "2587", Form.DECIMAL),
        ("A1B", "0000002587", Form.DECIMAL),
        ("2587", "a1b", Form.HEXADECIMAL),
        ("0002587", "00000A1B", Form.HEXADECIMAL),
        (f"{BIG:x}", str(BIG), Form.DECIMAL),
        (str(BIG), f"{BIG:032X}", Form.HEXADECIMAL),
        ("0219Z-0122I", "0219z-0122i", Form.FOLDED),
        ("", "", Form.EXACT),
        ("7", "8", None),
        ("10", "22", None),
        ("22", "10", None),
        ("g1", "1", None),
        ("٣", "3", None),
        ("1_0", "10", None),
        ("-7", "7", None),
        ("0x10", "16", None),
    ],
)
def test_a_receipt_finds_its_message(given_out: str, receipt: str, form: Form | None) -> None:
    assert matched(given_out, receipt) is form


def test_the_forms_come_in_order_of_trust() -> None:
    assert forms("0012A") == (
        (Form.EXACT, "0012A"),
        (Form.FOLDED, "0012a"),
        (Form.STRIPPED, "12a"),
        (Form.DECIMAL, "298"),
    )
    assert forms("7") == ((Form.EXACT, "7"),)


def test_base64_ids_that_differ_in_case_stay_apart_where_they_are_exact() -> None:
    assert forms("aBc=")[0] == (Form.EXACT, "aBc=")
    assert lookups("AbC=")[0] == "AbC="


@given(st.text(max_size=200) | st.integers(0, 16**64 - 1).map(str) | st.integers(0, 16**64 - 1).map("{:X}".format))
def test_any_id_has_forms_of_which_the_first_is_the_id(id: str) -> None:
    kinds, texts = zip(*forms(id), strict=True)
    assert texts[0] == id
    assert list(kinds) == sorted(set(kinds))
    assert len(set(texts)) == len(texts)
    assert matched(id, id) is Form.EXACT


def test_an_absurd_id_is_no_number() -> None:
    assert forms("9" * 65_000) == ((Form.EXACT, "9" * 65_000),)


@given(st.integers(0, 16**64 - 1))
def test_every_base_finds_every_other(number: int) -> None:
    written = (f"{number}", f"{number:x}", f"{number:064X}", f"{number:070}")
    for given_out in written:
        for receipt in written:
            if len(given_out) <= 64:
                assert matched(given_out, receipt) is not None


def test_a_habit_decides_what_is_ambiguous() -> None:
    """Ids 10 and 16 are out, a receipt comes for 16: of the second as it is, or of the first, read as hexadecimal."""
    habit, both = Habit(), {Form.EXACT, Form.DECIMAL}
    assert habit.choose(both) is Form.EXACT
    for _ in range(3):
        assert habit.choose([Form.DECIMAL]) is Form.DECIMAL
    assert habit.choose(both) is Form.DECIMAL
    assert habit.guesses == 2


def test_a_habit_is_of_late_and_learns_from_no_guess() -> None:
    habit, both = Habit(remember=3), {Form.EXACT, Form.DECIMAL}
    for _ in range(3):
        habit.choose([Form.DECIMAL])
    for _ in range(9):
        habit.choose(both)
    habit.choose([Form.EXACT])
    assert habit.choose(both) is Form.DECIMAL
    habit.choose([Form.EXACT, Form.EXACT])
    assert habit.choose(both) is Form.EXACT
