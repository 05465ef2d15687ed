"""A message as it is submitted: what phones receive in one piece, and what each submit_sm carries."""

import msgspec

from engine.protocol.smpp_tlv import Tlv
from engine.protocol.sms_coding import Coding


class Part(msgspec.Struct, frozen=True, gc=False):
    """What a phone receives in one piece. text: "" if binary."""

    text: str
    units: int


class Submit(msgspec.Struct, frozen=True, gc=False):
    """What one submit_sm carries. short_message: header and body."""

    short_message: bytes
    tlvs: tuple[Tlv, ...] = ()


class Encoded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message ready to submit: each of `submits` with the same data_coding and esm_class (UDHI or 0).

    room: units that one of these parts can hold. With message_payload there is one submit, and the parts are those
    that the carrier is expected to make.
    """

    coding: Coding
    esm_class: int
    room: int
    parts: tuple[Part, ...]
    submits: tuple[Submit, ...]

    @property
    def data_coding(self) -> int:
        """As in submit_sm."""
        return self.coding.data_coding

    @property
    def units(self) -> int:
        """Of all parts together."""
        return sum(part.units for part in self.parts)
