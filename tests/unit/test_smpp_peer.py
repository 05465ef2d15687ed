"""smpplib as second opinion: what it builds we read, and what we build it reads, field by field."""

import struct
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from smpplib import command, smpp  # type: ignore[import-untyped]  # it has no annotations

from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_pdu import COMMON, PDU_TYPES, DataSm, DeliverSm, Pdu, SubmitSm
from engine.protocol.smpp_tables import COMMANDS, TAGS
from tests.support.smpp import field_kinds

#: smpplib has no class for these.
LACKING = {
    "submit_multi",
    "submit_multi_resp",
    "cancel_sm",
    "cancel_sm_resp",
    "replace_sm",
    "replace_sm_resp",
    "outbind",
}
NAMES = sorted(COMMANDS.keys() - LACKING)
#: TLVs that smpplib has for these, by the form of the value.
TLVS: dict[type[Pdu], dict[str, type]] = {
    DataSm: {"message_payload": bytes, "receipted_message_id": str, "sar_msg_ref_num": int},
    SubmitSm: {"user_message_reference": int},
    DeliverSm: {"receipted_message_id": str, "network_error_code": bytes, "sar_msg_ref_num": int},
}
_VALUES = {
    bytes: st.binary(min_size=3, max_size=3),
    str: st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    int: st.integers(0, 0xFFFF),
}
_WIRE: dict[type, Callable[..., bytes]] = {
    bytes: bytes,
    str: lambda text: text.encode() + b"\0",
    int: struct.Struct(">H").pack,
}


def ascii_strings(limit: int) -> st.SearchStrategy[bytes]:
    """smpplib cuts what is longer than its own limits: 8 octets of a password, 20 of any address."""
    visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=min(limit, 8 if limit == 16 else 20))
    return visible.map(str.encode)


@st.composite
def both(draw: st.DrawFn) -> tuple[str, Pdu, dict[str, object]]:
    """A command, one such PDU, and the TLVs in it by name."""
    name = draw(st.sampled_from(NAMES))
    kind = PDU_TYPES[COMMANDS[name]]
    fields: dict[str, object] = {}
    for field, shape in field_kinds(kind).items():
        if isinstance(shape, int):
            fields[field] = draw(ascii_strings(shape))
        else:
            fields[field] = draw(st.binary(max_size=254) if field == "short_message" else st.integers(0, 255))
    if "interface_version" in fields:
        fields["interface_version"] = 0x34  # it knows no other
    if name == "query_sm":
        fields["message_id"] = b"1"  # it wants one
    named = {tag: draw(_VALUES[form]) for tag, form in TLVS.get(kind, {}).items()}
    tlvs = tuple((TAGS[tag], _WIRE[TLVS[kind][tag]](value)) for tag, value in named.items())
    return name, kind(draw(st.integers(1, 0x7FFFFFFF)), tlvs=tlvs, **fields), named  # type: ignore[arg-type]


@given(both())
def test_what_we_build_smpplib_reads(case: tuple[str, Pdu, dict[str, object]]) -> None:
    name, pdu, named = case
    theirs = smpp.parse_pdu(encode(pdu), sequence=1)
    assert (theirs.command, theirs.status, theirs.sequence) == (name, 0, pdu.sequence_number)
    for field in pdu.__struct_fields__[COMMON:]:
        assert (getattr(theirs, field) or type(getattr(pdu, field))()) == getattr(pdu, field)
    for field, value in named.items():
        assert getattr(theirs, field) == (value.encode() if isinstance(value, str) else value)


@given(both())
def test_what_smpplib_builds_we_read(case: tuple[str, Pdu, dict[str, object]]) -> None:
    name, pdu, named = case
    fields = {field: getattr(pdu, field) for field in pdu.__struct_fields__[COMMON:]}
    texts = {
        field: value.decode() if isinstance(value, bytes) and field != "short_message" else value
        for field, value in fields.items()
    }
    theirs = command.factory(name, sequence=1, **texts, **named)
    theirs.sequence = pdu.sequence_number  # it ignores the one above
    parser = PduParser()
    parser.feed(theirs.generate())
    ours = parser.next_pdu()
    assert isinstance(ours, Pdu)
    assert sorted(ours.tlvs) == sorted(pdu.tlvs)  # it has an order of its own
    assert msgspec.structs.replace(ours, tlvs=pdu.tlvs) == pdu
