"""The receipt that we, as an SMSC, send to an upstream bind: text (SMPP 3.4 appendix B) and TLVs, for a deliver_sm.

`parse_receipt` reads back what is written here.
"""

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final

from engine.protocol.receipt import INTERMEDIATE, MESSAGE_STATE, NETWORK_ERROR_CODE, RECEIPT, RECEIPTED_MESSAGE_ID
from engine.protocol.receipt_states import State
from engine.protocol.receipt_values import WrittenReceipt

_TEXT_CHARACTERS: Final = 20  #: of the message, as in appendix B
#: Printable ASCII but ":,;|"; receipted_message_id has 65 octets with its NUL (5.3.2.12).
_WORD: Final = re.compile(r"[!-+\--9<-{}~]{1,64}")
_GSM_NETWORK: Final = b"\x03"  #: the kind of network in network_error_code (5.3.2.31)


def write_receipt(
    id: str,
    state: State,
    *,
    submitted_at: float,
    done_at: float,
    error: str = "000",
    text: str = "",
    zone: tzinfo = UTC,
) -> WrittenReceipt:
    """The receipt for the one message that was answered with `id`.

    id: 1 to 64 printable ASCII characters, no space and none of ":,;|". Times in unix seconds, written to the minute in
    `zone`. error: as the id; it is in a TLV, too, if it is a decimal number other than zero. text: the message; its
    first 20 characters are repeated, what is not printable ASCII as "?". Raises ValueError: an id or an error that
    could not be read again.
    """
    if not (_is_word(id) and _is_word(error)):
        raise ValueError(f"not the id and error of a receipt: {id!r}, {error!r}")
    shown = "".join(char if " " <= char <= "~" else "?" for char in text[:_TEXT_CHARACTERS])
    short_message = (
        f"id:{id} sub:001 dlvrd:{state is State.DELIVERED:03d} submit date:{_date(submitted_at // 60, zone)} "
        f"done date:{_date(done_at // 60, zone)} stat:{state.word} err:{error} text:{shown}"
    )
    tlvs = [(RECEIPTED_MESSAGE_ID, id.encode("ascii") + b"\0"), (MESSAGE_STATE, bytes([state]))]
    if error.isdecimal() and 0 < int(error) <= 0xFFFF:
        tlvs.insert(1, (NETWORK_ERROR_CODE, _GSM_NETWORK + int(error).to_bytes(2)))
    return WrittenReceipt(
        esm_class=INTERMEDIATE if state.intermediate else RECEIPT,
        short_message=short_message.encode("ascii"),
        tlvs=tuple(tlvs),
    )


def _is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


@lru_cache(maxsize=256)  # most are of this minute or the last
def _date(minute: float, zone: tzinfo) -> str:
    when = datetime.fromtimestamp(minute * 60, zone)
    year = when.year % 100
    return f"{year:02}{when.month:02}{when.day:02}{when.hour:02}{when.minute:02}"  # half the time of strftime()
