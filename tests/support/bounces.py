"""The corpus of bounces: samples by family, in tests/support/bounces/*.txt, in shapes of the field, with words of ours.

A sample begins with "=== name". Then come expectations: "want ADDRESS KIND STATUS" for each recipient, "-" for none;
"reply TEXT", how the reply of the last one begins; "id TEXT", if it is not that of @msg, "-" for none; "charset NAME".
Then, behind a line "---", the message, in which a line of its own stands for

    @report     a Content-Type of multipart/report for delivery reports; @arf for feedback reports, @mixed
    @part TYPE  the next part; @end after the last
    @msg        the message that came back, @head its header

To, Date and a Message-ID are added to the header.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("bounces")
ORIGINAL_ID = "<m1@shop.example.org>"
_HEAD = f"""From: Shop <news@shop.example.org>
To: Bob <bob@example.net>
Subject: Your order 1042
Message-ID: {ORIGINAL_ID}
Date: Mon, 2 Nov 2026 09:00:00 +0000"""
_TYPES = {
    "@report": 'Content-Type: multipart/report; report-type=delivery-status;\n\tboundary="b-1"',
    "@arf": 'Content-Type: multipart/report; report-type=feedback-report;\n\tboundary="b-1"',
    "@mixed": 'Content-Type: multipart/mixed; boundary="b-1"',
}


class Want(NamedTuple):
    """One row that must come out. None is what must not be there."""

    recipient: str | None
    kind: str
    status: str | None


class Sample(NamedTuple):
    """One message and what it says. reply: the beginning, or None if it does not matter."""

    family: str
    name: str
    content: bytes
    want: tuple[Want, ...]
    reply: str | None
    original_message_id: str | None


@cache
def samples() -> tuple[Sample, ...]:
    return tuple(sample for file in sorted(FOLDER.glob("*.txt")) for sample in _read(file))


def _read(file: Path) -> Iterator[Sample]:
    for text in re.split(r"^=== ", file.read_text(), flags=re.MULTILINE)[1:]:
        head, _, message = text.partition("\n---\n")
        name, *lines = head.split("\n")
        rows = [line.split(" ", 1) for line in lines]
        told = {key: value for key, value in rows if key != "want"}
        content = _built(message.rstrip("\n") + "\n").encode(told.get("charset", "utf-8"))
        shown = "@msg" in message or "@head" in message
        original = told.get("id", ORIGINAL_ID if shown else "-")
        wanted = [[None if word == "-" else word for word in value.split()] for key, value in rows if key == "want"]
        want = tuple(Want(recipient, kind or "", status) for recipient, kind, status in wanted)
        assert want, f"{file.name}: {name} expects nothing"
        yield Sample(
            file.stem,
            name,
            content.replace(b"\n", b"\r\n"),
            want,
            told.get("reply"),
            None if original == "-" else original,
        )


def _built(message: str) -> str:
    header, _, body = message.partition("\n\n")
    header += "\nTo: <return@shop.example.org>\nDate: Mon, 2 Nov 2026 09:05:00 +0000\nMessage-ID: <r1@mx.example.net>"
    lines = []
    for line in f"{header}\nMIME-Version: 1.0\n\n{body}".split("\n"):
        word, _, rest = line.partition(" ")
        if line in _TYPES:
            lines.append(_TYPES[line])
        elif word == "@part":
            lines += ["", "--b-1", f"Content-Type: {rest}"]
        elif line == "@end":
            lines += ["", "--b-1--"]
        elif line in ("@msg", "@head"):
            lines.append(_HEAD + ("\n\nThank you for your order.\nsupport@shop.example.org" if line == "@msg" else ""))
        else:
            lines.append(line)
    return "\n".join(lines)
