"""What receipts have changed in one turn of the loop, made durable together, and only then answered.

    events (one frame) and receipts that wait for applications -> journal -> table of what was sent -> answers

In this order a crash between two steps repeats the first ones when the carrier sends its receipt again, and loses
nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from engine.base.stored import Stored
from engine.delivery.report import Report
from engine.feedback import telling
from engine.feedback.outstanding import Outstanding, Taken
from engine.feedback.own import OwnMessages
from engine.feedback.parked import Answer
from engine.message.outcome import Outcome, Status
from engine.protocol.smpp_tables import ESME_ROK
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from engine.storage.spool.spool import Spool
from engine.storage.tables.sent import SentTable

log = logging.getLogger(__name__)

#: Events of one frame.
_MOST_EVENTS: Final = 500
#: What an application has refused for now is tried again after this long, or when it binds.
_LATER_S: Final = 60.0


class Tried:
    """What became of a receipt that its application was to take at once. at: unix seconds."""

    __slots__ = ("at", "outcome", "report")

    def __init__(self, report: Report, outcome: Outcome, at: float) -> None:
        self.report = report
        self.outcome = outcome
        self.at = at


class _Turn:
    __slots__ = ("answers", "changed", "events", "owed", "tried", "unparked")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.owed: list[Report] = []
        self.tried: list[Tried] = []
        self.changed: dict[Taken, None] = {}
        self.unparked: list[int] = []
        self.answers: list[Answer] = []


class Turns:
    """See above. books: told of each attempt to have a receipt taken at once, when its event has a record."""

    def __init__(
        self, spool: Spool, table: SentTable, outstanding: Outstanding, own: OwnMessages,
        books: Callable[[Tried], None],
    ) -> None:  # fmt: skip
        self._spool = spool
        self._table = table
        self._outstanding = outstanding
        self._own = own
        self._books = books
        self._loop = asyncio.get_running_loop()
        self._turn: _Turn | None = None
        self._under_way: set[Stored] = set()

    def record(
        self, event: Event | None = None, owed: Report | None = None, changed: Taken | None = None,
        unparked: int = 0, answer: Answer | None = None, tried: Tried | None = None,
    ) -> None:  # fmt: skip
        """All of this, durable in the order above."""
        turn = self._turn
        if turn is None:
            turn = self._turn = _Turn()
            self._loop.call_soon(self._flush, turn)
        if event is not None:
            turn.events.append(event)
        if owed is not None:
            turn.owed.append(owed)
        if tried is not None:
            turn.tried.append(tried)
        if changed is not None:
            turn.changed[changed] = None
        if unparked:
            turn.unparked.append(unparked)
        if answer is not None:
            turn.answers.append(answer)
        if len(turn.events) >= _MOST_EVENTS:
            self._turn = None

    def note(self, event: Event) -> Stored:
        """An event from which nothing follows."""
        return self._spool.note(lambda seq: noted_lines(seq, [event]))

    def owe(self, report: Report) -> None:
        """A receipt for an application; on disk before whatever is recorded after this."""
        stored = self._owe(report)
        self._under_way.add(stored)
        stored.add_done_callback(self._under_way.discard)

    async def settled(self) -> None:
        """Everything that was recorded is durable and answered."""
        while self._under_way or self._turn is not None:
            await asyncio.sleep(0)
            for one in list(self._under_way):
                await one

    def _flush(self, turn: _Turn) -> None:
        if self._turn is turn:
            self._turn = None
        done = Stored()
        self._under_way.add(done)
        done.add_done_callback(self._under_way.discard)
        last: Stored | None = None
        events = turn.events + [telling.tried(one.report, one.outcome, one.at) for one in turn.tried]
        if events:
            last = self._spool.note(lambda seq: noted_lines(seq, events))
        for one in turn.tried:
            self._books(one)
            if not one.outcome.status.final:
                last = self._keep(one)
        for report in turn.owed:
            last = self._owe(report)
        # Frames become durable in their order: the last one stands for all.
        if last is None:
            self._recorded(turn, done)
        else:
            last.add_done_callback(lambda _: self._recorded(turn, done))

    def _owe(self, report: Report) -> Stored:
        self._own.count(report.envelope.message_class)
        return self._spool.accept(report.envelope, report.content, [(report.destination, (0,))], keep=True)

    def _keep(self, tried: Tried) -> Stored:
        """It goes on as a delivery that was tried once."""
        report, outcome, at = tried.report, tried.outcome, tried.at
        unknown = (0,) if outcome.status is Status.UNKNOWN else ()
        due_at = at if unknown else at + _LATER_S
        self._own.count(report.envelope.message_class)
        snapshot = [report.destination, (0,), due_at, 1, unknown, 1, outcome.reply]
        return self._spool.take_in(report.envelope, report.content, {0: snapshot}, keep=True)

    def _recorded(self, turn: _Turn, done: Stored) -> None:
        written: asyncio.Future[None] | None = None
        if turn.changed:
            written = self._table.update([row for taken in turn.changed for row in taken.rows()])
            for taken in turn.changed:
                if taken.ending:
                    # Who looks for it from now on looks behind this in the table.
                    self._outstanding.remove(taken)
        if turn.unparked:
            written = self._table.unpark(turn.unparked)
        if written is None:
            self._answer(turn, done)
        else:
            written.add_done_callback(lambda _: self._answer(turn, done))

    def _answer(self, turn: _Turn, done: Stored) -> None:
        for answer in turn.answers:
            try:
                answer(ESME_ROK)
            except Exception:  # one bind's fault is not that of the others
                log.exception("answering a receipt")
        done.finish()
