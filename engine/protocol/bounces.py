"""Whatever came back by mail: bounces in every shape of the field, complaints, automatic answers.

P1, for whole messages: any bytes give a Report, in time linear in their length (but for what a level of MIME costs) and
with bounded memory. Feedback reports first, then delivery reports (RFC 3464), wherever in the message they stand and
under whatever type; then the tell-tale header fields; then prose (bounce_text.py). What no program sent is OTHER.

A report is evidence, not proof: anybody can write one (F1). Who said it is for the caller to check.
"""

import re
from collections.abc import Sequence

import msgspec

from engine.protocol.bounce_addresses import address_of, addresses_in, is_system
from engine.protocol.bounce_automatic import (
    answers_for_a_person,
    is_answered,
    is_automatic,
    is_challenge,
    is_daemon,
    is_disposition,
    is_submitted,
)
from engine.protocol.bounce_feedback import RETURNED_TYPES, read_complaint, read_feedback, returned_header
from engine.protocol.bounce_phrases import BOUNCE_SUBJECT, FAILURE
from engine.protocol.bounce_replies import tidy
from engine.protocol.bounce_report import Nature, Report, Reported
from engine.protocol.bounce_status import MAX_RECIPIENTS, read_status
from engine.protocol.bounce_text import MAX_LINES, MAX_NOTICE, Notice, cut, nobody, read_notice
from engine.protocol.bounce_transcript import with_whole_replies
from engine.protocol.mime_parts import MAX_DEPTH, MAX_PARTS, MAX_TEXT_BYTES, Header, Part, read_message

_STATUS_TYPES = frozenset((
    "message/delivery-status", "message/global-delivery-status", "message/delivery-report", "text/delivery-status",
    "message/deliverystatus", "message/dsn",
))  # fmt: skip
_FIELDS = re.compile(rb"^[ \t]{0,8}(?:final|original)-recipient[ \t]*:", re.I | re.M)
_MESSAGE_ID = re.compile(
    r"^[ \t>|*-]{0,6}(?:x-)?(?:original[- ])?message[- ]?id\s*[:=]\s*"
    r"(<[^<>\s]{3,500}>|[^\s<>@]{1,250}@[^\s<>@]{1,250})",
    re.I | re.M,
)
_HEADER_ID = re.compile(r"<[^<>\s]{1,500}>")
_ANSWER = re.compile(r"\s*(?:re|aw|fw|fwd|wg|sv|tr|rv|antw|odp|vs|res|enc)\s*:", re.I)
_WORD_CHARSET = re.compile(r"=\?([A-Za-z0-9_.-]{2,30})\?[bBqQ]\?")
#: As people quote; transcripts of sessions have ">>>".
_QUOTED = re.compile(r"^[ \t]*>(?!>>).*$", re.M)
_MAX_WORDS = 4000


def read_report(content: bytes, *, whole: bool = True) -> Report:
    """What this message reports. Never raises. whole: the content is; otherwise something follows that nobody reads."""
    top = read_message(content)
    report = _report_of(top)
    if whole and not _is_cut(top, report):
        return report
    return msgspec.structs.replace(report, truncated=True)


def _is_cut(top: Part, report: Report) -> bool:
    """A bound was met (here, of MIME, of notices) before the end of what may name recipients."""
    if len(report.recipients) >= MAX_RECIPIENTS or sum(1 for _ in top.walk()) >= MAX_PARTS:
        return True
    if report.nature is not Nature.BOUNCE:
        return False
    for part in _own_parts(top):
        if part.depth >= MAX_DEPTH and part.type.startswith("multipart/"):
            return True
        if part.type in _STATUS_TYPES and len(part.body) > MAX_TEXT_BYTES:
            return True
        long = len(part.body) > MAX_NOTICE or part.body.count(b"\n") > MAX_LINES
        if long and part.type.startswith("text/") and part.type not in RETURNED_TYPES and not cut(part.text).returned:
            return True
    return False


