"""One PDU: bytes to a value and back (SMPP 3.4 3.2, 5.0 3.1).

P1: any body gives a value. Read besides what the specifications have: a response without a body, an error with any
body, octets at the end that are no TLV, and what smpp_fields is lenient with.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.protocol.smpp_fields import CAP, MAX_SHORT_MESSAGE, BodyError, InvalidField, Part, Plain, compile_fields
from engine.protocol.smpp_pdu import (
    COMMON,
    PDU_TYPES,
    DeliverSm,
    DeliverSmResp,
    MalformedPdu,
    Pdu,
    SubmitSm,
    SubmitSmResp,
    UnknownPdu,
)
from engine.protocol.smpp_tables import ESME_RINVCMDLEN, ESME_RINVMSGLEN, RESPONSE
from engine.protocol.smpp_tlv import read_tlvs, write_tlvs

#: command_length, command_id, command_status, sequence_number.
HEADER: Final = struct.Struct(">LLLL")
HEADER_BYTES: Final = HEADER.size
#: No specification has a limit. The longest honest PDU is a message_payload of some hundred parts.
MAX_PDU_BYTES: Final = 64 << 10

AnyPdu = Pdu | MalformedPdu | UnknownPdu

_PARTS: Final[Mapping[int, tuple[Part, ...]]] = {
    command_id: compile_fields(pdu_type, pdu_type.__struct_fields__[COMMON:])
    for command_id, pdu_type in PDU_TYPES.items()
}
_MAKE: Final[Mapping[int, Callable[..., Pdu]]] = dict(PDU_TYPES)


def decode(data: bytes, at: int, end: int, command_id: int, status: int, number: int) -> AnyPdu:
    """The PDU whose header held command_id, command_status and sequence_number, and whose body is data[at:end]."""
    make = _MAKE.get(command_id)
    if make is None:
        return UnknownPdu(command_id, status, number, data[at:end])
    if at == end and (command_id & RESPONSE or not _PARTS[command_id]):
        return make(number, status)
    try:
        fields, tail = _READ.get(command_id, _read)(data, at, end, command_id)
    except BodyError as exc:
        if status and command_id & RESPONSE:
            return make(number, status, (), data[at:end])
        return MalformedPdu(command_id, status, number, data[at:end], exc.status)
    if tail == end:
        return make(number, status, (), b"", *fields)
    tlvs, rest = read_tlvs(data, tail, end)
    return make(number, status, tlvs, rest, *fields)


def encode(pdu: Pdu, sequence_number: int | None = None) -> bytes:
    """The PDU with its header. sequence_number: instead of its own.

    Raises InvalidField: a field or TLV that cannot be sent, or more than MAX_PDU_BYTES. An error response of which
    no field and no TLV is set has no body, as SMPP 3.4 4.1.2 and 4.4.2 want it.
    """
    number = pdu.sequence_number if sequence_number is None else sequence_number
    try:
        body = _body(pdu)
        header = HEADER.pack(HEADER_BYTES + len(body), pdu.command_id, pdu.command_status, number)
    except struct.error as exc:
        raise InvalidField(f"a {type(pdu).__name__} with a number out of range") from exc
    if HEADER_BYTES + len(body) > MAX_PDU_BYTES:
        raise InvalidField(f"a {type(pdu).__name__} of {HEADER_BYTES + len(body)} octets")
    return header + body


def _body(pdu: Pdu) -> bytes:
    write = _WRITE.get(pdu.command_id)
    if write is not None and (body := write(pdu)) is not None:
        return body
    fields = msgspec.structs.astuple(pdu)[COMMON:]
    if pdu.command_status and pdu.command_id & RESPONSE and not (pdu.tlvs or any(fields)):
        return b""
    pieces, place = [], 0
    for part in _PARTS[pdu.command_id]:
        pieces.append(part.write(fields[place : place + part.width]))
        place += part.width
    pieces.append(write_tlvs(pdu.tlvs))
    return b"".join(pieces)


def _read(data: bytes, at: int, end: int, command_id: int) -> tuple[Sequence[object], int]:
    """The fields of any command, and where its TLVs begin. Raises BodyError."""
    fields: list[object] = []
    for part in _PARTS[command_id]:
        values, at = part.read(data, at, end)
        fields += values
    return fields, at


def _match_of(command_id: int) -> Callable[..., re.Match[bytes] | None]:
    part = _PARTS[command_id][0]
    assert isinstance(part, Plain)
    return part.lenient.match


_match_sm: Final = _match_of(SubmitSm.command_id)
#: Of an id without its NUL, as in the classes of its PDUs.
_ID_BYTES: Final = 64
_SM_FORM: Final = b"%b\0%c%c%b\0%c%c%b\0%c%c%c%b\0%b\0%c%c%c%c%c%b"


def _read_sm(data: bytes, at: int, end: int, _: int) -> tuple[Sequence[object], int]:
    """The same for submit_sm and deliver_sm, written out: twice as fast."""
    match = _match_sm(data, at, end)
    if match is None:
        raise BodyError(ESME_RINVCMDLEN)
    start = match.end() + 1
    if start > end:
        raise BodyError(ESME_RINVCMDLEN)
    stop = start + data[start - 1]
    if stop > end:
        raise BodyError(ESME_RINVMSGLEN)
    service, source_kind, source, dest_kind, destination, modes, schedule, validity, flags = match.groups()
    fields = (
        service, *source_kind, source, *dest_kind, destination, *modes, schedule, validity, *flags, data[start:stop],
    )  # fmt: skip
    return fields, stop


def _write_sm(pdu: SubmitSm | DeliverSm) -> bytes | None:
    """The same the other way; None: something of it cannot be sent, and who looks at each field says what."""
    _, _, tlvs, _, *fields, message = msgspec.structs.astuple(pdu)
    service, _, _, source, _, _, destination, _, _, _, schedule, validity, _, _, _, _ = fields
    if b"\0" in b"".join((service, source, destination, schedule, validity)):
        return None
    if len(service) > 5 or len(source) > 20 or len(destination) > 20 or len(schedule) > 16 or len(validity) > 16:
        return None
    if len(message) > MAX_SHORT_MESSAGE:
        return None
    try:
        body = _SM_FORM % (*fields, len(message), message)
    except OverflowError:  # of an octet
        return None
    return body + write_tlvs(tlvs) if tlvs else body


def _read_id(data: bytes, at: int, end: int, _: int) -> tuple[Sequence[object], int]:
    """Of a response that has an id and no more."""
    stop = data.find(b"\0", at, end)
    last = end if stop < 0 else stop
    if last - at > CAP:
        raise BodyError(ESME_RINVCMDLEN)
    return (data[at:last],), min(last + 1, end)


def _write_id(pdu: SubmitSmResp | DeliverSmResp) -> bytes | None:
    """As `_write_sm`."""
    message_id = pdu.message_id
    if pdu.command_status or len(message_id) > _ID_BYTES or b"\0" in message_id:
        return None
    body = message_id + b"\0"
    return body + write_tlvs(pdu.tlvs) if pdu.tlvs else body


_READ: Final[Mapping[int, Callable[[bytes, int, int, int], tuple[Sequence[object], int]]]] = {
    SubmitSm.command_id: _read_sm,
    DeliverSm.command_id: _read_sm,
    SubmitSmResp.command_id: _read_id,
    DeliverSmResp.command_id: _read_id,
}
_WRITE: Final[Mapping[int, Callable[[Any], bytes | None]]] = {
    SubmitSm.command_id: _write_sm,
    DeliverSm.command_id: _write_sm,
    SubmitSmResp.command_id: _write_id,
    DeliverSmResp.command_id: _write_id,
}
