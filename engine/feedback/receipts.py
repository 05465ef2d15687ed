"""Receipts of carriers: matched with what was sent, made events, told to the applications that asked.

    sent      what a carrier took, remembered until its receipts are there
    arrived   deliver_sm or data_sm from any bind of a carrier: a receipt, or a message from a person for somebody else
    upkeep    what came too late or not at all

R6  a receipt is answered only when what follows from it is on disk (turn.py).
R7  what says that it is a receipt is never handed on as a message from a person.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.base.stored import Stored
from engine.delivery.report import Report
from engine.delivery.sms_reports import SmsReports
from engine.delivery.underway import Underway
from engine.feedback import telling
from engine.feedback.direct import Direct
from engine.feedback.inquiries import Inquiries
from engine.feedback.matching import Candidate, candidates, choose, ending, numbers_of
from engine.feedback.outstanding import Ending, Outstanding, Taken
from engine.feedback.own import OwnMessages
from engine.feedback.parked import Answer, Arrival, Parked
from engine.feedback.ports import Noted
from engine.feedback.turn import Tried, Turns
from engine.message.outcome import Outcome
from engine.message.sms import SentPart
from engine.protocol.receipt import RECEIPTED_MESSAGE_ID, claims_receipt, parse_receipt
from engine.protocol.receipt_ids import Habit, stored_as
from engine.protocol.receipt_parts import Fate
from engine.protocol.receipt_states import Heard, State, heard_at
from engine.protocol.receipt_values import Receipt
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.protocol.smpp_tables import ESME_ROK, ESME_RX_T_APPN
from engine.storage.spool.spool import Spool
from engine.storage.tables.sent import SentTable
from engine.storage.tables.sent_db import ParkedRow, Row, by_message

log = logging.getLogger(__name__)

#: Rows that one step of the upkeep looks at.
_STEP: Final = 5000

Person = Callable[[str, DeliverSm | DataSm, Answer], None]


class Receipts:
    """See above. Implements SentBook, and the receipts' half of Incoming (delivery/sms_ports.py)."""

    def __init__(
        self, settings: Settings, spool: Spool, table: SentTable, reports: SmsReports, metrics: Metrics, clock: Clock,
        person: Person, underway: Underway, direct: Direct | None = None,
        books: Callable[[Tried], None] = lambda tried: None,
    ) -> None:  # fmt: skip
        """person: takes what is no receipt. underway: what carriers have not answered yet. direct: None: every receipt
        for an application goes through the spool. books: told of attempts without that.

        Raises StorageError: the table cannot be read.
        """
        self._table = table
        self._reports = reports
        self._metrics = metrics
        self._clock = clock
        self._person = person
        self._underway = underway
        self._direct = direct
        self._outstanding = Outstanding(settings.sms.recent)
        self.inquiries = Inquiries(table, self._outstanding)
        self._parked = Parked()
        self._habits: dict[str, Habit] = {}
        #: Messages of which an application is about to take the receipt, and what came about them since.
        self._held: dict[Taken, list[tuple[Candidate, Arrival]]] = {}
        self._turns = Turns(spool, table, self._outstanding, OwnMessages(metrics), books)
        self.reload(settings)
        for rows in by_message(table.waiting(settings.sms.recent)):
            taken = Taken.of(rows)
            if taken is not None:
                self._outstanding.add(taken)
        self._park_again(table.parked())

    def reload(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self._settings = settings.sms
        self._outstanding.limit = settings.sms.recent
        self._mute = {row.name for row in settings.carrier if not row.receipts}

    def __len__(self) -> int:
        """Messages in memory whose receipts are waited for."""
        return len(self._outstanding)

    @property
    def parked(self) -> int:
        """Receipts whose message is not known."""
        return len(self._parked)

    def ended(self, part: SentPart, heard: Heard) -> None:
        """A message ended that no carrier has taken."""
        self._table.add_ended(self._table.new_keys(self._clock.time()), part, heard.packed(), Ending.FINAL)

    def note(self, event: Noted) -> Stored:
        """An event of an answer, durable by itself."""
        return self._turns.note(telling.of_answer(event))

    async def settled(self) -> None:
        """Everything that came so far is durable and answered."""
        if self._direct is not None:
            await self._direct.settled()
        await self._turns.settled()

    # ---- what was sent

    def sent(self, parts: Sequence[SentPart]) -> "asyncio.Future[None] | None":
        """All parts of a message to one recipient. Done when that survives the process; None: it does."""
        carrier = parts[0].carrier
        first = self._table.new_keys(self._clock.time(), len(parts))
        forms = [stored_as(part.carrier_id) for part in parts]
        if self._is_mute(parts):
            self._owe_accepted(parts[0])
            return self._table.add(first, parts, forms, Ending.FINAL)
        done = self._table.add(first, parts, forms)
        taken = Taken(first, tuple(parts))
        self._outstanding.add(taken)
        if self._parked:
            waiting = [arrival for form in forms for arrival in self._parked.under(carrier, form)]
            if not self._underway.any(carrier, parts[0].recipient):
                # Those that waited for all ids about this number to be known.
                waiting += self._parked.about(carrier, ending(parts[0].recipient))
            for arrival in waiting:
                if not arrival.settled and self._match(arrival):
                    self._count(carrier, "early")
        return done

    def taken(self, message: str, index: int) -> Sequence[SentPart]:
        """The parts of a message to one recipient that a carrier took before a kill; none: it is not known to have.
        Raises StorageError.
        """
        parts = self.inquiries.taken(message, index)
        if parts and self._is_mute(parts):
            self._owe_accepted(parts[0])  # that was perhaps not on disk yet
        return parts

    def _is_mute(self, parts: Sequence[SentPart]) -> bool:
        """R5: there will be no receipt."""
        return parts[0].carrier in self._mute or not any([part.carrier_id for part in parts])

    def _owe_accepted(self, part: SentPart) -> None:
        """The application hears as much as is known; before the message is settled, or a kill would lose it."""
        owed = self._reports.receipt(part, State.ACCEPTED)
        if owed is not None:
            self._turns.owe(owed)

    # ---- what comes

    def arrived(self, carrier: str, pdu: DeliverSm | DataSm, answer: Answer) -> None:
        """From any bind of a carrier; answered once it is safe."""
        receipt, claimed = _read(pdu)
        if receipt is not None:
            arrival = Arrival(carrier, pdu, receipt, claimed, numbers_of(pdu), self._clock.time(), answer)
            if not self._match(arrival):
                self._look_up(arrival)
        elif claimed:
            self._count(carrier, "unreadable")
            self._turns.record(telling.unreadable(self._clock.time(), carrier, pdu), answer=answer)
        else:
            self._person(carrier, pdu, answer)

    def _match(self, arrival: Arrival, more: Sequence[Taken] = (), sure: bool = False) -> bool:
        """Whether it is about something that is in memory, or among these."""
        takens = [*more, *self._outstanding.find(arrival.carrier, arrival.texts)]
        if not takens:
            return False
        habit = self._habits.get(arrival.carrier)
        if habit is None:
            habit = self._habits[arrival.carrier] = Habit()
        guesses = habit.guesses
        found = candidates(takens, arrival.receipt.id, arrival.numbers)
        chosen = choose(found, habit, self._underway, sure, arrival.alone)
        if chosen is None:
            return False
        if habit.guesses != guesses or (sure and chosen.form.changes_base):
            self._count(arrival.carrier, "guessed")
        self._heard(chosen, arrival)
        return True

    def _look_up(self, arrival: Arrival, last: bool = False) -> None:
        """In the table. Meanwhile its response may come."""
        if not last:
            if len(self._parked) >= self._settings.max_parked:
                self._refuse(arrival)
                return
            self._parked.add(arrival)
        self._table.find((arrival.carrier, arrival.texts), partial(self._found, arrival, last))

    def _found(self, arrival: Arrival, last: bool, rows: list[Row]) -> None:
        if arrival.settled:
            return
        takens = [
            taken
            for group in by_message(sorted(rows, key=lambda row: row.key))
            if self._outstanding.get(group[0].first) is None and (taken := Taken.of(group)) is not None
        ]
        arrival.alone = True  # but for these
        if self._match(arrival, takens, sure=last):
            return
        arrival.alone = not takens
        if last:
            self._give_up(arrival)
        elif not arrival.key:
            arrival.key = self._table.new_keys(self._clock.time())
            row = ParkedRow(arrival.key, arrival.carrier, arrival.at, telling.packed(arrival.pdu))
            self._table.park(row).add_done_callback(lambda _: self._parked_now(arrival))

    def _parked_now(self, arrival: Arrival) -> None:
        """It is on disk. If that failed the carrier is to send it again."""
        answer = arrival.answer
        if arrival.settled or answer is None:
            return
        arrival.answer = None
        if self._table.failure is None:
            answer(ESME_ROK)
        else:
            arrival.answer = answer
            self._refuse(arrival)

    def _refuse(self, arrival: Arrival) -> None:
        arrival.settled = True
        self._parked.remove(arrival)
        if arrival.key:
            self._table.unpark([arrival.key])
        if arrival.answer is not None:
            arrival.answer(ESME_RX_T_APPN)

    # ---- what follows

    def _heard(self, chosen: Candidate, arrival: Arrival) -> None:
        taken, number, receipt = chosen.taken, chosen.number, arrival.receipt
        arrival.settled = True
        self._parked.remove(arrival)
        behind = self._held.get(taken)
        if behind is not None:  # what it changes depends on what becomes of the one before
            behind.append((chosen, arrival))
            return
        known = taken.whole.state(number)
        if known is not None and (known.final or known is receipt.state):
            self._count(arrival.carrier, "duplicate")
            self._turns.record(unparked=arrival.key, answer=arrival.answer)
            return
        now = self._clock.time()
        if not taken.ending:
            self._outstanding.add(taken)
        decided = taken.whole.foreseen(number, receipt.state) in (Fate.DELIVERED, Fate.FAILED)
        owed = self._owed(taken.parts[number - 1], receipt) if decided else None
        told = partial(self._told, chosen, arrival, now, owed)
        if owed is not None and self._direct is not None and self._direct.offer(owed, told):
            self._held[taken] = []
        else:
            self._record(chosen, arrival, now, owed)

    def _told(
        self, chosen: Candidate, arrival: Arrival, now: float, owed: Report | None, outcome: Outcome | None
    ) -> None:
        """The application has what it is owed, or not; nothing is changed before that, or a crash would lose it."""
        behind = self._held.pop(chosen.taken)
        self._record(chosen, arrival, now, owed, outcome)
        for one in behind:
            self._heard(*one)

    def _record(
        self, chosen: Candidate, arrival: Arrival, now: float, owed: Report | None, outcome: Outcome | None = None
    ) -> None:
        """What a receipt changes. owed: if it is written already. outcome: of an attempt to have it taken at once."""
        taken, number, receipt = chosen.taken, chosen.number, arrival.receipt
        whole, part = taken.whole, taken.parts[number - 1]
        fate = taken.heard(number, heard_at(receipt.state, receipt.done_at or now, receipt.error))
        self._metrics.sms_receipts.labels(arrival.carrier, receipt.state.word).inc()
        if fate is Fate.DELIVERED or fate is Fate.FAILED:
            self._metrics.sms_receipt.labels(arrival.carrier).observe(max(now - part.sent_at, 0.0))
            owed = owed or self._owed(part, receipt)
        elif fate is Fate.SENT:
            owed = self._reports.receipt(part, State.ACCEPTED)
        elif receipt.state.intermediate and not whole.fate.final:
            owed = self._owed(part, receipt, interim=True)
        tried = None
        if outcome is not None and owed is not None:
            tried, owed = Tried(owed, outcome, self._clock.time()), None
        self._turns.record(telling.heard(now, part, receipt, fate), owed, taken, arrival.key, arrival.answer, tried)
        if owed is not None and self._direct is not None:
            self._direct.spooled(part.account)

    def _owed(self, part: SentPart, receipt: Receipt, *, interim: bool = False) -> Report | None:
        return self._reports.receipt(part, receipt.state, receipt.error or "000", receipt.done_at, interim=interim)

    def _give_up(self, arrival: Arrival) -> None:
        """Nothing that was sent has its id."""
        arrival.settled = True
        self._parked.remove(arrival)
        if arrival.claimed:
            self._count(arrival.carrier, "unmatched")
            event = telling.unmatched(self._clock.time(), arrival.carrier, arrival.pdu, arrival.receipt)
            self._turns.record(event, unparked=arrival.key, answer=arrival.answer)
            return
        # A person wrote what looks like a receipt. It was acknowledged, and stays on disk until somebody has it.
        self._person(arrival.carrier, arrival.pdu, partial(self._handed_on, arrival))

    def _handed_on(self, arrival: Arrival, status: int) -> None:
        if arrival.answer is not None:
            arrival.answer(status)
        if arrival.key and status == ESME_ROK:
            self._table.unpark([arrival.key])
        elif arrival.key:
            arrival.settled, arrival.at = False, self._clock.time()
            self._parked.add(arrival)

    def _count(self, carrier: str, what: str) -> None:
        self._metrics.sms_odd_receipts.labels(carrier, what).inc()

    # ---- time

    async def upkeep(self) -> None:
        """Now and then: parked receipts, deadlines, what nobody asks for any more. Raises StorageError."""
        now = self._clock.time()
        for arrival in self._parked.until(now - self._settings.park):
            self._look_up(arrival, last=True)
        full = True
        while full and self._table.failure is None:
            await self._turns.settled()  # or what was just heard, or told, would be there again
            full = await self._tell_missing(now)
        while self._table.failure is None and await self._table.prune(now - self._settings.history, _STEP) == _STEP:
            pass

    async def _tell_missing(self, now: float) -> bool:
        """What is not there at its deadline; whether there may be more of it."""
        late = await self._table.overdue(now, _STEP)
        for rows in by_message(late):
            taken = self._outstanding.get(rows[0].first) or Taken.of(rows)
            if taken is None:
                log.error("message %s: the table of sent SMS has not all its parts", rows[0].part.message)
                self._table.update([(row.key, row.state, Ending.MISSING) for row in rows])
            elif taken not in self._held and taken.whole.expire(now) is Fate.MISSING:
                self._missing(taken, now)
        return len(late) >= _STEP

    def _missing(self, taken: Taken, now: float) -> None:
        missing = taken.whole.missing
        part = taken.parts[missing[0] - 1]
        self._count(part.carrier, "missing")
        self._turns.record(telling.missing(now, part, missing), self._reports.receipt(part, State.UNKNOWN), taken)

    def _park_again(self, rows: Sequence[ParkedRow]) -> None:
        """What was parked before a restart."""
        for row in rows:
            pdu = telling.unpacked(row.pdu)
            receipt, claimed = _read(pdu) if pdu is not None else (None, False)
            if pdu is None or receipt is None:
                log.error("a parked receipt of %s cannot be read, and is dropped: %s", row.carrier, row.pdu)
                self._table.unpark([row.key])
                continue
            arrival = Arrival(row.carrier, pdu, receipt, claimed, numbers_of(pdu), row.at, None, row.key)
            if not self._match(arrival):
                self._parked.add(arrival)


def _read(pdu: DeliverSm | DataSm) -> tuple[Receipt | None, bool]:
    """The receipt in a PDU, if there is one, and whether it is said to be one."""
    # Of several TLVs with one tag the first counts.
    tlvs = dict(reversed(pdu.tlvs)) if pdu.tlvs else {}
    message = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    receipt = parse_receipt(message, data_coding=pdu.data_coding, esm_class=pdu.esm_class, tlvs=tlvs)
    return receipt, claims_receipt(pdu.esm_class) or RECEIPTED_MESSAGE_ID in tlvs
