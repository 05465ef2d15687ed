"""Ids of messages, when submit_sm_resp and the receipt write the same number differently.

Some SMSCs answer 0A1B and send a receipt for 2587, or the reverse, or pad with zeros, or change the case. No setting
is needed: an id is stored under all its forms when the response comes, and a receipt is looked up by those of its own
that keep the base. Never by the others: two changes of base make relatives of ids that have nothing in common (10, read
as hexadecimal, is 16 in decimal; 22, read as decimal, is 16 in hexadecimal).

Should several messages answer to one receipt, `Habit` says which to believe. Pure.
"""

import enum
from collections import Counter, deque
from collections.abc import Collection
from typing import Final


class Form(enum.IntEnum):
    """How a form differs from the id; in order of trust."""

    EXACT = 0
    FOLDED = 1  #: in lower case
    STRIPPED = 2  #: folded, without leading zeros
    DECIMAL = 3  #: read as hexadecimal, written as decimal
    HEXADECIMAL = 4  #: read as decimal, written as hexadecimal

    @property
    def changes_base(self) -> bool:
        return self >= Form.DECIMAL


#: message_id has at most 64 octets and a NUL. A longer one, out of a text, is taken for no number: converting it takes
#: quadratic time, and Python refuses beyond 4,300 digits.
_LONGEST_NUMBER: Final = 64
#: As many digits as the longest hexadecimal one has in decimal.
_LONGEST_DECIMAL: Final = 78
_DECIMAL_DIGITS: Final = frozenset("0123456789")
_HEX_DIGITS: Final = frozenset("0123456789abcdef")


def forms(id: str) -> tuple[tuple[Form, str], ...]:
    """All forms of the id in a submit_sm_resp, to store it under: exact first, each text once."""
    found = _same_base(id)
    folded = id.lower()
    if folded and len(folded) <= _LONGEST_NUMBER and _HEX_DIGITS.issuperset(folded):
        found.setdefault(str(int(folded, 16)), Form.DECIMAL)
        if _DECIMAL_DIGITS.issuperset(folded):
            found.setdefault(f"{int(folded):x}", Form.HEXADECIMAL)
    return tuple((form, text) for text, form in found.items())


def lookups(id: str) -> tuple[str, ...]:
    """The forms of the id in a receipt to look for among what `forms` gave, exact first."""
    return tuple(_same_base(id))


def stored_as(id: str) -> str:
    """The one text to store an id under, if it is looked for under all of `looked_up_as`."""
    folded = id.lower()
    stripped = folded.lstrip("0") or folded[:1]
    return id if stripped == id else stripped  # the same object: there are many


def looked_up_as(id: str) -> tuple[str, ...]:
    """What the id that a receipt means may be stored as: `form_of` says for sure.

    The other way round than `forms`, and the same: instead of every form of each id, one is kept, and the id of a
    receipt is read in both bases.
    """
    own = stored_as(id)
    if len(own) > _LONGEST_DECIMAL or not _HEX_DIGITS.issuperset(own) or not own:
        return (own,)
    if not _DECIMAL_DIGITS.issuperset(own):
        return own, str(int(own, 16))
    return tuple(dict.fromkeys((own, f"{int(own):x}", str(int(own, 16)))))


def form_of(stored: str, told: str) -> Form | None:
    """The form of the id in a submit_sm_resp by which a receipt means it; None: it means another."""
    if stored == told:
        return Form.EXACT
    wanted = _same_base(told)
    return next((form for form, text in forms(stored) if text in wanted), None)


def _same_base(id: str) -> dict[str, Form]:
    found = {id: Form.EXACT}
    folded = id.lower()
    found.setdefault(folded, Form.FOLDED)
    found.setdefault(folded.lstrip("0") or folded[:1], Form.STRIPPED)
    return found


class Habit:
    """Which form of the ids it answered a carrier's receipts have had lately.

    guesses: how often several forms were possible and one had to be believed, for a metric.
    """

    __slots__ = ("_changed", "_recent", "guesses")

    def __init__(self, remember: int = 64) -> None:
        self._recent: deque[Form] = deque(maxlen=remember)
        self._changed = 0  #: of those, in another base than the response
        self.guesses = 0

    def expects(self, form: Form) -> bool:
        """This form has been seen lately, or nothing has."""
        return not self._recent or form in self._recent

    @property
    def changes_base(self) -> bool:
        """Lately a receipt had its id in another base."""
        return self._changed > 0

    @property
    def steady(self) -> bool:
        """Lately every receipt had its id in the base of the response, or every one in another."""
        return bool(self._recent) and self._changed in (0, len(self._recent))

    def choose(self, found: Collection[Form]) -> Form:
        """Of the forms, one or more, by which a receipt matched messages: the one to believe.

        The only one teaches the habit. Of several it is the most usual, then the most trusted one; that is a guess,
        and teaches nothing, or the first wrong one would confirm itself.
        """
        forms = set(found)
        if len(forms) == 1:
            [chosen] = forms
            if len(self._recent) == self._recent.maxlen:
                self._changed -= self._recent[0].changes_base
            self._recent.append(chosen)
            self._changed += chosen.changes_base
            return chosen
        seen = Counter(self._recent)
        self.guesses += 1
        return min(forms, key=lambda form: (-seen[form], form))
