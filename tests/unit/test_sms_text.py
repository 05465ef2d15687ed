"""Texts as parts: encodings, limits, headers, and that nothing is cut that belongs together."""

import itertools
from random import Random

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import ConfigError
from engine.protocol.sms_alphabets import pack
from engine.protocol.sms_coding import codings
from engine.protocol.sms_data_coding import Charset
from engine.protocol.sms_encoded import Encoded
from engine.protocol.sms_rules import Join, TextRules
from engine.protocol.sms_shifts import Language
from engine.protocol.sms_split import clusters, split
from engine.protocol.sms_text import TextTooLong, encode_binary, encode_text
from engine.protocol.sms_udh import Ports, read_user_data, split_udh
from tests.support.sms import EMOJI, received, texts

ALL = tuple(language for language in Language if language)
rules = st.builds(
    TextRules,
    default_alphabet=st.sampled_from([Charset.GSM, Charset.LATIN1, Charset.ASCII]),
    join=st.sampled_from(Join),
    spare_octets=st.sampled_from([0, 1, 7, 40, 100]),
    languages=st.sampled_from([(), (Language.TURKISH, Language.HINDI), ALL]),
    latin1=st.booleans(),
    max_parts=st.just(255),
)


@given(st.text("abcz ^{`\n\x0c", max_size=170), rules, st.booleans())
def test_a_short_text_becomes_what_any_other_way_would_make_of_it(text: str, carrier: TextRules, flash: bool) -> None:
    """The quick way is for ASCII; a byte order mark, which is dropped, takes the same text the long way."""
    assert encode_text(text, carrier, flash=flash) == encode_text("\ufeff" + text, carrier, flash=flash)


def text_of(encoded: Encoded, **carrier: Charset) -> str | None:
    return received(encoded).decode(**carrier).text


@pytest.mark.parametrize(
    ("char", "join", "single", "part"),
    [
        ("a", Join.UDH_8, 160, 153),
        ("a", Join.UDH_16, 160, 152),
        ("a", Join.SAR, 160, 152),
        ("a", Join.PAYLOAD, 160, 153),
        ("ж", Join.UDH_8, 70, 67),
        ("ж", Join.UDH_16, 70, 66),
        ("ê", Join.UDH_8, 140, 134),
        ("ê", Join.UDH_16, 140, 133),
    ],
)
def test_the_limits_every_phone_has(char: str, join: Join, single: int, part: int) -> None:
    carrier = TextRules(join=join, latin1=True)
    alone = encode_text(char * single, carrier)
    assert (len(alone.parts), alone.units, alone.room, alone.esm_class) == (1, single, single, 0)
    more = encode_text(char * (single + 1), carrier)
    assert [piece.units for piece in more.parts] == [part, single + 1 - part]
    assert [piece.units for piece in encode_text(char * (3 * part), carrier).parts] == [part] * 3


