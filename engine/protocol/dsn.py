"""Delivery status notifications: RFC 3464 in a multipart/report (RFC 6522), RFC 6533 for addresses beyond ASCII.

Pure: what to report in, the bytes of the message out. Three parts: a text for the person who sent the message, the
fields for programs, and the message that is reported on, or its header section.

Every text that comes from outside (addresses, replies, ENVID, ORCPT) passes `_clean`: on one line, printable, of
bounded length. So nothing can add a field or a part, whatever a receiver says.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime
from typing import Literal

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]

_SUBJECTS: dict[Action, str] = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Mail not delivered yet, still trying",
    "delivered": "Mail delivered",
    "relayed": "Mail passed on",
    "expanded": "Mail delivered to a list",
}
_OPENINGS: dict[Action, str] = {
    "failed": "Your message could not be delivered to the recipients below. It will not be tried again. "
    "If an address is mistyped, correct it and send the message once more; otherwise the reason given "
    "under each recipient says who can help.",
    "delayed": "Your message has not been delivered to the recipients below yet. You need not do anything: "
    "it will be tried again, and you will be told if it cannot be delivered in the end.",
    "delivered": "As you asked to be told: your message was delivered to the recipients below.",
    "relayed": "As you asked to be told: your message was passed on for the recipients below, to a mail server "
    "that does not report deliveries. You may not hear about them again.",
    "expanded": "As you asked to be told: your message was delivered to the lists below, which send it on.",
}
_FALLBACK_STATUS: dict[Action, str] = {"failed": "5.0.0", "delayed": "4.0.0"}
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)
_REPLY = re.compile(r"[2-5][0-9][0-9](?:[ -]|$)", re.ASCII)
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9.-]{1,40}")
_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(?:\r\n[ \t]+)?(<[!-;=?-~]{1,250}>)[ \t]*\r?$", re.I | re.M)

#: RFC 5322 2.1.1: no line above 998 characters; a field name and a type go before the text.
_MAX_TEXT = 900
#: Characters of UTF-8 take up to four bytes, and the limit of SMTP is in bytes.
_MAX_WIDE = 220
#: Of a header section that is returned alone; the end of a longer one is left out.
_MAX_HEADER = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnRecipient:
    """What happened to one recipient.

    original: ORCPT decoded, "rfc822;ada@example.org", or "". remote: "host[address]:port" or "none". diagnostic: the
    receiver's reply, or our own words. explanation: the same for a person; "" repeats the diagnostic.
    """

    address: str
    status: str
    original: str = ""
    remote: str = "none"
    diagnostic: str = ""
    explanation: str = ""
    last_attempt_at: float | None = None
    will_retry_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsn:
    """A notification to build. Times in unix seconds.

    sender: what is put in From, as (name, address). to: the sender of the reported message. return_content: give back
    the whole of it, else its header section.
    """

    action: Action
    message_id: str
    date: float
    sender: tuple[str, str]
    to: str
    reporting_mta: str
    arrived_at: float
    recipients: Sequence[DsnRecipient]
    envelope_id: str = ""
    return_content: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnMessage:
    """The notification, with CRLF line endings. body: "7BIT" or "8BITMIME"; smtputf8: its own header needs it."""

    content: bytes
    body: str
    smtputf8: bool


def build_dsn(dsn: Dsn, content: bytes) -> DsnMessage:
    """The notification about the message `content` (with CRLF line endings). If that is empty nothing is returned."""
    header = _header_section(content)
    parts = [_text_part(dsn, bool(content)), _status_part(dsn)]
    if content:
        parts.append(_returned_part(dsn, header, content))
    boundary = _boundary(dsn.message_id, parts)
    wide = not all(part.isascii() for part in parts)
    top = _top(dsn, header, boundary, wide)
    delimiter = f"--{boundary}".encode()
    lines = [top, b"This is a report in MIME format.\r\n"]
    for part in parts:
        lines += [b"\r\n", delimiter, b"\r\n", part]
    lines += [b"\r\n", delimiter, b"--\r\n"]
    smtputf8 = not top.isascii()
    return DsnMessage(content=b"".join(lines), body="8BITMIME" if wide or smtputf8 else "7BIT", smtputf8=smtputf8)


def _header_section(content: bytes) -> bytes:
    """The header fields, each with its CRLF, without the empty line."""
    if content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    return content if end < 0 else content[: end + 2]


def _top(dsn: Dsn, header: bytes, boundary: str, wide: bool) -> bytes:
    name, address = dsn.sender
    fields = [
        f"From: {_display_name(name)} <{_clean(address)}>",
        f"To: <{_clean(dsn.to)}>",
        f"Subject: {_SUBJECTS[dsn.action]}",
        f"Date: {_date(dsn.date)}",
        f"Message-ID: {_clean(dsn.message_id)}",
    ]
    about = _MESSAGE_ID.search(header)
    if about is not None:
        fields += [f"In-Reply-To: {about[1].decode('ascii')}"]
    fields += [
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
    ]
    if wide:
        fields.append("Content-Transfer-Encoding: 8bit")
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


def _text_part(dsn: Dsn, returns: bool) -> bytes:
    """For the person: what happened, to whom, who said what. returns: the message, or its header, is attached."""
    lines = [f"This is the mail server {_clean(dsn.reporting_mta)}.", ""]
    lines += textwrap.wrap(_OPENINGS[dsn.action], 72)
    for recipient in dsn.recipients:
        lines += ["", f"<{_clean(recipient.address)}>"]
        reason = _clean(recipient.explanation or recipient.diagnostic)
        lines += textwrap.wrap(
            reason, 72, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
    lines += ["", f"Your message reached this server on {_date(dsn.arrived_at)}."]
    returned = "your message" if dsn.return_content else "the header of your message"
    lines.append(f"Details for mail administrators{f', and {returned},' if returns else ''} are attached.")
    text = "\r\n".join(lines) + "\r\n"
    charset, encoding = ("us-ascii", "7bit") if text.isascii() else ("utf-8", "8bit")
    head = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return (head + text).encode()


def _status_part(dsn: Dsn) -> bytes:
    """For programs: the fields per message, then a group per recipient (RFC 3464 2.1)."""
    fields = [f"Reporting-MTA: dns; {_ascii(dsn.reporting_mta)}"]
    if dsn.envelope_id:
        fields.append(f"Original-Envelope-Id: {_ascii(dsn.envelope_id)}")
    fields.append(f"Arrival-Date: {_date(dsn.arrived_at)}")
    groups = ["\r\n".join(fields)] + [_recipient_fields(dsn.action, recipient) for recipient in dsn.recipients]
    text = "\r\n\r\n".join(groups) + "\r\n"
    kind, encoding = ("delivery-status", "7bit") if text.isascii() else ("global-delivery-status", "8bit")
    return f"Content-Type: message/{kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{text}".encode()


def _recipient_fields(action: Action, recipient: DsnRecipient) -> str:
    fields = []
    if recipient.original:
        fields.append(f"Original-Recipient: {_typed_address(recipient.original)}")
    address = _clean(recipient.address)
    fields.append(f"Final-Recipient: {'rfc822' if address.isascii() else 'utf-8'}; {address}")
    fields.append(f"Action: {action}")
    known = _STATUS.fullmatch(recipient.status)
    fields.append(f"Status: {recipient.status if known else _FALLBACK_STATUS.get(action, '2.0.0')}")
    host = _host(recipient.remote)
    if host:
        fields.append(f"Remote-MTA: dns; {host}")
    if recipient.diagnostic:
        # Only what a receiver said is of type smtp; what we found ourselves is in our own words.
        kind = "smtp" if host and _REPLY.match(recipient.diagnostic) else "x-postrider"
        fields.append(_fold(f"Diagnostic-Code: {kind}; {_ascii(recipient.diagnostic)}"))
    if recipient.last_attempt_at is not None:
        fields.append(f"Last-Attempt-Date: {_date(recipient.last_attempt_at)}")
    if action == "delayed" and recipient.will_retry_until is not None:
        fields.append(f"Will-Retry-Until: {_date(recipient.will_retry_until)}")
    return "\r\n".join(fields)


def _returned_part(dsn: Dsn, header: bytes, content: bytes) -> bytes:
    """The message or its header section. `global` types where the header itself is not ASCII (RFC 6533 5)."""
    returned = content if dsn.return_content else header
    if not dsn.return_content and len(header) > _MAX_HEADER:
        returned = header[: header.rfind(b"\r\n", 0, _MAX_HEADER) + 2]
    if not returned.endswith(b"\r\n"):
        returned += b"\r\n"
    if dsn.return_content:
        kind = "message/rfc822" if header.isascii() else "message/global"
    else:
        kind = "text/rfc822-headers" if header.isascii() else "message/global-headers"
    encoding = "7bit" if returned.isascii() else "8bit"
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + returned


def _boundary(message_id: str, parts: Sequence[bytes]) -> str:
    """A boundary that no part contains: the first free number behind the id, which nobody could know before."""
    stem = "=_" + re.sub(r"[^A-Za-z0-9]", "", message_id)[:40]
    number = 0
    while any(f"--{stem}_{number}".encode() in part for part in parts):
        number += 1
    return f"{stem}_{number}"


def _clean(text: str) -> str:
    """On one line, printable, at most as long as a line can be."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    limit = _MAX_TEXT if text.isascii() else _MAX_WIDE
    return text if len(text) <= limit else text[:limit]


