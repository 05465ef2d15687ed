"""What a carrier is sent for one recipient of an SMS: one submit_sm for each part, in the carrier's own terms."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from engine.base.settings import Carrier
from engine.message.envelope import Recipient
from engine.message.sms import Sms
from engine.protocol.smpp_pdu import DeliverSm, SubmitSm
from engine.protocol.smpp_time import format_time
from engine.protocol.smpp_tlv import Tlv
from engine.protocol.sms_data_coding import is_flash
from engine.protocol.sms_text import encode_binary, encode_text
from engine.protocol.sms_translit import transliterate
from engine.protocol.sms_udh import SAR_MSG_REF_NUM, UDHI
from engine.routing.sms_routes import text_rules

#: Of a submit_sm without a receipt, and of one with a receipt for whatever becomes of it.
_NO_RECEIPT: Final = 0
_RECEIPT: Final = 1
#: TON and NPI of an international number (SMPP 3.4 5.2.5, 5.2.6).
_INTERNATIONAL: Final = 1, 1


class CarrierRules:
    """How one carrier wants its messages."""

    def __init__(self, row: Carrier) -> None:
        """Raises ConfigError."""
        self.row = row
        self.text = text_rules(row)
        self.transliterate = row.transliterate
        self.registered = _RECEIPT if row.receipts else _NO_RECEIPT
        self._tlvs = tuple((int(tag, 16), text.encode() + b"\0") for tag, text in row.tlvs)

    def render(self, sms: Sms, recipient: Recipient, reference: int) -> Sequence[SubmitSm]:
        """One for each part. reference: tells the parts of this message from those of others. Raises TextTooLong."""
        ton, npi = _INTERNATIONAL if recipient.address.startswith("+") else (sms.dest_ton, sms.dest_npi)
        common: Mapping[str, object] = {
            "service_type": sms.service_type.encode(),
            "source_addr_ton": sms.source_ton,
            "source_addr_npi": sms.source_npi,
            "source_addr": sms.source.removeprefix("+").encode("latin-1", "replace"),  # as in number.sender_fields
            "dest_addr_ton": ton,
            "dest_addr_npi": npi,
            "destination_addr": recipient.address.removeprefix("+").encode("ascii", "replace"),
            "protocol_id": sms.protocol_id,
            "priority_flag": sms.priority,
            "registered_delivery": self.registered,
        }
        if sms.validity:
            common = {**common, "validity_period": format_time(sms.validity)}
        if self._tlvs:
            own = {tag for tag, _ in sms.tlvs}
            sms = replace(sms, tlvs=(*sms.tlvs, *(tlv for tlv in self._tlvs if tlv[0] not in own)))
        if sms.text is None:
            return self._octets(sms, common, reference)
        text = transliterate(sms.text) if self.transliterate else sms.text
        encoded = encode_text(text, self.text, reference=reference, flash=is_flash(sms.data_coding))
        return [
            _submit(
                common,
                submit.short_message,
                (*submit.tlvs, *sms.tlvs),
                encoded.data_coding,
                encoded.esm_class | sms.esm_class,
            )
            for submit in encoded.submits
        ]

    def parts(self, sms: Sms) -> int:
        """How many `render` makes of it for each recipient. Raises TextTooLong."""
        if sms.text is None:
            if self._is_whole(sms):
                return 1
            return len(encode_binary(sms.body, self.text, data_coding=sms.data_coding).parts)
        text = transliterate(sms.text) if self.transliterate else sms.text
        return len(encode_text(text, self.text, flash=is_flash(sms.data_coding)).parts)

    def _is_whole(self, sms: Sms) -> bool:
        """Octets that go as they are: the client has cut them, or they fit into one part."""
        cut = sms.udh or any(tag == SAR_MSG_REF_NUM for tag, _ in sms.tlvs)
        return bool(cut) or len(sms.body) <= 140 - self.text.spare_octets

    def _octets(self, sms: Sms, common: Mapping[str, object], reference: int) -> Sequence[SubmitSm]:
        """What the client cut itself goes as it is; other octets are cut here if they are too long for one part."""
        if self._is_whole(sms):
            esm_class = sms.esm_class | (UDHI if sms.udh else 0)
            return [_submit(common, sms.udh + sms.body, sms.tlvs, sms.data_coding, esm_class)]
        encoded = encode_binary(sms.body, self.text, reference=reference, data_coding=sms.data_coding)
        return [
            _submit(
                common,
                submit.short_message,
                (*submit.tlvs, *sms.tlvs),
                sms.data_coding,
                encoded.esm_class | sms.esm_class,
            )
            for submit in encoded.submits
        ]


def _submit(
    common: Mapping[str, object], short_message: bytes, tlvs: tuple[Tlv, ...], data_coding: int, esm_class: int
) -> SubmitSm:
    return SubmitSm(
        tlvs=tlvs, short_message=short_message, data_coding=data_coding, esm_class=esm_class, **common  # type: ignore[arg-type]
    )  # fmt: skip


def deliver_sm(sms: Sms, recipient: Recipient) -> DeliverSm:
    """What an application is sent: a receipt, or an answer."""
    return DeliverSm(
        tlvs=sms.tlvs,
        service_type=sms.service_type.encode(),
        source_addr_ton=sms.source_ton,
        source_addr_npi=sms.source_npi,
        source_addr=sms.source.removeprefix("+").encode("ascii", "replace"),
        dest_addr_ton=sms.dest_ton,
        dest_addr_npi=sms.dest_npi,
        destination_addr=recipient.address.removeprefix("+").encode("ascii", "replace"),
        esm_class=sms.esm_class,
        protocol_id=sms.protocol_id,
        priority_flag=sms.priority,
        data_coding=sms.data_coding,
        short_message=sms.udh + sms.body,
    )
