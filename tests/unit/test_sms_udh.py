"""User data headers and SAR TLVs: what is read of them, and what of those that do not add up."""

import pytest

from engine.protocol.sms_alphabets import Tables
from engine.protocol.sms_shifts import Language
from engine.protocol.sms_udh import (
    Ports,
    Segment,
    Udh,
    build_udh,
    port_elements,
    port_tlvs,
    read_user_data,
    sar_segment,
    sar_tlvs,
    split_udh,
    table_elements,
)


@pytest.mark.parametrize(
    ("header", "segment"),
    [
        ("050003a70302", Segment(0xA7, 3, 2)),
        ("060804beef0201", Segment(0xBEEF, 2, 1)),
        ("0a0003010202" + "0003090201", Segment(9, 2, 1)),  # twice: the last one
        ("0b0003010202" + "080412340201", Segment(0x1234, 2, 1)),
        ("0b0804123402010003010202", Segment(1, 2, 2)),
        ("0a00030102020003010203", Segment(1, 2, 2)),  # the last one is none
        ("0500030102" + "03", None),  # part 3 of 2
        ("050003010200", None),
        ("050003010000", None),
        ("0400020102", None),
        ("0b7003aabbcc" + "080412340201", Segment(0x1234, 2, 1)),  # behind a SIM toolkit element
    ],
)
def test_which_part_it_is(header: str, segment: Segment | None) -> None:
    udh, body = split_udh(bytes.fromhex(header) + b"body")
    assert (udh.segment, udh.broken, body) == (segment, False, b"body")


def test_ports_and_tables() -> None:
    udh, _ = split_udh(bytes.fromhex("0f" + "04021020" + "25010124010d" + "050440018000"[:-2]))
    assert udh.broken
    udh, body = split_udh(bytes.fromhex("10" + "04021020" + "250101" + "24010d" + "050440018000") + b"x")
    assert udh.ports == Ports(destination=0x4001, source=0x8000)
    assert udh.tables == Tables(Language.TURKISH, Language.URDU)
    assert (udh.segment, body) == (None, b"x")
    assert split_udh(bytes.fromhex("0404021020"))[0].ports == Ports(destination=0x10, source=0x20)


def test_a_language_nobody_knows_is_the_default() -> None:
    assert Udh(((0x25, b"\x0e"), (0x24, b"\xff"))).tables == Tables()
    assert Udh(((0x25, b"\x01"), (0x25, b"\x0e"))).tables == Tables(Language.TURKISH)


@pytest.mark.parametrize(
    ("data", "elements", "body"),
    [
        ("", (), ""),
        ("05000301", (), "05000301"),  # longer than the message: no header, nothing hidden
        ("ff", (), "ff"),
        ("06000301020100" + "6869", ((0, b"\1\2\1"),), "6869"),  # half an element behind it
        ("0500040102016869", (), "6869"),  # an element that leads out of the header
    ],
)
def test_what_can_be_read_of_a_broken_header_is_kept(
    data: str, elements: tuple[tuple[int, bytes], ...], body: str
) -> None:
    udh, rest = split_udh(bytes.fromhex(data))
    assert (udh.elements, udh.broken, rest.hex()) == (elements, True, body)


def test_an_empty_header_is_whole() -> None:
    assert split_udh(b"\0hi") == (Udh(), b"hi")


def test_what_is_built_is_read() -> None:
    tables, ports = Tables(Language.HINDI, Language.TAMIL), Ports(destination=2948, source=9200)
    udh, body = split_udh(build_udh((*table_elements(tables), *port_elements(ports))) + b"x")
    assert (udh.tables, udh.ports, udh.broken, body) == (tables, ports, False, b"x")
    assert build_udh(()) == b""


def test_sar_tlvs_of_any_honest_length() -> None:
    segment = Segment(0xBEEF, 3, 2)
    assert sar_segment(dict(sar_tlvs(segment))) == segment
    assert sar_segment({0x020C: b"\0\0\0\1", 0x020E: b"\0\2", 0x020F: b"\0\1"}) == Segment(1, 2, 1)
    assert sar_segment({0x020C: b"\1", 0x020E: b"\2"}) is None
    assert sar_segment({0x020C: b"\1", 0x020E: b"\2", 0x020F: b""}) is None
    assert sar_segment({0x020C: b"\1", 0x020E: b"\1\0", 0x020F: b"\1"}) is None, "256 parts"
    assert port_tlvs(None) == ()


def test_the_body_is_where_the_carrier_put_it() -> None:
    header = bytes.fromhex("050003a70302")
    tlvs = {0x0424: header + b"hi"}
    udh, body, segment = read_user_data(b"", 0x40, tlvs)
    assert (body, segment, udh.broken) == (b"hi", Segment(0xA7, 3, 2), False)
    assert read_user_data(b"short", 0, tlvs)[1] == b"short"
    assert read_user_data(header, 0, {})[1] == header, "no UDHI: it is text"
    both = read_user_data(header, 0x40, dict(sar_tlvs(Segment(1, 9, 9))))
    assert both[2] == Segment(0xA7, 3, 2)
