"""The tables of GSM text: the default alphabet, its extension, and the national ones (3GPP TS 23.038 6.2.1, annex A).

A *locking* table replaces the default alphabet for a whole text, a *single shift* table the extension, whose characters
follow an escape. Both are chosen in the user data header, by the language's number.

The tables are written as what differs: Turkish and Portuguese as changes to the default alphabet; those of India, which
have the letters of a Unicode block in the block's order, as the block and what is missing in it; Urdu, whose places are
the same, as the list of its letters.
"""

import enum

ESCAPE = "\x1b"
#: Not assigned. It is the character that `codecs.charmap_decode` takes for that.
HOLE = "\ufffe"


class Language(enum.IntEnum):
    """National language identifiers (TS 23.038 6.2.1.2.4). The value is what an element of the header carries."""

    DEFAULT = 0
    TURKISH = 1
    SPANISH = 2  #: has a single shift table only
    PORTUGUESE = 3
    BENGALI = 4  #: and Assamese
    GUJARATI = 5
    HINDI = 6
    KANNADA = 7
    MALAYALAM = 8
    ORIYA = 9
    PUNJABI = 10
    TAMIL = 11
    TELUGU = 12
    URDU = 13


_ISO_639 = ("tr", "es", "pt", "bn", "gu", "hi", "kn", "ml", "or", "pa", "ta", "te", "ur")
#: By the codes of ISO 639, as settings and commands name them.
LANGUAGES = dict(zip(_ISO_639, list(Language)[1:], strict=True))

_DEFAULT = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
_EXTENSION = "14^ 28{ 29} 2F\\ 3C[ 3D~ 3E] 40| 65€"

# "_" stands for a character of the script; what is no letter has the same place in all of them.
_INDIA = (
    "__________\n__\r_____________\x1b____ !______)(__,_._0123456789:;___?"
    + "_" * 32
    + "_abcdefghijklmnopqrstuvwxyz_____"
)
_INDIA_EXTENSION = (
    _EXTENSION + " 00@ 01£ 02$ 03¥ 04¿ 05\" 06¤ 07% 08& 09' 0B* 0C+ 0E- 0F/ 10< 11= 12> 13¡ 15¡ 16_ 17# 18* "
    "41A 42B 43C 44D 45E 46F 47G 48H 49I 4AJ 4BK 4CL 4DM 4EN 4FO 50P 51Q 52R 53S 54T 55U 56V 57W 58X 59Y 5AZ"
)
#: Where the characters of the script go in such an extension, in this order.
_INDIA_PLACES = [code for code in range(0x19, 0x40) if code not in (0x1B, 0x28, 0x29, 0x2F, 0x3C, 0x3D, 0x3E)]


def _entries(table: str) -> dict[int, str]:
    """Of "14^ 28{": the characters by their codes."""
    return {int(entry[:2], 16): entry[2:] for entry in table.split(" ")}


def _series(codes: str) -> list[str]:
    """Of "964-965 . 9DF": the characters of these code points and ranges; a dot is a hole."""
    found: list[str] = []
    for item in codes.split():
        first, _, last = item.partition("-")
        found += [HOLE] if item == "." else map(chr, range(int(first, 16), int(last or first, 16) + 1))
    return found


def _changed(changes: str) -> str:
    """The default alphabet with these codes changed."""
    changed = _entries(changes)
    return "".join(changed.get(code, char) for code, char in enumerate(_DEFAULT))


def _letters(characters: list[str]) -> str:
    """The Indian table with these characters in its places."""
    left = iter(characters)
    return "".join(next(left) if char == "_" else char for char in _INDIA)


def _block(first: int, missing: str, others: str) -> str:
    """A table with the letters of the Unicode block that begins at `first`. missing, others: offsets in it."""
    holes = bytes.fromhex(missing)
    in_order = [*range(0x01, 0x04), *range(0x05, 0x3A), *range(0x3C, 0x4E), *bytes.fromhex(others)]
    return _letters([HOLE if offset in holes else chr(first + offset) for offset in in_order])


