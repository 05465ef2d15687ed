"""submit_sm, data_sm and submit_multi as requests for admission: every field looked at, each fault by its own status.

Served: what a store-and-forward SMSC can do. Not served, and said so: replace_if_present (it would need a message to be
found by its numbers, and two at once would be a race), canned messages, distribution lists.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from engine.base.settings import Account
from engine.intake.sms_admission import Number, SmsRequest
from engine.intake.sms_content import with_content
from engine.intake.sms_refusal import SmsRefused
from engine.message.sms import Sms
from engine.protocol.smpp_lengths import wrong_length
from engine.protocol.smpp_multi import DistributionList, SmeAddress, UnsuccessSme
from engine.protocol.smpp_pdu import DataSm, Pdu, SubmitMulti, SubmitSm
from engine.protocol.smpp_tables import STATUSES, TAGS, status_name
from engine.protocol.smpp_time import parse_time

Submit = SubmitSm | DataSm | SubmitMulti

#: SMPP 3.4 5.2.17: what of the message's fate is reported, by whom, and if it is not final yet; the rest is reserved.
_REGISTERED: Final = 0x1F
#: 3.4 5.2.14; 5.0 has a fifth.
_HIGHEST_PRIORITY: Final = 4
_TIME_TO_LIVE: Final = TAGS["qos_time_to_live"]
_NO_LIST: Final = STATUSES["ESME_RINVDLNAME"]


def messages_in(pdu: Submit) -> int:
    """For how many its account's rate must have room."""
    return max(1, len(pdu.dest_addresses)) if isinstance(pdu, SubmitMulti) else 1


def read_request(pdu: Submit, account: Account, client: str, now: float) -> SmsRequest:
    """Raises SmsRefused. now: unix seconds."""
    if isinstance(pdu, SubmitSm):
        return _read_submit(pdu, account, client, now)
    return _read_data(pdu, account, client, now) if isinstance(pdu, DataSm) else _read_multi(pdu, account, client, now)


def check_lengths(pdu: Pdu) -> None:
    """Raises SmsRefused: a part of the message would be lost."""
    if pdu.rest:
        raise SmsRefused(status_name(wrong_length(pdu)), "syntax", f"{len(pdu.rest)} octets that are no TLV")


def _read_submit(pdu: SubmitSm, account: Account, client: str, now: float) -> SmsRequest:
    """Raises SmsRefused."""
    check_lengths(pdu)
    if pdu.replace_if_present_flag:
        raise SmsRefused("ESME_RINVREPFLAG", "syntax", "replace_if_present is not served; use replace_sm")
    _check_common(pdu)
    sms = Sms(
        dest_ton=pdu.dest_addr_ton,
        dest_npi=pdu.dest_addr_npi,
        protocol_id=pdu.protocol_id,
        priority=pdu.priority_flag,
        registered=read_registered(pdu.registered_delivery),
        service_type=_ascii(pdu.service_type, "ESME_RINVSERTYP"),
    )
    numbers = [_number(pdu.destination_addr, pdu.dest_addr_ton, pdu.dest_addr_npi)]
    return _request(pdu, pdu.short_message, sms, numbers, account, client, now)


def _read_data(pdu: DataSm, account: Account, client: str, now: float) -> SmsRequest:
    """Raises SmsRefused."""
    check_lengths(pdu)
    sms = Sms(
        dest_ton=pdu.dest_addr_ton,
        dest_npi=pdu.dest_addr_npi,
        registered=read_registered(pdu.registered_delivery),
        service_type=_ascii(pdu.service_type, "ESME_RINVSERTYP"),
    )
    numbers = [_number(pdu.destination_addr, pdu.dest_addr_ton, pdu.dest_addr_npi)]
    request = _request(pdu, b"", sms, numbers, account, client, now)
    if (value := pdu.tlv(_TIME_TO_LIVE)) is None:
        return request
    kept = tuple(tlv for tlv in request.sms.tlvs if tlv[0] != _TIME_TO_LIVE)
    request.sms, request.validity = replace(request.sms, tlvs=kept), now + _time_to_live(value)
    return request


def _time_to_live(value: bytes) -> int:
    """qos_time_to_live (SMPP 3.4 5.3.2.9), the validity of a data_sm: seconds. Raises SmsRefused."""
    if len(value) != 4:
        raise SmsRefused("ESME_RINVPARLEN", "syntax", f"qos_time_to_live of {len(value)} octets")
    seconds = int.from_bytes(value, "big")
    if not seconds:
        raise SmsRefused("ESME_RINVEXPIRY", "syntax", "qos_time_to_live 0: over before it is sent")
    return seconds


