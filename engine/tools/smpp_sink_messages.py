"""The messages that the test SMSC took: their ids and states, and the receipts and answers about them."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.protocol.receipt_states import State
from engine.protocol.receipt_write import write_receipt
from engine.protocol.smpp_pdu import DeliverSm
from engine.protocol.sms_data_coding import decode
from engine.protocol.sms_text import encode_text
from engine.protocol.sms_udh import UDHI, split_udh
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_rules import ANSWER_RULES

#: Messages that query_sm, cancel_sm and replace_sm find: 100 MiB at most.
_KEPT = 100_000
_SHOWN_OCTETS = 40  # the 20 characters that a receipt repeats, in any alphabet


class Address(NamedTuple):
    """As in a PDU."""

    ton: int
    npi: int
    number: bytes


@dataclass(slots=True)
class Message:
    """A message to one destination. final: its state from `done_at` (monotonic) on.

    asked: which receipt is wanted. told: it is on its way, or will not be sent.
    """

    id: str
    receipt_id: str
    system_id: bytes
    source: Address
    destination: Address
    body: bytes
    data_coding: int
    esm_class: int
    asked: int
    final: State
    done_at: float
    submitted_at: float
    told: bool = False

    def state(self, now: float) -> State:
        return State.ENROUTE if now < self.done_at and self.final.final else self.final

    @property
    def wants_receipt(self) -> bool:
        """registered_delivery (SMPP 3.4 5.2.17, 5.0 4.7.21): 1 whatever happens, 2 of a failure, 3 of a success."""
        if self.told or not self.asked:
            return False
        return self.asked == 1 or (self.asked == 3) == (self.final is State.DELIVERED)

    def receipt(self) -> DeliverSm:
        """What tells of its state."""
        written = write_receipt(
            self.receipt_id,
            self.final,
            submitted_at=self.submitted_at,
            done_at=time.time(),
            error="001" if self.final.final and self.final is not State.DELIVERED else "000",
            text=self._shown(),
        )
        return self._delivery(written.esm_class, 0, written.short_message, written.tlvs)

    def answers(self, text: str) -> list[DeliverSm]:
        """What a person with that phone would write back."""
        encoded = encode_text(text, ANSWER_RULES)
        return [
            self._delivery(encoded.esm_class, encoded.data_coding, submit.short_message, submit.tlvs)
            for submit in encoded.submits
        ]

    def _delivery(
        self, esm_class: int, data_coding: int, body: bytes, tlvs: tuple[tuple[int, bytes], ...]
    ) -> DeliverSm:
        return DeliverSm(
            source_addr_ton=self.destination.ton,
            source_addr_npi=self.destination.npi,
            source_addr=self.destination.number,
            dest_addr_ton=self.source.ton,
            dest_addr_npi=self.source.npi,
            destination_addr=self.source.number,
            esm_class=esm_class,
            data_coding=data_coding,
            short_message=body,
            tlvs=tlvs,
        )

    def _shown(self) -> str:
        body = split_udh(self.body)[1] if self.esm_class & UDHI else self.body
        return decode(body[:_SHOWN_OCTETS], self.data_coding).text or ""


class Messages:
    """All that were taken lately, by id."""

    def __init__(self, options: SmscOptions) -> None:
        self._ids: Iterator[tuple[str, str]] = (
            (response.write(number), receipt.write(number))
            for number, (response, receipt) in zip(itertools.count(options.first_id), itertools.cycle(options.ids))
        )
        self._kept: dict[bytes, Message] = {}

    def next_ids(self) -> tuple[str, str]:
        """For the response, for the receipt."""
        return next(self._ids)

    def keep(self, message: Message) -> None:
        self._kept[message.id.encode()] = message
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def find(self, message_id: bytes, source: bytes) -> Message | None:
        """The message with the id that its response had, if it is from there (SMPP 3.4 4.8, 4.9, 4.10)."""
        message = self._kept.get(message_id)
        return message if message is not None and message.source.number == source else None
