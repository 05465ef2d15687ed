"""The books of a load over SMPP: which submit is next, what became of each, which receipts came. No I/O.

A receipt is found by the number it comes from, which is that of one message, and by an id that is its own in some
notation. One that comes before its response is kept until then.
"""

import math
from array import array
from collections import Counter
from typing import TextIO

from engine.protocol.receipt_ids import forms, lookups
from engine.protocol.receipt_values import Receipt
from engine.protocol.smpp_tables import ESME_ROK, status_name
from engine.tools.latency import latency_of
from engine.tools.smpp_load_message import SubmitMaker
from engine.tools.smpp_load_options import SmppLoadOptions
from engine.tools.smpp_load_report import SmppLoadReport


class Ledger:
    """The books of one run. Times in seconds of one clock.

    report: counts; `close` fills in the rest. accepted: a file that gets `ID DESTINATION` of each, written out at once.
    """

    def __init__(
        self, options: SmppLoadOptions, maker: SubmitMaker, now: float, accepted: TextIO | None = None
    ) -> None:
        self.report = SmppLoadReport(messages=options.messages, parts=maker.parts)
        self.answered_at = now
        self._received_at = now
        self._options = options
        self._maker = maker
        self._started = now
        self._accepted = accepted
        self._next = 0
        self._again: list[int] = []
        self._open = maker.submits  #: neither accepted nor refused
        self._sent_at = array("d", bytes(8 * maker.submits))
        self._ids: list[str | None] = [None] * maker.submits
        self._final = bytearray(maker.submits)
        self._finals = 0
        self._early: dict[int, list[tuple[Receipt, float]]] = {}  #: by message
        self._responses = array("d")
        self._receipts = array("d")

    # ---- sending

    def take(self, now: float) -> int | None:
        """The submit to send now: one again, or a new one that is due."""
        if self._again:
            submit = self._again.pop()
        elif self._next < self._maker.submits and self.due_at <= now:
            submit = self._next
            self._next += 1
        else:
            return None
        self.report.submitted += 1
        self._sent_at[submit] = now
        return submit

    @property
    def due_at(self) -> float:
        """When the next one is due, by the rate if it is new; infinity: there is none."""
        if self._again:
            return self._started
        if self._next == self._maker.submits:
            return math.inf
        return self._started + self._next / self._options.rate if self._options.rate else self._started

    def lost(self, submits: list[int], why: str) -> None:
        """A connection ended without an answer to these: they are sent again."""
        self.report.lost_connections += 1
        self.report.sent_again += len(submits)
        self.report.last_error = why
        self._again += reversed(submits)

    # ---- answers

    def throttled(self, submit: int, status: int, now: float) -> None:
        """Refused for now."""
        self.answered_at = now
        self.report.throttled += 1
        self.report.statuses[status_name(status)] += 1
        self._again.append(submit)

    def answered(self, submit: int, status: int, id: str, now: float) -> None:
        """For good."""
        self.answered_at = now
        self._open -= 1
        self.report.statuses[status_name(status)] += 1
        if status != ESME_ROK:
            self.report.refused += 1
            self.report.last_error = status_name(status)
            return
        self.report.accepted += 1
        self._responses.append(now - self._sent_at[submit])
        self._ids[submit] = id
        message = submit // self._maker.parts
        if self._accepted is not None:
            self._accepted.write(f"{id} {self._maker.destination(message).decode()}\n")
            self._accepted.flush()
        for receipt, at in self._early.pop(message, ()):
            self._match(message, receipt, at)

    def received(self, number: bytes, receipt: Receipt, now: float) -> None:
        """A receipt from that number."""
        message = self._maker.message_of(number)
        if message is None:
            self.report.unmatched_receipts += 1
        else:
            self._match(message, receipt, now)

    def _match(self, message: int, receipt: Receipt, at: float) -> None:
        parts = range(message * self._maker.parts, (message + 1) * self._maker.parts)
        submit = next((part for part in parts if _is_of(receipt.id, self._ids[part])), None)
        if submit is None:
            if any(self._ids[part] is None for part in parts):
                self._early.setdefault(message, []).append((receipt, at))
            else:
                self.report.unmatched_receipts += 1
        elif self._final[submit]:
            self.report.repeated_receipts += 1
        elif not receipt.final:
            self.report.intermediate_receipts += 1
        else:
            self._final[submit] = 1
            self._finals += 1
            self._received_at = max(self._received_at, at)
            self._receipts.append(at - self._sent_at[submit])
            self.report.receipts[receipt.state.word] += 1

    # ---- the end

    @property
    def all_answered(self) -> bool:
        """Every submit is accepted or refused."""
        return not self._open

    @property
    def all_received(self) -> bool:
        """Every accepted one has its final receipt."""
        return self._finals == self.report.accepted

    def close(self) -> SmppLoadReport:
        """The whole report."""
        report = self.report
        report.unanswered = self._open
        report.seconds = self.answered_at - self._started
        report.receipt_seconds = self._received_at - self._started
        report.response, report.receipt = latency_of(self._responses), latency_of(self._receipts)
        report.unmatched_receipts += sum(map(len, self._early.values()))
        self._early.clear()
        if self._options.receipts_s:
            report.missing_receipts = report.accepted - self._finals
        report.statuses = Counter(dict(report.statuses.most_common()))
        return report


def _is_of(told: str, answered: str | None) -> bool:
    """Whether a receipt's id is the one of a response, in whatever notation."""
    if answered is None:
        return False
    return told == answered or not {text for _, text in forms(answered)}.isdisjoint(lookups(told))