def _report_of(top: Part) -> Report:
    """Only the message's own parts make it a report: one that is attached, or returned, is what it speaks of."""
    own = _own_parts(top)
    for part in own:
        if part.type in ("message/feedback-report", "message/feedback-status"):
            return read_feedback(part, top)
    if _report_type(top) == "delivery-status" or (
        any(part.type in _STATUS_TYPES for part in own) and not _is_answer(top)
    ):
        report = _delivery_report(top)
        if report is not None:
            return report
    words = own_words(top)
    if is_disposition(top) and not (is_daemon(top.header) and FAILURE.found(words[:2000].encode("utf-8", "replace"))):
        return _automatic(top, Nature.AUTO_REPLY, words)
    complaint = read_complaint(top, words)
    if complaint is not None and not answers_for_a_person(top.header, cut(words).words):
        return complaint
    if is_challenge(top.header, words) and not is_daemon(top.header):
        return _automatic(top, Nature.CHALLENGE, words)
    if _is_bounce(top, words):
        found = _delivery_report(top) if _field_texts(top) else None
        # Without a word of failure it is a report that some filter on the way has wrapped.
        fails = FAILURE.found(words.encode("utf-8", "replace"))
        return found or (None if fails else _wrapped(top)) or _prose(top, words)
    if is_automatic(top, words):
        return _automatic(top, Nature.AUTO_REPLY, words)
    return _wrapped(top) or _other(top, words)


def _is_answer(top: Part) -> bool:
    """It answers for a person, and nothing but what it quotes or holds speaks for a mail system."""
    if is_daemon(top.header):
        return False
    return is_answered(top.header) or answers_for_a_person(top.header, cut(own_words(top)).words)


def own_words(top: Part) -> str:
    """The text of the message itself: of its first part that a person can read, not of what is attached."""
    texts: dict[str, str] = {}
    hint = _WORD_CHARSET.search(top.header.get("subject"))
    for part in _own_parts(top):
        if part.type in ("text/plain", "text/html") or (part.type.startswith("text/") and "rfc822" not in part.type):
            if "attachment" in part.header.get("content-disposition").lower():
                continue
            if hint:
                # Who says no charset often says one where he had to, in the subject.
                part.parameters.setdefault("charset", hint[1])
            text = part.text
            if text.strip():
                texts.setdefault(part.type, text)
                if part.type == "text/plain":
                    break
    plain, rich = texts.get("text/plain", ""), texts.get("text/html", "")
    if plain or rich:
        return plain if plain and (len(plain.strip()) > 40 or not rich) else rich or plain
    return top.text if not top.parts else ""


def _own_parts(part: Part) -> Sequence[Part]:
    """The parts outside of attached messages."""
    found = [part]
    if part.type.startswith("multipart/"):
        for each in part.parts:
            found += _own_parts(each)
    return found


def _report_type(top: Part) -> str:
    return top.parameters.get("report-type", "").lower() if top.type == "multipart/report" else ""


def _field_texts(top: Part) -> list[str]:
    """Texts that hold the fields of a report under another type, without the message that is returned behind them."""
    found = []
    for part in _own_parts(top):
        if not part.parts and part.type not in RETURNED_TYPES and _FIELDS.search(part.body):
            text = cut(part.text).words if part.type.startswith("text/") else part.text
            if _FIELDS.search(text.encode("utf-8", "replace")):
                found.append(text)
    return found


def _delivery_report(top: Part) -> Report | None:
    """The delivery report among the message's own parts, unless it names no outcome at all."""
    found: list[Reported] = []
    source: Part | None = None
    for part in _own_parts(top):
        if part.type in _STATUS_TYPES and (more := read_status(part.text)):
            found += more
            source = source or part
    if not found:
        found = [each for text in _field_texts(top) for each in read_status(text)]
    if not found:
        return None
    words = own_words(top)
    notice = cut(words)
    mute = [each for each in found if not each.reply]
    if mute:
        found = _told(found, notice.words, top)
    elif all(each.recipient is None for each in found):
        found = _named_elsewhere(found, notice, top)
    return Report(
        nature=Nature.BOUNCE,
        recipients=tuple(with_whole_replies(_merged(found), notice.words)),
        original_message_id=_original_id(top, notice, source),
        subject=top.header.text("subject")[:500],
        words=notice.words[:_MAX_WORDS],
    )


