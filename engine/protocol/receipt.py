"""Delivery receipts: what a deliver_sm or data_sm says about a message sent earlier.

Total: any bytes give a Receipt or None (P1). TLVs count first, the text (SMPP 3.4 appendix B, and what the field made
of it) fills in what they lack.

An id and a state make a receipt, whether esm_class claims one or not. A person may write that, too, so who calls this
must also know the id as one of that carrier's. None from a message that claims to be a receipt is one that cannot be
read: acknowledged, counted, kept, never handed on as if a person had written it.
"""

from collections.abc import Mapping
from datetime import UTC, tzinfo
from types import MappingProxyType
from typing import Final

from engine.protocol.receipt_dates import parse_date
from engine.protocol.receipt_states import State, read_state, state_of_tlv
from engine.protocol.receipt_text import labelled, readings, usual
from engine.protocol.receipt_values import Receipt, Source

#: Tags of TLVs (SMPP 3.4 5.3.2).
RECEIPTED_MESSAGE_ID: Final = 0x001E
NETWORK_ERROR_CODE: Final = 0x0423
MESSAGE_PAYLOAD: Final = 0x0424
MESSAGE_STATE: Final = 0x0427

#: Of esm_class (SMPP 3.4 5.2.12): an SMSC delivery receipt, an intermediate notification.
RECEIPT: Final = 0x04
INTERMEDIATE: Final = 0x20

_NO_TLVS: Final[Mapping[int, bytes]] = MappingProxyType({})


def claims_receipt(esm_class: int) -> bool:
    """The message is said to be a delivery receipt or an intermediate notification, not from a person."""
    return bool(esm_class & (RECEIPT | INTERMEDIATE))


def parse_receipt(
    message: bytes,
    *,
    data_coding: int = 0,
    esm_class: int = 0,
    tlvs: Mapping[int, bytes] = _NO_TLVS,
    zone: tzinfo = UTC,
) -> Receipt | None:
    """The receipt in a message, or None if there is no id or no state in it. Never raises.

    message: short_message; if that is empty, message_payload among the `tlvs` (value by tag). zone: of the carrier's
    clock, for dates that do not name one.
    """
    raw = message or tlvs.get(MESSAGE_PAYLOAD, b"")
    values = usual(raw, data_coding, esm_class) or _values(raw, data_coding, esm_class)
    id_, id_source = _id(values, tlvs)
    known = _state(values, tlvs)
    if not id_ or known is None:
        return None
    state, state_source, stat = known
    error, error_source = _error(values, tlvs)
    return Receipt(
        id=id_,
        id_source=id_source,
        state=state,
        state_source=state_source,
        stat=stat,
        error=error,
        error_source=error_source,
        submitted_at=parse_date(values.get("submitted_at", ""), zone),
        done_at=parse_date(values.get("done_at", ""), zone),
        sub=_count(values.get("sub", "")),
        dlvrd=_count(values.get("dlvrd", "")),
        text=values.get("text", ""),
        claimed=claims_receipt(esm_class),
        raw=raw,
    )


def _values(raw: bytes, data_coding: int, esm_class: int) -> dict[str, str]:
    """The labels of the first reading that has an id and a state; failing that, of the first with any."""
    best: dict[str, str] = {}
    for text in readings(raw, data_coding, esm_class):
        values = labelled(text)
        if "id" in values and "stat" in values:
            return values
        best = best or values
    return best


def _word(value: str) -> str:
    """The first word: behind it a label that we do not know may stand."""
    return value.split(maxsplit=1)[0] if value else ""


def _id(values: dict[str, str], tlvs: Mapping[int, bytes]) -> tuple[str, Source]:
    # A C-octet string, but its NUL is often forgotten.
    told = tlvs.get(RECEIPTED_MESSAGE_ID, b"").partition(b"\0")[0].decode("latin-1").strip()
    return (told, "tlv") if told else (_word(values.get("id", "")), "text")


def _state(values: dict[str, str], tlvs: Mapping[int, bytes]) -> tuple[State, Source, str] | None:
    told = state_of_tlv(tlvs.get(MESSAGE_STATE, b""))
    written = read_state(values["stat"]) if "stat" in values else None
    stat = written[1] if written else ""
    # Zero is SCHEDULED since 5.0, but more often a field that was not filled in.
    if told is not None and not (told is State.SCHEDULED and written):
        return told, "tlv", stat
    return (written[0], "text", stat) if written else None


def _error(values: dict[str, str], tlvs: Mapping[int, bytes]) -> tuple[str | None, Source | None]:
    told = tlvs.get(NETWORK_ERROR_CODE, b"")
    if len(told) >= 2:  # the kind of network, which some leave out, then the code in two bytes
        return f"{int.from_bytes(told[-2:]):03}", "tlv"
    word = _word(values.get("err", ""))
    return (word, "text") if word else (None, None)


def _count(value: str) -> int | None:
    word = _word(value)
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 10 else None
