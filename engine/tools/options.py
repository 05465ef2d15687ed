"""Options of a tool as its command line has them, read so that all mistakes are told at once."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from engine.base.errors import ConfigError, UsageError

_T = TypeVar("_T")


class Reading:
    """Some options. `problems`: what is wrong with them so far."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def all(self, parse: Callable[[str], _T], texts: Iterable[str]) -> list[_T]:
        """What `parse` makes of each; those it raises ConfigError or ValueError for are left out."""
        out = []
        for text in texts:
            try:
                out.append(parse(text))
            except ConfigError as error:
                self.problems.extend(error.problems)
            except ValueError as error:
                self.problems.append(str(error))
        return out

    def one(self, parse: Callable[[str], _T], text: str | None, default: _T) -> _T:
        """The same of one that may be missing."""
        found = self.all(parse, [text] if text else [])
        return found[0] if found else default

    def above_zero(self, counts: dict[str, int]) -> None:
        """Numbers by the option's name."""
        self.problems += [f"{name}: {number} is not above 0" for name, number in counts.items() if number < 1]

    def check(self) -> None:
        """Raises UsageError with all that was wrong."""
        if self.problems:
            raise UsageError(self.problems)
