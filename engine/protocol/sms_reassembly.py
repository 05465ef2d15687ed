"""Parts of long messages, held until all are there. Pure: the caller says what came and when.

A message is complete when every number is there, in whatever order; after a time, or when room is needed, what is there
is given out with a mark where something is missing.

R1  every part taken in is given out exactly once, unless it is a repetition of one that was.
R2  never more than `max_messages` begun messages, nor more than `max_bytes` in them.

A reference soon comes again: there are 256 of them, and some senders know one only. So a part that has the number of
another but not its octets begins a new message; and a complete one is remembered for a while, so that a part of it that
the carrier repeats begins nothing.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

from engine.protocol.sms_alphabets import DEFAULT_TABLES, Fault, Tables
from engine.protocol.sms_data_coding import Charset, Decoded, decode


@dataclass(frozen=True, slots=True)
class Key:
    """Which message a part is of."""

    carrier: str
    source: str
    destination: str
    reference: int
    total: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One part as it came. body: without its header. id: the caller's, such as the spool's."""

    body: bytes
    data_coding: int = 0
    tables: Tables = DEFAULT_TABLES
    id: str = ""

    def same_content(self, other: "Piece") -> bool:
        """A repetition: its id may differ."""
        return (self.body, self.data_coding, self.tables) == (other.body, other.data_coding, other.tables)


@dataclass(frozen=True, slots=True)
class Assembled:
    """What was put together. pieces: by number, None for each that is missing. first_at: when the first one came."""

    key: Key
    pieces: tuple[Piece | None, ...]
    first_at: float

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers, from 1; none of a complete message."""
        return tuple(number for number, piece in enumerate(self.pieces, 1) if piece is None)

    def decode(self, default: Charset = Charset.GSM) -> Decoded:
        """The text, with "[part 2 of 3 is missing]" where it has a gap; None if all that came is binary.

        Parts in the same coding are read as one, so that what a sender has cut in the middle of a character is whole.
        """
        texts: list[str] = []
        faults, readable = Fault.NONE, False
        number = 0
        for coding, run in groupby(self.pieces, key=_coding):
            bodies = [piece.body if piece else b"" for piece in run]
            if coding is None:
                gaps = range(number + 1, number + len(bodies) + 1)
                texts += [f"[part {gap} of {self.key.total} is missing]" for gap in gaps]
            else:
                decoded = decode(b"".join(bodies), coding[0], default=default, tables=coding[1])
                texts.append(decoded.text or "")
                faults |= decoded.faults
                readable |= decoded.text is not None
            number += len(bodies)
        return Decoded("".join(texts) if readable else None, faults)


def _coding(piece: Piece | None) -> tuple[int, Tables] | None:
    return (piece.data_coding, piece.tables) if piece else None


@dataclass(slots=True)
class _Begun:
    first_at: float
    pieces: dict[int, Piece] = field(default_factory=dict)


@dataclass(slots=True)
class Reassembly:
    """The messages begun. Times are seconds of any clock that does not go back.

    timeout_s: from the first part. max_messages, max_bytes: over them the oldest are given out as they are; so many
    are begun only where a carrier loses parts or somebody sends halves. repeat_s: a complete one is remembered so long.
    """

    timeout_s: float = 1800
    max_messages: int = 10_000
    max_bytes: int = 16 << 20
    repeat_s: float = 300
    # Both the oldest first. Of complete ones, when they were, and a hash of each part.
    _begun: OrderedDict[Key, _Begun] = field(default_factory=OrderedDict)
    _complete: OrderedDict[Key, tuple[float, tuple[int, ...]]] = field(default_factory=OrderedDict)
    _bytes: int = 0

    @property
    def messages(self) -> int:
        """How many are begun."""
        return len(self._begun)

    @property
    def body_bytes(self) -> int:
        """What they hold."""
        return self._bytes

    def add(self, key: Key, number: int, piece: Piece, now: float) -> list[Assembled]:
        """One more part. Gives out what it completes, and what must make room for it; most often nothing.

        number: 1..key.total, as `sms_udh` has checked.
        """
        assert 1 <= number <= key.total
        if self._repeats_complete(key, number, piece, now):
            return []
        out = []
        begun = self._begun.get(key)
        if begun is not None and (known := begun.pieces.get(number)) is not None:
            if known.same_content(piece):
                return []
            out.append(self._give_out(key))
            begun = None
        if begun is None:
            begun = self._begun[key] = _Begun(now)
        begun.pieces[number] = piece
        self._bytes += len(piece.body)
        if len(begun.pieces) == key.total:
            done = self._give_out(key)
            self._remember(done, now)
            out.append(done)
        while len(self._begun) > self.max_messages or self._bytes > self.max_bytes:
            out.append(self._give_out(next(iter(self._begun))))
        return out

    def known(self, key: Key, number: int, piece: Piece, now: float) -> Piece | None:
        """What `add` would drop this part for: the same one of a message that is begun; itself, if it is a repetition
        of one whose message is complete."""
        begun = self._begun.get(key)
        there = begun.pieces.get(number) if begun is not None else None
        if there is not None:
            return there if there.same_content(piece) else None
        return piece if self._repeats_complete(key, number, piece, now) else None

    def expire(self, now: float) -> list[Assembled]:
        """The messages whose time is over, as far as they came."""
        return [self._give_out(key) for key in list(self._overdue(now))]

    def due_at(self) -> float | None:
        """When `expire` will have something to give out."""
        oldest = next(iter(self._begun.values()), None)
        return None if oldest is None else oldest.first_at + self.timeout_s

    def _overdue(self, now: float) -> Iterator[Key]:
        for key, begun in self._begun.items():
            if begun.first_at + self.timeout_s > now:
                break
            yield key

    def _give_out(self, key: Key) -> Assembled:
        begun = self._begun.pop(key)
        self._bytes -= sum(len(piece.body) for piece in begun.pieces.values())
        return Assembled(key, tuple(begun.pieces.get(number) for number in range(1, key.total + 1)), begun.first_at)

    def _remember(self, done: Assembled, now: float) -> None:
        self._complete[done.key] = (now, tuple(_fingerprint(piece) for piece in done.pieces if piece))
        self._complete.move_to_end(done.key)
        forgotten = [key for key, (at, _) in islice(self._complete.items(), 2) if at + self.repeat_s <= now]
        if not forgotten and len(self._complete) > self.max_messages:
            forgotten = [next(iter(self._complete))]
        for key in forgotten:  # two for each that comes, so that old ones do not pile up
            del self._complete[key]

    def _repeats_complete(self, key: Key, number: int, piece: Piece, now: float) -> bool:
        """The same part once more. While a new message of that key is begun, a part is taken for one of it."""
        at, fingerprints = self._complete.get(key, (0.0, ()))
        if not fingerprints or at + self.repeat_s <= now or key in self._begun:
            return False
        return fingerprints[number - 1] == _fingerprint(piece)


def _fingerprint(piece: Piece) -> int:
    return hash((piece.body, piece.data_coding, piece.tables))