def _told(found: list[Reported], words: str, top: Part) -> list[Reported]:
    """With what the text for people adds to fields that have no reply."""
    named = [each.recipient for each in found if each.recipient]
    if len(named) > 1000:
        return found
    said = {each.recipient: each for each in read_notice(words, _ours(top), named) if each.recipient} if named else {}
    result = []
    for each in found:
        more = said.get(each.recipient) if each.recipient else nobody(words)
        if each.reply or more is None:
            result.append(each)
            continue
        keep = not more.reply or (each.status and more.status and each.status[0] != more.status[0])
        result.append(
            Reported(
                recipient=each.recipient,
                action=each.action,
                status=each.status if keep or each.status[1:] not in (".0.0", "") else more.status or each.status,
                reply="" if keep else more.reply,
                reason=each.reason or more.reason,
                remote=each.remote or more.remote,
            )
        )
    return result if named else _named_elsewhere(result, Notice(words, ""), top)


def _named_elsewhere(found: list[Reported], notice: Notice, top: Part) -> list[Reported]:
    """Fields that name nobody: the header or the text may."""
    failed = _failed_recipients(top.header)
    if not failed:
        failed = [each.recipient for each in read_notice(notice.words, _ours(top)) if each.recipient]
    if not failed or not found:
        return found
    first = found[0]
    return [
        Reported(
            recipient=each, action=first.action, status=first.status, reply=first.reply, reason=first.reason,
            remote=first.remote,
        )
        for each in failed
    ]  # fmt: skip


def _merged(found: list[Reported]) -> list[Reported]:
    """One for each recipient: the last word, as reports that were put together repeat some."""
    result: dict[str, Reported] = {}
    for each in found:
        key = (each.recipient or "").lower()
        earlier = result.get(key)
        if earlier is None or (each.action == "failed" and earlier.action != "failed") or not earlier.status:
            result[key] = each
    if len(result) > 1:
        result.pop("", None)
    return list(result.values())


def _failed_recipients(header: Header) -> list[str]:
    found = []
    for value in header.all("x-failed-recipients")[:100]:
        found += [address for piece in value.split(",") if (address := address_of(piece))]
    return list(dict.fromkeys(found))


def _disposed(top: Part) -> list[str]:
    """Whom a mailbox's filter refused for, in a disposition notification that is a bounce (Dovecot)."""
    reports = [Header(part.data) for part in _own_parts(top) if part.type == "message/disposition-notification"]
    return [found for fields in reports if (found := address_of(fields.get("final-recipient")))]


def _ours(top: Part) -> list[str]:
    """Addresses of the two who exchange this bounce."""
    header = top.header
    values = [
        value for name in ("from", "to", "reply-to", "return-path", "sender", "errors-to") for value in header.all(name)
    ]
    return [address for value in values for address in addresses_in(value[:2000])]


def _is_bounce(top: Part, words: str) -> bool:
    """Enough speaks for a mail system's notice: who sent it, its subject, its words; and nothing for a person's.

    Who answers for a person may quote a bounce. Mail systems call their reports automatic, too, so with that a sender
    must be one by its address, and what it quotes is not what it says.
    """
    header = top.header
    if top.parameters.get("report-type", "").lower() == "delivery-status":
        return True
    if answers_for_a_person(header, cut(words).words):
        return False
    failed = "x-failed-recipients" in header
    submitted = is_submitted(header)
    daemon = is_daemon(header, named=not submitted)
    if failed or (submitted and not daemon):
        return failed
    subject = header.text("subject")
    raw = subject.encode("utf-8", "replace")
    null = header.get("return-path").replace(" ", "") == "<>" or header.get("x-return-path") == "<>"
    said = _QUOTED.sub("", words[:8000]) if is_answered(header) else words[:8000]
    says = FAILURE.found(said.encode("utf-8", "replace"))
    answer = _ANSWER.match(subject) is not None
    titled = not answer and (BOUNCE_SUBJECT.found(raw) or FAILURE.found(raw))
    if not daemon and answer:
        return False
    if is_answered(header) and not (says or titled):
        return False
    fields = bool(_field_texts(top))
    return 2 * daemon + 2 * titled + says + null + 2 * fields >= 3 and (daemon or titled)


