"""Reading the old generation at a start: rows from indexes, what became of them from side files and the journal.

Bodies are not read, but for the segments that a crash left without an index. One segment at a time, in a thread.

A crash between the writing of a copy and the removal of its original leaves two:
- a message that is in the journal, too, is the journal's; the copy is dead;
- of two copies in the old generation, which are in the same folder, the later one counts (`Copies`).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.base.errors import StorageError
from engine.base.units import counted
from engine.message.ids import split_id
from engine.storage.spool.entry import State
from engine.storage.spool.files import Files
from engine.storage.spool.frame import Damage, Frame, FrameType, scan
from engine.storage.spool.index import Texts, decode_index
from engine.storage.spool.names import HOMES
from engine.storage.spool.records import content_file, decode_envelope
from engine.storage.spool.recovery import Loss, Recovered, is_whole, make_safe, segments_in, set_aside
from engine.storage.spool.rows import state_values, stored_row
from engine.storage.spool.segment import Segment, offset_of, offsets_of, place_of, side_place
from engine.storage.spool.table import COLUMNS, Column, Table, Values


@dataclass
class Loaded:
    """One segment. columns: its rows that live. ghosts: offsets of copies whose original is in the journal.

    indexed: it has a valid index. problems: one line each, for the log.
    """

    segment: Segment
    columns: dict[str, Column] = field(default_factory=dict)
    ghosts: list[int] = field(default_factory=list)
    indexed: bool = True
    problems: list[str] = field(default_factory=list)


class Journaled:
    """What the journal says of messages in the old generation; made once, then asked for each segment."""

    def __init__(self, found: Recovered, texts: Texts) -> None:
        node = texts["node"].number
        self._stored: set[tuple[int, int]] = set()
        self._taken_in: set[tuple[int, int, int]] = set()
        self._outcomes: dict[tuple[int, int, int], tuple[int, Values | None, int]] = {}
        for message_id in found.messages:
            packed, name = split_id(message_id)
            self._stored.add((packed, node(name)))
        for message_id, number in found.taken_in:
            packed, name = split_id(message_id)
            self._taken_in.add((packed, node(name), number))
        for (message_id, number), (frame, snapshot, place) in found.outcomes.items():
            packed, name = split_id(message_id)
            values = None if snapshot is None else state_values(snapshot)
            self._outcomes[packed, node(name), number] = frame, values, place
        ids = {packed for packed, *_ in (*self._stored, *self._taken_in, *self._outcomes)}
        self._ids = np.array(sorted(ids), dtype="u8")

    def apply(self, loaded: Loaded) -> None:
        """Bring the rows up to date; those that are final, or the journal's, go."""
        columns = loaded.columns
        if not len(self._ids) or not len(columns["id"]):
            return
        keep = np.ones(len(columns["id"]), dtype=bool)
        for index in np.flatnonzero(np.isin(columns["id"], self._ids)).tolist():
            key = int(columns["id"][index]), int(columns["node"][index])
            own = *key, int(columns["number"][index])
            outcome = self._outcomes.get(own)
            if key in self._stored or own in self._taken_in:
                loaded.ghosts.append(_offset(columns, index))
                keep[index] = False
            elif outcome is not None and outcome[0] >= int(columns["frame"][index]):
                # Of the same number, too: an index knows which state was the newest, but only this record has it.
                frame, values, place = outcome
                if values is None:
                    loaded.ghosts.append(_offset(columns, index))
                    keep[index] = False
                else:
                    _update(columns, index, {**values, "frame": frame, "state_place": place})
        if not keep.all():
            loaded.columns = {name: column[keep] for name, column in columns.items()}


def folders(directory: Path, files: Files) -> list[Path]:
    """All that the old generation has."""
    return [directory / home / name for home in HOMES for name in files.names(directory / home)]


def find_segments(directory: Path, files: Files, problems: list[str]) -> Iterator[list[Segment]]:
    """The segments of the old generation, a folder at a time, each oldest first."""
    for folder in folders(directory, files):
        if segments := segments_in(folder, files, ".seg", problems):
            yield segments


def lost_segments(directory: Path, files: Files) -> Iterator[Segment]:
    """Segments that are gone, and whose index is there: no crash leaves that, an index goes before its segment."""
    for folder in folders(directory, files):
        names = files.names(folder)
        segments = {name[:-4] for name in names if name.endswith(".seg")}
        for name in names:
            if name.endswith(".idx") and name[:-4] not in segments:
                with contextlib.suppress(ValueError):
                    yield Segment(folder / f"{name[:-4]}.seg")


def tell_lost(segment: Segment, files: Files, texts: Texts, journaled: Journaled) -> str:
    """A line about a lost segment: what lived in it, as far as the rest knows."""
    try:
        lived = len(load(segment, files, texts, journaled, read_only=True).columns["id"])
        listed = f"its index lists {counted(lived, 'delivery')}"
    except StorageError:
        listed = "its index is damaged, too"
    return f"{segment.title} is gone; {listed}"


def load(
    segment: Segment, files: Files, texts: Texts, journaled: Journaled | None = None, read_only: bool = False
) -> Loaded:
    """The rows of one segment, as it, its side file and the journal tell. Raises StorageError: it cannot be read."""
    loaded = Loaded(segment)
    try:
        if files.size(segment.index) is None:
            raise StorageError("no index")
        size, loaded.columns = decode_index(segment, files.read(segment.index), texts)
        segment.bytes = min(size, segment.bytes)
        loaded.columns["state_place"][:] = 0
        loaded.columns["state"][:] = State.WAITING
    except StorageError:
        loaded.indexed = False
        loaded.columns = _scanned(loaded, files, texts, read_only)
    if files.size(segment.side) is not None:
        _apply_side(loaded, files, read_only)
    if journaled is not None:
        journaled.apply(loaded)
    beyond = offsets_of(loaded.columns["place"]) + loaded.columns["length"] > segment.bytes
    if beyond.any():
        gone = counted(int(beyond.sum()), "delivery")
        loaded.problems.append(Loss(f"{segment.title} was cut: {gone} cannot be read"))
    return loaded


