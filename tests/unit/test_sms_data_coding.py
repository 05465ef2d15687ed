"""data_coding and octets to text: what labels mean, and when octets overrule them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.sms_alphabets import Fault
from engine.protocol.sms_data_coding import Charset, charset_of, decode, is_flash


@pytest.mark.parametrize(
    ("data_coding", "charset", "flash"),
    [
        (0x00, Charset.DEFAULT, False),
        (0x01, Charset.ASCII, False),
        (0x02, Charset.BINARY, False),
        (0x03, Charset.LATIN1, False),
        (0x04, Charset.BINARY, False),
        (0x08, Charset.UCS2, False),
        (0x09, Charset.BINARY, False),
        (0x10, Charset.GSM, True),
        (0x11, Charset.GSM, False),
        (0x14, Charset.BINARY, True),
        (0x18, Charset.UCS2, True),
        (0x19, Charset.UCS2, False),
        (0x28, Charset.BINARY, False),  # compressed
        (0x50, Charset.GSM, True),
        (0x80, Charset.BINARY, False),
        (0xC0, Charset.GSM, False),
        (0xD8, Charset.GSM, False),
        (0xE0, Charset.UCS2, False),
        (0xF0, Charset.GSM, True),
        (0xF1, Charset.GSM, False),
        (0xF4, Charset.BINARY, True),
        (0xF5, Charset.BINARY, False),
    ],
)
def test_what_the_numbers_mean(data_coding: int, charset: Charset, flash: bool) -> None:
    assert (charset_of(data_coding), is_flash(data_coding)) == (charset, flash)


@pytest.mark.parametrize(
    ("data", "data_coding", "text", "faults"),
    [
        (b"Hi @", 0, "Hi ¡", Fault.NONE),
        ("Grüße".encode(), 0, "Grüße", Fault.NONE),
        ("Grüße".encode(), 1, "Grüße", Fault.NONE),
        ("Grüße".encode("latin-1"), 0, "Grüße", Fault.HIGH_BIT),
        (b"\xef\xbb\xbfhi", 0, "hi", Fault.NONE),
        (b"\xfe\xff\0h\0i", 0, "hi", Fault.NONE),
        (b"\xff\xfeh\0i\0", 8, "hi", Fault.NONE),
        (b"\xfe\xff\0h\0i", 8, "hi", Fault.NONE),
        (b"\0h\0i\0", 8, "hi", Fault.ODD_OCTET),
        (b"\0h\xd8\x3d", 8, "h\ufffd", Fault.SURROGATE),
        (b"\xd8\x3d\0h", 8, "\ufffdh", Fault.SURROGATE),
        (b"\xdc\x3d\0h\0", 8, "\ufffdh", Fault.SURROGATE | Fault.ODD_OCTET),
        (b"caf\xe9", 3, "café", Fault.NONE),
        (b"\xc3\xa9", 3, "Ã©", Fault.NONE),
        (b"\xbf\xe0\xd8", 6, "При", Fault.NONE),
        (b"\x82\xb1\x82", 5, "こ\ufffd", Fault.UNDEFINED),
        (b"\x1be", 0xF0, "€", Fault.NONE),
    ],
)
def test_octets_and_label_together(data: bytes, data_coding: int, text: str, faults: Fault) -> None:
    decoded = decode(data, data_coding)
    assert (decoded.text, decoded.faults) == (text, faults)


def test_the_carrier_says_what_0_is() -> None:
    assert decode(b"caf\xe9 @", 0, default=Charset.LATIN1).text == "café @"
    assert decode(b"\0h", 0, default=Charset.UCS2).text == "h"
    assert decode(b"\0\1", 0, default=Charset.BINARY).text is None
    assert decode(b"caf\xe9 @", 0xF0, default=Charset.LATIN1).text == "café ¡", "the class names the GSM alphabet"


def test_binary_is_no_text() -> None:
    assert decode(b"\xfe\xffab", 4).text is None


@given(st.text())
def test_ucs2_is_pythons_utf16(text: str) -> None:
    assert decode(b"\xfe\xff" + text.encode("utf-16-be"), 8).text == text
    assert decode(b"\xff\xfe" + text.encode("utf-16-le"), 8).text == text


@given(st.lists(st.sampled_from([0xD83D, 0xDE00, 0x41, 0x20AC]), max_size=8))
def test_each_half_pair_is_one_replacement_and_nothing_else_is_lost(units: list[int]) -> None:
    data = b"".join(unit.to_bytes(2, "big") for unit in units)
    halves = data.decode("utf-16-be", "surrogatepass")
    expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in halves)
    decoded = decode(data, 8)
    assert decoded.text == expected
    assert bool(decoded.faults & Fault.SURROGATE) == ("\ufffd" in expected)
