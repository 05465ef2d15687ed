"""What a reply says of parts that a carrier has is read again, whatever its ids look like."""

from hypothesis import given
from hypothesis import strategies as st

from engine.delivery.sms_partial import Said, known, told, told_of_several
from engine.delivery.sms_trouble import taken, unanswered

PARTS = st.lists(st.tuples(st.booleans(), st.text(max_size=65)), min_size=1, max_size=10)
MORE = st.sampled_from(["", "; more"])


def said(parts: list[tuple[bool, str]]) -> Said:
    answers = [taken(0, carrier_id, "x") if has else unanswered(0, "x") for has, carrier_id in parts]
    return answers, [carrier_id for _, carrier_id in parts]


def has(parts: list[tuple[bool, str]]) -> dict[int, str]:
    return {number: carrier_id for number, (has, carrier_id) in enumerate(parts, 1) if has}


@given(PARTS, MORE)
def test_ids_come_back(parts: list[tuple[bool, str]], more: str) -> None:
    reply = "ESME_RSYSERR System Error" + told("acme", said(parts)) + more
    assert known(reply, "acme", 5) == has(parts)
    assert known(reply, "other", 5) == {}


@given(st.dictionaries(st.integers(0, 300), PARTS, max_size=5), MORE)
def test_ids_come_back_of_several_numbers(parts: dict[int, list[tuple[bool, str]]], more: str) -> None:
    tail = told_of_several("acme", {index: said(own) for index, own in parts.items()})
    reply = "ESME_RSYSERR System Error" + tail + more
    for index, own in parts.items():
        assert known(reply, "acme", index) == has(own)
    assert known(reply, "acme", 301) == known(reply, "other", 0) == {}
