"""The messages of the load generator: all of one size, each with its own id, addresses and date."""

import random
import secrets
import time
from email.utils import formatdate
from typing import NamedTuple

from engine.tools.load_options import LoadOptions

_PROSE = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its about "
    "than into them can only other time new some could these two may first then do any like my now over such our man "
    "order invoice parcel delivery account customer address number payment price newsletter offer answer question"
)
_LINE = 72


class LoadMessage(NamedTuple):
    """A message ready to send. content: CRLF lines, dot-stuffed, without the final dot."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes


class MessageMaker:
    """Makes message number N of a run; the same number gives the same id and addresses again."""

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self.run_id = secrets.token_hex(4) if options.seed is None else f"{options.seed & 0xFFFFFFFF:08x}"
        self._text = _prose(options.size, random.Random(options.seed or 0))  # noqa: S311  text, no secrets
        self._second = -1
        self._date = ""

    def make(self, index: int) -> LoadMessage:
        options = self._options
        domain = f"d{index % options.domains}.{options.domain}" if options.domains > 1 else options.domain
        first = index * options.recipients
        recipients = tuple(f"user{first + i:07d}@{domain}" for i in range(options.recipients))
        now = int(time.time())
        if now != self._second:
            self._second, self._date = now, formatdate(now)
        load_id = f"{self.run_id}-{index:08d}"
        head = (
            f"X-Load-Id: {load_id}\r\n"
            f"From: Load Generator <{options.sender}>\r\n"
            f"To: <{recipients[0]}>\r\n"
            f"Subject: load message {index}\r\n"
            f"Date: {self._date}\r\n"
            f"Message-ID: <{load_id}@{options.ehlo}>\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=us-ascii\r\n"
            "\r\n"
        ).encode()
        room = max(0, options.size - len(head) - 2)
        body = self._text[:room]
        # Cut where no line end is split: CR without LF is not a message.
        if body.endswith(b"\r"):
            body = body[:-1] + b"."
        return LoadMessage(load_id, options.sender, recipients, head + body + b"\r\n")


def _prose(size: int, chance: random.Random) -> bytes:
    """Words in lines of at most 72 characters, `size` bytes at least; no line begins with a dot."""
    lines: list[str] = []
    line, total = "", 0
    words = _PROSE.split()
    while total < size:
        word = chance.choice(words)
        if len(line) + len(word) >= _LINE:
            lines.append(line)
            total += len(line) + 2
            line = ""
        line += (" " if line else "") + word
    return ("\r\n".join(lines) + "\r\n").encode()
