"""One message of several parts, each with receipts of its own: what became of the whole. Pure state.

R1  any part failed: the message failed, at once and for good.
R2  all parts delivered: the message is delivered.
R3  the first final state of a part counts; those that come later are counted and change nothing.
R4  whatever is not heard of by the deadline is said to be missing, once; receipts may still decide after that.
R5  a part accepted without a message id can have no receipt: when the others are delivered, the message is sent.
"""

import enum
from collections.abc import Sequence

from engine.protocol.receipt_states import State


class Fate(enum.Enum):
    """What is known of the whole message."""

    WAITING = "waiting"  #: more is to come
    MISSING = "missing"  #: the deadline has passed and receipts are missing
    SENT = "sent"  #: nothing failed, and of some parts nothing more can be known
    DELIVERED = "delivered"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """No receipt changes it."""
        return self not in (Fate.WAITING, Fate.MISSING)


class Parts:
    """The parts of one message, numbered from 1 as in their headers.

    Each method gives the new fate when it changed, which is an event, else None. repeated: final states that came
    after the first one of their part.
    """

    __slots__ = ("_deadline_at", "_mute", "_states", "fate", "repeated")

    def __init__(self, total: int, deadline_at: float) -> None:
        """total: 1 or more. deadline_at: unix seconds; validity period and grace are over."""
        assert total >= 1, total
        self._states: list[State | None] = [None] * total
        self._mute: set[int] = set()
        self._deadline_at = deadline_at
        self.fate = Fate.WAITING
        self.repeated = 0

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the parts whose final state may still come."""
        return self._missing_in(self._states)

    def state(self, number: int) -> State | None:
        """The last thing heard of a part; None: nothing."""
        return self._states[self._index(number)]

    def accepted(self, number: int, message_id: str) -> Fate | None:
        """The carrier took a part. message_id: of its submit_sm_resp; empty means that no receipt can be."""
        self._index(number)
        if not message_id:
            self._mute.add(number)
        return self._judge()

    def heard(self, number: int, state: State) -> Fate | None:
        """A receipt came for a part, or its submit_sm was refused for good (REJECTED)."""
        index = self._index(number)
        known = self._states[index]
        if known is not None and known.final:
            self.repeated += state.final
            return None
        self._states[index] = state
        return self._judge()

    def foreseen(self, number: int, state: State) -> Fate | None:
        """What `heard` would give, of a part without a final state; nothing changes."""
        states = list(self._states)
        states[self._index(number)] = state
        return self._judged(states)

    def expire(self, now: float) -> Fate | None:
        """Time has passed."""
        if self.fate is Fate.WAITING and now >= self._deadline_at:
            self.fate = Fate.MISSING
            return self.fate
        return None

    def _index(self, number: int) -> int:
        assert 1 <= number <= len(self._states), number
        return number - 1

    def _missing_in(self, states: Sequence[State | None]) -> tuple[int, ...]:
        return tuple(
            number
            for number, state in enumerate(states, 1)
            if number not in self._mute and (state is None or not state.final)
        )

    def _judge(self) -> Fate | None:
        fate = self._judged(self._states)
        if fate is not None:
            self.fate = fate
        return fate

    def _judged(self, states: Sequence[State | None]) -> Fate | None:
        """R1, R2, R5, in this order."""
        if self.fate.final:
            return None
        finals = [state for state in states if state is not None and state.final]
        if any(state is not State.DELIVERED for state in finals):
            return Fate.FAILED
        if len(finals) == len(states):
            return Fate.DELIVERED
        return None if self._missing_in(states) else Fate.SENT
