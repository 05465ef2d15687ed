"""States of a message as receipts tell them: the specification's numbers and words, and the words of the field.

A word that nobody knows is UNKNOWN, which decides nothing. Only a word in the table can mean DELIVERED; a stem inside
a longer word (DND_REJECTED) is enough for a failure. Source: SMPP 3.4 5.2.28 and appendix B, SMPP 5.0 4.7.15.
"""

import enum
import re
from typing import Final, NamedTuple


class State(enum.IntEnum):
    """What became of a message. Values are those of message_state on the wire."""

    SCHEDULED = 0  #: waits at the SMSC for its time (5.0 only)
    ENROUTE = 1
    DELIVERED = 2
    EXPIRED = 3  #: the validity period ended first
    DELETED = 4  #: cancelled
    UNDELIVERABLE = 5
    ACCEPTED = 6  #: somebody read it on the subscriber's behalf, or, mostly, the next SMSC has it: not delivered
    UNKNOWN = 7  #: neither final nor on its way: nothing is known
    REJECTED = 8
    SKIPPED = 9  #: left out on purpose (5.0 only)

    @property
    def final(self) -> bool:
        """Nothing else can follow."""
        return self not in _NOT_FINAL

    @property
    def intermediate(self) -> bool:
        """More is to be expected."""
        return self in _NOT_FINAL and self is not State.UNKNOWN

    @property
    def word(self) -> str:
        """As text receipts have it: `DELIVRD`."""
        return _WORDS.get(self) or self.name


class Heard(NamedTuple):
    """What is known of a part or a message. at: unix seconds, 0: of a time nobody told. error: 0 to 255, 0: none."""

    state: State
    at: int = 0
    error: int = 0

    def packed(self) -> int:
        """As one number on disk; one under 256 is a state alone."""
        return self.state | self.error << 8 | self.at << 16

    @classmethod
    def unpacked(cls, number: int) -> "Heard":
        """Raises ValueError: no such state."""
        return cls(State(number & 0xFF), number >> 16, number >> 8 & 0xFF)


def heard_at(state: State, at: float, error: str | None) -> Heard:
    """at: unix seconds. error: decimal, as receipts have it; what is none is 0, what is over an octet its highest."""
    told = error or ""
    code = int(told) if told.isascii() and told.isdecimal() and len(told) < 10 else 0
    return Heard(state, min(max(int(at), 0), 0xFFFFFFFF), min(code, 0xFF))


_NOT_FINAL: Final = (State.SCHEDULED, State.ENROUTE, State.ACCEPTED, State.UNKNOWN)

#: Of seven letters where the name has more: appendix B, table B-2. It has none for SCHEDULED; the field writes SCHEDLD.
_WORDS: Final = {
    State.SCHEDULED: "SCHEDLD",
    State.DELIVERED: "DELIVRD",
    State.UNDELIVERABLE: "UNDELIV",
    State.ACCEPTED: "ACCEPTD",
    State.REJECTED: "REJECTD",
}

#: What aggregators and SMSCs write besides, in capitals and without punctuation.
_FIELD_WORDS: Final = {
    State.SCHEDULED: "SCHEDUL WAITING",
    State.ENROUTE: "BUFFRED BUFFERED BUFFERD ENROUT QUEUED PENDING INPROGRESS INPROG PROCESSING RETRY DELAYED DEFERRED",
    State.DELIVERED: "DELIVERD DELIVRED DELIVERED DLVRD DELVRD DELIVED READ SEEN",
    State.EXPIRED: "TIMEOUT TIMEDOUT",
    State.DELETED: "CANCELED CANCELLED CANCEL REMOVED REPLACED",
    State.UNDELIVERABLE: "SYSERR NOROUTE NOTSENT ABSENT UNREACH UNKNSUB UNKSUB NOSUB UNDLVRD ERROR",
    State.ACCEPTED: "ACKED ACK ACCEPT ACCPTED SENT SUBMITD SUBMITTED SUBMIT TRANSMITTED",
    State.REJECTED: "NOCRED NOCREDIT ZEROBAL BLOCKED BARRED BARREDA BLACKLS BLACKLIST BLACKLISTED FILTERED SPAM DND",
}

_BY_WORD: Final = (
    {state.name: state for state in State}
    | {word: state for state, word in _WORDS.items()}
    | {word: state for state, words in _FIELD_WORDS.items() for word in words.split()}
)

#: Tried in this order in words that are not in the table. None of them means delivered.
_STEMS: Final = (
    ("UNDEL", State.UNDELIVERABLE),
    ("NOTDEL", State.UNDELIVERABLE),
    ("NONDEL", State.UNDELIVERABLE),
    ("REJ", State.REJECTED),
    ("EXPIR", State.EXPIRED),
    ("FAIL", State.UNDELIVERABLE),
)

_PUNCTUATION: Final = re.compile(r"[\W_]+")
#: CMPP's codes, MK:0001 or CB:0053: what a node on the way answered instead of delivering (CMPP 2.0, Stat).
_CMPP: Final = re.compile(r"[A-Z]{2}:[0-9A-Z]{1,5}")


def read_state(text: str) -> tuple[State, str]:
    """The state that the value of `stat:` names, and the words that name it.

    text: not blank; all up to the next label, so a word or two of something else may follow. A number is one of
    message_state.
    """
    first = text.split(maxsplit=1)[0]
    for look in (_named, _by_stem):
        for words in (first, text):
            state = look(words.upper())
            if state is not None:
                return state, words
    return State.UNKNOWN, first


def _named(words: str) -> State | None:
    if words in _BY_WORD:
        return _BY_WORD[words]
    if _CMPP.fullmatch(words):
        return State.UNDELIVERABLE
    words = _PUNCTUATION.sub("", words)
    digit = words.lstrip("0") or words[:1]
    return State(int(digit)) if digit.isascii() and digit.isdecimal() and len(digit) == 1 else _BY_WORD.get(words)


def _by_stem(words: str) -> State | None:
    words = _PUNCTUATION.sub("", words)
    return next((state for stem, state in _STEMS if stem in words), None)


def state_of_tlv(value: bytes) -> State | None:
    """The state in a message_state TLV: a byte, a wider number of either byte order, or even a word; None if none."""
    rest = value.strip(b"\0")
    if len(rest) == 1 and rest[0] <= State.SKIPPED:
        return State(rest[0])
    if not rest:
        return State.SCHEDULED if value else None
    return _named(rest.decode("latin-1").upper())