@pytest.mark.parametrize(
    ("text", "languages", "charset", "data_coding", "header"),
    [
        ("Grüße § €", (), "gsm", 0, ""),
        ("şehir", (), "ucs-2", 8, ""),
        ("şehir", (Language.TURKISH,), "gsm", 0, "03240101"),
        ("ş" * 77, (Language.TURKISH,), "gsm", 0, "03240101"),
        ("ş" * 78, (Language.TURKISH,), "gsm", 0, "03250101"),
        ("şŞğĞıİç" * 15, (Language.TURKISH,), "gsm", 0, "03250101"),
        ("नमस्ते" * 10, (Language.TURKISH, Language.HINDI), "gsm", 0, "03250106"),
        ("नमस्ते ०" * 10, (Language.HINDI,), "gsm", 0, "06250106240106"),
        ("é", (Language.TURKISH,), "gsm", 0, ""),
        ("ж", ALL, "ucs-2", 8, ""),
        ("😀", ALL, "ucs-2", 8, ""),
    ],
)
def test_the_densest_encoding_that_has_every_character(
    text: str, languages: tuple[Language, ...], charset: str, data_coding: int, header: str
) -> None:
    encoded = encode_text(text, TextRules(languages=languages))
    assert (encoded.coding.charset, encoded.data_coding) == (charset, data_coding)
    [submit] = encoded.submits
    assert submit.short_message[: len(header) // 2].hex() == header
    assert encoded.esm_class == (0x40 if header else 0)
    assert text_of(encoded) == text


def test_national_tables_take_bits_of_the_part() -> None:
    """4 octets of header leave 155 septets, 7 leave 152; with a number, 9 leave 149."""
    assert encode_text("Ş" * 77, TextRules(languages=(Language.TURKISH,))).room == 155
    assert encode_text("Ş" * 155, TextRules(languages=(Language.TURKISH,))).room == 155
    long = encode_text("Ş" * 156, TextRules(languages=(Language.TURKISH,)))
    assert [part.units for part in long.parts] == [149, 7]
    assert long.submits[0].short_message[:9].hex() == "080003000201250101"


def test_spare_octets_leave_the_text_at_the_border_of_a_septet() -> None:
    """139 octets are 158 septets, a header of 6 octets takes 7 of them."""
    assert encode_text("a" * 158, TextRules(spare_octets=1)).room == 158
    assert encode_text("a" * 159, TextRules(spare_octets=1)).room == 151


def test_an_escape_stays_with_its_character() -> None:
    encoded = encode_text("a" * 152 + "€" + "b" * 20, TextRules())
    assert [part.units for part in encoded.parts] == [152, 22]
    assert encoded.submits[1].short_message[6:8] == b"\x1be"


@pytest.mark.parametrize("cluster", EMOJI)
def test_a_cluster_goes_whole_into_the_next_part(cluster: str) -> None:
    encoded = encode_text("ж" * 66 + cluster + "ж" * 10, TextRules())
    if len(cluster.encode("utf-16-be")) > 2:
        assert encoded.parts[0].text == "ж" * 66
        assert encoded.parts[1].text.startswith(cluster)


def test_what_no_part_has_room_for_is_cut_between_code_points() -> None:
    monster = "👩" + "\u200d👩" * 60
    encoded = encode_text("ж" + monster, TextRules())
    assert encoded.units == 1 + 2 + 3 * 60
    assert [part.units for part in encoded.parts[:-1]] == [67, 66]
    for part in encoded.parts:
        part.text.encode("utf-16-be")  # no half pair
    assert text_of(encoded) == "ж" + monster


@given(st.one_of(texts(), st.lists(st.sampled_from("🇩🇪\u0301\u200d\u0600aक\u094d\r\n👍🏽")).map("".join)))
def test_clusters_are_those_of_the_library(text: str) -> None:
    """Flags are found another way than \\X does, for its time; the result is the same."""
    assert clusters(text) == regex.findall(r"\X", text)


def test_a_row_of_flags_is_taken_pair_by_pair() -> None:
    """\\X alone would look at 5,000,000,000 flags here."""
    assert len(clusters("🇩" * 100_001)) == 50_001


@given(texts(), rules)
def test_parts_joined_are_the_text_and_none_is_over_its_limit(text: str, carrier: TextRules) -> None:
    encoded = encode_text(text, carrier, reference=0x1234)
    assert "".join(part.text for part in encoded.parts) == text.lstrip("\ufeff\ufffe")
    for part, submit in zip(encoded.parts, encoded.submits, strict=False):
        udh, body, _ = read_user_data(submit.short_message, encoded.esm_class, dict(submit.tlvs))
        assert not udh.broken
        assert part.units <= encoded.room
        assert part.units == len(body) // (2 if encoded.coding.charset is Charset.UCS2 else 1) or (
            carrier.join is Join.PAYLOAD or carrier.default_alphabet is not Charset.GSM
        )
        if carrier.join is not Join.PAYLOAD and carrier.default_alphabet is Charset.GSM:
            assert len(on_air(submit.short_message, encoded)) <= 140 - carrier.spare_octets
        assert len(submit.short_message) <= 254, "sm_length"


def on_air(short_message: bytes, encoded: Encoded) -> bytes:
    """The user data as the network carries it."""
    if encoded.coding.unit_bits != 7:
        return short_message
    body = split_udh(short_message)[1] if encoded.esm_class else short_message
    udh = short_message[: len(short_message) - len(body)]
    return udh + pack(body, -len(udh) * 8 % 7)


@given(texts(), rules)
def test_no_cluster_is_cut_that_a_part_has_room_for(text: str, carrier: TextRules) -> None:
    encoded = encode_text(text, carrier)
    text = text.lstrip("\ufeff\ufffe")
    cuts = set(itertools.accumulate(len(part.text) for part in encoded.parts[:-1]))
    place = 0
    for cluster in regex.findall(r"\X", text):
        inside = cuts & set(range(place + 1, place + len(cluster)))
        assert not inside or encoded.coding.cost(cluster) > encoded.room
        place += len(cluster)


@given(
    texts(), rules.filter(lambda carrier: carrier.default_alphabet is Charset.GSM), st.randoms(use_true_random=False)
)
def test_the_other_end_reads_the_text_in_whatever_order(text: str, carrier: TextRules, random: Random) -> None:
    encoded = encode_text(text, carrier, reference=0xABCD)
    order = list(range(len(encoded.submits)))
    random.shuffle(order)
    decoded = received(encoded, order).decode()
    assert (decoded.text, decoded.faults.value) == (text.lstrip("\ufeff\ufffe"), 0)


@given(texts(100), rules)
def test_each_character_costs_what_it_adds(text: str, carrier: TextRules) -> None:
    for coding in codings(text, carrier):
        assert coding.costs(text) == [coding.cost(char) for char in text]
        assert sum(coding.costs(text)) == coding.cost(text)


