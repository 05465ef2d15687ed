"""Any bytes that are imported give deliveries or an EngineError, nothing else (P1), however they are cut (P2)."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.base.errors import EngineError
from engine.message.envelope import Envelope, Recipient
from engine.storage.spool.export import SALT, Exported, StreamReader, StreamWriter
from engine.storage.spool.frame import FrameType, encode
from engine.storage.spool.records import encode_envelope

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
ENVELOPE = Envelope(
    "00000000node01", "ada@home.test", (Recipient("a@d.test"), Recipient("b@d.test")), 1.0, 2.0, len(CONTENT)
)
SNAPSHOT = ["d.test", [0, 1], 1.0, 0, [], 0, ""]


def whole() -> bytes:
    writer = StreamWriter()
    pieces = [writer.begin("old.test/0", 1.0, "*")]
    for number in range(3):
        pieces += writer.add(ENVELOPE, number, SNAPSHOT, CONTENT)
    return b"".join([*pieces, writer.end()])


def read(data: bytes, sizes: Sequence[int]) -> list[Exported] | str:
    """The deliveries, or what the error says. sizes: of the first chunks."""
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
#: What a delivery consists of, each part true or anything.
_ENVELOPES = st.just(encode_envelope(ENVELOPE)) | st.binary(max_size=40) | _VALUES
_SNAPSHOTS = st.just(SNAPSHOT) | st.tuples(*(st.just(part) | _VALUES for part in SNAPSHOT)).map(list) | _VALUES


@hypothesis_settings(max_examples=1000, deadline=None)
@given(
    kind=st.sampled_from([FrameType.DELIVERY, FrameType.END, FrameType.STREAM, FrameType.MESSAGE]),
    header=st.tuples(st.just(1) | _VALUES, _ENVELOPES, st.just(0) | _VALUES, _SNAPSHOTS).map(list)
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
