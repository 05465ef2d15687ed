"""Receipts as events, and as bytes on disk while they wait."""

from collections.abc import Sequence
from typing import Final

from engine.delivery.report import Report
from engine.feedback.ports import Noted
from engine.message.channels import carrier_key, channel_of
from engine.message.outcome import Outcome
from engine.message.sms import SentPart, price_of
from engine.protocol.receipt import MESSAGE_PAYLOAD
from engine.protocol.receipt_parts import Fate
from engine.protocol.receipt_values import Receipt
from engine.protocol.smpp_codec import decode, encode
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.storage.events.event import Event, class_name
from engine.storage.events.lines import outcome_event

_TYPES: Final = {Fate.DELIVERED: "delivered", Fate.FAILED: "undelivered"}


def heard(now: float, part: SentPart, receipt: Receipt, fate: Fate | None) -> Event:
    """A receipt of a part. fate: of the whole message, if this decided it."""
    kind = _TYPES.get(fate, "receipt") if fate is not None else "receipt"
    whole = kind == "delivered"
    said = f"stat:{receipt.stat or receipt.state.word}"
    return _event(
        now,
        kind,
        part,
        status=receipt.state.word,
        reply=f"{said} err:{receipt.error}" if receipt.error is not None else said,
        number=0 if whole else part.part,
        price=price_of(part.price, part.parts) if whole else part.price,
        carrier_id=receipt.id,
    )


def tried(report: Report, outcome: Outcome, at: float) -> Event:
    """An application took a receipt at once, or did not."""
    destination = report.destination
    return outcome_event(at, report.envelope, destination, 1, channel_of(destination)[0], outcome)


def missing(now: float, part: SentPart, numbers: Sequence[int]) -> Event:
    """No receipt of these parts came in time. part: the first of them."""
    reply = "no receipt in time" if part.parts == 1 else f"no receipt in time of parts {', '.join(map(str, numbers))}"
    return _event(
        now, "receipt-missing", part, status="", reply=reply, number=part.part, price=part.price,
        carrier_id=part.carrier_id,
    )  # fmt: skip


def unmatched(now: float, carrier: str, pdu: DeliverSm | DataSm, receipt: Receipt) -> Event:
    return _stray(now, "receipt-unmatched", carrier, pdu, receipt.state.word, receipt.id)


def unreadable(now: float, carrier: str, pdu: DeliverSm | DataSm) -> Event:
    return _stray(now, "receipt-unreadable", carrier, pdu, "", "")


def of_answer(noted: Noted) -> Event:
    """What a person's message led to."""
    return Event(
        id="", at=int(noted.at * 1000) / 1000, type=noted.type, message=noted.message, message_class="",
        sender=noted.sender, recipient=noted.recipient, destination=noted.destination, attempt=noted.attempt,
        reply=noted.reply, remote=noted.remote, answer=noted.answer, text=noted.text,
    )  # fmt: skip


def packed(pdu: DeliverSm | DataSm) -> str:
    return encode(pdu).hex()


def unpacked(text: str) -> DeliverSm | DataSm | None:
    """None: it is none."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    if len(data) < 16:
        return None
    command_id, status, number = (int.from_bytes(data[at : at + 4]) for at in (4, 8, 12))
    pdu = decode(data, 16, len(data), command_id, status, number)
    return pdu if isinstance(pdu, DeliverSm | DataSm) else None


def _event(
    now: float, kind: str, part: SentPart, *, status: str, reply: str, number: int, price: str, carrier_id: str
) -> Event:
    return Event(
        id="",
        at=int(now * 1000) / 1000,
        type=kind,
        message=part.message,
        message_class=class_name(part.message_class),
        sender=part.sender,
        recipient=part.recipient,
        destination=carrier_key(part.carrier),
        status=status,
        reply=reply,
        provider=part.carrier,
        delay_s=int((now - part.received_at) * 1000) / 1000,
        part=number,
        parts=part.parts,
        price=price,
        carrier_id=carrier_id,
        latency_s=max(int((now - part.sent_at) * 1000) / 1000, 0.0),
    )


def _stray(now: float, kind: str, carrier: str, pdu: DeliverSm | DataSm, status: str, carrier_id: str) -> Event:
    """A receipt of nothing that is known. Its numbers are as the carrier has them: of a phone, then ours."""
    raw = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    raw = (raw or pdu.tlv(MESSAGE_PAYLOAD) or b"") + pdu.rest
    return Event(
        id="",
        at=int(now * 1000) / 1000,
        type=kind,
        message="",
        message_class="",
        sender=bytes(pdu.destination_addr).decode("latin-1"),
        recipient=bytes(pdu.source_addr).decode("latin-1"),
        destination=carrier_key(carrier),
        status=status,
        reply=raw.decode("latin-1"),
        provider=carrier,
        carrier_id=carrier_id,
    )
