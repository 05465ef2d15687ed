"""The submits of the load generator over SMPP: one text to numbers in a row, so that each message can be told.

A long text has several submits, its parts. Submit N is part N % parts of message N // parts.
"""

import re
from typing import Final

from engine.base.errors import UsageError
from engine.protocol.smpp_codec import HEADER_BYTES, encode
from engine.protocol.smpp_fields import InvalidField
from engine.protocol.smpp_pdu import SubmitSm
from engine.protocol.sms_rules import MAX_PARTS, TextRules
from engine.protocol.sms_text import TextTooLong, encode_text
from engine.tools.smpp_load_options import SmppLoadOptions

_PATTERN: Final = re.compile(r"(\+?[0-9]*)(#+)([0-9]*)")
_ALPHANUMERIC: Final = (5, 0)  # TON and NPI
_INTERNATIONAL: Final = (1, 1)


class SubmitMaker:
    """Makes submit number N of a run, ready for the wire. Raises UsageError: what cannot be sent."""

    def __init__(self, options: SmppLoadOptions) -> None:
        match = _PATTERN.fullmatch(options.destination)
        if match is None:
            raise UsageError([f'"{options.destination}" is not a row of numbers, such as "44770#######"'])
        before, digits, after = match.groups()
        if options.messages > 10 ** len(digits):
            raise UsageError([f'"{options.destination}" has not enough # for {options.messages} messages'])
        self._before, self._after, self._digits = before.lstrip("+").encode(), after.encode(), len(digits)
        self._templates = _templates(options, self.destination(0))
        self.parts = len(self._templates)
        self.submits = options.messages * self.parts
        self._messages = options.messages

    def destination(self, message: int) -> bytes:
        return b"%b%0*d%b" % (self._before, self._digits, message, self._after)

    def wire(self, submit: int, sequence_number: int) -> bytes:
        """The PDU."""
        message, part = divmod(submit, self.parts)
        head, middle, tail = self._templates[part]
        return b"".join((head, sequence_number.to_bytes(4), middle, self.destination(message), tail))

    def message_of(self, number: bytes) -> int | None:
        """Which message went to that number."""
        number = number.lstrip(b"+")
        digits = number[len(self._before) : len(number) - len(self._after)]
        if len(digits) != self._digits or not digits.isdigit() or number != self.destination(int(digits)):
            return None
        return int(digits) if int(digits) < self._messages else None


def _templates(options: SmppLoadOptions, destination: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Of each part: what stands before the sequence number, after it, and after the destination."""
    source = options.source.lstrip("+") if options.source.lstrip("+").isdecimal() else options.source
    source_kind = _INTERNATIONAL if source.isdecimal() else _ALPHANUMERIC
    found = []
    try:
        encoded = encode_text(options.text, TextRules(max_parts=MAX_PARTS))
        for submit in encoded.submits:
            pdu = SubmitSm(
                source_addr_ton=source_kind[0],
                source_addr_npi=source_kind[1],
                source_addr=source.encode("latin-1"),
                dest_addr_ton=_INTERNATIONAL[0],
                dest_addr_npi=_INTERNATIONAL[1],
                destination_addr=destination,
                esm_class=encoded.esm_class,
                registered_delivery=options.registered_delivery,
                data_coding=encoded.data_coding,
                short_message=submit.short_message,
                tlvs=submit.tlvs,
            )
            wire = encode(pdu)
            at = HEADER_BYTES + len(b"\0tn") + len(pdu.source_addr) + len(b"\0tn")  # no service_type; TON and NPI
            found.append((wire[: HEADER_BYTES - 4], wire[HEADER_BYTES:at], wire[at + len(destination) :]))
    except (InvalidField, TextTooLong, UnicodeEncodeError) as error:
        raise UsageError([f"this cannot be sent: {error}"]) from error
    return found