@given(texts(100))
def test_a_carrier_that_takes_latin1_for_the_default(text: str) -> None:
    """Septets are counted, since the network will carry them; what they do not have goes as UCS-2."""
    encoded = encode_text(text, TextRules(default_alphabet=Charset.LATIN1, max_parts=255))
    gsm = encode_text(text, TextRules(max_parts=255))
    if encoded.data_coding == 0:
        assert [part.units for part in encoded.parts] == [part.units for part in gsm.parts]
    else:
        assert encoded.coding.charset is Charset.UCS2
        assert gsm.coding.charset is Charset.UCS2 or not set(text) <= set(map(chr, range(256)))


def test_sar_and_payload_are_tlvs_and_leave_the_header_out() -> None:
    text = "a" * 200
    sar = encode_text(text, TextRules(join=Join.SAR, languages=ALL), reference=0x1FFFF)
    assert sar.esm_class == 0
    assert [submit.tlvs for submit in sar.submits] == [
        ((0x020C, b"\xff\xff"), (0x020E, b"\2"), (0x020F, bytes([number]))) for number in (1, 2)
    ]
    payload = encode_text(text, TextRules(join=Join.PAYLOAD))
    assert (len(payload.parts), len(payload.submits), payload.esm_class) == (2, 1, 0)
    assert payload.submits[0].short_message == b""
    assert payload.submits[0].tlvs == ((0x0424, text.encode()),)
    assert encode_text("ş", TextRules(join=Join.SAR, languages=ALL)).coding.charset is Charset.UCS2


@pytest.mark.parametrize(
    ("text", "data_coding", "body"),
    [("é", 0xF0, b"\x05"), ("ж", 0x18, b"\x04\x36"), ("ê", 0x18, b"\x00\xea")],
)
def test_flash_is_message_class_0_whatever_the_default_alphabet(text: str, data_coding: int, body: bytes) -> None:
    encoded = encode_text(text, TextRules(default_alphabet=Charset.LATIN1, latin1=True), flash=True)
    assert (encoded.data_coding, encoded.submits[0].short_message) == (data_coding, body)


def test_ports_are_in_every_part_or_in_tlvs() -> None:
    ports = Ports(destination=2948, source=9200)
    encoded = encode_binary(bytes(200), TextRules(), reference=7, ports=ports)
    assert (encoded.data_coding, encoded.esm_class, encoded.room) == (4, 0x40, 128)
    for number, submit in enumerate(encoded.submits, 1):
        udh, _, segment = read_user_data(submit.short_message, 0x40, {})
        assert udh.ports == ports
        assert segment is not None and (segment.reference, segment.number) == (7, number)
    [sar] = encode_binary(b"x", TextRules(join=Join.SAR), ports=ports).submits
    assert sar.short_message == b"x"
    assert sar.tlvs == ((0x020A, b"\x23\xf0"), (0x020B, b"\x0b\x84"))
    assert encode_text("hi", TextRules(), ports=ports).submits[0].short_message == b"\x06\x05\x04\x0b\x84\x23\xf0hi"


@given(st.binary(max_size=2000), rules)
def test_octets_are_cut_at_140_134_133_less_what_is_spared(data: bytes, carrier: TextRules) -> None:
    encoded = encode_binary(data, carrier)
    number = {Join.UDH_8: 6, Join.UDH_16: 7, Join.SAR: 7, Join.PAYLOAD: 6}[carrier.join]
    alone = 140 - carrier.spare_octets
    assert encoded.room == (alone if len(data) <= alone else alone - number)
    assert sum(part.units for part in encoded.parts) == len(data)
    assert b"".join(piece.body for piece in received(encoded).pieces if piece) == data


def test_too_many_parts_are_refused_at_once() -> None:
    carrier = TextRules(max_parts=3)
    assert len(encode_text("a" * 459, carrier).parts) == 3
    for text in ("a" * 460, "ж" * 202, "a" * 457 + "€€", "👍🏽" * 10_000_000):
        with pytest.raises(TextTooLong, match="the limit is 3"):
            encode_text(text, carrier)
    with pytest.raises(TextTooLong):
        encode_binary(bytes(403), carrier)


def test_a_cut_between_characters_can_need_one_part_more() -> None:
    """306 septets would be two parts, if the escape could be cut from its euro sign."""
    text = "a" * 152 + "€" + "a" * 152
    assert len(encode_text(text, TextRules()).parts) == 3
    with pytest.raises(TextTooLong):
        encode_text(text, TextRules(max_parts=2))


def test_marks_and_half_pairs_are_no_text() -> None:
    assert encode_text("\ufeffhi", TextRules()).submits[0].short_message == b"hi"
    assert text_of(encode_text("a\ud83d", TextRules())) == "a\ufffd"
    assert text_of(encode_text("\ud83d\ude00", TextRules())) == "😀"


def test_nothing_is_one_empty_part() -> None:
    encoded = encode_text("", TextRules())
    assert (encoded.units, [submit.short_message for submit in encoded.submits]) == (0, [b""])
    assert encode_binary(b"", TextRules()).submits[0].short_message == b""


def test_rules_out_of_range_are_told_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TextRules(default_alphabet=Charset.UCS2, spare_octets=101, max_parts=256)
    assert len(caught.value.problems) == 3


def test_a_character_dearer_than_a_part_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        split("ab", [3, 3], 2)
