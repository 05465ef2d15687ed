"""Makes an old generation of millions of tiny deliveries, in the spool's own format, for bench.millions.

    mail/<domain>/<number>.<salt>.seg and .idx, as the mover leaves them; journal, shared and side files: none

The frames are the engine's (records.py, frame.py), so are the indexes (index.py); only the rows are made a segment at
a time and not one by one, and nothing is synced: what a crash leaves of a benchmark is made anew.

Destinations are as uneven as real ones: the n-th has a share of 1/n.
"""

import multiprocessing
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.message.envelope import Envelope, Recipient
from engine.message.ids import join_id, split_id
from engine.storage.spool.entry import State
from engine.storage.spool.frame import VERSION, FrameType, encode
from engine.storage.spool.index import TEXTS, encode_index
from engine.storage.spool.names import Names, folder_name
from engine.storage.spool.records import encode_envelope, stored_header
from engine.storage.spool.segment import Segment, place_of, segment_path
from engine.storage.spool.table import COLUMNS, Column

OWNER = "bench.example/0"
CONTENT = b"Subject: a tiny one\r\n\r\nNothing to see here.\r\n"
TENANTS, BATCHES = 5, 50
_SEGMENT_BYTES = 64 << 20
_NODE = "0000"
_DAY_S = 86400


class _Share(NamedTuple):
    """A destination and what it gets. first_file, first_message: numbers over all destinations."""

    spool: Path
    name: str
    deliveries: int
    first_file: int
    first_message: int
    now: float
    salt: int


def make(spool: Path, deliveries: int, destinations: int, now: float) -> None:
    """A spool directory whose old generation has that many deliveries, all of them due in a week."""
    for name in ("journal", "mail", "shared"):
        (spool / name).mkdir(parents=True, mode=0o700)
    with multiprocessing.get_context("spawn").Pool() as pool:
        for _ in pool.imap_unordered(_make_destination, _shares(spool, deliveries, destinations, now)):
            pass


def name_of(index: int) -> str:
    """The destination with the index-th share, from 0."""
    return f"d{index}.example"


def _shares(spool: Path, deliveries: int, destinations: int, now: float) -> Iterator[_Share]:
    salt = secrets.randbits(32)
    weights = 1 / np.arange(1, destinations + 1)
    counts = np.maximum(1, (weights / weights.sum() * deliveries).astype(int))
    counts[0] += max(0, deliveries - int(counts.sum()))
    file = message = 1
    for index, count in enumerate(counts.tolist()):
        yield _Share(spool, name_of(index), count, file, message, now, salt)
        message += count
        # A frame is more than 128 bytes, so a segment has no more than half a million.
        file += 1 + count * 512 // _SEGMENT_BYTES


def _make_destination(share: _Share) -> None:
    folder = share.spool / "mail" / folder_name(share.name)
    folder.mkdir(mode=0o700)
    number, made = share.first_file, 0
    while made < share.deliveries:
        segment = Segment(segment_path(folder, number, share.salt, ".seg"))
        made += _make_segment(segment, share, made)
        number += 1


def _make_segment(segment: Segment, share: _Share, made: int) -> int:
    """One segment and its index, from the destination's delivery `made` on; how many are in it."""
    texts = {name: Names() for name in TEXTS}
    pieces = [encode(segment.salt, FrameType.SEGMENT, 0, [VERSION, OWNER, segment.number, []])]
    offset = len(pieces[0])
    rows: list[tuple[int, int, int, int, int, int]] = []
    expires_at = share.now + 30 * _DAY_S
    while made + len(rows) < share.deliveries and offset < _SEGMENT_BYTES:
        # As ids are: milliseconds, then a counter that ends at 62 * 62.
        order = share.first_message + made + len(rows)
        packed = (int(share.now * 1000) - _DAY_S * 1000 + order // 3844) << 12 | order % 3844
        message_id = join_id(packed, _NODE)
        due_at, tenant, batch = int(share.now) + 7 * _DAY_S + order % 3600, order % TENANTS, order % BATCHES
        envelope = Envelope(
            message_id, "news@bench.example", (Recipient(f"u{order}@{share.name}"),), (packed >> 12) / 1000, expires_at,
            len(CONTENT), order & 1, user=f"tenant{tenant}", batch=f"batch{batch}",
        )  # fmt: skip
        snapshot = [share.name, (0,), due_at, 1, (), 1, "451 4.7.1 try again later"]
        header = stored_header(order, 0, snapshot, None, encode_envelope(envelope))
        pieces += (encode(segment.salt, FrameType.STORED, order, header, CONTENT), CONTENT)
        length = len(pieces[-2]) + len(CONTENT)
        rows.append((offset, length, packed, order, due_at, order & 1))
        offset += length
    segment.path.write_bytes(b"".join(pieces))
    segment.bytes = offset
    segment.index.write_bytes(encode_index(segment, _columns(segment, share, rows, expires_at, texts), texts))
    return len(rows)


def _columns(
    segment: Segment,
    share: _Share,
    rows: list[tuple[int, int, int, int, int, int]],
    expires_at: float,
    texts: dict[str, Names],
) -> dict[str, Column]:
    """The rows of a segment as the table has them."""
    count = len(rows)
    columns = {name: np.zeros(count, dtype=kind) for name, kind in COLUMNS.items()}
    offsets, lengths, ids, orders, due, classes = (np.array(part, dtype="u8") for part in zip(*rows, strict=True))
    columns["place"][:] = offsets + np.uint64(place_of(segment.number, 0))
    columns["length"][:], columns["id"][:], columns["frame"][:] = lengths, ids, orders
    columns["due_at"][:], columns["message_class"][:] = due, classes
    columns["expires_at"][:] = int(expires_at) + 1
    # Notices: nobody asked for any.
    columns["attempts"][:] = columns["recipients"][:] = columns["notices"][:] = 1
    columns["state"][:] = State.WAITING
    columns["destination"][:] = texts["destination"].number(share.name)
    columns["node"][:] = texts["node"].number(split_id(join_id(0, _NODE))[1])
    for name, several, size in (("tenant", "tenant", TENANTS), ("batch", "batch", BATCHES)):
        numbers = np.array([texts[name].number(f"{several}{n}") for n in range(size)], dtype="u4")
        columns[name][:] = numbers[(orders % np.uint64(size)).astype(int)]
    return columns
