"""The PDUs of SMPP 3.3, 3.4 and 5.0 as values (3.4 4, 5.0 4).

A class is a command; its fields, in the order of the specification, are also what the codec is made from (smpp_fields).
Strings are bytes as on the wire, without the NUL: what alphabet an address or an id is in, nobody says. Every field
has a default, so that what matters is named and the rest is empty: `SubmitSm(source_addr=b"Acme", ...)`.
"""

from typing import ClassVar

import msgspec

from engine.protocol.smpp_fields import (
    CString6,
    CString13,
    CString16,
    CString17,
    CString21,
    CString41,
    CString65,
    Octet,
    ShortMessage,
)
from engine.protocol.smpp_multi import Destinations, UnsuccessSmes
from engine.protocol.smpp_tables import COMMANDS, ESME_ROK, RESPONSE, VERSION_34
from engine.protocol.smpp_tlv import Tlv


class Pdu(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """What every PDU has. gc=False: nothing in it can lead back to it, and tens of thousands may wait.

    sequence_number, command_status: 0..0xFFFFFFFF. tlvs: as they came, see smpp_tlv.
    rest: what is behind that and no whole TLV, or the body of an error that made no sense: some length was wrong.
    """

    command_id: ClassVar[int]

    sequence_number: int = 0
    command_status: int = ESME_ROK
    tlvs: tuple[Tlv, ...] = ()
    rest: bytes = b""

    def tlv(self, tag: int) -> bytes | None:
        """The value of the first TLV with this tag."""
        for found, value in self.tlvs:
            if found == tag:
                return value
        return None


#: Fields of every PDU, before those of its own.
COMMON = len(Pdu.__struct_fields__)


class _WithPassword(Pdu, frozen=True):
    def __repr__(self) -> str:
        """For logs and tracebacks: without the password."""
        return msgspec.Struct.__repr__(msgspec.structs.replace(self, password=b"(hidden)"))


class _Bind(_WithPassword, frozen=True):
    system_id: CString16 = b""
    password: CString17 = b""  # 9 in the specification; up to 16 octets are in use
    system_type: CString13 = b""
    interface_version: Octet = VERSION_34
    addr_ton: Octet = 0
    addr_npi: Octet = 0
    address_range: CString41 = b""


class _BindResp(Pdu, frozen=True):
    system_id: CString16 = b""


class _MessageId(Pdu, frozen=True):
    message_id: CString65 = b""


class _Sm(Pdu, frozen=True):
    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString21 = b""
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


class GenericNack(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["generic_nack"]


class BindReceiver(_Bind, frozen=True):
    command_id: ClassVar[int] = COMMANDS["bind_receiver"]


class BindReceiverResp(_BindResp, frozen=True):
    command_id: ClassVar[int] = COMMANDS["bind_receiver_resp"]


class BindTransmitter(_Bind, frozen=True):
    command_id: ClassVar[int] = COMMANDS["bind_transmitter"]


class BindTransmitterResp(_BindResp, frozen=True):
    command_id: ClassVar[int] = COMMANDS["bind_transmitter_resp"]


class BindTransceiver(_Bind, frozen=True):
    command_id: ClassVar[int] = COMMANDS["bind_transceiver"]


class BindTransceiverResp(_BindResp, frozen=True):
    command_id: ClassVar[int] = COMMANDS["bind_transceiver_resp"]


class Outbind(_WithPassword, frozen=True):
    command_id: ClassVar[int] = COMMANDS["outbind"]

    system_id: CString16 = b""
    password: CString17 = b""


class Unbind(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["unbind"]


class UnbindResp(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["unbind_resp"]


class EnquireLink(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["enquire_link"]


class EnquireLinkResp(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["enquire_link_resp"]


class SubmitSm(_Sm, frozen=True):
    command_id: ClassVar[int] = COMMANDS["submit_sm"]


class SubmitSmResp(_MessageId, frozen=True):
    command_id: ClassVar[int] = COMMANDS["submit_sm_resp"]


class DeliverSm(_Sm, frozen=True):
    command_id: ClassVar[int] = COMMANDS["deliver_sm"]


class DeliverSmResp(_MessageId, frozen=True):
    command_id: ClassVar[int] = COMMANDS["deliver_sm_resp"]


class DataSm(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["data_sm"]

    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString65 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString65 = b""
    esm_class: Octet = 0
    registered_delivery: Octet = 0
    data_coding: Octet = 0


class DataSmResp(_MessageId, frozen=True):
    command_id: ClassVar[int] = COMMANDS["data_sm_resp"]


class SubmitMulti(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["submit_multi"]

    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addresses: Destinations = ()
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


class SubmitMultiResp(_MessageId, frozen=True):
    command_id: ClassVar[int] = COMMANDS["submit_multi_resp"]

    unsuccess_smes: UnsuccessSmes = ()


class QuerySm(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["query_sm"]

    message_id: CString65 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""


class QuerySmResp(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["query_sm_resp"]

    message_id: CString65 = b""
    final_date: CString17 = b""
    message_state: Octet = 0
    error_code: Octet = 0


class CancelSm(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["cancel_sm"]

    service_type: CString6 = b""
    message_id: CString65 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString21 = b""


class CancelSmResp(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["cancel_sm_resp"]


class ReplaceSm(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["replace_sm"]

    message_id: CString65 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


class ReplaceSmResp(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["replace_sm_resp"]


class AlertNotification(Pdu, frozen=True):
    command_id: ClassVar[int] = COMMANDS["alert_notification"]

    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString65 = b""
    esme_addr_ton: Octet = 0
    esme_addr_npi: Octet = 0
    esme_addr: CString65 = b""


class MalformedPdu(msgspec.Struct, frozen=True, gc=False):
    """A known command whose body cannot be read. answer_status: what to say to it, if it is a request."""

    command_id: int
    command_status: int
    sequence_number: int
    body: bytes
    answer_status: int


class UnknownPdu(msgspec.Struct, frozen=True, gc=False):
    """A command nobody here knows, such as a vendor's."""

    command_id: int
    command_status: int
    sequence_number: int
    body: bytes


#: By command_id.
PDU_TYPES: dict[int, type[Pdu]] = {
    pdu_type.command_id: pdu_type
    for pdu_type in (
        GenericNack, BindReceiver, BindReceiverResp, BindTransmitter, BindTransmitterResp, BindTransceiver,
        BindTransceiverResp, Outbind, Unbind, UnbindResp, EnquireLink, EnquireLinkResp, SubmitSm, SubmitSmResp,
        DeliverSm, DeliverSmResp, DataSm, DataSmResp, SubmitMulti, SubmitMultiResp, QuerySm, QuerySmResp, CancelSm,
        CancelSmResp, ReplaceSm, ReplaceSmResp, AlertNotification,
    )
}  # fmt: skip


def response_type(request: type[Pdu]) -> type[Pdu] | None:
    """The class of its response; None: it has none (outbind, alert_notification), or is one itself."""
    return None if request.command_id & RESPONSE else PDU_TYPES.get(request.command_id | RESPONSE)
