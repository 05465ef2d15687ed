"""The index of a sealed segment: the rows of what lived in it then, so that a start need not read the segment.

One INDEX frame: [version, segment number, bytes of the segment, rows, [destinations], [tenants], [batches], [nodes],
[relays]]; its body are the columns of table.py one after the other, little-endian, in that order. Numbers of texts
are positions in the lists. What became of a row since then is in the side file, and in the journal.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.base.errors import StorageError
from engine.storage.spool.frame import VERSION, FrameType, decode, encode
from engine.storage.spool.names import Names
from engine.storage.spool.records import is_sound
from engine.storage.spool.segment import Segment, files_of
from engine.storage.spool.table import COLUMNS, Column

#: The columns that are numbers of texts, and the texts, in the order of the header.
TEXTS = ("destination", "tenant", "batch", "node", "via")

Texts = Mapping[str, Names]


def encode_index(segment: Segment, columns: Mapping[str, Column], texts: Texts) -> bytes:
    """columns: of all rows of the segment that live. texts: whose numbers the columns have."""
    lists: list[list[str]] = []
    mapped = dict(columns)
    for name in TEXTS:
        used, positions = np.unique(columns[name], return_inverse=True)
        lists.append([texts[name].text(int(number)) for number in used])
        mapped[name] = positions.astype(COLUMNS[name])
    body = b"".join(np.ascontiguousarray(mapped[name], dtype=f"<{kind}").tobytes() for name, kind in COLUMNS.items())
    header: list[Any] = [VERSION, segment.number, segment.bytes, len(columns["id"]), *lists]
    return encode(segment.salt, FrameType.INDEX, 0, header, body) + body


def decode_index(segment: Segment, data: bytes, texts: Texts) -> tuple[int, dict[str, Column]]:
    """Bytes of the segment that count, and its rows, with numbers of `texts`. Raises StorageError: no valid index."""
    try:
        return _decoded(segment, data, texts)
    except (ValueError, TypeError, IndexError, OverflowError) as exc:
        raise StorageError(f"{segment.index} is no index of its segment") from exc


def _decoded(segment: Segment, data: bytes, texts: Texts) -> tuple[int, dict[str, Column]]:
    frame = decode(memoryview(data), 0, segment.salt)
    if (
        frame is None
        or frame.type != FrameType.INDEX
        or frame.header[:2] != [VERSION, segment.number]
        or not is_sound(frame)
    ):
        raise StorageError(f"{segment.index} is no index of its segment")
    _, _, size, count, *lists = frame.header
    columns: dict[str, Column] = {}
    offset = 0
    for name, kind in COLUMNS.items():
        dtype = np.dtype(f"<{kind}")
        columns[name] = np.frombuffer(frame.body, dtype=dtype, count=count, offset=offset).astype(kind)
        offset += count * dtype.itemsize
    if (files_of(columns["place"]) != segment.number).any():
        raise StorageError(f"{segment.index} has rows of another segment")
    for name, words in zip(TEXTS, lists, strict=True):
        numbers = np.array([texts[name].number(word) for word in words], dtype=COLUMNS[name])
        columns[name] = numbers[columns[name]] if count else columns[name]
    return size, columns
