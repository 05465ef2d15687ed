"""Words by which a person stops messages, has them again, or asks what this is. Pure.

A message is such a word if nothing else is said in it: letters are folded, punctuation, spaces and emoji do not count.
Of a stop and of a cry for help, courtesies before and behind are nothing either ("Stop. Thank you", "Please stop"): to
miss a stop is worse than to obey one too many. What lifts a stop is taken at its word: "Yes please" may be about
anything. Any other word makes it an answer like others ("We have to STOP this bill").
"""

import enum
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass


class Wish(enum.Enum):
    STOP = "stop"
    START = "start"
    HELP = "help"


STOP_WORDS = (
    "STOP",
    "STOPALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "REVOKE",
    "OPTOUT",
    "СТОП",
    "ОТПИСКА",
    "ОТМЕНА",
)
START_WORDS = ("START", "UNSTOP", "YES", "СТАРТ")
HELP_WORDS = ("HELP", "INFO")

_COURTESIES = (
    "please", "pls", "plz", "kindly", "cheers", "sorry", "thx", "tnx", "ty", "thanks", "many thanks", "thanks a lot",
    "thanks so much", "thanks very much", "thankyou", "thank you", "thank u", "thank you very much",
    "thank you so much", "пожалуйста", "плиз", "извините", "спс", "спасибо", "большое спасибо", "спасибо большое",
    "огромное спасибо", "спасибо огромное", "заранее спасибо", "спасибо заранее", "благодарю", "заранее благодарю",
)  # fmt: skip
#: Kept of a character's category: letters, digits, and the marks that belong to them.
_COUNTS = frozenset("LNM")


@dataclass(frozen=True, slots=True)
class Heard:
    """word: folded. russian: it has Cyrillic letters, and is answered in Russian."""

    wish: Wish
    word: str

    @property
    def russian(self) -> bool:
        return any("\u0400" <= char <= "\u04ff" for char in self.word)


def fold_words(text: str) -> list[str]:
    """The words of a text in one case, of letters and digits only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = ("".join(char for char in word if unicodedata.category(char)[0] in _COUNTS) for word in folded.split())
    return [word for word in words if word]


def fold_word(text: str) -> str:
    """A word, or several that are as good as one ("opt out", "OPT-OUT"), for comparison; "" if it has no letter."""
    return "".join(fold_words(text))


class Words:
    """What is listened for: the common words, and an account's own. What is given twice stops before it starts."""

    def __init__(self, stop: Collection[str] = (), start: Collection[str] = ()) -> None:
        lists = ((Wish.HELP, HELP_WORDS), (Wish.START, (*START_WORDS, *start)), (Wish.STOP, (*STOP_WORDS, *stop)))
        self._wishes = {fold_word(word): wish for wish, words in lists for word in words}

    def hear(self, text: str) -> Heard | None:
        """What a whole message asks for; None: it is none of these."""
        if len(text) > _LONGEST_TEXT:
            return None
        words = fold_words(text)
        if heard := self._one(words):
            return heard
        heard = self._one(_without_courtesies(words))
        return heard if heard and heard.wish is not Wish.START else None

    def _one(self, words: Sequence[str]) -> Heard | None:
        """The word that these are: "opt out" is one, and "stop stop stop" says nothing more than "stop"."""
        if len(set(words)) == 1:
            words = words[:1]
        word = "".join(words)
        wish = self._wishes.get(word)
        return Heard(wish, word) if wish else None


#: No word with all its courtesies is as long; what is longer is not looked at.
_LONGEST_TEXT = 400
_PHRASES = frozenset(tuple(phrase.split()) for phrase in _COURTESIES)
#: The longest phrase first, so that nothing is left of one.
_LENGTHS = range(max(map(len, _PHRASES)), 0, -1)


def _without_courtesies(words: list[str]) -> list[str]:
    """What is left when those before and behind are taken away."""
    left = words
    while left:
        if before := next((n for n in _LENGTHS if tuple(left[:n]) in _PHRASES), 0):
            left = left[before:]
        elif behind := next((n for n in _LENGTHS if tuple(left[-n:]) in _PHRASES), 0):
            left = left[:-behind]
        else:
            break
    return left
