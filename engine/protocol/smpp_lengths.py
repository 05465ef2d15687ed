"""A message with octets at its end that are no whole TLV: some length in it is wrong, and part of it is not where it
is looked for.

Of a client it is refused, so that nothing is lost silently. Of a carrier, whose messages come once, it is read as far
as it can be: a payload that is shorter than it says, a text that is longer than sm_length. Pure.
"""

from msgspec.structs import replace

from engine.protocol.smpp_pdu import DataSm, DeliverSm, Pdu
from engine.protocol.smpp_tables import STATUSES, TAGS

_KNOWN = frozenset(TAGS.values())
_PAYLOAD = TAGS["message_payload"]
#: SMPP 3.4 5.3.2: of vendors.
_VENDORS = range(0x1400, 0x4000)
_HEAD = 4


def wrong_length(pdu: Pdu) -> int:
    """The status that says which length it is; ESME_ROK: none."""
    if not pdu.rest:
        return STATUSES["ESME_ROK"]
    if _is_tlv(pdu.rest):
        return STATUSES["ESME_RINVPARLEN"]
    after_text = not pdu.tlvs and hasattr(pdu, "short_message")
    return STATUSES["ESME_RINVMSGLEN" if after_text else "ESME_RINVOPTPARSTREAM"]


def mended(pdu: DeliverSm | DataSm) -> DeliverSm | DataSm:
    """The same with as much of the message as is there, in message_payload; what else is left over stays in `rest`."""
    short, rest = pdu.short_message if isinstance(pdu, DeliverSm) else b"", pdu.rest
    if not _is_tlv(rest) and short and not pdu.tlvs:
        return replace(pdu, short_message=b"", tlvs=((_PAYLOAD, short + rest),), rest=b"")
    if int.from_bytes(rest[:2], "big") == _PAYLOAD and not short and len(rest) > _HEAD:
        return replace(pdu, tlvs=(*pdu.tlvs, (_PAYLOAD, rest[_HEAD:])), rest=b"")
    return pdu


def _is_tlv(rest: bytes) -> bool:
    """It begins as one that we know of: its length leads out of the PDU."""
    tag = int.from_bytes(rest[:2], "big")
    return len(rest) >= _HEAD and (tag in _KNOWN or tag in _VENDORS)
