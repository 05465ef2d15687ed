"""Ten million numbers in memory, each with the time it lapses, and whether one is among them.

Sorted arrays, 12 bytes an entry, and a directory by the leading bits with four bytes for every eight entries. The
numbers are hashes, so each of its cells has few, and bisect finds one among them. Nothing is ever changed: other
numbers make other arrays, in a thread, while these are asked.
"""

from bisect import bisect_left
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

_BITS: Final = 63
#: Seconds as four bytes: the year 2106. What lasts longer lasts for good.
_FOREVER: Final = 0
_MAX_UNTIL: Final = 0xFFFF_FFFF
#: `until` of an entry that is lifted: it has lapsed whatever the clock says.
LIFTED: Final = 1

Numbers: TypeAlias = npt.NDArray[np.uint64]
Untils: TypeAlias = npt.NDArray[np.uint32]


class Entries:
    """See above. numbers: sorted, each once, below 2**63. untils: unix seconds of each; 0: it never lapses."""

    def __init__(self, numbers: Numbers, untils: Untils) -> None:
        self._arrays = numbers, untils
        bits = max(0, len(numbers).bit_length() - 3)
        self._shift = _BITS - bits
        cells = np.arange(2**bits + 1, dtype=np.uint64) << np.uint64(self._shift)
        # bisect and an index cost a fifth of what they do on an array of numpy.
        self._numbers = numbers.data
        self._untils = untils.data
        self._cells = np.searchsorted(numbers, cells).astype(np.uint32).data

    @classmethod
    def none(cls) -> "Entries":
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint32))

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def nbytes(self) -> int:
        return self._numbers.nbytes + self._untils.nbytes + self._cells.nbytes

    def until(self, number: int) -> int | None:
        """When an entry lapses, 0 for never; None: it is not there."""
        cell = number >> self._shift
        end = self._cells[cell + 1]
        at = bisect_left(self._numbers, number, self._cells[cell], end)
        return self._untils[at] if at < end and self._numbers[at] == number else None

    def changed(self, numbers: Numbers, untils: Untils, now: float) -> "Entries":
        """Others, after these changes, in order; the last word on a number holds. What has lapsed is left out."""
        old_numbers, old_untils = self._arrays
        numbers = np.concatenate((old_numbers, numbers))
        untils = np.concatenate((old_untils, untils))
        order = np.argsort(numbers, kind="stable")
        numbers, untils = numbers[order], untils[order]
        keep = np.empty(len(numbers), bool)
        keep[-1:] = True
        np.not_equal(numbers[1:], numbers[:-1], out=keep[:-1])
        keep &= (untils == _FOREVER) | (untils > min(now, _MAX_UNTIL))
        return Entries(numbers[keep], untils[keep])


def as_until(until: float) -> int:
    """A time as entries have it."""
    return _FOREVER if not until or until > _MAX_UNTIL else max(LIFTED, int(until))
