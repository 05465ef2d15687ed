"""A message from a phone: what a carrier's PDU says, and what an application is sent of it. Pure.

An application gets the octets as they came if it reads the same text from them; where its alphabet is another, or parts
were joined that cannot be read as one, the text is written anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from engine.base.settings import Account
from engine.message.number import ALPHANUMERIC, NotANumber, normalise
from engine.message.sms import Kind, Sms
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.protocol.sms_alphabets import decode_septets
from engine.protocol.sms_data_coding import Charset, charset_of, decode
from engine.protocol.sms_rules import MAX_PARTS, Join, TextRules
from engine.protocol.sms_text import TextTooLong, encode_text
from engine.protocol.sms_udh import (
    MESSAGE_PAYLOAD,
    SAR_MSG_REF_NUM,
    SAR_SEGMENT_SEQNUM,
    SAR_TOTAL_SEGMENTS,
    UDHI,
    Segment,
    Udh,
    read_user_data,
    split_udh,
)

#: What short_message holds (SMPP 3.4 5.2.22); what is longer goes in message_payload.
_SHORT_MESSAGE = 254
_SAR = (SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole message from a phone. id: ours. number: of the phone; to: the number it was sent to. at: unix seconds.

    text: None if it is binary. sms: as an application would be sent it, if it reads octets as the carrier does.
    """

    id: str
    carrier: str
    number: str
    to: str
    at: float
    text: str | None
    sms: Sms


def number_of(address: bytes, ton: int, npi: int, country: str = "") -> str:
    """An address as the engine keeps numbers, so that it is found among those of messages; as it came if it is none.

    country: as of `normalise`.
    """
    text = address.decode("ascii", "replace").strip()
    if ton == ALPHANUMERIC[0]:
        return text
    try:
        return normalise(text, ton, npi, country)
    except NotANumber:
        return text


def read_pdu(pdu: DeliverSm | DataSm, country: str = "") -> tuple[Sms, str, Segment | None]:
    """The message in a PDU, the number it was sent to, and which part it is of a longer one, if it is."""
    tlvs = dict(reversed(pdu.tlvs))  # the first of a tag counts
    short = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    udh, body, segment = read_user_data(short, pdu.esm_class, tlvs)
    data = short or tlvs.get(MESSAGE_PAYLOAD, b"")
    taken = {*_SAR, MESSAGE_PAYLOAD} if not short else set(_SAR)
    sms = Sms(
        kind=Kind.ANSWER,
        source=number_of(pdu.source_addr, pdu.source_addr_ton, pdu.source_addr_npi, country),
        source_ton=pdu.source_addr_ton,
        source_npi=pdu.source_addr_npi,
        dest_ton=pdu.dest_addr_ton,
        dest_npi=pdu.dest_addr_npi,
        body=body,
        udh=data[: len(data) - len(body)] if udh.elements or len(body) != len(data) else b"",
        data_coding=pdu.data_coding,
        esm_class=pdu.esm_class,
        protocol_id=pdu.protocol_id if isinstance(pdu, DeliverSm) else 0,
        priority=pdu.priority_flag if isinstance(pdu, DeliverSm) else 0,
        service_type=pdu.service_type.decode("ascii", "replace"),
        tlvs=tuple(tlv for tlv in pdu.tlvs if tlv[0] not in taken),
    )
    to = number_of(pdu.destination_addr, pdu.dest_addr_ton, pdu.dest_addr_npi, country)
    return sms, to, segment if segment is not None and segment.total > 1 else None


def udh_of(sms: Sms) -> Udh:
    """The header of a message or a part."""
    return split_udh(sms.udh)[0] if sms.udh else Udh()


def text_of(sms: Sms, default: Charset) -> str | None:
    """The text of a message in one part; None if it is binary. default: what data_coding 0 is."""
    return decode(sms.body, sms.data_coding, default=default, tables=udh_of(sms).tables).text


def joined(parts: Sequence[Sms]) -> Sms:
    """A message of all its parts, without their headers."""
    return replace(parts[0], body=b"".join(part.body for part in parts), udh=b"", esm_class=parts[0].esm_class & ~UDHI)


def for_account(answer: Answer, account: Account, reference: int = 0) -> list[Sms]:
    """What an application is sent, in order: one message, or several if it wants long ones cut."""
    sms, text = answer.sms, answer.text
    if text is None or (_reads(sms, account) == text and not _is_cut(sms, account)):
        return [_fitted(sms)]
    plain = replace(sms, udh=b"", esm_class=sms.esm_class & ~UDHI)
    if account.alphabet == "utf-8" and not _is_cut(sms, account):
        return [_fitted(replace(plain, body=text.encode(errors="replace"), data_coding=0))]
    alphabet = Charset.GSM if account.alphabet == "utf-8" else Charset(account.alphabet)
    join = Join.UDH_8 if account.long_answers == "parts" else Join.PAYLOAD
    try:
        encoded = encode_text(
            text, TextRules(default_alphabet=alphabet, join=join, max_parts=MAX_PARTS), reference=reference
        )
    except TextTooLong:
        return [_fitted(sms)]
    return [
        replace(
            plain,
            body=submit.short_message,
            data_coding=encoded.data_coding,
            esm_class=plain.esm_class | encoded.esm_class,
            tlvs=(*plain.tlvs, *submit.tlvs),
        )
        for submit in encoded.submits
    ]


def _reads(sms: Sms, account: Account) -> str | None:
    """What an application takes the octets for: by their label, and never by a guess."""
    charset = charset_of(sms.data_coding)
    if charset is Charset.UCS2:
        return sms.body.decode("utf-16-be", "replace")  # with a mark, or half a character, that a phone put there
    if charset not in (Charset.DEFAULT, Charset.ASCII):
        return text_of(sms, Charset.GSM)
    alphabet = account.alphabet if charset is Charset.DEFAULT else "ascii"
    if alphabet == "gsm":
        return decode_septets(sms.body, udh_of(sms).tables)[0]
    return sms.body.decode(alphabet, "replace")


def _is_cut(sms: Sms, account: Account) -> bool:
    """It is too long for one PDU, and the application wants parts."""
    return account.long_answers == "parts" and len(sms.udh) + len(sms.body) > _SHORT_MESSAGE


def _fitted(sms: Sms) -> Sms:
    """In message_payload if it has no place elsewhere."""
    data = sms.udh + sms.body
    if len(data) <= _SHORT_MESSAGE:
        return sms
    return replace(sms, body=b"", udh=b"", tlvs=(*sms.tlvs, (MESSAGE_PAYLOAD, data)))
