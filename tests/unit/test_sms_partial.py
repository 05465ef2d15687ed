"""What a reply says of parts that a carrier has is read again, whatever its ids look like."""

from hypothesis import given
from hypothesis import strategies as st

from engine.delivery.sms_partial import known, told
from engine.delivery.sms_trouble import taken, unanswered


@given(
    st.lists(st.tuples(st.booleans(), st.text(max_size=65)), min_size=1, max_size=10), st.sampled_from(["", "; more"])
)
def test_ids_come_back(parts: list[tuple[bool, str]], more: str) -> None:
    answers = [taken(0, carrier_id, "x") if has else unanswered(0, "x") for has, carrier_id in parts]
    reply = "ESME_RSYSERR System Error" + told("acme", answers, [carrier_id for _, carrier_id in parts]) + more
    has = {number: carrier_id for number, (has, carrier_id) in enumerate(parts, 1) if has}
    assert known(reply, "acme") == has
    assert known(reply, "other") == {}
