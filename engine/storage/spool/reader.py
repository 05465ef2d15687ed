"""Reading deliveries back from the disk, many at a time."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from engine.base.errors import StorageError
from engine.message.content import Content, LargeContent, LargeFile
from engine.message.envelope import Envelope
from engine.storage.spool.entry import Snapshot
from engine.storage.spool.fetch import read_frame, read_frames, read_states
from engine.storage.spool.files import Files
from engine.storage.spool.frame import Frame
from engine.storage.spool.records import content_file, decode_envelope, state_in, stored_in
from engine.storage.spool.segment import Segments, place_of
from engine.storage.spool.table import Rows, Table


class Wanted(NamedTuple):
    """Where a delivery lies; see table.COLUMNS."""

    place: int
    length: int
    state_place: int
    number: int


class Read(NamedTuple):
    """What was there."""

    envelope: Envelope
    content: Content
    snapshot: Snapshot


def wanted(table: Table, rows: Rows) -> list[Wanted]:
    """Where the deliveries of these rows lie."""
    columns = table.columns(rows, Wanted._fields)
    return [Wanted(*values) for values in zip(*(columns[name].tolist() for name in Wanted._fields), strict=True)]


def read_deliveries(files: Files, segments: Segments, wanted: Sequence[Wanted]) -> list[Read | StorageError]:
    """An answer for each, in the same order; an error for what cannot be read, or is damaged. Blocks."""
    answers: list[Read | StorageError] = []
    frames = read_frames(files, segments, [(one.place, one.length) for one in wanted])
    states = read_states(files, segments, [one.state_place for one in wanted])
    for one, frame, state in zip(wanted, frames, states, strict=True):
        try:
            if isinstance(frame, StorageError):
                raise frame
            if isinstance(state, StorageError):
                raise state
            answers.append(_delivery(files, segments, one, frame, state))
        except StorageError as exc:
            answers.append(exc)
    return answers


def _delivery(files: Files, segments: Segments, wanted: Wanted, frame: Frame, state: Frame | None) -> Read:
    stored = stored_in(frame, wanted.number)
    snapshot = stored.snapshot if state is None else state_in(state)
    content: Content = bytes(stored.content)
    ref = stored.content_ref
    if isinstance(ref, LargeFile):
        # By its name, not by the number's segment: of a file that is gone, that is another, or stands for none.
        spool = segments.find(content_file(ref)).path.parents[1]
        content = LargeContent(bytes(stored.content), ref, partial(files.read, spool / "large" / ref.name))
    elif ref is not None:
        number, offset, length = ref
        content = bytes(read_frame(files, segments.find(number), place_of(number, offset), length).body)
    return Read(decode_envelope(stored.envelope), content, snapshot)
