"""Any bytes that are imported give messages or an EngineError, nothing else (P1), however they are cut (P2)."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.base.errors import EngineError
from engine.message.envelope import Envelope, Recipient
from engine.storage.spool.export import SALT, STREAM_VERSION, Exported, StreamReader, StreamWriter
from engine.storage.spool.frame import FrameType, encode
from engine.storage.spool.records import encode_envelope

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
ENVELOPE = Envelope(
    "00000000node01", "ada@home.test", (Recipient("a@d.test"), Recipient("b@d.test")), 1.0, 2.0, len(CONTENT)
)
SNAPSHOTS = {0: ["d.test", [0], 1.0, 0, [], 0, ""], 2: ["e.test", [1], 1.5, 3, [1], 1, "said"]}


def whole() -> bytes:
    writer = StreamWriter()
    pieces = [writer.begin("old.test/0", 1.0, "*")]
    for numbers in ((0, 2), (0,), (2,)):
        pieces += writer.add(Exported(ENVELOPE, {number: SNAPSHOTS[number] for number in numbers}, CONTENT))
    return b"".join([*pieces, writer.end()])


def read(data: bytes, sizes: Sequence[int]) -> list[Exported] | str:
    """The messages, or what the error says. sizes: of the first chunks."""
    reader, found, start = StreamReader(), list[Exported](), 0
    try:
        for size in [*sizes, len(data)]:
            found += reader.feed(data[start : start + size])
            start += size
        reader.end()
    except EngineError as exc:
        return str(exc)
    return found


@hypothesis_settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(0, 50), max_size=5))
def test_bytes_of_any_kind(data: bytes, sizes: list[int]) -> None:
    assert read(data, sizes) == read(data, ())


@hypothesis_settings(max_examples=500, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 2000),
    sizes=st.lists(st.integers(0, 300), max_size=8),
)
def test_a_damaged_stream(edits: list[tuple[int, int]], cut: int, sizes: list[int]) -> None:
    original = whole()
    data = bytearray(original)
    for position, value in edits:
        data[position % len(data)] = value
    stream = bytes(data[:cut] if cut < 1500 else data)
    found = read(stream, sizes)
    assert found == read(stream, ())
    assert isinstance(found, list) == (stream == original)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
#: What a message and its deliveries consist of, each part true or anything.
_ENVELOPES = st.just(encode_envelope(ENVELOPE)) | st.binary(max_size=40) | _VALUES
_SNAPSHOT = st.sampled_from(list(SNAPSHOTS.values())) | _VALUES
_SNAPSHOT |= st.tuples(*(st.just(part) | _VALUES for part in SNAPSHOTS[2])).map(list)
_PAIRS = st.tuples(st.sampled_from([0, 1, 0xFFFF]) | _VALUES, _SNAPSHOT).map(list) | _VALUES
_DELIVERIES = st.lists(_PAIRS, max_size=3) | _VALUES


@hypothesis_settings(max_examples=1000, deadline=None)
@given(
    kind=st.sampled_from([FrameType.EXPORTED, FrameType.END, FrameType.STREAM, FrameType.MESSAGE]),
    header=st.tuples(st.just(STREAM_VERSION) | _VALUES, _ENVELOPES, _DELIVERIES).map(list)
    | st.lists(_VALUES, max_size=5),
    body=st.just(CONTENT) | st.binary(max_size=30),
    number=st.integers(0, 2),
)
def test_frames_that_are_whole_and_say_anything(
    kind: FrameType, header: list[object], body: bytes, number: int
) -> None:
    begin = StreamWriter().begin("old.test/0", 1.0, "*") if number else b""
    answer = read(begin + encode(SALT, kind, number, header, body) + body, ())
    assert isinstance(answer, str)
    assert answer


def of_recipients(indexes: list[int]) -> list[object]:
    """A snapshot."""
    return ["d.test", indexes, 1.0, 0, [], 0, ""]


@hypothesis_settings(max_examples=1000, deadline=None)
@given(
    blanks=st.sets(st.integers(0, 2), max_size=1),
    deliveries=st.lists(
        st.tuples(st.integers(-1, 3), st.lists(st.integers(-1, 3), max_size=2).map(of_recipients)).map(list), max_size=3
    ),
)
def test_what_is_let_in_is_what_the_queue_can_take(blanks: set[int], deliveries: list[list[object]]) -> None:
    """Each delivery once, each recipient at one of them."""
    recipients = tuple(Recipient("" if n in blanks else f"{n}@d.test") for n in range(3))
    header = [STREAM_VERSION, encode_envelope(msgspec.structs.replace(ENVELOPE, recipients=recipients)), deliveries]
    begin = StreamWriter().begin("old.test/0", 1.0, "*")
    reader = StreamReader()
    try:
        found = list(reader.feed(begin + encode(SALT, FrameType.EXPORTED, 1, header, CONTENT) + CONTENT))
    except EngineError:
        return
    [message] = found
    assert list(message.deliveries) == [number for number, _ in deliveries]
    indexes = [index for snapshot in message.deliveries.values() for index in snapshot[1]]
    assert len(indexes) == len(set(indexes)) == len(message.recipients) > 0
    assert set(indexes) <= {0, 1, 2} - blanks
    assert all(snapshot[1] for snapshot in message.deliveries.values())
