"""Which numbers a carrier has submits for whose ids are not known yet.

While there are none of a number, every id that a receipt about it may mean is known. Pure.
"""

from typing import Final

#: Numbers at a carrier with a submit that was never answered: it may have been taken under an id that nobody knows.
_MOST_LOST: Final = 10_000
#: So many last digits, as numbers of receipts are compared (feedback/matching.py).
_DIGITS: Final = 8


class Underway:
    """See above."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._lost: dict[tuple[str, str], None] = {}

    def begun(self, carrier: str, number: str) -> None:
        """Parts of a message are about to be submitted."""
        key = carrier, number[-_DIGITS:]
        self._counts[key] = self._counts.get(key, 0) + 1

    def ended(self, carrier: str, number: str, answered: bool) -> None:
        """All of them were answered, and who matches receipts hears of the ids in this turn; or not all."""
        key = carrier, number[-_DIGITS:]
        left = self._counts.pop(key) - 1
        if left:
            self._counts[key] = left
        if not answered:
            self._lost.pop(key, None)
            self._lost[key] = None
            if len(self._lost) > _MOST_LOST:
                del self._lost[next(iter(self._lost))]

    def any(self, carrier: str, number: str) -> bool:
        """Whether a receipt about this number may be about one of them."""
        key = carrier, number[-_DIGITS:]
        return key in self._counts or key in self._lost
