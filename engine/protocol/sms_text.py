"""A text, or octets, as the messages to submit: encoded, cut into parts, with headers or TLVs that join them.

Nothing is ever cut off: what needs more parts than the carrier's rules allow is refused before work is spent on it.

Sources: 3GPP TS 23.040 9.2.3.16, 9.2.3.24 (140 octets of user data, the header among them; a text of septets begins at
the border of a septet); SMPP 3.4 5.2.12, 5.3.2.22 to 5.3.2.32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError
from engine.protocol.sms_alphabets import encode_septets
from engine.protocol.sms_coding import Coding, codings, default_coding
from engine.protocol.sms_data_coding import Charset
from engine.protocol.sms_encoded import Encoded, Part, Submit
from engine.protocol.sms_rules import Join, TextRules
from engine.protocol.sms_split import split
from engine.protocol.sms_udh import (
    CONCATENATED_8,
    CONCATENATED_16,
    MESSAGE_PAYLOAD,
    UDHI,
    Element,
    Ports,
    Segment,
    build_udh,
    port_elements,
    port_tlvs,
    sar_tlvs,
    table_elements,
)

_USER_DATA_BITS: Final = 140 * 8
_MOST_CHARACTERS: Final = _USER_DATA_BITS // 7  # in one part


@mypyc_attr(native_class=False)
class TextTooLong(EngineError):
    """More parts than the carrier's rules allow."""


def encode_text(
    text: str, rules: TextRules, *, reference: int = 0, flash: bool = False, ports: Ports | None = None
) -> Encoded:
    """The messages that carry a text, in the encoding that needs the fewest parts.

    A byte order mark before it is no part of it; half a surrogate pair becomes U+FFFD. reference: the same for all
    parts, another for the next message to that recipient; its low 8 or 16 bits are used. flash: to be shown at once and
    not kept. Raises TextTooLong.
    """
    if ports is None and text.isascii() and (short := _short(text, rules, flash)) is not None:
        return short
    _check(-(-len(text) // _MOST_CHARACTERS), rules)
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").lstrip("\ufeff\ufffe")
    weighed = ((coding.cost(text), _Layout(coding, rules, ports)) for coding in codings(text, rules, flash=flash))
    units, layout = min(weighed, key=lambda pair: pair[1].parts_at_least(pair[0]))
    room, coding = layout.room_for(units), layout.coding
    if units <= room:
        return layout.encoded(room, [Part(text, units)], [coding.encode(text)], reference)
    parts = [Part(piece, coding.cost(piece)) for piece in split(text, coding.costs(text), room)]
    return layout.encoded(room, parts, [coding.encode(part.text) for part in parts], reference)


def _short(text: str, rules: TextRules, flash: bool) -> Encoded | None:
    """What the rest of this module makes of most texts, at a fifth of the time; None: it needs a closer look."""
    coding = default_coding(rules, flash=flash)
    room = (_USER_DATA_BITS - 8 * rules.spare_octets) // 7
    septets = encode_septets(text)
    if septets is None or len(septets) > room or not coding.has(text):
        return None
    body = septets if coding.charset is Charset.GSM else coding.encode(text)
    return Encoded(
        coding=coding, esm_class=0, room=room, parts=(Part(text, len(septets)),), submits=(Submit(body),)
    )  # fmt: skip


def encode_binary(
    data: bytes, rules: TextRules, *, reference: int = 0, data_coding: int = 4, ports: Ports | None = None
) -> Encoded:
    """The messages that carry octets, usually for an application's port. Raises TextTooLong."""
    layout = _Layout(Coding(Charset.BINARY, data_coding, 8), rules, ports)
    room = layout.room_for(len(data))
    bodies = [data[start : start + room] for start in range(0, len(data), room)] or [b""]
    return layout.encoded(room, [Part("", len(body)) for body in bodies], bodies, reference)


def _check(parts: int, rules: TextRules) -> None:
    if parts > rules.max_parts:
        raise TextTooLong(f"at least {parts} parts are needed, the limit is {rules.max_parts}")


@dataclass(frozen=True, slots=True)
class _Layout:
    """What stands beside the body in a message of this coding."""

    coding: Coding
    rules: TextRules
    ports: Ports | None

    @property
    def elements(self) -> tuple[Element, ...]:
        """Of the header of every part, beside its number."""
        if not self.rules.join.by_header:
            return ()
        return (*port_elements(self.ports), *table_elements(self.coding.tables))

    def room(self, *, alone: bool) -> int:
        """Units in one part."""
        elements = self.elements if alone else (_number(self.rules.join, 0, 1, 1), *self.elements)
        header_bits = 8 * len(build_udh(elements))
        if self.coding.unit_bits == 7:
            header_bits += -header_bits % 7
        return (_USER_DATA_BITS - 8 * self.rules.spare_octets - header_bits) // self.coding.unit_bits

    def parts_at_least(self, units: int) -> int:
        """It may be one more, since not every place can be cut."""
        return 1 if units <= self.room(alone=True) else -(-units // self.room(alone=False))

    def room_for(self, units: int) -> int:
        """In each part of a message of so many units. Raises TextTooLong."""
        parts = self.parts_at_least(units)
        _check(parts, self.rules)
        return self.room(alone=parts == 1)

    def encoded(self, room: int, parts: Sequence[Part], bodies: Sequence[bytes], reference: int) -> Encoded:
        """The message. Raises TextTooLong."""
        _check(len(bodies), self.rules)
        by_header = self.rules.join.by_header
        return Encoded(
            coding=self.coding,
            esm_class=UDHI if self.elements or (by_header and len(bodies) > 1) else 0,
            room=room,
            parts=tuple(parts),
            submits=tuple(self._with_headers(bodies, reference) if by_header else self._with_tlvs(bodies, reference)),
        )

    def _with_headers(self, bodies: Sequence[bytes], reference: int) -> list[Submit]:
        if len(bodies) == 1:
            return [Submit(build_udh(self.elements) + bodies[0])]
        return [
            Submit(build_udh((_number(self.rules.join, reference, len(bodies), number), *self.elements)) + body)
            for number, body in enumerate(bodies, 1)
        ]

    def _with_tlvs(self, bodies: Sequence[bytes], reference: int) -> list[Submit]:
        ports = port_tlvs(self.ports)
        if len(bodies) == 1:
            return [Submit(bodies[0], ports)]
        if self.rules.join is Join.PAYLOAD:
            return [Submit(b"", ((MESSAGE_PAYLOAD, b"".join(bodies)), *ports))]
        return [
            Submit(body, (*sar_tlvs(Segment(reference & 0xFFFF, len(bodies), number)), *ports))
            for number, body in enumerate(bodies, 1)
        ]


def _number(join: Join, reference: int, total: int, number: int) -> Element:
    """The element that says which part this is.

    Of SAR the larger one is reckoned with: its reference has 16 bits, which the carrier may keep over the air.
    """
    if join in (Join.UDH_16, Join.SAR):
        return CONCATENATED_16, (reference & 0xFFFF).to_bytes(2, "big") + bytes([total, number])
    return CONCATENATED_8, bytes([reference & 0xFF, total, number])