def _read_multi(pdu: SubmitMulti, account: Account, client: str, now: float) -> SmsRequest:
    """To the handsets in their order; nobody here keeps lists. Raises SmsRefused."""
    check_lengths(pdu)
    if pdu.replace_if_present_flag:
        raise SmsRefused("ESME_RINVREPFLAG", "syntax", "replace_if_present is not served; use replace_sm")
    _check_common(pdu)
    if not pdu.dest_addresses:
        raise SmsRefused("ESME_RINVNUMDESTS", "number", "no destination")
    numbers = [_number_or_none(one) for one in _handsets(pdu)]
    if not numbers:
        raise SmsRefused("ESME_RINVDLNAME", "number", "a distribution list")
    sms = Sms(
        dest_ton=numbers[0][1],
        dest_npi=numbers[0][2],
        protocol_id=pdu.protocol_id,
        priority=pdu.priority_flag,
        registered=read_registered(pdu.registered_delivery),
        service_type=_ascii(pdu.service_type, "ESME_RINVSERTYP"),
    )
    return _request(pdu, pdu.short_message, sms, numbers, account, client, now)


def unsuccessful(pdu: SubmitMulti, refused: Sequence[tuple[int, SmsRefused]]) -> tuple[UnsuccessSme, ...]:
    """Who of its destinations gets nothing. refused: by their place in the request."""
    places = _handsets(pdu)
    found = [
        UnsuccessSme(places[at].dest_addr_ton, places[at].dest_addr_npi, places[at].destination_addr[:20], exc.status)
        for at, exc in refused
    ]
    lists = [one for one in pdu.dest_addresses if isinstance(one, DistributionList)]
    return (*found, *(UnsuccessSme(0, 0, one.dl_name[:20], _NO_LIST) for one in lists))


def _handsets(pdu: SubmitMulti) -> list[SmeAddress]:
    """Its destinations that are no lists."""
    return [one for one in pdu.dest_addresses if isinstance(one, SmeAddress)]


def parse_times(schedule: bytes, validity: bytes, now: float) -> tuple[float, float]:
    """schedule_delivery_time and validity_period as unix seconds; 0.0: none. Raises SmsRefused."""
    try:
        due_at = parse_time(schedule, now)
    except (ValueError, OverflowError) as exc:
        raise SmsRefused("ESME_RINVSCHED", "syntax", f"schedule_delivery_time: {exc}") from exc
    try:
        # A relative one is counted from the submission, 3.4 5.2.16.
        expires_at = parse_time(validity, now)
    except (ValueError, OverflowError) as exc:
        raise SmsRefused("ESME_RINVEXPIRY", "syntax", f"validity_period: {exc}") from exc
    return due_at, expires_at


def _request(
    pdu: Submit, data: bytes, sms: Sms, numbers: list[Number], account: Account, client: str, now: float
) -> SmsRequest:
    schedule = validity = 0.0
    if not isinstance(pdu, DataSm) and (pdu.schedule_delivery_time or pdu.validity_period):
        schedule, validity = parse_times(pdu.schedule_delivery_time, pdu.validity_period, now)
    return SmsRequest(
        numbers=numbers,
        sms=with_content(sms, data, pdu.esm_class, pdu.data_coding, pdu.tlvs, account.alphabet),
        sender=_ascii(pdu.source_addr, "ESME_RINVSRCADR"),
        sender_ton=pdu.source_addr_ton,
        sender_npi=pdu.source_addr_npi,
        account=account,
        validity=validity,
        schedule=schedule,
        client=client,
    )


def _check_common(pdu: SubmitSm | SubmitMulti) -> None:
    if pdu.sm_default_msg_id:
        raise SmsRefused("ESME_RINVDFTMSGID", "syntax", f"no canned message {pdu.sm_default_msg_id}")
    if pdu.priority_flag > _HIGHEST_PRIORITY:
        raise SmsRefused("ESME_RINVPRTFLG", "syntax", f"priority_flag {pdu.priority_flag}")


def read_registered(flag: int) -> int:
    """Raises SmsRefused."""
    if flag & ~_REGISTERED:
        raise SmsRefused("ESME_RINVREGDLVFLG", "syntax", f"registered_delivery 0x{flag:02X}")
    return flag


def _number(address: bytes, ton: int, npi: int) -> Number:
    return _ascii(address, "ESME_RINVDSTADR"), ton, npi


def _number_or_none(one: SmeAddress) -> Number:
    """One that is not ASCII is no number, which admission says of it alone."""
    return one.destination_addr.decode("ascii", "replace"), one.dest_addr_ton, one.dest_addr_npi


def _ascii(value: bytes, status: str) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError as exc:
        reason = {"ESME_RINVSRCADR": "sender", "ESME_RINVDSTADR": "number"}.get(status, "syntax")
        raise SmsRefused(status, reason, "an address or type that is not ASCII") from exc
