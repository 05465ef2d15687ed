"""P1 of the disk: any bytes in any file of the spool give records, damage or a StorageError, and a start that ends.

The seed is printed; POSTRIDER_SEED=N repeats the bytes.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.base.errors import StorageError
from engine.message.envelope import Envelope, Recipient
from engine.storage.spool import records
from engine.storage.spool.frame import Damage, Frame, FrameType, decode, encode, frame_bytes, scan
from engine.storage.spool.index import TEXTS, decode_index
from engine.storage.spool.names import Names
from engine.storage.spool.segment import Segment
from tests.support.disk import Disk, File, MemoryFiles
from tests.support.seed import fuzzed
from tests.support.spooler import ROOT, end, make_spool

SALT = 0x1234ABCD
ENVELOPE = records.encode_envelope(Envelope("0015ftgHxgTY00", "a@b.test", (Recipient("c@d.test"),), 1.0, 2.0, 3))
SNAPSHOT: list[Any] = ["d.test", [0], 1.0, 0, [], 0, ""]

leaves = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9) | st.sampled_from([1, 0, 2, ENVELOPE, "0015ftgHxgTY00", "d.test"])
)  # fmt: skip
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=7) | st.just(SNAPSHOT), max_leaves=12)
#: Headers that are right but for one field, and headers that are nothing.
RIGHT: dict[FrameType, list[Any]] = {
    FrameType.SEGMENT: [1, "test/0", 1, [[1, 0]], 0, ""],
    FrameType.MESSAGE: [1, ENVELOPE, [SNAPSHOT], None],
    FrameType.OUTCOME: [
        1,
        "0015ftgHxgTY00",
        0,
        1.0,
        "other",
        SNAPSHOT,
        [[0, 2, 1, "4.0.0", "x", "none", "rcpt"]],
        None,
    ],
    FrameType.STORED: [1, 5, 0, SNAPSHOT, None, ENVELOPE],
    FrameType.STATE: [1, 60, SNAPSHOT],
    FrameType.DEAD: [1, [60]],
    FrameType.CONTENT: [1],
    FrameType.INDEX: [1, 1, 100, 0, [], [], [], [], []],
    FrameType.TAKEN_IN: [1, ENVELOPE, [[0, SNAPSHOT], [7, SNAPSHOT]], None],
}


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame with a right checksum, and a header that may be wrong in any way."""
    kind = draw(st.sampled_from(list(RIGHT)))
    header = list(RIGHT[kind])
    match draw(st.integers(0, 3)):
        case 0:
            header = draw(st.lists(values, max_size=9))
        case 1:
            header[draw(st.integers(0, len(header) - 1))] = draw(values)
        case 2 if len(header) > 2:
            field = draw(st.integers(1, len(header) - 1))
            if isinstance(header[field], list) and header[field]:
                inner = list(header[field])
                inner[draw(st.integers(0, len(inner) - 1))] = draw(values)
                header[field] = inner
        case _:
            pass
    body = draw(st.binary(max_size=40))
    return encode(SALT, kind, draw(st.integers(0, (1 << 64) - 1)), header, body) + body


contents = st.lists(frames() | st.binary(max_size=50), max_size=6).map(b"".join)


def test_any_bytes_are_frames_or_damage() -> None:
    fuzzed(frames_or_damage)


@given(contents)
def frames_or_damage(data: bytes) -> None:
    offset = 0
    for one in scan(data, SALT):
        assert one.offset == offset
        offset = one.end
        assert isinstance(one, Frame | Damage)
        if isinstance(one, Frame):
            records.is_sound(one)
            for reading in (lambda f: records.stored_in(f, 0), records.state_in):
                with contextlib.suppress(StorageError):
                    reading(one)
    assert offset == len(data)
    view = memoryview(data)
    whole = frame_bytes(view, SALT)
    frame, head = decode(view, 0, SALT), decode(view, 0, SALT, head=True)
    if frame is not None:
        assert head is not None and head.end == frame.end == whole
        assert repr(head.header) == repr(frame.header)  # a NaN is not equal to itself


def test_any_bytes_are_an_index_or_none() -> None:
    fuzzed(index_or_none)


@given(contents)
def index_or_none(data: bytes) -> None:
    segment = Segment(Path(f"mail/d.test/000000000001.{SALT:08x}.seg"))
    with contextlib.suppress(StorageError):
        size, columns = decode_index(segment, data, {name: Names() for name in TEXTS})
        assert size >= 0 and len({len(column) for column in columns.values()}) == 1


def test_a_spool_of_any_bytes_starts_or_says_why_not() -> None:
    fuzzed(starts_or_says_why_not)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(log=contents, seg=contents, sta=contents, idx=contents, con=contents)
def starts_or_says_why_not(log: bytes, seg: bytes, sta: bytes, idx: bytes, con: bytes) -> None:
    disk = Disk()
    for directory in ("", "/journal", "/mail", "/mail/d.test", "/shared"):
        disk.directories.add(f"{ROOT}{directory}")
    for name, data in (
        ("journal/000000000002.{}.log", log), ("mail/d.test/000000000001.{}.seg", seg),
        ("mail/d.test/000000000001.{}.sta", sta), ("mail/d.test/000000000001.{}.idx", idx),
        ("shared/000000000003.{}.con", con),
    ):  # fmt: skip
        disk.files[f"{ROOT}/{name.format(f'{SALT:08x}')}"] = File(data)

    async def story() -> None:
        files = MemoryFiles(disk)
        spool, _ = make_spool(files)
        try:
            spool.start()
            await spool.load_backlog()
            for rows in list(spool.table.select()):
                await spool.reader.peek(rows)
                await spool.reader.read(rows.astype(np.uint32))
            await spool.work()
        except StorageError:
            pass
        finally:
            await end(spool, files)

    asyncio.run(story())
