"""Septets: the tables against programs that nobody here wrote, escapes, packing."""

import gsmcodecs.charmaps
import pytest
import smpplib.gsm
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.sms_alphabets import Fault, Tables, decode_septets, encode_septets, pack, unpack
from engine.protocol.sms_shifts import ESCAPE, HOLE, LANGUAGES, LOCKING, SINGLE, Language
from tests.support.sms import characters

INDIA = [language for language in Language if language >= Language.BENGALI]
#: Where gsmcodecs 1.0.0 is wrong: it reads the comma as an apostrophe, which the single shift tables have already and
#: without which these languages had no comma; Kannada DDA as a second PA; and forgets a euro sign.
MISREAD = (
    {("locking", language, 0x2C): "," for language in INDIA}
    | {("locking", Language.KANNADA, 0x24): "\N{KANNADA LETTER DDA}"}
    | {("singleShift", Language.TELUGU, 0x65): "€"}
)
pairs = st.builds(Tables, st.sampled_from(Language), st.sampled_from(Language))


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", ["locking", "singleShift"])
def test_the_tables_are_those_of_another_program(kind: str, language: Language) -> None:
    theirs = gsmcodecs.charmaps.GSMCHARMAPS[language].get(kind)
    ours = (LOCKING if kind == "locking" else SINGLE)[language]
    assert len(ours) == 128
    if theirs is None:
        assert language is Language.SPANISH and ours == LOCKING[0]
        return
    for code in set(range(128)) - {0x1B}:  # which they take for the space that a phone may show
        theirs_here = chr(theirs["decode"][code]) if code in theirs["decode"] else HOLE
        assert ours[code] == MISREAD.get((kind, language, code), theirs_here), hex(code)


def test_no_letter_stands_twice_in_a_locking_table() -> None:
    """As it does where a line of the annex is copied wrongly."""
    for table in LOCKING:
        letters = table.replace(HOLE, "")
        assert len(set(letters)) == len(letters)
        assert table[0x1B] == ESCAPE


def test_the_default_alphabet_is_smpplibs_where_that_has_it() -> None:
    theirs = smpplib.gsm.GSM_CHARACTER_TABLE
    known = [(index, char) for index, char in enumerate(theirs) if char not in "`\x1b"]
    assert len(known) == 126 + 9
    for index, char in known:
        code = bytes([index]) if index < 128 else bytes([0x1B, index - 128])
        assert encode_septets(char) == code
        assert decode_septets(code) == (char, Fault.NONE)


def test_all_138_characters_are_there_and_the_section_sign_is_one() -> None:
    assert len(characters()) == 127 + 10
    assert encode_septets("§€\f") == b"\x5f\x1b\x65\x1b\x0a"
    for absent in "`çêâ’\t\x1b":
        assert encode_septets(absent) is None


def test_languages_are_named_by_iso_639() -> None:
    assert len(LANGUAGES) == 13
    assert (LANGUAGES["tr"], LANGUAGES["pt"], LANGUAGES["ur"]) == (1, 3, 13)


@given(pairs, st.data())
def test_what_can_be_written_is_read_back(tables: Tables, data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet=characters(tables)))
    septets = encode_septets(text, tables)
    assert septets is not None and septets.isascii()
    assert decode_septets(septets, tables) == (text, Fault.NONE)


@pytest.mark.parametrize(
    ("data", "text", "faults"),
    [
        (b"\x1be", "€", Fault.NONE),
        (b"\x1bz", "z", Fault.NONE),  # not in the extension: the plain character (TS 23.038 6.2.1.1)
        (b"a\x1b\x1bb", "a b", Fault.NONE),
        (b"a\x1b", "a", Fault.LONE_ESCAPE),
        (b"\x1b\xe9", "é", Fault.HIGH_BIT),
        (b"Gr\xfc\xdfe", "Grüße", Fault.HIGH_BIT),
        (b"\x80", "\ufffd", Fault.HIGH_BIT | Fault.UNDEFINED),
        (b"", "", Fault.NONE),
    ],
)
def test_reading_is_lenient_and_says_so(data: bytes, text: str, faults: Fault) -> None:
    assert decode_septets(data) == (text, faults)


def test_a_hole_of_a_national_table_is_a_fault() -> None:
    assert decode_septets(b"\x0c", Tables(Language.TAMIL)) == ("\ufffd", Fault.UNDEFINED)


def test_packing_as_in_the_books() -> None:
    assert pack(b"hellohello").hex() == "e8329bfd4697d9ec37"
    assert unpack(bytes.fromhex("e8329bfd4697d9ec37"), 10) == b"hellohello"
    assert len(pack(bytes(160))) == 140
    assert unpack(pack(b"1234567")) == b"1234567\0", "seven free bits look like an @"
    assert unpack(pack(b"1234567"), 7) == b"1234567"


@given(st.binary(max_size=200).map(lambda data: bytes(octet & 127 for octet in data)), st.integers(0, 6))
def test_packed_septets_are_unpacked(septets: bytes, fill_bits: int) -> None:
    packed = pack(septets, fill_bits)
    assert len(packed) == -(-(len(septets) * 7 + fill_bits) // 8)
    assert unpack(packed, len(septets), fill_bits) == septets