_URDU = _series(
    "627 622 628 67B 680 67E 6A6 62A 6C2 67F 679 67D 67A 67C 62B 62C 681 684 683 685-687 62D-62F 68C 688-68A 68F 68D "
    "630-631 691 693 699 632 696 698 69A 633-639 641-642 6A9-6AB 6AF 6B3 6B1 644-646 6BA-6BC 648 6C4 6D5 6C1 6BE 621 "
    "6CC 6D0 6D2 64D 650 64F 657 654 655 651 653 656 670"
)

#: By language: 128 characters. A language without a table of its own has the default alphabet.
LOCKING = (
    _DEFAULT,
    _changed("04€ 07ı 0BĞ 0Cğ 1CŞ 1Dş 40İ 60ç"),
    _DEFAULT,
    _changed(
        "04ê 06ú 07í 08ó 09ç 0BÔ 0Cô 0EÁ 0Fá 12ª 13Ç 14À 15∞ 16^ 17\\ 18€ 19Ó 1A| 1CÂ 1Dâ 1EÊ 24º 40Í 5BÃ 5CÕ 5DÚ 60~ "
        "7Bã 7Cõ 7D`"
    ),
    _block(0x980, "0D 0E 11 12 29 31 33 34 35 45 46 49 4A", "4E 57 5C 5D 70 71"),
    _block(0xA80, "0E 12 29 31 34 46 4A", "50 60 61 62 63 71"),
    _block(0x900, "", "50 72 7B 7C 7E 7F"),
    _block(0xC80, "01 0D 11 29 34 45 49", "55 56 60 61 62 63"),
    _block(0xD00, "01 0D 11 29 3C 45 49", "57 60 61 62 63 79"),
    _block(0xB00, "0D 0E 11 12 29 31 34 45 46 49 4A", "56 57 60 61 62 63"),
    _block(0xA00, "0B 0C 0D 0E 11 12 29 31 34 37 3D 43 44 45 46 49 4A", "51 70 71 72 73 74"),
    _block(
        0xB80,
        "01 0B 0C 0D 11 16 17 18 1B 1D 20 21 22 25 26 27 2B 2C 2D 3C 3D 43 44 45 49",
        "50 57 70 71 72 79",
    ),
    _block(0xC00, "0D 11 29 34 3C 45 49", "55 56 60 61 62 63"),
    _letters(_URDU),
)


def _single(entries: str = "", script: str = "") -> str:
    """A single shift table, of changes to the extension or of the characters of a script."""
    table = _entries(_INDIA_EXTENSION if script else f"{_EXTENSION} {entries}".rstrip())
    # The page break of the extension is the one character that a list parted by spaces cannot show.
    table |= {0x0A: "\f"} | dict(zip(_INDIA_PLACES, _series(script), strict=False))
    return "".join(table.get(code, HOLE) for code in range(128))


#: By language: what the 128 codes mean after an escape.
SINGLE = (
    _single(),
    _single("47Ğ 49İ 53Ş 63ç 67ğ 69ı 73ş"),
    _single("09ç 41Á 49Í 4FÓ 55Ú 61á 69í 6Fó 75ú"),
    _single(
        "05ê 09ç 0BÔ 0Cô 0EÁ 0Fá 12Φ 13Γ 15Ω 16Π 17Ψ 18Σ 19Θ 1FÊ 41À 49Í 4FÓ 55Ú 5BÃ 5CÕ 61Â 69í 6Fó 75ú 7Bã 7Cõ 7Fâ"
    ),
    _single(script="9E6-9EF 9DF-9E3 9F2-9FA"),
    _single(script="964-965 AE6-AEF"),
    _single(script="964-96F 951-954 958-963 970-971"),
    _single(script="964-965 CE6-CEF CDE CF1-CF2"),
    _single(script="964-965 D66-D75 D7A-D7F"),
    _single(script="964-965 B66-B6F B5C-B5D B5F B70-B71"),
    _single(script="964-965 A66-A6F A59-A5C A5E A75"),
    _single(script="964-965 BE6-BEF BF3-BF8 BFA"),
    _single(script=". . C66-C6F C58-C59 C78-C7F"),
    _single(script="600-601 6F0-6F9 60C-614 61B 61F 640 652 658 66B-66C 672-673 6CD 6D4"),
)
