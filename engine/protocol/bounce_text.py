"""Bounces that are prose: which addresses of a text are the recipients that failed, and what is said of each.

No parser per mail system: nearly all of them announce the recipients ("could not be delivered to"), put each on a line
of its own or behind a label, and say why right behind it. So every address is weighed by where it stands, and only the
heaviest count; those of the mail system and of the sender never do. What a system says beyond that is data
(bounce_phrases.py). Linear: each line is looked at once.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from engine.protocol.bounce_addresses import ADDRESS, addresses_in, cleaned, is_system
from engine.protocol.bounce_phrases import ANCHOR, DELAY, FAILURE, FINAL, RETURNED
from engine.protocol.bounce_replies import reply_in, status_in, tidy
from engine.protocol.bounce_report import Action, Reported
from engine.protocol.bounce_status import MAX_RECIPIENTS

#: What is read of a notice; 10,000 recipients of qmail are 2 MiB.
MAX_NOTICE = 4 << 20
MAX_LINES = 100_000
_MAX_LINE = 2000
#: Lines behind an address that may be about it.
_REASON_LINES = 30

#: An address that begins its line, behind bullets, brackets and quotes.
_LEADING = re.compile(
    rf"[\s>*\-\u2022\u30fb\u00b7\"'`(\[|<:.]{{0,40}}(?:<?mailto:|smtp:|rfc822;\s?)?<?({ADDRESS.pattern})", re.I
)
#: Labels of the party that did not fail.
_NOT_HIM = re.compile(
    r"\s*[>*|-]{0,3}\s*(?:from|sender|return-path|reply-to|mail from|x-sender|envelope-from|reported by|contact|cc|"
    r"message-?id|in-reply-to|references|absender|von|expéditeur|remitente|mittente|remetente|отправитель|от|发件人|"
    r"寄件人|差出人|送信者|보낸 ?사람|subject|betreff|objet|asunto|oggetto|assunto|тема|主题|件名|date|received|by)\s*"
    r"(?:\([^()]{0,40}\))?\s*[:：]",
    re.I,
)
#: Lines of a session's transcript that tell of the message (MDaemon), behind a time.
_TRANSCRIPT = re.compile(r"[\d\]:] {0,3}\*\s{0,4}(?:from|sender|subject|message-id)\s{0,4}:", re.I)
_SENDER_COMMAND = re.compile(
    r"\bmail from ?:|\bsender\b|\bfrom:? ?<|please (?:contact|send|e-?mail|forward)|contact (?:the|your)|"
    r"assistance|help",
    re.I,
)
_LABEL = re.compile(r"\s*[>*|-]{0,3}\s*([^:：\n<@]{1,60})\s*[:：]\s*")
_FINAL_CODE = re.compile(r"(?<![\d.])5\d\d[ -][^\d]|(?<![\d.])5\.\d\.\d{1,3}(?!\.?\d)")


class Notice(NamedTuple):
    """A bounce's own words, and behind them the message it is about, as far as it is shown."""

    words: str
    returned: str


class _Whole(NamedTuple):
    """What the notice says of all recipients."""

    action: Action
    explanation: str


class _Candidate(NamedTuple):
    address: str
    weight: int
    line: int


def cut(text: str) -> Notice:
    """A text cut where the returned message begins."""
    text = text[:MAX_NOTICE]
    if text.count("\n") > MAX_LINES:
        text = "\n".join(text.split("\n", MAX_LINES)[:MAX_LINES])
    raw = text.encode("utf-8", "replace")
    at = RETURNED.first(raw)
    # In the first line it is a title; the notice is behind it.
    if at <= 0 or not raw[:at].strip():
        end = RETURNED.ends(raw)[:2] if at >= 0 else []
        later = RETURNED.first(raw[end[0] :]) if end else -1
        at = end[0] + later if end and later > 0 else -1
    if at < 0:
        return Notice(text, "")
    return Notice(raw[:at].decode("utf-8", "ignore"), raw[at:].decode("utf-8", "ignore"))


