"""The fields of delivery reports: message/delivery-status (RFC 3464) and message/global-delivery-status (RFC 6533).

Read as they are sent: blank lines missing or after every field, fields folded or not, several recipients in one group,
quoted-printable where none is allowed, statuses like "5.1.1 (bad destination)", addresses with and without type.
"""

import re
from collections.abc import Iterator

from engine.protocol.bounce_addresses import address_of
from engine.protocol.bounce_replies import reply_in, status_in, tidy
from engine.protocol.bounce_report import Action, Reported

_FIELD = re.compile(r"[ \t]?([A-Za-z][A-Za-z0-9-]{1,60})[ \t]*:[ \t]*(.*)")
_OPENING = frozenset(("final-recipient", "original-recipient"))
_OF_RECIPIENT = _OPENING | {
    "action", "status", "diagnostic-code", "remote-mta", "last-attempt-date", "final-log-id", "will-retry-until",
    "x-actual-recipient", "x-display-name", "x-postfix-queue-id", "x-supplementary-info", "x-failed-recipient",
}  # fmt: skip
_ACTIONS: dict[str, Action] = {
    "failed": "failed", "failure": "failed", "fail": "failed", "undeliverable": "failed",
    "failed-permanently": "failed", "expired": "failed", "denied": "failed", "bounced": "failed",
    "error": "failed", "hardfail": "failed",
    "softfail": "delayed", "delayed": "delayed", "delay": "delayed", "deferred": "delayed", "warning": "delayed",
    "delivered": "delivered", "success": "delivered", "deliverable": "delivered", "relayed": "relayed",
    "expanded": "expanded",
}  # fmt: skip
_WORD = re.compile(r"[a-z-]+")
#: The most recipients of one report that are told of.
MAX_RECIPIENTS = 20_000
_MAX_FIELD = 16 << 10


def read_status(text: str) -> list[Reported]:
    """The recipients in these fields, in order; [] if this is no delivery status."""
    found = [each for group in _groups(text) if (each := _reported(group)) is not None]
    named = [each for each in found if each.recipient is not None]
    return named or found[:1]


def _fields(text: str) -> Iterator[tuple[str, str] | None]:
    """(name in lower case, value) each; None for a blank line. What is no field continues the one before."""
    name, values, size = "", list[str](), 0
    for line in text.split("\n"):
        match = _FIELD.match(line) if not line.startswith(("\t", "  ")) else None
        # A reply's second line may look like a field ("550-Reason: spam"); no field name of ours has a digit first.
        if match is not None and (line[0] != " " or match[1].lower() in _OF_RECIPIENT):
            if name:
                yield name, " ".join(values)
            name, values, size = match[1].lower(), [match[2].strip()], len(line)
        elif line.strip():
            if name and size < _MAX_FIELD:
                values.append(line.strip())
                size += len(line)
        else:
            if name:
                yield name, " ".join(values)
            name = ""
            yield None
    if name:
        yield name, " ".join(values)


def _groups(text: str) -> Iterator[dict[str, str]]:
    """The fields of each recipient."""
    group: dict[str, str] = {}
    blank = False
    count = 0
    for field in _fields(text):
        if field is None:
            blank = True
            continue
        name, value = field
        if name not in _OF_RECIPIENT:
            if name == "reporting-mta" and group:
                yield group
                group = {}
            continue
        again = name in group and (name in _OPENING or name == "action")
        # A blank line ends a group, unless what has come so far names nobody or what follows completes it.
        ended = blank and name in _OPENING and ("final-recipient" in group or "action" in group)
        opened = name == "original-recipient" and "final-recipient" in group and "action" in group
        if again or ended or opened:
            yield group
            group = {}
            count += 1
            if count >= MAX_RECIPIENTS:
                return
        group.setdefault(name, value)
        blank = False
    if group:
        yield group


def _reported(group: dict[str, str]) -> Reported | None:
    recipient = None
    for name in ("original-recipient", "final-recipient", "x-actual-recipient", "x-failed-recipient"):
        recipient = address_of(group.get(name, ""))
        if recipient is not None:
            break
    word = _WORD.match(group.get("action", "").strip().lower())
    action = _ACTIONS.get(word[0], "") if word else ""
    status = status_in(group.get("status", ""))
    if recipient is None and not action and not status:
        return None
    diagnostic = _untyped(group.get("diagnostic-code", "")) or _untyped(group.get("x-supplementary-info", ""))
    reply = reply_in(diagnostic, bare=True)
    told = status_in(reply) or status_in(diagnostic)
    # "5.0.0" and "5.5.0" are what mailers write that did not read the reply; the reply knows better.
    if told and (not status or (status[1:] in (".0.0", ".5.0", ".3.0", ".7.0") and told[0] == status[0])):
        status = told
    return Reported(
        recipient=recipient,
        action=action,
        status=status,
        reply=reply,
        reason=tidy(diagnostic) or tidy(group.get("status", "").partition("(")[2].rstrip(") ")),
        remote=_untyped(group.get("remote-mta", "")).partition(" ")[0][:255],
    )


def _untyped(value: str) -> str:
    """What follows "smtp;", "dns;", "x-unix;"."""
    kind, semicolon, rest = value.partition(";")
    return rest.strip() if semicolon and len(kind) < 30 and " " not in kind.strip() else value.strip()
