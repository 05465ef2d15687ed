"""Texts as people send them, for the tests of SMS: every alphabet, emoji of all lengths, stray combining marks."""

from hypothesis import strategies as st

from engine.protocol.sms_alphabets import DEFAULT_TABLES, Tables
from engine.protocol.sms_encoded import Encoded
from engine.protocol.sms_reassembly import Assembled, Key, Piece, Reassembly
from engine.protocol.sms_shifts import ESCAPE, HOLE, LOCKING, SINGLE, Language
from engine.protocol.sms_udh import read_user_data

EMOJI = ("👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇫🇷", "🇩", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "e\u0301\u0323", "क्षि", "\r\n", "각")


def characters(tables: Tables = DEFAULT_TABLES) -> str:
    """Those that can be written in a pair of tables."""
    return "".join(sorted(set(LOCKING[tables.locking] + SINGLE[tables.single]) - {ESCAPE, HOLE}))


def texts(max_pieces: int = 200) -> st.SearchStrategy[str]:
    """A text of one alphabet, or a mixture of all."""
    alphabets = [
        st.sampled_from(characters()),
        st.sampled_from(characters(Tables(Language.TURKISH, Language.TURKISH))),
        st.sampled_from(characters(Tables(Language.HINDI, Language.HINDI))),
        st.characters(max_codepoint=0xFF),
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(EMOJI),
    ]
    one = st.sampled_from(alphabets).flatmap(lambda alphabet: st.lists(alphabet, max_size=max_pieces))
    mixed = st.lists(st.one_of(alphabets), max_size=max_pieces)
    long = st.tuples(st.one_of(alphabets), st.integers(0, max_pieces), st.lists(st.one_of(alphabets), max_size=20)).map(
        lambda drawn: [*[drawn[0]] * drawn[1], *drawn[2]]
    )
    return st.one_of(one, mixed, long).map("".join)


def received(encoded: Encoded, order: list[int] | None = None) -> Assembled:
    """A message as the other end puts it together, its submits taken in this order."""
    reassembly, out = Reassembly(), []
    for index in order or range(len(encoded.submits)):
        submit = encoded.submits[index]
        udh, body, segment = read_user_data(submit.short_message, encoded.esm_class, dict(submit.tlvs))
        piece = Piece(body, encoded.data_coding, udh.tables)
        if segment is None:
            return Assembled(Key("c", "s", "d", 0, 1), (piece,), 0)
        key = Key("c", "s", "d", segment.reference, segment.total)
        out += reassembly.add(key, segment.number, piece, now=0)
    [assembled] = out
    return assembled
