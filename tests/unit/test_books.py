"""The books of a node whose workers die: every outcome on disk once, and balanced (Q2)."""

import random
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.daemon.books import _FATES, Books, Row, _count
from engine.queue.tally import Tally


class Life:
    """A worker as its supervisor sees it. queued: what its spool has; events: (record, kind) of all its lives."""

    def __init__(self, queued: int, events: list[tuple[int, str]], backlog: int) -> None:
        self.queued, self.events = queued, events
        self.tally = Tally(recovered=queued - backlog)
        self.backlog = backlog  #: part of it that is not read yet

    def row(self) -> dict[str, object]:
        frame = self.events[-1][0] + 1 if self.events else 1
        return {**self.tally.as_row(self.queued - self.backlog), "loading": self.backlog > 0, "frame": frame}

    def load(self) -> None:
        self.tally.recovered += self.backlog
        self.backlog = 0

    def happens(self, kind: str) -> None:
        if kind == "accepted":
            self.tally.accepted += 1
            self.queued += 1
        elif kind in _FATES and not self.queued:
            return
        else:
            setattr(self.tally, kind, getattr(self.tally, kind) + 1)
            self.queued -= kind in _FATES
        self.events.append((self.events[-1][0] + 1 if self.events else 1, kind))


def total(rows: list[Row]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(
            {name: value for name, value in row.items() if name not in ("balanced", "loading", "frame", "uptime_s")}
        )
    return counts


@given(st.integers(0, 1 << 32))
@settings(max_examples=200, deadline=None)
def test_as_if_nobody_had_died(seed: int) -> None:
    rng = random.Random(seed)
    books, first = Books(Path("unused"), lambda: 100.0), rng.randrange(4)
    life = Life(first, [], rng.randrange(first + 1))
    books.begin(0, life.row())
    for _ in range(100):
        match rng.randrange(8):
            case 0:
                backlog = rng.randrange(life.queued + 1)
                life = Life(life.queued, life.events, backlog)
                unread = books.begin(0, life.row())
                assert unread is not None
                known = [kind for frame, kind in life.events if unread.start <= frame < unread.end]
                unread.into.update(known)
            case 1 | 2:
                books.report(0, life.row())
            case 3:
                life.load()
            case _:
                life.happens(rng.choice(("accepted", "accepted", "delivered", "failed", "removed", "deferred")))
    life.load()
    row = life.row()
    found = total([row, *books.past({0: row})])
    happened = Counter(kind for _, kind in life.events)
    assert found["recovered"] == first
    assert {name: found[name] for name in ("accepted", *_FATES, "deferred")} == {
        name: happened[name] for name in ("accepted", *_FATES, "deferred")
    }
    assert found["recovered"] + found["accepted"] == sum(found[fate] for fate in _FATES) + found["queued"]
    before = found
    books.retire(0, row)
    assert total(books.past({})) == before


def test_a_worker_that_does_not_answer_is_as_it_was() -> None:
    books, life = Books(Path("unused"), lambda: 100.0), Life(0, [], 0)
    books.begin(0, life.row())
    for _ in range(3):
        life.happens("accepted")
        life.happens("delivered")
        books.report(0, life.row())
    found = total(books.past({}))
    assert (found["accepted"], found["delivered"], found["queued"]) == (2, 2, 0), "the last report but one"


def event(number: str, kind: str, destination: str = "one.test") -> dict[str, object]:
    return {"id": number, "type": kind, "destination": destination}


def test_what_events_are_counted_as() -> None:
    """Of a carrier, what mail calls delivered is sent; its receipts are no outcomes. Twice there is once (E1)."""
    events = [
        event("7.0", "received"), event("7.1", "received"), event("7.1", "received"), event("8.0", "delivered"),
        event("9.0", "sent", "sms:acme"), event("10.0", "delivered", "sms:acme"), event("11.0", "receipt", "sms:acme"),
        event("12.0", "handed-over", "account:shop"), event("13.0", "deferred"), event("14.0", "failed"),
    ]  # fmt: skip
    assert _count(iter(events), 14) == {"accepted": 2, "delivered": 3, "deferred": 1}