class Copies:
    """Which rows of one folder a later copy replaces. Asked for a whole folder: copies never leave it.

    Sixteen bytes a row for the time of loading it. All methods in any thread, one at a time.
    """

    def __init__(self) -> None:
        self._keys: list[Column] = []
        self._places: list[Column] = []

    def add(self, columns: Mapping[str, Column]) -> None:
        """Rows of the next segment; segments come oldest first."""
        if not len(columns["id"]):
            return
        which = columns["number"].astype("u8") | columns["node"].astype("u8") << np.uint64(16)
        self._keys.append(columns["id"] ^ (which * np.uint64(0x9E3779B97F4A7C15)))
        self._places.append(columns["place"])

    def replaced(self) -> list[tuple[int, int]]:
        """Places of rows that look like copies of one delivery: the one replaced, and the next newer. Mostly none.

        Whether they are says a comparison of the rows: two deliveries may have the same key by chance.
        """
        if not self._keys:
            return []
        key, place = np.concatenate(self._keys), np.concatenate(self._places)
        order = np.argsort(key)
        same = key[order][:-1] == key[order][1:]
        # Few, if any: only these are put in the order in which they were written, of one file too.
        several = np.union1d(order[:-1][same], order[1:][same])
        several = several[np.lexsort((place[several], key[several]))]
        at = np.flatnonzero(key[several][:-1] == key[several][1:])
        return list(zip(place[several[at]].tolist(), place[several[at + 1]].tolist(), strict=True))


def replaced_rows(table: Table, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The rows at the first place of each pair that are the same delivery as the one at the second."""
    if not pairs:
        return []
    rows = {table.get(row, "place"): row for row in table.at({place for pair in pairs for place in pair})}
    which = ("id", "node", "number")
    found = []
    for old, new in pairs:
        if old in rows and new in rows:
            same = all(table.get(rows[old], name) == table.get(rows[new], name) for name in which)
            found += [rows[old]] * same
    return found


def _scanned(loaded: Loaded, files: Files, texts: Texts, read_only: bool) -> dict[str, Column]:
    """The rows of a segment without an index, from its frames."""
    segment, rows = loaded.segment, []
    if not read_only:
        make_safe(segment.path, files)
    data = files.read(segment.path)
    for frame in scan(data, segment.salt):
        if isinstance(frame, Damage):
            loaded.problems.append(set_aside(files, segment.path, data, frame, read_only))
            continue
        whole = is_whole(frame, segment.path, files, data, loaded.problems, read_only)
        if whole and frame.type == FrameType.STORED:
            rows.append(_row(segment, frame, texts))
    return {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}


def _row(segment: Segment, frame: Frame, texts: Texts) -> Values:
    _, state_frame, number, snapshot, content_ref, packed = frame.header
    return stored_row(
        decode_envelope(packed), number, snapshot, texts, place=place_of(segment.number, frame.offset),
        length=frame.end - frame.offset, state_place=0, frame=state_frame,
        content_file=content_file(content_ref),
    )  # fmt: skip


def _apply_side(loaded: Loaded, files: Files, read_only: bool) -> None:
    segment = loaded.segment
    if not read_only:
        make_safe(segment.side, files)
    data = files.read(segment.side)
    segment.side_bytes = len(data)
    torn: Damage | None = None
    states: dict[int, tuple[int, Values]] = {}
    dead: set[int] = set()
    for frame in scan(data, segment.salt):
        if isinstance(frame, Damage):
            loaded.problems.append(set_aside(files, segment.side, data, frame, read_only))
            torn = frame if frame.torn else None
            continue
        if not is_whole(frame, segment.side, files, data, loaded.problems, read_only):
            continue
        if frame.type == FrameType.DEAD:
            dead.update(frame.header[1])
        elif frame.type == FrameType.STATE:
            values = state_values(frame.header[2])
            values["frame"], values["state_place"] = frame.number, side_place(segment.number, frame.offset)
            states[frame.header[1]] = frame.number, values
    if not read_only:
        if torn is not None:
            _cut(segment, files, torn.offset)
        if not segment.side_bytes:
            files.unlink(segment.side)  # it is begun anew
    columns = loaded.columns
    at = {offset_of(int(place)): index for index, place in enumerate(columns["place"])} if states else {}
    for offset, (number, values) in states.items():
        index = at.get(offset)
        if index is not None and number >= int(columns["frame"][index]):
            _update(columns, index, values)
    if dead:
        gone = np.array([place_of(segment.number, offset) for offset in dead], dtype="u8")
        keep = ~np.isin(columns["place"], gone)
        loaded.columns = {name: column[keep] for name, column in columns.items()}


def _cut(segment: Segment, files: Files, length: int) -> None:
    """Nothing is appended behind a torn tail."""
    descriptor = files.open(segment.side)
    try:
        files.truncate(descriptor, length)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    segment.side_bytes = length


def _update(columns: Mapping[str, Column], index: int, values: Values) -> None:
    for name, value in values.items():
        columns[name][index] = value


def _offset(columns: Mapping[str, Column], index: int) -> int:
    return offset_of(int(columns["place"][index]))