def read_notice(words: str, ours: Iterable[str], failed: Iterable[str] = ()) -> list[Reported]:
    """The recipients that this notice says something about, in order.

    ours: addresses that are not meant: of the sender, of the mail system. failed: recipients known from elsewhere
    (X-Failed-Recipients); then only what is said of them is looked for.
    """
    lines = [line[:_MAX_LINE] for line in words.split("\n")]
    known = {address.lower(): address for address in failed}
    candidates = _chosen(lines, words, {address.lower() for address in ours}, known)
    blocks: dict[str, tuple[str, list[str]]] = {address: (spelled, []) for address, spelled in known.items()}
    # A line with several recipients has one reason for all of them.
    for number, candidate in enumerate(candidates):
        key = candidate.address.lower()
        if key not in blocks and len(blocks) >= MAX_RECIPIENTS:
            break
        ahead = number + 1
        while ahead < len(candidates) and candidates[ahead].line == candidate.line:
            ahead += 1
        end = candidates[ahead].line if ahead < len(candidates) else len(lines)
        block = _block(lines, candidate.line, end)
        blocks.setdefault(key, (candidate.address, []))[1].extend(block)
    # One recipient may be told of anywhere; of several each in its own lines.
    shared = words if len(blocks) < 2 else ""
    whole = _Whole(action_of(words), _explanation(words))
    if not blocks and (local := _bare_local(lines)):
        return [_reported(f"{local}@{domain}", lines, whole, shared) for domain in [_domain_of(ours)] if domain]
    return [_reported(spelled, block, whole, shared) for spelled, block in blocks.values()]


def nobody(words: str) -> Reported:
    """What a notice says that names no recipient."""
    whole = tidy(words)
    reply = _reply_of(words.split("\n"))
    return Reported(
        recipient=None, action=action_of(words), status=status_in(reply, "45") or status_in(whole, "45"), reply=reply,
        reason=reply or _explanation(words),
    )  # fmt: skip


def action_of(words: str) -> Action:
    """Whether the notice says that this was final."""
    start = words[:4000]
    raw = start.encode("utf-8", "replace")
    return "delayed" if DELAY.found(raw) and not FINAL.found(raw) and not _FINAL_CODE.search(start) else "failed"


def _chosen(lines: list[str], words: str, ours: set[str], known: dict[str, str]) -> list[_Candidate]:
    announced = _lines_of(words, ANCHOR.ends(words.encode("utf-8", "replace")))
    found: list[_Candidate] = []
    near = -99
    for number, line in enumerate(lines):
        if number in announced:
            near = number
        for position, address in enumerate(addresses_in(line)):
            weight = _weight(line, address, position, number - near, number in announced)
            if known:
                weight = 9 if address.lower() in known else 0
            elif address.lower() in ours:
                weight -= 4
            elif is_system(address):
                weight -= 3
            if weight > 0:
                found.append(_Candidate(address, weight, number))
                if weight >= 5:
                    near = number
    best = max((candidate.weight for candidate in found), default=0)
    # A mention in a sentence only counts if there is no label and no line of its own.
    floor = 4 if best >= 4 else best
    return [candidate for candidate in found if candidate.weight >= floor]


def _weight(line: str, address: str, position: int, distance: int, announced: bool) -> int:
    """6: on a line of its own right behind an announcement. 1: somewhere. 0: not a recipient."""
    if _NOT_HIM.match(line) or _TRANSCRIPT.search(line):
        return 0
    leading = _LEADING.match(line)
    leads = leading is not None and cleaned(leading[1]) == address
    if leads:
        return 6 if distance <= 12 else 5
    rest = line.replace(address, "")
    if _SENDER_COMMAND.search(rest) and not _RECIPIENT_COMMAND.search(rest):
        return 0
    at = line.find(address)
    if _ORIGIN.search(line[max(0, at - 24) : at]):
        return 1 if "generated from" in line else 0
    label = _LABEL.match(line)
    if label is not None and label[1].strip().lower() in _OF_THE_MESSAGE:
        return 2
    if announced:
        return 5
    if position == 0 and distance <= 4 and label is not None:
        return 4
    if distance <= 3:
        return 3
    return 2 if FAILURE.found(line.encode("utf-8", "replace")) else 1


#: Fields of the message as a notice shows it: it went to more than those who failed.
_OF_THE_MESSAGE = frozenset(("to", "an", "à", "a", "para", "til", "aan", "кому", "宛先", "收件人", "do", "kime"))
_ORIGIN = re.compile(r"(?:\bfrom|\bvia|\bvon)\s+(?:user\s+)?[<\"'(]{0,3}$", re.I)
_RECIPIENT_COMMAND = re.compile(r"rcpt to|recipient|delivered to|deliver to", re.I)


def _lines_of(text: str, ends: list[int]) -> set[int]:
    """Numbers of the lines in which these positions (of the text in UTF-8) lie."""
    raw = text.encode("utf-8", "replace")
    found, number, at = set(), 0, 0
    for end in ends:
        number += raw.count(b"\n", at, max(at, end - 1))
        at = max(at, end - 1)
        found.add(number)
    return found


