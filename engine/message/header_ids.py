"""Message-IDs in a header: its own, and those of what it answers (RFC 5322 3.6.4). Without their <>.

Pure; linear in the size of the header.
"""

import re

#: What stands between < and >: any bytes but those that cannot be there. The field is bounded by its line of 998.
_ID = re.compile(rb"<([!-;=?-\xff]{1,990})>")
_OWN = re.compile(rb"\r\nmessage-id[ \t]*:[ \t]*(?:\r\n[ \t]+)?<([!-;=?-\xff]{1,990})>", re.I)
_ANSWERED = re.compile(rb"\r\n(in-reply-to|references)[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.I)
_MOST_ANSWERED, _MOST_BYTES = 50, 256 << 10


def message_id_of(content: bytes) -> str:
    """The Message-ID of a message; "": it has none that can be one. content: from its header on, framed by CRLF."""
    head = _header(content)
    match = _OWN.search(head)
    return match[1].decode("utf-8", "replace") if match else ""


def answered_by(content: bytes) -> list[str]:
    """What a message says it answers, the likeliest first: In-Reply-To, then References from the last one back.

    content: as of `message_id_of`; lines may end in LF alone.
    """
    head = _header(content[:_MOST_BYTES].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    direct: list[bytes] = []
    before: list[bytes] = []
    for name, value in _ANSWERED.findall(head):
        (direct if name.lower() == b"in-reply-to" else before).extend(_ID.findall(value))
    ids = dict.fromkeys([*direct, *reversed(before)])
    return [each.decode("utf-8", "replace") for each in list(ids)[:_MOST_ANSWERED]]


def _header(content: bytes) -> bytes:
    """With a line end in front, so that every field has one."""
    if content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    return b"\r\n" + (content[: end + 2] if end >= 0 else content)
