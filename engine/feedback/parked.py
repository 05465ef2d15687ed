"""Receipts whose message is not known yet: by the ids that it may have, oldest first. Pure.

Most of them are early, and their response comes within milliseconds. What stays is written down (tables/sent.py), and
given up after a while.
"""

from collections.abc import Callable, Sequence, Set
from itertools import takewhile

from engine.protocol.receipt_ids import looked_up_as
from engine.protocol.receipt_values import Receipt
from engine.protocol.smpp_pdu import DataSm, DeliverSm

Answer = Callable[[int], None]


class Arrival:
    """A receipt on its way through. answer: None once it is given. key: of its row, 0 without one. claimed: it says
    itself that it is a receipt; else a person may have written it. alone: it was looked up on disk, and nothing there
    can be meant. settled: it is matched, or given up."""

    __slots__ = ("alone", "answer", "at", "carrier", "claimed", "key", "numbers", "pdu", "receipt", "settled", "texts")

    def __init__(
        self, carrier: str, pdu: DeliverSm | DataSm, receipt: Receipt, claimed: bool, numbers: Set[str],
        at: float, answer: Answer | None, key: int = 0,
    ) -> None:  # fmt: skip
        self.carrier = carrier
        self.pdu = pdu
        self.receipt = receipt
        self.claimed = claimed
        self.numbers = numbers
        self.at = at
        self.answer = answer
        self.key = key
        self.alone = self.settled = False
        self.texts = looked_up_as(receipt.id)


class Parked:
    """See above."""

    def __init__(self) -> None:
        self._by_id: dict[str, dict[str, list[Arrival]]] = {}
        self._by_number: dict[tuple[str, str], dict[Arrival, None]] = {}
        self._all: dict[Arrival, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, arrival: Arrival) -> None:
        self._all[arrival] = None
        ids = self._by_id.setdefault(arrival.carrier, {})
        for text in arrival.texts:
            ids.setdefault(text, []).append(arrival)
        for number in arrival.numbers:
            self._by_number.setdefault((arrival.carrier, number), {})[arrival] = None

    def remove(self, arrival: Arrival) -> None:
        if arrival not in self._all:
            return
        del self._all[arrival]
        ids = self._by_id[arrival.carrier]
        for text in arrival.texts:
            ids[text].remove(arrival)
            if not ids[text]:
                del ids[text]
        for number in arrival.numbers:
            key = arrival.carrier, number
            del self._by_number[key][arrival]
            if not self._by_number[key]:
                del self._by_number[key]

    def under(self, carrier: str, text: str) -> Sequence[Arrival]:
        """Those whose message may be stored as this."""
        return list(self._by_id.get(carrier, {}).get(text, ()))

    def about(self, carrier: str, number: str) -> Sequence[Arrival]:
        """Those that name a number, by its ending."""
        return list(self._by_number.get((carrier, number), ()))

    def until(self, at: float) -> Sequence[Arrival]:
        """Those that have come before a time, oldest first."""
        return list(takewhile(lambda arrival: arrival.at < at, self._all))