def _prose(top: Part, words: str) -> Report:
    """A bounce in words."""
    notice = cut(words)
    found: list[Reported] = []
    if not found:
        found = read_notice(notice.words, _ours(top), _failed_recipients(top.header) or _disposed(top))
    if not found and notice.returned:
        found = read_notice(words, _ours(top)) if not notice.words.strip() else []
    return Report(
        nature=Nature.BOUNCE,
        recipients=tuple(_merged(found) or [nobody(notice.words)]),
        original_message_id=_original_id(top, notice),
        subject=top.header.text("subject")[:500],
        words=notice.words[:_MAX_WORDS],
    )


def _original_id(top: Part, notice: Notice, after: Part | None = None) -> str:
    """Message-ID of the message that did not arrive, wherever the report shows it."""
    value = returned_header(top, after).get("message-id")
    if match := _HEADER_ID.search(value):
        return match[0]
    if value:
        return value[:500]
    text = notice.returned or notice.words
    match = _MESSAGE_ID.search(text[: 256 << 10]) or _MESSAGE_ID.search(notice.words)
    if match is None:
        leaves = (part.body[: 64 << 10].decode("latin-1") for part in top.walk() if part is not top and not part.parts)
        match = next(filter(None, map(_MESSAGE_ID.search, leaves)), None)
    if match:
        return match[1] if match[1].startswith("<") else f"<{match[1]}>"
    for name in ("x-original-message-id", "original-message-id", "in-reply-to", "references"):
        found = _HEADER_ID.findall(top.header.get(name))
        if found:
            return str(found[-1])
    return ""


def _automatic(top: Part, nature: Nature, words: str) -> Report:
    """The one who answers is the one we wrote to."""
    header = top.header
    reports = [Header(part.data) for part in top.walk() if part.type == "message/disposition-notification"]
    fields = reports[0] if reports else Header(b"")
    named = [fields.get("original-recipient"), fields.get("final-recipient")]
    senders = [header.text(name) for name in ("from", "reply-to", "sender")]
    people = [who for value in (*named, *senders) if (who := address_of(value)) and not is_system(who)]
    ids = [fields.get("original-message-id"), header.get("in-reply-to"), header.get("references")]
    found: list[str] = [each for value in ids for each in _HEADER_ID.findall(value)[-1:]]
    subject = header.text("subject")[:500]
    return Report(
        nature=nature,
        recipients=(Reported(recipient=people[0] if people else None, reason=tidy(subject or words)[:300]),),
        original_message_id=found[0] if found else _quoted_id(top),
        subject=subject,
        words=words[:_MAX_WORDS],
    )


def _quoted_id(top: Part) -> str:
    match = _HEADER_ID.search(returned_header(top).get("message-id"))
    return match[0] if match else ""


def _wrapped(top: Part) -> Report | None:
    """A bounce that somebody's system forwarded as an attachment: what is inside counts, but proves nothing."""
    for part in _own_parts(top):
        if part.type == "message/rfc822" and part.parts and part.depth < 6:
            inner = _report_of(part.parts[0])
            if inner.nature is Nature.BOUNCE:
                return msgspec.structs.replace(inner, forwarded=True)
    return None


def _other(top: Part, words: str) -> Report:
    return Report(
        nature=Nature.OTHER,
        recipients=(Reported(recipient=None, reason="no report of a mail system"),),
        original_message_id=next(iter(_HEADER_ID.findall(top.header.get("in-reply-to"))), ""),
        subject=top.header.text("subject")[:500],
        words=words[:_MAX_WORDS],
    )
