"""Any octets that a carrier delivers are text, parts and headers, or none; never an exception (P1)."""

from collections import Counter

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.protocol.sms_alphabets import Tables, decode_septets, pack, unpack
from engine.protocol.sms_data_coding import Charset, decode
from engine.protocol.sms_reassembly import Assembled, Key, Piece, Reassembly
from engine.protocol.sms_shifts import Language
from engine.protocol.sms_udh import build_udh, read_user_data, split_udh

tables = st.builds(Tables, st.sampled_from(Language), st.sampled_from(Language))
#: Octets that have a meaning here more often than chance gives them.
octets = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [b"\x1b", b"\x1be", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xd8\x3d", b"\0a", b"\xc3\xa9"]
        )
    ).map(b"".join),
    st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 0x24, 0x25]), max_size=30).map(bytes),
)


@hypothesis_settings(max_examples=1000)
@given(octets, st.integers(0, 255), st.sampled_from(Charset), tables)
def test_any_octets_under_any_label_are_text_or_binary(
    data: bytes, data_coding: int, default: Charset, pair: Tables
) -> None:
    text = decode(data, data_coding, default=default, tables=pair).text
    if text is not None:
        text.encode()  # no half of a surrogate pair
        assert len(text) <= len(data)


@given(octets, tables)
def test_any_octets_are_septets(data: bytes, pair: Tables) -> None:
    text, faults = decode_septets(data, pair)
    assert len(text) <= len(data)
    assert faults or data.isascii()


@given(octets, st.integers(-5, 500) | st.none(), st.integers(0, 6))
def test_any_octets_are_unpacked(data: bytes, count: int | None, fill_bits: int) -> None:
    septets = unpack(data, count, fill_bits)
    assert len(septets) * 7 + (fill_bits if septets else 0) <= len(data) * 8
    assert unpack(pack(septets), len(septets)) == septets


@hypothesis_settings(max_examples=1000)
@given(octets, st.integers(0, 255), st.dictionaries(st.sampled_from([0x20C, 0x20E, 0x20F, 0x424]), octets))
def test_any_header_is_walked_to_its_end(data: bytes, esm_class: int, tlvs: dict[int, bytes]) -> None:
    udh, body = split_udh(data)
    rebuilt = build_udh(udh.elements) or b"\0"
    if not udh.broken:
        assert rebuilt + body == data
    assert data.endswith(body)
    assert udh.ports is None or max(udh.ports.destination, udh.ports.source) <= 0xFFFF
    assert udh.tables in {Tables(one, two) for one in Language for two in Language}
    _, _, segment = read_user_data(data, esm_class, tlvs)
    if segment is not None:
        assert 1 <= segment.number <= segment.total <= 255


pieces = st.builds(Piece, octets, st.sampled_from([0, 3, 4, 8, 0xF0]), tables)
arrivals = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), pieces, st.integers(0, 40)), max_size=40
)


@given(arrivals, st.integers(1, 4), st.integers(0, 200))
def test_what_comes_is_given_out_once_and_the_bounds_hold(
    story: list[tuple[int, int, int, Piece, int]], max_messages: int, max_bytes: int
) -> None:
    """R1, R2. Ids are given in order of arrival; those that were not given out repeat the content of one that was."""
    reassembly = Reassembly(timeout_s=60, max_messages=max_messages, max_bytes=max_bytes, repeat_s=30)
    out: list[Assembled] = []
    taken: dict[str, tuple[Key, int, Piece]] = {}
    now = 0
    for index, (number, total, reference, piece, later) in enumerate(story):
        now += later
        key = Key("carrier", "a", "b", reference, max(number, total))
        named = Piece(piece.body, piece.data_coding, piece.tables, str(index))
        taken[named.id] = (key, number, named)
        out += reassembly.expire(now)
        out += reassembly.add(key, number, named, now)
        assert reassembly.messages <= max_messages
        assert reassembly.body_bytes <= max_bytes
    out += reassembly.expire(now + 60)
    assert (reassembly.messages, reassembly.body_bytes, reassembly.due_at()) == (0, 0, None)
    given_out = Counter(piece.id for message in out for piece in message.pieces if piece)
    assert set(given_out.values()) <= {1}
    for key, number, named in taken.values():
        same = (taken[other] for other in given_out)
        assert named.id in given_out or any(
            (key, number) == (other_key, other_number) and named.same_content(other)
            for other_key, other_number, other in same
        )
    for message in out:
        assert len(message.pieces) == message.key.total
        message.decode()
