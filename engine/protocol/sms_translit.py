"""Typographic characters as those of the default alphabet, so that a text stays in septets; and what that would save.

By choice only: it changes what a person wrote. Letters keep their accents, which can be the difference between two
words; what has no form in the default alphabet stays as it is, with all that combines with it.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace

from engine.protocol.sms_alphabets import encode_septets
from engine.protocol.sms_encoded import Encoded
from engine.protocol.sms_rules import MAX_PARTS, TextRules
from engine.protocol.sms_split import clusters
from engine.protocol.sms_text import encode_text

_TO = {
    "'": "`´‘’‚‛‹›′ʹʼʻ",
    '"': "“”„‟«»″❝❞〝〞",
    "-": "‐‑‒–—―−⁃",
    "...": "…",
    "*": "•‣·∙◦●▪■★",
    " ": "\t",
    "\n": "\u0085\u2028\u2029\v",
    "/": "⁄∕",
    "x": "×",
    "<<": "≪",
    ">>": "≫",
    "<=": "≤",
    ">=": "≥",
    "->": "→",
    "<-": "←",
    "(c)": "©",
    "(R)": "®",
    "(TM)": "™",
    "No.": "№",
    "": "\u00ad\u200b\u200e\u200f\u2060\ufe0e\ufe0f\ufeff",
}
_TABLE = str.maketrans({char: replacement for replacement, chars in _TO.items() for char in chars})

#: Compatibility forms that say the same (fullwidth, ligatures, spaces, letters of a font). Not superscripts and
#: fractions: 10² is not 102, and 1½ is not 11/2.
_SAME = ("<wide>", "<narrow>", "<compat>", "<noBreak>", "<font>")


@dataclass(frozen=True, slots=True)
class Preview:
    """A text as it is, and as it would be. changes: from, to, how often; in order of appearance."""

    before: Encoded
    after: Encoded
    text: str
    changes: tuple[tuple[str, str, int], ...]

    @property
    def parts_saved(self) -> int:
        """Below zero: an ellipsis became three dots, and they were too many."""
        return len(self.before.parts) - len(self.after.parts)


def transliterate(text: str) -> str:
    """The text with what can be said in the default alphabet said in it."""
    return "".join(_replacement(cluster) for cluster in clusters(text))


def preview(text: str, rules: TextRules) -> Preview:
    """What transliteration would do to a text. Raises TextTooLong: even then."""
    before = encode_text(text, replace(rules, max_parts=MAX_PARTS))
    pairs = [(cluster, _replacement(cluster)) for cluster in clusters(text)]
    after = "".join(new for _, new in pairs)
    counted = Counter((old, new) for old, new in pairs if old != new)
    return Preview(before, encode_text(after, rules), after, tuple((*pair, times) for pair, times in counted.items()))


def _replacement(cluster: str) -> str:
    if encode_septets(cluster) is not None:
        return cluster
    plain = "".join(map(_plain, unicodedata.normalize("NFC", cluster)))
    return cluster if encode_septets(plain) is None else plain


def _plain(char: str) -> str:
    replaced = char.translate(_TABLE)
    if replaced != char:
        return replaced
    if unicodedata.category(char) == "Zs":
        return " "
    if unicodedata.decomposition(char).startswith(_SAME):
        return unicodedata.normalize("NFKC", char).translate(_TABLE)
    return char
