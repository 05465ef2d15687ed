"""The session that Sendmail shows in a bounce: where its fields keep one line of a reply, it has all of them.

    >>> RCPT To:<ada@example.org>
    <<< 550-5.7.1 Our system has detected an unusual rate of
    <<< 550 5.7.1 unsolicited mail from you

Diagnostic-Code then says "SMTP; 550-5.7.1 Our system has detected an unusual rate of", and what comes behind may be
what tells a block from a dead address. Pure and linear.
"""

import re
from collections.abc import Iterable

import msgspec

from engine.protocol.bounce_addresses import address_of
from engine.protocol.bounce_replies import reply_in, tidy
from engine.protocol.bounce_report import Reported

_MAX_LINES = 100  # of one reply; more than anybody reads


def with_whole_replies(found: list[Reported], words: str) -> list[Reported]:
    """These recipients, with the rest of each reply that broke off behind its first line. words: text for people."""
    if "<<<" not in words or not any(map(_broken_off, found)):
        return found
    shown = _shown(words)
    return [_completed(each, shown) if _broken_off(each) else each for each in found]


def _broken_off(each: Reported) -> bool:
    """It announces one more line, and there is none."""
    code = each.reason[:3]
    return each.reason[3:4] == "-" and each.reply[:3] == code and f" {code} " not in each.reason


def _completed(each: Reported, shown: dict[tuple[str, str], str]) -> Reported:
    # What was said to the recipient, else what was said of the message: a reply to another one is not evidence.
    whole = shown.get(((each.recipient or "").lower(), each.reason)) or shown.get(("", each.reason))
    if whole is None:
        return each
    return msgspec.structs.replace(each, reply=reply_in(whole, bare=True), reason=tidy(whole))


def _shown(words: str) -> dict[tuple[str, str], str]:
    """(recipient in lower case, or "" for other commands; the first line) -> the whole reply, the first there is."""
    found: dict[tuple[str, str], str] = {}
    asked, reply = "", list[str]()
    for line in _session(words):
        if line.startswith("..."):  # while talking to another host
            asked, reply = "", []
            continue
        if line.startswith(">>>"):
            command = line[3:].strip()
            asked = (address_of(command[8:]) or "?").lower() if command[:8].upper() == "RCPT TO:" else ""
            reply = []
            continue
        if len(reply) < _MAX_LINES:
            reply.append(line[3:].strip())
        if not _CONTINUES.match(line):
            found.setdefault((asked, tidy(reply[0])), " ".join(reply))
            reply = []
    return found


_CONTINUES = re.compile(r"<<<\s*\d{3}-")


def _session(words: str) -> Iterable[str]:
    """Lines of client and server, and where a session begins; without what stands around them."""
    stripped = map(str.strip, words.split("\n"))
    return (line for line in stripped if line.startswith((">>>", "<<<", "...")))
