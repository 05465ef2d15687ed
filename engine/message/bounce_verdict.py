"""What a report means for each of its recipients: kind and reason. The shape of the report decides first, then words.

A report says less than a session does: often a status that means nothing ("5.0.0") beside words that say it all. So the
reply is judged, then what stands beside it, then the notice as a whole, until a rule knows.
"""

from typing import NamedTuple

from engine.base.settings_bounces import Kind
from engine.message.bounce_rules import Classifier, Verdict
from engine.protocol.bounce_report import Nature, Report, Reported

_BY_NATURE: dict[Nature, Kind] = {
    Nature.COMPLAINT: "complaint", Nature.AUTO_REPLY: "auto-reply", Nature.CHALLENGE: "challenge",
    Nature.FEEDBACK: "unknown", Nature.AUTH_REPORT: "auth", Nature.OTHER: "unknown",
}  # fmt: skip
#: Actions that are no failure.
_DONE = frozenset(("delivered", "relayed", "expanded"))


class Judged(NamedTuple):
    """One recipient of a report. recipient: None where the report names none. "" is what it does not say.

    rule: of config/bounces.toml, or "" where the shape of the message said it all.
    """

    recipient: str | None
    kind: Kind
    status: str
    reply: str
    original_message_id: str
    reason: str
    rule: str


def judge_report(report: Report, classifier: Classifier, provider: str = "") -> list[Judged]:
    """What this report means for each recipient it names; one row without recipient if it names none."""
    return [_judged(each, report, classifier, provider) for each in report.recipients]


def _judged(reported: Reported, report: Report, classifier: Classifier, provider: str) -> Judged:
    reason = reported.reason
    if report.nature is not Nature.BOUNCE:
        kind, rule = _BY_NATURE[report.nature], ""
    elif reported.action in _DONE:
        kind, rule, reason = "unknown", "", f"{reported.action}: no failure; {reason}".rstrip("; ")
    else:
        verdict = _verdict(reported, report, classifier, provider)
        kind, rule = _in_time(verdict.kind, reported), verdict.rule
    return Judged(
        recipient=reported.recipient, kind=kind, status=reported.status, reply=reported.reply,
        original_message_id=report.original_message_id, reason=reason or reported.status or report.subject, rule=rule,
    )  # fmt: skip


def _verdict(reported: Reported, report: Report, classifier: Classifier, provider: str) -> Verdict:
    status = reported.status or ("4.0.0" if reported.action == "delayed" else "")
    verdict = Verdict("unknown", "")
    # Words of a notice about several recipients may be about another one.
    words = report.words if len(report.recipients) == 1 else ""
    for text in (reported.reply, reported.reason, words):
        if text:
            found = classifier.judge(text, status=status, provider=provider)
            # The code alone is the last resort: words further on may say more.
            if found.kind != "unknown" and not found.rule.startswith("code-") and not _vague(found, status):
                return found
            if verdict.kind == "unknown":
                verdict = found
    if verdict.kind == "unknown" and status:
        return classifier.judge("", status=status, provider=provider)
    return verdict


def _vague(found: Verdict, status: str) -> bool:
    """It was the status that decided, and it is one of those that say only "failed" or "later"."""
    return found.rule == "status-soft" and status.endswith(".0.0")


def _in_time(kind: Kind, reported: Reported) -> Kind:
    """What may still arrive is soft; what failed for reasons that pass has run out of time."""
    temporary = reported.status.startswith("4") or reported.reply.startswith("4")
    if reported.action == "delayed":
        return "soft" if kind in ("hard", "expired", "unknown") else kind
    if reported.action == "failed" and temporary and kind in ("soft", "hard"):
        return "expired"
    return kind
