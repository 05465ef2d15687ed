"""PDUs of SMPP: every kind there and back, what is forgiven on input, what is never sent."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import smpp_codec
from engine.protocol.smpp_codec import MAX_PDU_BYTES, AnyPdu, encode
from engine.protocol.smpp_fields import CAP, BodyError, InvalidField
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_multi import DistributionList, SmeAddress, UnsuccessSme
from engine.protocol.smpp_pdu import (
    COMMON,
    PDU_TYPES,
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    DataSm,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    GenericNack,
    MalformedPdu,
    Outbind,
    Pdu,
    QuerySm,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
    UnknownPdu,
    response_type,
)
from engine.protocol.smpp_tables import (
    COMMANDS,
    ESME_RINVCMDLEN,
    ESME_RINVDESTFLAG,
    ESME_RINVMSGLEN,
    RESPONSE,
    STATUSES,
    TAGS,
    status_name,
    status_text,
)
from engine.protocol.smpp_tlv import write_tlvs
from tests.support.smpp import field_kinds, pdus

PAYLOAD = TAGS["message_payload"]


def decoded(wire: bytes) -> AnyPdu:
    """The one PDU of these bytes."""
    parser = PduParser()
    parser.feed(wire)
    pdu = parser.next_pdu()
    assert pdu is not None and parser.idle
    return pdu


def framed(command_id: int, body: bytes, status: int = 0, number: int = 7) -> bytes:
    header = (16 + len(body), command_id, status, number)
    return b"".join(value.to_bytes(4) for value in header) + body


def read(pdu_type: type[Pdu], body: bytes, status: int = 0) -> AnyPdu:
    return decoded(framed(pdu_type.command_id, body, status))


@given(pdus)
def test_every_pdu_comes_back_as_it_was(pdu: Pdu) -> None:
    assert decoded(encode(pdu)) == pdu


@given(pdus, st.integers(0, 0xFFFFFFFF))
def test_the_number_may_be_given_when_it_is_sent(pdu: Pdu, number: int) -> None:
    assert decoded(encode(pdu, number)) == msgspec.structs.replace(pdu, sequence_number=number)


_octets, _strings = st.integers(-1, 256), st.binary(max_size=24)
_fields: dict[str, st.SearchStrategy[Any]] = {
    "source_addr_ton": _octets, "service_type": _strings, "source_addr": _strings, "destination_addr": _strings,
    "validity_period": _strings, "sm_default_msg_id": _octets, "short_message": st.binary(max_size=300),
}  # fmt: skip


_messages = st.builds(
    lambda kind, fields: kind(tlvs=((PAYLOAD, b"x"),), **fields),
    st.sampled_from([SubmitSm, DeliverSm]), st.fixed_dictionaries({}, optional=_fields),
)  # fmt: skip
_ids = st.builds(
    lambda kind, id, tlvs: kind(message_id=id, tlvs=tlvs),
    st.sampled_from([SubmitSmResp, DeliverSmResp]), st.binary(max_size=70), st.sampled_from([(), ((PAYLOAD, b"x"),)]),
)  # fmt: skip


@given(_messages | _ids)
def test_the_most_common_are_written_as_any_other(pdu: Pdu) -> None:
    written = smpp_codec._WRITE[pdu.command_id](pdu)
    values, place, body = msgspec.structs.astuple(pdu)[COMMON:], 0, b""
    try:
        for part in smpp_codec._PARTS[pdu.command_id]:
            body += part.write(values[place : place + part.width])
            place += part.width
    except InvalidField:
        assert written is None
    else:
        assert written == body + write_tlvs(pdu.tlvs)


@given(st.sampled_from(list(smpp_codec._READ)), st.binary(max_size=300) | st.binary(max_size=5).map(lambda b: b * 60))
def test_the_most_common_are_read_as_any_other(command_id: int, body: bytes) -> None:
    data, found = b"\1" + body + b"\0", []
    for reader in (smpp_codec._READ[command_id], smpp_codec._read):
        try:
            values, end = reader(data, 1, len(data) - 1, command_id)
            found.append((tuple(values), end))
        except BodyError as exc:
            found.append(exc.status)
    assert found[0] == found[1]


def test_the_commands_are_smpplibs_and_each_has_a_class() -> None:
    assert sorted(PDU_TYPES) == sorted(COMMANDS.values())
    assert response_type(SubmitSm) is SubmitSmResp
    without = {
        kind.__name__ for kind in PDU_TYPES.values() if response_type(kind) is None and kind.command_id < RESPONSE
    }
    assert without == {"Outbind", "AlertNotification"}


def test_statuses_have_names_and_meanings() -> None:
    assert (status_name(0x58), STATUSES["ESME_RTHROTTLED"]) == ("ESME_RTHROTTLED", 0x58)
    assert (status_name(0x104), status_text(0x104)) == ("ESME_RINVDCS", "Invalid data_coding")
    assert (status_name(0x463), status_text(0x463)) == ("0x00000463", "Error of the carrier's own")
    assert status_text(0xFFFFFFFF) == "Reserved status"
    assert all("<" not in status_text(status) for status in STATUSES.values())


def test_a_pdu_shows_what_is_set_and_never_a_password() -> None:
    assert repr(SubmitSm(3, esm_class=4)) == "SubmitSm(sequence_number=3, esm_class=4)"
    for pdu in (BindReceiver(1, system_id=b"acme", password=b"secret"), Outbind(password=b"secret")):
        assert "secret" not in repr(pdu) and "hidden" in repr(pdu)
        assert decoded(encode(pdu)) == pdu


# ---- forgiven


def test_a_response_may_lack_its_body_whatever_its_status() -> None:
    for status in (0, 8):
        assert read(SubmitSmResp, b"", status) == SubmitSmResp(7, status)
        assert read(BindTransceiverResp, b"", status) == BindTransceiverResp(7, status)
    assert read(BindTransceiverResp, b"smsc\0") == BindTransceiverResp(7, system_id=b"smsc")


def test_an_error_may_carry_a_body_and_even_a_senseless_one() -> None:
    assert read(SubmitSmResp, b"12\0", 8) == SubmitSmResp(7, 8, message_id=b"12")
    senseless = b"x" * (CAP + 1)
    assert read(SubmitSmResp, senseless, 8) == SubmitSmResp(7, 8, rest=senseless)
    assert isinstance(read(SubmitSmResp, senseless), MalformedPdu), "but an id that is lost must be told"


def test_an_error_without_fields_is_sent_without_body() -> None:
    assert len(encode(SubmitSmResp(command_status=8))) == 16
    assert len(encode(SubmitSmResp())) == 17
    assert encode(SubmitSmResp(command_status=8, message_id=b"1"))[16:] == b"1\0"
    assert encode(SubmitSmResp(command_status=8, tlvs=((1, b""),)))[16:] == b"\0\0\1\0\0"


def test_a_string_may_be_longer_than_its_limit_up_to_a_cap() -> None:
    for length in (65, CAP):
        assert read(SubmitSmResp, b"i" * length + b"\0") == SubmitSmResp(7, message_id=b"i" * length)
    password = b"sixteen octets!!"
    assert decoded(encode(BindTransceiver(password=password))) == BindTransceiver(password=password)


def test_the_last_string_may_lack_its_nul_and_no_other_may() -> None:
    assert read(SubmitSmResp, b"12ab") == SubmitSmResp(7, message_id=b"12ab")
    assert read(BindReceiver, b"id\0pw\0\0\x34\0\0*") == BindReceiver(
        7, system_id=b"id", password=b"pw", address_range=b"*"
    )
    assert isinstance(read(QuerySm, b"12ab"), MalformedPdu)


def test_a_refusing_submit_multi_resp_may_end_after_its_id() -> None:
    assert read(SubmitMultiResp, b"12\0") == SubmitMultiResp(7, message_id=b"12")


# ---- TLVs


def test_tlvs_are_kept_raw_also_unknown_doubled_and_misplaced_ones() -> None:
    tlvs = ((0x1400, b"1101\0"), (PAYLOAD, b""), (PAYLOAD, b"2"), (0xFFFF, b"\0"))
    pdu = SubmitSmResp(message_id=b"1", tlvs=tlvs)
    assert decoded(encode(pdu)) == pdu
    assert (pdu.tlv(PAYLOAD), pdu.tlv(0x1400), pdu.tlv(5)) == (b"", b"1101\0", None)
    assert read(EnquireLink, b"\0\1\0\1x") == EnquireLink(7, tlvs=((1, b"x"),))


@pytest.mark.parametrize("rest", [b"\4\x24", b"\4\x24\0", b"\4\x24\0\1", b"\4\x24\xff\xffab"])
def test_tlvs_cut_short_are_kept_as_far_as_whole_and_the_rest_beside_them(rest: bytes) -> None:
    whole = DataSm(7, tlvs=((5, b"\1"),))
    assert decoded(framed(DataSm.command_id, encode(whole)[16:] + b"\0\0\0")) == whole, "somebody's padding"
    assert decoded(framed(DataSm.command_id, encode(whole)[16:] + rest)) == msgspec.structs.replace(whole, rest=rest)


# ---- a body that cannot be read is a value


@pytest.mark.parametrize("pdu_type", [SubmitSm, DeliverSm, SubmitMulti])
def test_a_message_longer_than_its_pdu_is_told_as_such(pdu_type: type[Pdu]) -> None:
    body = encode(pdu_type())[16:-1]
    assert read(pdu_type, body + b"\3ab") == MalformedPdu(pdu_type.command_id, 0, 7, body + b"\3ab", ESME_RINVMSGLEN)
    assert read(pdu_type, body) == MalformedPdu(pdu_type.command_id, 0, 7, body, ESME_RINVCMDLEN)


@pytest.mark.parametrize("pdu_type", [kind for kind in PDU_TYPES.values() if field_kinds(kind)])
@pytest.mark.parametrize("status", [0, 8])
def test_every_body_cut_anywhere_is_a_value(pdu_type: type[Pdu], status: int) -> None:
    destinations = {"dest_addresses": (SmeAddress(1, 1, b"4477"),), "unsuccess_smes": (UnsuccessSme(1, 1, b"44", 8),)}
    fields = {name: value for name, value in destinations.items() if name in field_kinds(pdu_type)}
    body = encode(pdu_type(**fields))[16:]  # type: ignore[arg-type]  # some class has them
    for length in range(len(body)):
        pdu = read(pdu_type, body[:length], status)
        assert isinstance(pdu, (pdu_type, MalformedPdu))
        assert (pdu.sequence_number, pdu.command_status) == (7, status)


def test_a_request_must_have_its_body_whatever_its_status() -> None:
    for body, status in ((b"", 0), (b"", 8), (b"1", 8)):
        assert read(QuerySm, body, status) == MalformedPdu(QuerySm.command_id, status, 7, body, ESME_RINVCMDLEN)


def test_a_destination_is_a_handset_or_a_list() -> None:
    multi = SubmitMulti(7, dest_addresses=(SmeAddress(1, 1, b"447700900123"), DistributionList(b"staff")))
    wire = encode(multi)
    assert b"\2\1\1\x01447700900123\0\2staff\0" in wire
    wrong = read(SubmitMulti, wire[16:].replace(b"\2staff", b"\3staff"))
    assert isinstance(wrong, MalformedPdu) and wrong.answer_status == ESME_RINVDESTFLAG


def test_an_unknown_command_is_a_value() -> None:
    assert decoded(framed(0x10203, b"body", 1)) == UnknownPdu(0x10203, 1, 7, b"body")


# ---- never sent


@pytest.mark.parametrize(
    "pdu",
    [
        SubmitSm(service_type=b"123456"), SubmitSm(source_addr=b"1" * 21), SubmitSm(source_addr=b"1\0" + b"2"),
        SubmitSm(esm_class=256), SubmitSm(esm_class=-1), SubmitSm(short_message=b"x" * 255),
        DataSm(source_addr=b"1" * 65), SubmitSmResp(message_id=b"1" * 65), BindTransceiver(password=b"1" * 17),
        SubmitSm(tlvs=((-1, b""),)), SubmitSm(tlvs=((0x10000, b""),)), SubmitSm(tlvs=((1, b"x" * 0x10000),)),
        DataSm(tlvs=((PAYLOAD, b"x" * (MAX_PDU_BYTES - 29)),)), SubmitMulti(dest_addresses=(SmeAddress(),) * 255),
        SubmitMulti(dest_addresses=(DistributionList(b"1" * 21),)), SubmitSm(sequence_number=-1),
        SubmitMultiResp(unsuccess_smes=(UnsuccessSme(0, 0, b"", 1 << 32),)), GenericNack(command_status=1 << 32),
        SubmitMultiResp(unsuccess_smes=(UnsuccessSme(0, 0, b"", 8),) * 256),
    ],
)  # fmt: skip
def test_what_no_peer_could_read_is_refused_before_it_is_sent(pdu: Pdu) -> None:
    with pytest.raises(InvalidField):
        encode(pdu)


def test_a_nul_that_would_shift_the_fields_after_it_is_refused() -> None:
    """It would be read as another query: for the id "1", of the source_addr "\\x0144"."""
    with pytest.raises(InvalidField, match=r"NUL: message_id$"):
        encode(QuerySm(message_id=b"1\0", source_addr_ton=1, source_addr_npi=1, source_addr=b"44"))


def test_a_refusal_names_the_fields_and_not_their_values() -> None:
    with pytest.raises(InvalidField, match=r"NUL: password, addr_ton$"):
        encode(BindTransceiver(password=b"seventeen octets!", addr_ton=256))


def test_the_longest_of_everything_is_sent() -> None:
    for kind in PDU_TYPES.values():
        limits = {name: b"x" * limit for name, limit in field_kinds(kind).items() if isinstance(limit, int)}
        pdu = kind(**limits)  # type: ignore[arg-type]  # as its annotations say
        assert decoded(encode(pdu)) == pdu
    assert len(encode(DataSm(tlvs=((PAYLOAD, b"x" * (MAX_PDU_BYTES - 30)),)))) == MAX_PDU_BYTES
