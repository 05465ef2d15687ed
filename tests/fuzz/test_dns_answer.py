"""Any bytes a name server sends are an answer or a DNS error, nothing else (P1)."""

import dns.exception
import dns.message
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.net.dns_query import RecordType, Response, read_answer

_RECORDS = (
    ("MX", "10 mx1.example.net.", "0 ."),
    ("A", "192.0.2.1"),
    ("AAAA", "2001:db8::1"),
    ("TXT", '"v=1;" "x"'),
    ("CNAME", "other.example.net."),
    ("PTR", "Client.Example.net.", "."),
)


def _wire(kind: RecordType, records: tuple[str, ...]) -> bytes:
    response = dns.message.make_response(dns.message.make_query("example.net", kind, use_edns=0))
    response.answer.append(dns.rrset.from_text("example.net.", 60, "IN", *records))
    return response.to_wire()


@pytest.mark.parametrize("kind", ["MX", "A", "PTR", "TXT"])
@hypothesis_settings(max_examples=300, deadline=None)
@given(
    records=st.sampled_from(_RECORDS),
    edits=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 120),
)
@example(records=("AAAA", "2001:db8::1"), edits=[(94, 0), (100, 0)], cut=68)  # another type than was asked for
def test_a_damaged_answer_is_a_response_or_a_dns_error(
    kind: RecordType, records: tuple[str, ...], edits: list[tuple[int, int]], cut: int
) -> None:
    wire = bytearray(_wire(kind, records))
    for position, value in edits:
        wire[position % len(wire)] = value
    try:
        response = read_answer(dns.message.from_wire(bytes(wire[:cut] if cut < 100 else wire)), kind)
    except dns.exception.DNSException:
        return
    assert isinstance(response, Response)
    assert bool(response.records) == (response.finding.value == "found")
