"""Texts as small numbers, for the packed table: destinations, tenants, batches, nodes. And texts as file names."""

import threading
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final

from engine.message.channels import channel_of

#: Where the folders of destinations lie.
HOMES: Final = ("mail", "sms")
#: What a file name may hold as it is. No upper case: a file system may not tell it from lower case.
_SAFE: Final = "abcdefghijklmnopqrstuvwxyz0123456789-_."
_LONGEST_NAME: Final = 200
#: Texts that are worth a look through the table for those that nobody uses any more.
_MANY: Final = 10_000


class Names:
    """A text's number and back. 0 is the empty text; numbers of texts that nobody uses any more are used again.

    In any thread: the loop asks for numbers while segments are loaded.
    """

    def __init__(self) -> None:
        self.kept = 0  #: how many there were after the last `keep`
        self._texts: list[str] = [""]
        self._numbers: dict[str, int] = {"": 0}
        self._free: list[int] = []
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, text: str) -> int:
        """Its number, a new one if it has none."""
        number = self._numbers.get(text)
        return self._new_number(text) if number is None else number

    def find(self, text: str) -> int | None:
        return self._numbers.get(text)

    def text(self, number: int) -> str:
        return self._texts[number]

    def keep(self, used: Iterable[int]) -> None:
        """Forget all but these."""
        kept = {0, *used}
        with self._changing:
            for text, number in list(self._numbers.items()):
                if number not in kept:
                    del self._numbers[text]
                    self._texts[number] = ""
                    self._free.append(number)
            self.kept = len(self._numbers)

    def _new_number(self, text: str) -> int:
        with self._changing:
            number = self._numbers.get(text)  # another thread may have been quicker
            if number is None:
                if self._free:
                    number = self._free.pop()
                    self._texts[number] = text
                else:
                    number = len(self._texts)
                    self._texts.append(text)
                self._numbers[text] = number
            return number


def forget_unused(texts: Mapping[str, Names], used: Callable[[str], Iterable[int]]) -> None:
    """Forget the texts that nobody uses, where many have gathered since the last time. used: numbers, by column."""
    for name, own in texts.items():
        if len(own) > max(_MANY, 2 * own.kept):
            own.keep(used(name))


def folder_of(destination: str) -> Path:
    """Where a destination's segments go, below the spool: mail/example.org, mail/box%3aexample.org, sms/alpha,
    sms/account%3ashop.

    A carrier's name has no colon, so it is never taken for an account.
    """
    channel, name = channel_of(destination)
    if channel in ("mail", "box"):
        return Path(HOMES[0], folder_name(destination))
    return Path(HOMES[1], folder_name(name if channel == "carrier" else destination))


def folder_name(destination: str) -> str:
    """A destination as the name of a folder: what is not a plain domain name is percent-encoded, never a path.

    A name that would be too long for a file system ends in a hash of all of it; the index says whose it is.
    """
    name = "".join(chr(byte) if chr(byte) in _SAFE else f"%{byte:02x}" for byte in destination.encode())
    if name.startswith("."):
        name = f"%2e{name[1:]}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}={blake2b(destination.encode(), digest_size=8).hexdigest()}"
    return name
