"""What a client's octets say: a text that each carrier can have in its own alphabet, or octets that go as they are.

A text is decoded by data_coding. Octets stay what is binary, and what the client has cut into parts itself or given a
header (UDH, SAR TLVs): a part says nothing without its others, and its length was made to fit.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from engine.intake.sms_refusal import SmsRefused
from engine.message.sms import Sms
from engine.protocol.smpp_tlv import Tlv
from engine.protocol.sms_alphabets import Fault, decode_septets
from engine.protocol.sms_data_coding import Charset, charset_of, decode
from engine.protocol.sms_udh import (
    CONCATENATED_8,
    CONCATENATED_16,
    MESSAGE_PAYLOAD,
    SAR_MSG_REF_NUM,
    SAR_SEGMENT_SEQNUM,
    SAR_TOTAL_SEGMENTS,
    UDHI,
    Udh,
    sar_segment,
    split_udh,
)

_SAR: Final = (SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM)
#: Message waiting indications (TS 23.038 4): that mail, a fax, waits. They mean what they are, whatever the text.
_WAITING: Final = (0xC, 0xD, 0xE)
_PART_OCTETS: Final = 140
_PART_SEPTETS: Final = 160
#: esm_class: its mode (SMPP 3.4 5.2.12), whose third says that the answer waits for the phone, and its type.
_MODE: Final = 0x03
_FORWARD: Final = 0x02
_TYPE: Final = 0x3C
#: Types that a client may send: a message, and what a phone's user would have sent as acknowledgement.
_TYPES: Final = (0x00, 0x08, 0x10)


def with_content(sms: Sms, data: bytes, esm_class: int, data_coding: int, tlvs: tuple[Tlv, ...], alphabet: str) -> Sms:
    """The message with what a submit_sm or data_sm has to say. alphabet: of the account. Raises SmsRefused."""
    if not (tlvs or esm_class) and data_coding in (0, 8):  # most of them
        return replace(sms, text=_text(data, data_coding, alphabet), data_coding=data_coding)
    if esm_class & _MODE == _FORWARD or esm_class & _TYPE not in _TYPES:
        raise SmsRefused("ESME_RINVESMCLASS", "content", f"esm_class 0x{esm_class:02X}")
    data, tlvs = _payload(data, tlvs)
    kept = esm_class & ~(_MODE | UDHI)
    if esm_class & UDHI:
        udh, body = split_udh(data)
        if not udh.elements and udh.broken:
            raise SmsRefused("ESME_RINVESMCLASS", "content", "a user data header that is longer than the message")
        _check_udh(udh)
        header = data[: len(data) - len(body)]
        _check_part(header, body, data_coding)
        return replace(sms, body=body, udh=header, data_coding=data_coding, esm_class=kept, tlvs=tlvs)
    if _is_segment(dict(reversed(tlvs))):
        _check_part(b"", data, data_coding)
        return replace(sms, body=data, data_coding=data_coding, esm_class=kept, tlvs=tlvs)
    if charset_of(data_coding) is Charset.BINARY or data_coding >> 4 in _WAITING:
        return replace(sms, body=data, data_coding=data_coding, esm_class=kept, tlvs=tlvs)
    text = _text(data, data_coding, alphabet)
    return replace(sms, text=text, data_coding=data_coding, esm_class=kept, tlvs=tlvs)


def _payload(data: bytes, tlvs: tuple[Tlv, ...]) -> tuple[bytes, tuple[Tlv, ...]]:
    """The message, and the TLVs that are not it."""
    found = [value for tag, value in tlvs if tag == MESSAGE_PAYLOAD]
    if not found:
        return data, tlvs
    if data or len(found) > 1:
        raise SmsRefused("ESME_ROPTPARNOTALLWD", "content", "short_message and message_payload, or two of these")
    return found[0], tuple(tlv for tlv in tlvs if tlv[0] != MESSAGE_PAYLOAD)


def _check_udh(udh: Udh) -> None:
    """Raises SmsRefused: it says which part of what it is, and that cannot be. No phone would put it together."""
    if udh.segment is None and any(identifier in (CONCATENATED_8, CONCATENATED_16) for identifier, _ in udh.elements):
        raise SmsRefused("ESME_RINVESMCLASS", "content", "a user data header with a part that there cannot be")


def _is_segment(tlvs: Mapping[int, bytes]) -> bool:
    """SAR TLVs say that it is a part (SMPP 3.4 5.3.2.22 to 24). Raises SmsRefused: they cannot be so."""
    told = [tag in tlvs for tag in _SAR]
    if not any(told):
        return False
    if not all(told):
        raise SmsRefused("ESME_RMISSINGOPTPARAM", "content", "one SAR TLV needs the two others")
    if sar_segment(tlvs) is None:
        raise SmsRefused("ESME_RINVOPTPARAMVAL", "content", "SAR TLVs of a part that there cannot be")
    return True


def _check_part(header: bytes, body: bytes, data_coding: int) -> None:
    """Raises SmsRefused: no phone could have it in one piece."""
    if charset_of(data_coding) in (Charset.DEFAULT, Charset.GSM):
        fits = -(-len(header) * 8 // 7) + len(body) <= _PART_SEPTETS
    else:
        fits = len(header) + len(body) <= _PART_OCTETS
    if not fits:
        raise SmsRefused("ESME_RINVMSGLEN", "length", "a part that is longer than a message can be")


def _text(data: bytes, data_coding: int, alphabet: str) -> str:
    charset = charset_of(data_coding)
    if charset is Charset.DEFAULT:
        return _default(data, alphabet)
    if charset is Charset.ASCII:
        return data.decode("latin-1")  # of which it is the half that is meant, where the label is right
    if charset is Charset.GSM:
        return _septets(data)
    decoded = decode(data, data_coding)
    text, faults = decoded.text, decoded.faults
    if text is None or Fault.ODD_OCTET in faults:
        raise SmsRefused("ESME_RINVMSGLEN", "content", "half a character at the end")
    if Fault.UNDEFINED in faults or Fault.SURROGATE in faults:
        raise SmsRefused("ESME_RINVDCS", "content", f"octets that are no text of data_coding {data_coding}")
    return text


def _default(data: bytes, alphabet: str) -> str:
    """The text of data_coding 0, by what this account means by it."""
    if alphabet == "utf-8":
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise SmsRefused("ESME_RINVDCS", "content", "octets that are not UTF-8") from exc
    if alphabet != "gsm":
        return data.decode("latin-1")
    if not data.isascii():  # no septets; what most such clients mean is UTF-8
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise SmsRefused("ESME_RINVDCS", "content", "octets that are neither GSM nor UTF-8") from exc
    return _septets(data)


def _septets(data: bytes) -> str:
    text, faults = decode_septets(data)
    if Fault.LONE_ESCAPE in faults:
        raise SmsRefused("ESME_RINVMSGLEN", "content", "an escape at the end, and nothing that it is of")
    return text