def _block(lines: list[str], start: int, end: int) -> list[str]:
    """The lines about the recipient named on line `start`, up to the next one."""
    block = [lines[start]]
    blanks = 0
    for line in lines[start + 1 : min(end, start + _REASON_LINES)]:
        if not line.strip():
            blanks += 1
            block += [""] * (blanks == 1)
            continue
        # Behind two blank lines, or a rule, something else begins.
        if blanks >= 2 and any(each for each in block[1:]):
            break
        blanks = 0
        block.append(line)
    return block


def _reported(address: str, block: list[str], whole: _Whole, shared: str) -> Reported:
    reply = _reply_of(block)
    text = "\n".join(block)
    about = _without_addresses(text)
    status = status_in(reply, "45") or status_in(about, "45")
    if shared and not reply:
        reply = _reply_of(shared.split("\n"))
        status = status or status_in(reply, "45") or status_in(_without_addresses(shared), "45")
    words = _NAMED_FIRST.sub("", tidy(text), 1) or tidy(text)
    reason = reply or (words if _says_something(about) else "") or whole.explanation
    return Reported(
        recipient=address, action=whole.action, status=status, reply=reply, reason=reason,
        remote=_remote(text),
    )  # fmt: skip


#: The recipient in front of what is said of him.
_NAMED_FIRST = re.compile(rf"^[<>\"'(*\u2022 -]{{0,10}}{ADDRESS.pattern}[>\"')]{{0,3}}\s*[:\u2014-]?\s*(?=\S)")


def _bare_local(lines: list[str]) -> str:
    """The word behind an announcement where a system names its own mailboxes without domain."""
    for number, line in enumerate(lines[:-1]):
        if line.rstrip().endswith(":") and ANCHOR.found(line.encode("utf-8", "replace")):
            following = next((more.strip() for more in lines[number + 1 : number + 4] if more.strip()), "")
            if _LOCAL.fullmatch(following):
                return following
    return ""


_LOCAL = re.compile(r"[a-z0-9][a-z0-9._+-]{1,63}", re.I)


def _domain_of(ours: Iterable[str]) -> str:
    """Of the system that sends the notice: the first of the addresses."""
    return next(iter(ours), "").rpartition("@")[2]


def _reply_of(lines: list[str]) -> str:
    """The last line of a session if it is shown, else the first reply in the text as it flows."""
    for number, line in enumerate(lines):
        found = reply_in(line)
        if not found:
            continue
        rest = [found]
        for more in lines[number + 1 : number + 12]:
            stripped = more.strip()
            said = any(map(str.isalpha, found))  # or the code stands alone, and its words are below
            if (not stripped and said) or _ENDS_REPLY.match(stripped) or len(rest) > 8:
                break
            rest.append(stripped.removeprefix("<<<").strip())
        return reply_in(" ".join(rest)) or found
    # Some break the line between the announcement and the reply, or inside the code.
    return reply_in(" ".join(line.strip() for line in lines if line.strip()))


_ENDS_REPLY = re.compile(
    r">>>|quit$|\.\.\.|-{3,}|-- |={3,}|_{3,}|\*{3,}|<?[^\s@<>]{1,64}@[^\s@<>]{1,255}>?:?$|"
    r"(?:reporting|remote)-mta|action:|status:|final-recipient|remote system:|"
    r"please |the |this |your |if |for |we |it |received:|i'm |giving up|"
    r"last-attempt|diagnostic|\(in reply",
    re.I,
)


def _remote(block: str) -> str:
    match = _HOST.search(block[:3000])
    return match[1].rstrip(".") if match else ""


_HOST = re.compile(
    r"(?:while talking to|host|connected to|remote (?:host|server)|from|by|server)\s+"
    r"\[?([a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,6})",
    re.I,
)


def _without_addresses(text: str) -> str:
    return ADDRESS.sub(" ", text[: 8 << 10]) if "@" in text else text[: 8 << 10]


def _says_something(about: str) -> bool:
    return sum(map(str.isalpha, about)) >= 6


def _explanation(words: str) -> str:
    """The words around the first failure, for a person."""
    text = tidy(words)
    at = FAILURE.first(text.encode("utf-8", "replace"))
    raw = text.encode("utf-8", "replace")
    begins = raw.rfind(b". ", 0, at) if at > 0 else -1
    start = begins + 2 if begins >= 0 else 0
    return tidy(raw[start : start + 500].decode("utf-8", "ignore"))
