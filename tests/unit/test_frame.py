"""The spool's frame: round trip, and S3/S5 for any damage."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.storage.spool.frame import MAGIC, Damage, Frame, FrameType, decode, encode, scan

SALT = 0x1234ABCD

frames = st.lists(
    st.tuples(
        st.sampled_from(list(FrameType)),
        st.integers(0, 2**64 - 1),
        st.lists(st.one_of(st.integers(0, 2**32), st.text(max_size=20), st.binary(max_size=20)), max_size=5),
        st.binary(max_size=300),
    ),
    min_size=1,
    max_size=6,
)


def written(rows: list[tuple[FrameType, int, list[object], bytes]]) -> list[bytes]:
    return [encode(SALT, kind, number, header, body) + body for kind, number, header, body in rows]


def content(found: Frame) -> tuple[int, int, list[object], bytes]:
    return (found.type, found.number, found.header, bytes(found.body))


@given(frames)
def test_what_is_encoded_is_decoded(rows):
    found = list(scan(b"".join(written(rows)), SALT))
    assert [content(frame) for frame in found if isinstance(frame, Frame)] == [tuple(row) for row in rows]
    assert len(found) == len(rows)


@given(frames, st.data())
def test_s3_any_prefix_gives_the_whole_frames_before_the_cut(rows, data):
    pieces = written(rows)
    whole = b"".join(pieces)
    cut = data.draw(st.integers(0, len(whole)))
    found = list(scan(whole[:cut], SALT))
    kept = [row for n, row in enumerate(rows) if sum(map(len, pieces[: n + 1])) <= cut]
    assert [content(frame) for frame in found if isinstance(frame, Frame)] == [tuple(row) for row in kept]
    assert all(frame.torn for frame in found if isinstance(frame, Damage))


@given(frames, st.data())
def test_s5_a_flipped_bit_costs_one_frame_and_no_other(rows, data):
    pieces = written(rows)
    hit = data.draw(st.integers(0, len(pieces) - 1))
    position = data.draw(st.integers(0, len(pieces[hit]) * 8 - 1))
    broken = bytearray(pieces[hit])
    broken[position // 8] ^= 1 << position % 8
    reserved = 5 <= position // 8 < 8
    found = list(scan(b"".join([*pieces[:hit], bytes(broken), *pieces[hit + 1 :]]), SALT))
    whole = [content(frame) for frame in found if isinstance(frame, Frame)]
    assert whole == [tuple(row) for n, row in enumerate(rows) if n != hit], reserved


def test_s5_a_last_record_that_is_all_there_and_went_bad_is_no_torn_tail():
    """It may have been acknowledged, so it is set aside like any other; a part of a record cannot have been."""
    whole = b"".join(written([(FrameType.MESSAGE, 1, [1], b"content")]))
    bad = whole[:-1] + bytes([whole[-1] ^ 1])
    assert list(scan(bad, SALT)) == [Damage(0, len(bad), torn=False)]
    assert list(scan(bad[:-1], SALT)) == [Damage(0, len(bad) - 1, torn=True)]


@given(st.binary(max_size=2000))
def test_p1_any_bytes_give_frames_or_damage(data):
    end = 0
    for item in scan(data, SALT):
        assert item.offset == end
        end = item.end
    assert end == len(data)


def test_a_frame_inside_a_content_is_not_taken_for_one():
    """A sender who knows the format writes a frame into a mail; after damage the reader must not find it."""
    forged = encode(0, FrameType.MESSAGE, 7, [1, "forged"]) + b""
    carrier = encode(SALT, FrameType.MESSAGE, 1, [1, "real"], forged) + forged
    last = encode(SALT, FrameType.OUTCOME, 2, [1, "after"])
    damaged = bytearray(carrier + last)
    damaged[30] ^= 0xFF
    found = list(scan(bytes(damaged), SALT))
    assert [frame.number for frame in found if isinstance(frame, Frame)] == [2]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_salt_is_part_of_every_checksum(salt):
    data = memoryview(encode(SALT, FrameType.OUTCOME, 1, [1]))
    assert (decode(data, 0, salt) is not None) == (salt == SALT)


def test_a_file_full_of_magic_is_read_in_linear_time():
    """Each false start is refused by the checksum of its prefix, without reading the lengths it claims."""
    data = MAGIC * 250_000 + os.urandom(16)
    assert list(scan(data, SALT)) == [Damage(0, len(data), torn=True)]
