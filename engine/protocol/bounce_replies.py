"""SMTP replies and status codes inside of text: "Remote host said: 550 5.1.1 <ada@example.org> no such user".

A reply begins with its code, and ends where the text that quotes it does. Three digits alone are no reply: they must
be followed by a status, or come where a reply is announced.
"""

import re

_STATUS = re.compile(r"(?:^|[^\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_STATUS_RE = r"[245]\.\d{1,3}\.\d{1,3}"
#: A code with a status behind it, wherever it stands.
_WITH_STATUS = re.compile(rf"(?<![\d.])[45]\d\d[ -]+[#(\[]?{_STATUS_RE}\b")
#: A code that begins the text, or that the words before it announce.
_ANNOUNCED = re.compile(
    r"(?:^|\bsaid:|\bsays:|\bresponded:|\breplied:|\breply:|\breply was:|\bresponse(?: was)?:|\berror(?: was)?:|"
    r"\berror message:|\bcode:|\bfailure:|\breason:|\brejected:|\bserver:|\breturned:|\banswer:|\bmessage:|\berror is:|"
    r"\bRCPT TO:?<[^<>]{0,320}>:|\bDATA:|\bend of data:|\bcommand:|<<<|<--|->|=>|\bSMTP;|\bSMTP error,|"
    r"\bcode|\bgot:?|\bserver error:|\berror|\bответил:|\bответ:|\bошибка:|"
    r"\bsmtp error|\bbecause of|\bdue to|\):|\][:,]|>:|\.\.\.|:)"
    r"[\s\"'`<(\[>]{0,6}#?((?:SMTP )?[45]\d\d(?=[ \-:;.)\]'\"#<]|$))",
    re.I,
)
_TRAILERS = re.compile(
    r"\s*(?:\(in reply to [^()]{0,60}\)|\(\d{1,3}:\d{1,3}:\d{1,3}\)|Giving up on \S{1,100}|_{5,}|-{5,}|={5,})\.?\s*$",
    re.I,
)
_MULTILINE = re.compile(r"\s+([245]\d\d)-(?=\S)")
_MAX_WORDS = 2000


def tidy(text: str) -> str:
    """On one line, printable, of bounded length."""
    text = " ".join(text[: _MAX_WORDS * 2].split())[:_MAX_WORDS]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text).strip()


def status_in(text: str, classes: str = "245") -> str:
    """The first enhanced status code (RFC 3463) of these classes, "5.1.1"; "" without. Parts of versions are none."""
    match = _STATUS.search(text[:4000])
    while match is not None and match[1][0] not in classes:
        match = _STATUS.search(text, match.end(1), 4000)
    if match is None:
        return ""
    first, second, third = match[1].split(".")
    return f"{first}.{int(second)}.{int(third)}"


def reply_in(text: str, *, bare: bool = False) -> str:
    """The reply in this text, from its code on; "" if there is none.

    bare: the text is said to be a reply (Diagnostic-Code), so one that stands anywhere counts.
    """
    text = text[: _MAX_WORDS * 2]
    if _CODE.search(text) is None:
        return ""
    first = _WITH_STATUS.search(text)
    announced = _ANNOUNCED.search(text)
    if announced is not None and (first is None or announced.start(1) <= first.start()):
        start = announced.start(1)
    elif first is not None:
        start = first.start()
    else:
        found = _BARE.search(text) if bare else None
        if found is None:
            return ""
        start = found.start()
    if text[start : start + 5].upper() == "SMTP ":
        start += 5
    reply = _unfolded(tidy(text[start:]))
    return reply if any(map(str.isalnum, reply[3:])) else reply[:3]


_CODE = re.compile(r"(?<![\d.])[45]\d\d(?![\d.])")
_BARE = re.compile(r"(?<![\d.])[45]\d\d(?=[ -]+[^\d\s])")


_STATUS_FIRST = re.compile(rf"\d\d\d ({_STATUS_RE})(?= )")


def _unfolded(reply: str) -> str:
    """Of a reply of several lines ("550-one 550 two"), one of one; without what the quoting system adds behind."""
    code = reply[:3]
    if reply[3:4] == "-":
        reply = f"{code} {reply[4:].lstrip()}"
    if reply[3:8] == f" {code} ":
        reply = reply[4:]
    reply = _MULTILINE.sub(lambda m: " " if m[1] == code else m[0], reply)
    if f" {code} " in reply[4:]:
        reply = reply[:4] + reply[4:].replace(f" {code} ", " ")
    if status := _STATUS_FIRST.match(reply):
        # Said once for each line (RFC 2034 4).
        reply = reply[: status.end()] + reply[status.end() :].replace(f" {status[1]} ", " ")
    for _ in range(3):
        shorter = _TRAILERS.sub("", reply)
        if shorter == reply:
            break
        reply = shorter
    # What stood around it: quotes and brackets that it does not open itself.
    while reply and reply[-1] in _CLOSES and reply.count(reply[-1]) > _opened(reply):
        reply = reply[:-1].rstrip()
    return reply.strip()


_CLOSES = {")": "(", "]": "[", ">": "<", "'": "'", '"': '"', "`": "`"}


def _opened(reply: str) -> int:
    """How many of what its last character closes are opened in it."""
    opener = _CLOSES[reply[-1]]
    return reply.count(opener) if opener != reply[-1] else reply.count(opener) // 2 * 2
