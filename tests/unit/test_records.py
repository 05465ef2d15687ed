"""What frames say, and the index of a segment: all of it comes back as it was."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import StorageError
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from engine.storage.spool.frame import VERSION, Frame, FrameType, decode, encode
from engine.storage.spool.index import TEXTS, decode_index, encode_index
from engine.storage.spool.names import Names
from engine.storage.spool.records import (
    addressed,
    check_version,
    decode_envelope,
    encode_envelope,
    is_sound,
    message_header,
    noted_header,
    outcome_header,
    outcomes_in,
    recipients_at,
    state_in,
    stored_header,
    stored_in,
    taken_in_header,
    trimmed,
)  # fmt: skip
from engine.storage.spool.segment import (
    MAX_NUMBER,
    MAX_SEGMENT_BYTES,
    Segment,
    file_of,
    is_side,
    offset_of,
    place_of,
    segment_path,
    side_place,
)  # fmt: skip
from engine.storage.spool.table import COLUMNS
from tests.support.spool import id_of

SALT = 0x1234ABCD
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.floats(0, 4e9)
envelopes = st.builds(
    Envelope, st.just(id_of("m")), texts,
    st.lists(st.builds(Recipient, texts, st.integers(0, 15), texts), min_size=3, max_size=5).map(tuple),
    times, times, st.integers(0, 1 << 40), st.integers(0, 1), st.sampled_from(["7BIT", "8BITMIME"]), st.booleans(),
    st.sampled_from(["", "FULL", "HDRS"]), texts, texts, texts, texts, texts,
)  # fmt: skip
snapshots = st.tuples(
    texts, st.sets(st.integers(0, 2), min_size=1).map(sorted), times, st.integers(0, 70_000),
    st.lists(st.integers(0, 2), max_size=2), st.integers(0, 1), texts,
).map(list)  # fmt: skip
outcomes = st.builds(
    Outcome, index=st.integers(0, 60_000), status=st.sampled_from(Status), scope=st.sampled_from(Scope),
    status_code=texts, reply=texts, remote=texts, phase=texts, kind=texts, price=texts,
)  # fmt: skip
references = st.none() | st.tuples(
    st.integers(1, MAX_NUMBER), st.integers(0, MAX_SEGMENT_BYTES - 1), st.integers(1, (1 << 32) - 1)
)  # fmt: skip


def through_the_disk(kind: FrameType, number: int, header: list[object], body: bytes = b"") -> Frame:
    frame = decode(memoryview(encode(SALT, kind, number, header, body) + body), 0, SALT)
    assert frame is not None
    return frame


@given(envelopes, st.lists(snapshots, min_size=1, max_size=3), st.binary(max_size=100), st.integers(0, 1 << 60))
def test_a_message_comes_back(envelope, states, content, number) -> None:
    header = message_header(encode_envelope(envelope), states, None)
    frame = through_the_disk(FrameType.MESSAGE, number, header, content)
    check_version(frame, "here")
    for index, state in enumerate(states):
        stored = stored_in(frame, index)
        assert decode_envelope(stored.envelope) == envelope
        assert (stored.snapshot, stored.frame, stored.siblings) == (state, number, len(states))
        assert (bytes(stored.content), stored.content_ref) == (content, None)


@given(envelopes, snapshots, references, st.binary(max_size=100), st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_a_message_of_the_old_generation_comes_back(envelope, state, ref, content, number, state_frame) -> None:
    header = stored_header(state_frame, 2, state, ref, encode_envelope(envelope))
    stored = stored_in(through_the_disk(FrameType.STORED, number, header, content), 2)
    assert decode_envelope(stored.envelope) == envelope
    assert (stored.snapshot, stored.frame, stored.siblings) == (state, state_frame, 1)
    assert (bytes(stored.content), stored.content_ref) == (content, ref)


@given(
    envelopes, st.dictionaries(st.integers(0, 0xFFFF), snapshots, min_size=1, max_size=3), references, st.binary(),
    st.integers(0, 1 << 60),
)  # fmt: skip
def test_deliveries_that_were_taken_in_come_back(envelope, states, ref, content, number) -> None:
    frame = through_the_disk(
        FrameType.TAKEN_IN, number, taken_in_header(encode_envelope(envelope), states, ref), content
    )
    for index, state in states.items():
        stored = stored_in(frame, index)
        assert decode_envelope(stored.envelope) == envelope
        assert (stored.snapshot, stored.frame, stored.siblings) == (state, number, len(states))
        assert (bytes(stored.content), stored.content_ref) == (content, ref)
    with pytest.raises(StorageError, match="not what it should be"):
        stored_in(frame, next(n for n in range(9) if n not in states))


@given(envelopes, snapshots, st.lists(outcomes, max_size=4))
def test_an_outcome_comes_back(envelope, state, fates) -> None:
    header = outcome_header(envelope.id, 3, 1.5, "gmail", state, fates, encode_envelope(envelope))
    frame = through_the_disk(FrameType.OUTCOME, 9, header)
    assert (state_in(frame), outcomes_in(frame)) == (state, fates)
    assert decode_envelope(frame.header[7]) == envelope


@given(envelopes, st.lists(st.sampled_from([0, 1, None]), min_size=3, max_size=5))
def test_envelopes_of_one_message_join_to_one(envelope, owners) -> None:
    """Each knows some of the recipients; whom nobody has any more is a blank."""
    owners = owners[: len(envelope.recipients)] + [None] * (len(envelope.recipients) - len(owners))
    recipients: dict[int, Recipient] = {}
    for part in (0, 1):
        own = {index for index, owner in enumerate(owners) if owner == part}
        one = decode_envelope(trimmed(encode_envelope(envelope), ["d", sorted(own), 1.0, 0, [], 0, ""]))
        recipients |= recipients_at(one, own | {70_000})
    whole = addressed(one, recipients)
    for index, recipient in enumerate(envelope.recipients):
        assert whole.recipients[index] == (Recipient("") if owners[index] is None else recipient)
    assert (whole.id, whole.sender, whole.batch) == (envelope.id, envelope.sender, envelope.batch)


@given(envelopes, snapshots)
def test_an_envelope_on_its_own_knows_its_own_recipients_at_their_places(envelope, state) -> None:
    own = decode_envelope(trimmed(encode_envelope(envelope), state))
    assert len(own.recipients) == len(envelope.recipients)
    for index, recipient in enumerate(envelope.recipients):
        assert own.recipients[index] == (recipient if index in state[1] else Recipient(""))
    assert (own.id, own.sender, own.batch) == (envelope.id, envelope.sender, envelope.batch)


def test_a_frame_of_another_kind_is_no_message_and_no_state() -> None:
    state = through_the_disk(FrameType.STATE, 1, [VERSION, 7, ["d", [0], 1.0, 0, [], 0, ""]])
    assert state_in(state) == ["d", [0], 1.0, 0, [], 0, ""]
    with pytest.raises(StorageError, match="where a message was expected"):
        stored_in(state, 0)
    with pytest.raises(StorageError, match="where a state was expected"):
        state_in(through_the_disk(FrameType.CONTENT, 1, [VERSION]))
    with pytest.raises(StorageError, match="a version this program does not know"):
        check_version(through_the_disk(FrameType.STORED, 1, [VERSION + 1]), "here")


@given(st.integers(1, MAX_NUMBER), st.integers(0, MAX_SEGMENT_BYTES - 1))
def test_a_place_is_file_and_offset(number: int, offset: int) -> None:
    for place, side in ((place_of(number, offset), False), (side_place(number, offset), True)):
        assert (file_of(place), offset_of(place), is_side(place)) == (number, offset, side)
        assert 0 < place < 1 << 64


def columns(rows: list[list[int]]) -> dict[str, np.ndarray]:
    return {
        name: np.array([row[index] % (1 << 8 * np.dtype(kind).itemsize) for row in rows], dtype=kind)
        for index, (name, kind) in enumerate(COLUMNS.items())
    }


@given(st.lists(st.lists(st.integers(0, (1 << 64) - 1), min_size=len(COLUMNS), max_size=len(COLUMNS)), max_size=20))
def test_an_index_comes_back_with_the_numbers_of_the_reader(rows) -> None:
    segment = Segment(segment_path(Path("/spool/mail/x"), 7, SALT, ".seg"), 12345)
    words = ["", "example.org", "b\u00fccher", "x y", "acme"]
    writer, reader = ({name: Names() for name in TEXTS} for _ in range(2))
    for name in TEXTS:
        for word in words:
            writer[name].number(word)
        for word in ("other", *reversed(words)):
            reader[name].number(word)
    given_columns = columns(rows)
    for name in TEXTS:
        given_columns[name] %= len(words)
    given_columns["place"] = given_columns["place"] & np.uint64(MAX_SEGMENT_BYTES - 1) | np.uint64(place_of(7, 0))
    size, found = decode_index(segment, encode_index(segment, given_columns, writer), reader)
    assert size == 12345
    for name in COLUMNS:
        if name in TEXTS:
            told = [reader[name].text(number) for number in found[name].tolist()]
            assert told == [writer[name].text(number) for number in given_columns[name].tolist()]
        else:
            assert found[name].tolist() == given_columns[name].tolist()


@given(st.binary(max_size=200), st.integers(0, 400))
def test_what_is_no_index_is_refused(garbage: bytes, position: int) -> None:
    texts_of = {name: Names() for name in TEXTS}
    segment = Segment(segment_path(Path("/spool/mail/x"), 7, SALT, ".seg"), 12345)
    other = Segment(segment_path(Path("/spool/mail/x"), 8, SALT, ".seg"), 12345)
    whole = encode_index(segment, columns([[1] * len(COLUMNS)]) | {name: np.zeros(1, "u2") for name in TEXTS}, texts_of)
    broken = bytearray(whole)
    broken[position % len(whole)] ^= 1
    for data in (garbage, whole[:-1], bytes(broken)):
        with pytest.raises(StorageError, match="no index"):
            decode_index(segment, data, texts_of)
    with pytest.raises(StorageError, match="no index"):
        decode_index(other, whole, texts_of)


def test_events_of_no_delivery_are_sound_only_with_the_ids_of_their_frame() -> None:
    """Recovery compares these ids: one that is none would end the start (P1)."""
    events = [Event("", 1.0, "receipt", id_of("m"), "bulk", "ACME", "+447700900123", "sms:one") for _ in range(2)]
    for lines, sound in (
        (noted_lines(7, events), True), (b"", True), (noted_lines(8, events), False), (b"{}\n", False),
        (noted_lines(7, events)[:-1], False), (b"\xff\n", False),
    ):  # fmt: skip
        frame = decode(memoryview(encode(SALT, FrameType.NOTED, 7, noted_header(lines))), 0, SALT)
        assert frame is not None and is_sound(frame) is sound, lines
