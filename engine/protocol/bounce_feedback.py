"""Complaints: feedback reports (RFC 5965, and 6591 for authentication), and what older providers send instead.

Providers redact: the recipient may be missing or hashed, while what we wrote into the header is still there.
"""

import re
from typing import NamedTuple

import msgspec

from engine.protocol.bounce_addresses import address_of, addresses_in, is_system
from engine.protocol.bounce_phrases import COMPLAINT_SUBJECT, COMPLAINT_TEXT
from engine.protocol.bounce_replies import tidy
from engine.protocol.bounce_report import Nature, Report, Reported
from engine.protocol.mime_parts import Header, Part

_REDACTED = re.compile(r"redacted|removed|hidden|anonym|undisclosed|unknown|xxx+|\*\*|example\.invalid", re.I)
#: Where a provider names the recipient it redacted elsewhere.
_NAMED_IN = ("x-hmxmroriginalrecipient", "x-original-rcpt-to", "x-original-to", "original-rcpt-to", "x-rcpt-to")
_COMPLAINERS = (
    "staff@hotmail.com",
    "scomp@aol.net",
    "feedback@arf.mail.yahoo.com",
    "feedbackloop",
    "fbl@",
    "jmrp",
    "fbl-",
)
#: RFC 5965 7.3 and 3.1; a person wants nothing more (RFC 6650 4.3). What says no type is of before there were some.
_COMPLAINTS = frozenset(("", "abuse", "opt-out", "opt-out-list"))
_AUTHENTICATION = frozenset(("auth-failure", "dmarc"))
#: What else there is: about the message, or about the filter. Nobody has asked for anything.
_OTHERS = frozenset(("fraud", "virus", "not-spam", "dismissed", "other"))
_MESSAGES = frozenset(("message/rfc822", "message/global"))
_HEADERS = frozenset((
    "text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers", "message/global-headers",
))  # fmt: skip
#: Parts that hold the message that is reported on, or its header.
RETURNED_TYPES = _MESSAGES | _HEADERS
_MAX = 100
_RETURN_PATH = re.compile(r"[^\s<>@,;:\"]{1,64}@[^\s<>@,;:\"]{1,255}")


class _Whom(NamedTuple):
    """presumed: only the To of the returned header says it."""

    recipients: list[str]
    presumed: bool


def read_feedback(part: Part, top: Part) -> Report:
    """The report whose message/feedback-report is `part`."""
    fields = Header(part.data)
    kind = fields.get("feedback-type").strip().lower()
    nature = (
        Nature.COMPLAINT if kind in _COMPLAINTS
        else Nature.AUTH_REPORT if kind in _AUTHENTICATION
        else Nature.FEEDBACK
    )  # fmt: skip
    returned = returned_header(top, part)
    recipients = [found for value in fields.all("original-rcpt-to")[:_MAX] if (found := _named(value))]
    recipients += [found for value in fields.all("removal-recipient")[:_MAX] if (found := _named(value))]
    whom = _Whom(recipients, False) if recipients else _of_returned(returned, top)
    words = f"feedback report: {kind or 'abuse'}"
    auth = " ".join(filter(None, (fields.get("auth-failure"), fields.get("delivery-result"))))
    reason = tidy(f"{words} {auth} {fields.get('user-agent')}")
    report = _report(nature, whom, reason, returned, top)
    if nature is Nature.FEEDBACK:
        report = msgspec.structs.replace(report, feedback_type=kind if kind in _OTHERS else "other")
    if not _is_by_the_letter(part, top, fields):
        return report
    return msgspec.structs.replace(report, feedback=True, return_paths=_return_paths(part, top, fields))


def _is_by_the_letter(part: Part, top: Part, fields: Header) -> bool:
    said = top.parameters.get("report-type", "").lower()
    shape = top.type == "multipart/report" and said == "feedback-report" and part.type == "message/feedback-report"
    return shape and part in top.parts and "feedback-type" in fields


def _return_paths(part: Part, top: Part, fields: Header) -> tuple[str, ...]:
    """Of the fields of the report, and of the header in the part behind it; no body says any, nor the text."""
    values = fields.all("original-mail-from")[:_MAX]
    for each in top.parts[top.parts.index(part) + 1 :]:
        if each.type in _MESSAGES or each.type in _HEADERS:
            header = each.parts[0].header if each.type in _MESSAGES and each.parts else Header(each.data)
            values += header.all("x-postrider-return")[:_MAX] + header.all("return-path")[:_MAX]
            break
    return tuple(dict.fromkeys(found[0] for value in values if (found := _RETURN_PATH.search(value))))


def read_complaint(top: Part, words: str) -> Report | None:
    """A complaint that is no feedback report; None if it is none: an original, and a provider that says why."""
    sender = (top.header.get("from") + top.header.get("return-path")).lower()
    subject = top.header.text("subject")
    known = any(name in sender for name in _COMPLAINERS) or "x-hmxmroriginalrecipient" in top.header
    said = COMPLAINT_SUBJECT.found(subject.encode("utf-8", "replace"))
    told = COMPLAINT_TEXT.found(words[:8000].encode("utf-8", "replace"))
    attached = any(part.type in ("message/rfc822", "text/rfc822-headers") for part in top.walk())
    inner = "x-hmxmroriginalrecipient" in returned_header(top)
    if not (inner or (known + said + told + attached >= 2 and (known or said or (told and attached)))):
        return None
    returned = returned_header(top)
    return _report(Nature.COMPLAINT, _of_returned(returned, top), tidy(subject or words)[:300], returned, top)


def returned_header(top: Part, after: Part | None = None) -> Header:
    """The header of the message that is reported on: of the first part that holds one, behind `after` if given."""
    parts = list(top.walk())[1:]
    start = parts.index(after) + 1 if after in parts else 0
    for part in parts[start:] + parts[:start]:
        if part.type in _MESSAGES and part.parts:
            return part.parts[0].header
        if part.type in _HEADERS:
            return Header(part.data)
    return Header(b"")


def _of_returned(returned: Header, top: Part) -> _Whom:
    for header in (top.header, returned):
        for name in _NAMED_IN:
            if found := _named(header.get(name)):
                return _Whom([found], False)
    # The one person we wrote to is the one who complains; of several nobody can tell.
    to = [address for value in returned.all("to") for address in addresses_in(value)]
    return _Whom([found for address in to if (found := _named(address))] if len(to) == 1 else [], True)


def _named(value: str) -> str | None:
    address = address_of(value)
    if address is None or _REDACTED.search(address) or is_system(address):
        return None
    return address


def _report(nature: Nature, whom: _Whom, reason: str, returned: Header, top: Part) -> Report:
    unique: list[str | None] = [*dict.fromkeys(whom.recipients)] or [None]
    return Report(
        nature=nature,
        recipients=tuple(Reported(recipient=each, reason=reason) for each in unique),
        original_message_id=returned.get("message-id")[:500] or top.header.get("x-original-message-id")[:500],
        subject=top.header.text("subject")[:500],
        words=reason,
        presumed=whom.presumed,
    )