def _ascii(text: str) -> str:
    """The same in ASCII; other characters become "?"."""
    return _clean(text).encode("ascii", "replace").decode()


def _typed_address(text: str) -> str:
    """ORCPT as a field wants it: "rfc822; ada@example.org". Without a type it is rfc822 or utf-8."""
    kind, semicolon, address = _clean(text).partition(";")
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind):
        kind, address = "rfc822", _clean(text)
    if not address.isascii():
        kind = "utf-8"
    return f"{kind}; {address.strip()}"


def _host(remote: str) -> str:
    """The name in "host[address]:port", or "[address]" if there is none; "" of "none"."""
    name, _, rest = _ascii(remote).partition("[")
    if name and name != "none":
        return name.strip()
    address = rest.partition("]")[0]
    return f"[{address}]" if address else ""


def _fold(field: str) -> str:
    """The field on lines of 76 characters, cut only at its spaces, so that unfolding gives it back."""
    lines, rest = [], field
    while len(rest) > 76:
        cut = rest.rfind(" ", 1, 77)
        if cut < 0 or not rest[:cut].strip():
            cut = rest.find(" ", 77)
        if cut < 0 or not rest[cut:].strip():
            break
        lines.append(rest[:cut])
        rest = rest[cut:]
    return "\r\n".join([*lines, rest])


def _display_name(name: str) -> str:
    name = _clean(name)
    if not name.isascii():
        return Header(name, "utf-8", maxlinelen=900).encode()
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(at), UTC))
