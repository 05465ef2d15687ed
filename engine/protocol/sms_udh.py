"""The user data header of an SMS, and the TLVs that say the same: parts, ports, national tables.

Reading is total (P1): a header that does not add up is told by `Udh.broken`, and what can be read of it is kept. Where
an element stands twice, or two say the same in different ways, the last one holds (TS 23.040 9.2.3.24).
Sources: 3GPP TS 23.040 9.2.3.24; SMPP 3.4 5.3.2.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from engine.protocol.sms_alphabets import DEFAULT_TABLES, Tables
from engine.protocol.sms_shifts import Language

#: The bit of esm_class that says that a message begins with a user data header.
UDHI = 0x40

CONCATENATED_8 = 0x00
PORTS_8 = 0x04
PORTS_16 = 0x05
CONCATENATED_16 = 0x08
SINGLE_SHIFT = 0x24
LOCKING_SHIFT = 0x25

# TLV tags.
SOURCE_PORT = 0x020A
DESTINATION_PORT = 0x020B
SAR_MSG_REF_NUM = 0x020C
SAR_TOTAL_SEGMENTS = 0x020E
SAR_SEGMENT_SEQNUM = 0x020F
MESSAGE_PAYLOAD = 0x0424

Element = tuple[int, bytes]
Tlv = tuple[int, bytes]
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Segment:
    """Which part of which message: 1 <= number <= total. The reference has 8 or 16 bits."""

    reference: int
    total: int
    number: int


@dataclass(frozen=True, slots=True)
class Ports:
    """Application ports, 0..65535; those of an element of 8 bits are below 256."""

    destination: int
    source: int


@dataclass(frozen=True, slots=True)
class Udh:
    """A header read. elements: identifier and data, in order. broken: some length led out of it."""

    elements: tuple[Element, ...] = ()
    broken: bool = False

    @property
    def segment(self) -> Segment | None:
        """The part this is. An element that contradicts itself (part 3 of 2) is none."""
        return self._last(_segment)

    @property
    def ports(self) -> Ports | None:
        """The application ports this is from and for."""
        return self._last(_ports)

    @property
    def tables(self) -> Tables:
        """The national tables of the text. An unknown language has the default ones (TS 23.038 6.2.1.2.4)."""
        locking = self._last(lambda identifier, data: _language(data) if identifier == LOCKING_SHIFT else None)
        single = self._last(lambda identifier, data: _language(data) if identifier == SINGLE_SHIFT else None)
        return Tables(locking or Language.DEFAULT, single or Language.DEFAULT) if locking or single else DEFAULT_TABLES

    def _last(self, read: Callable[[int, bytes], _Found | None]) -> _Found | None:
        found = (read(*element) for element in reversed(self.elements))
        return next((value for value in found if value is not None), None)


def _segment(identifier: int, data: bytes) -> Segment | None:
    size = {CONCATENATED_8: 1, CONCATENATED_16: 2}.get(identifier)
    if size is None or len(data) != size + 2:
        return None
    return _valid_segment(int.from_bytes(data[:size], "big"), data[size], data[size + 1])


def _valid_segment(reference: int, total: int, number: int) -> Segment | None:
    return Segment(reference, total, number) if 1 <= number <= total <= 255 else None


def _ports(identifier: int, data: bytes) -> Ports | None:
    size = {PORTS_8: 1, PORTS_16: 2}.get(identifier)
    if size is None or len(data) != 2 * size:
        return None
    return Ports(int.from_bytes(data[:size], "big"), int.from_bytes(data[size:], "big"))


def _language(data: bytes) -> Language | None:
    return Language(data[0]) if len(data) == 1 and data[0] < len(Language) else None


def split_udh(data: bytes) -> tuple[Udh, bytes]:
    """The header at the start of a message with UDHI, and the body behind it.

    If the header would be longer than the message there is none: all of it is body, so that nothing is hidden.
    """
    end = 1 + data[0] if data else 1
    if end > len(data):
        return Udh(broken=True), data
    elements: list[Element] = []
    start = 1
    while start + 2 <= end:
        stop = start + 2 + data[start + 1]
        if stop > end:
            break
        elements.append((data[start], data[start + 2 : stop]))
        start = stop
    return Udh(tuple(elements), broken=start != end), data[end:]


def build_udh(elements: tuple[Element, ...]) -> bytes:
    """The header of these elements, at most 255 octets of them; nothing of none."""
    body = b"".join(bytes([identifier, len(data)]) + data for identifier, data in elements)
    return bytes([len(body)]) + body if body else b""


def table_elements(tables: Tables) -> Iterator[Element]:
    """What says which national tables a text is written in."""
    if tables.locking:
        yield LOCKING_SHIFT, bytes([tables.locking])
    if tables.single:
        yield SINGLE_SHIFT, bytes([tables.single])


def port_elements(ports: Ports | None) -> Iterator[Element]:
    """What says which ports a message is for. Always of 16 bits: what phones listen on lies above 255."""
    if ports is not None:
        yield PORTS_16, ports.destination.to_bytes(2, "big") + ports.source.to_bytes(2, "big")


def sar_segment(tlvs: Mapping[int, bytes]) -> Segment | None:
    """The part that SAR TLVs say this is. Some carriers write all three as integers of two octets, or of four."""
    values = [tlvs.get(tag, b"") for tag in (SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM)]
    if not all(1 <= len(value) <= 4 for value in values):
        return None
    return _valid_segment(*(int.from_bytes(value, "big") for value in values))


def sar_tlvs(segment: Segment) -> tuple[Tlv, ...]:
    """The three TLVs that say which part this is."""
    return (
        (SAR_MSG_REF_NUM, segment.reference.to_bytes(2, "big")),
        (SAR_TOTAL_SEGMENTS, bytes([segment.total])),
        (SAR_SEGMENT_SEQNUM, bytes([segment.number])),
    )


def port_tlvs(ports: Ports | None) -> tuple[Tlv, ...]:
    """The TLVs that say which ports a message is for."""
    if ports is None:
        return ()
    return ((SOURCE_PORT, ports.source.to_bytes(2, "big")), (DESTINATION_PORT, ports.destination.to_bytes(2, "big")))


def read_user_data(
    short_message: bytes, esm_class: int, tlvs: Mapping[int, bytes]
) -> tuple[Udh, bytes, Segment | None]:
    """Of a received message: its header, its body without it, and which part it is, if it is one.

    The body is in message_payload where short_message is empty. A header's number of a part goes before that of TLVs.
    """
    data = short_message or tlvs.get(MESSAGE_PAYLOAD, b"")
    udh, body = split_udh(data) if esm_class & UDHI else (Udh(), data)
    return udh, body, udh.segment or sar_segment(tlvs)
