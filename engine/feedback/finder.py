"""Whom what came back is about, and how certain that is.

    token     in the address it came to: of a bounce, an answer, or a complaint. Of a complaint that came elsewhere, in
              what a feedback report gives back of our envelope or header; never in a body, or in words for people
    Message-ID, and a signature of somebody who is trusted (vouched.py)
    Message-ID alone: anybody can write it, so that it proves nothing

A refusal that a report gives back and that names us is not about the recipient (delivery/ours.py).
"""

import re
from collections.abc import Mapping, Sequence

from engine.base.settings import Inbound as Row
from engine.base.settings import Settings
from engine.delivery.ours import Ours
from engine.feedback.arrival import REPORTS, Arrival, Finding, Proof
from engine.feedback.known import Known, spellings
from engine.feedback.vouched import vouched_for
from engine.message.address import AddressError, comparable
from engine.message.bounce_verdict import Judged
from engine.message.header_ids import answered_by
from engine.message.headers import reframe
from engine.message.return_path import Named, ReturnPaths
from engine.net.resolver import Lookup
from engine.protocol.bounce_report import Nature, Report
from engine.storage.ledger.sent import Sent

#: Domains of these kinds take complaints.
_FOR_COMPLAINTS = ("feedback", "return-path")
_FEEDBACK = (Nature.COMPLAINT, Nature.FEEDBACK)


class Finder:
    """See above. `reload` before anything else. Methods raise StorageError."""

    def __init__(self, known: Known, dns: Lookup) -> None:
        """dns: for the keys of signatures."""
        self._known = known
        self._dns = dns

    def reload(self, settings: Settings, keys: Mapping[int, bytes]) -> None:
        """keys: of return paths. Use these from the next message on."""
        self._paths = ReturnPaths(keys)
        self._domains = frozenset(row.domain for row in settings.inbound if row.kind == "return-path")
        self._own_id = re.compile(rf"<([0-9A-Za-z]{{14}})@{re.escape(settings.node.name)}>")
        self._ours = Ours(settings)

    def named(self, local_part: str) -> Named | None:
        """By the token of an address."""
        return self._paths.named(local_part)

    def given_back(self, report: Report, row: Row) -> Named | None:
        """By the tokens that a feedback report gives back; nobody else can make one. None: by none, or by several."""
        if report.nature not in _FEEDBACK or not report.feedback or row.kind not in _FOR_COMPLAINTS:
            return None
        found: dict[tuple[str, str, bytes], Named] = {}
        for path in report.return_paths:
            local, _, domain = path.rpartition("@")
            if domain.lower() in self._domains and (named := self._paths.named(local)):
                found[named.message, named.recipient.lower(), named.mark] = named
        return next(iter(found.values())) if len(found) == 1 else None

    async def findings(self, arrival: Arrival, *, whole: bool) -> list[Finding]:
        """What the report says, of whom, and whether that is certain. whole: all of it is in memory."""
        found = await self._findings(arrival, whole)
        return [self._without_us(each) for each in found] if arrival.report.nature is Nature.BOUNCE else found

    async def _findings(self, arrival: Arrival, whole: bool) -> list[Finding]:
        judged, named = arrival.judged, arrival.named
        if named is None:
            return await self._unnamed(arrival, whole)
        sent = await self._known.message_soon(named.message)
        names = spellings(sent)
        findings = [
            Finding(_named(each, names), named.message, each, reported.action, "", sent)
            for each, reported in zip(judged, arrival.report.recipients, strict=True)
        ]
        if len(judged) > 1:
            return findings
        recipient = await self._known.recipient(named, sent)
        proof: Proof = "token" if recipient and _is_the_systems_own(arrival) else ""
        if self._is_about_us(judged[0], recipient, sent):
            proof = ""
        return [findings[0]._replace(recipient=recipient or findings[0].recipient, proof=proof)]

    def _is_about_us(self, judged: Judged, recipient: str, sent: Sent | None) -> bool:
        """Its one recipient is the sender of the message, or an address of a return path: that one failed, not he."""
        try:
            failed = comparable(judged.recipient or "")
            sender = comparable(sent.sender) if sent is not None else ""
            own = failed == sender or failed.rpartition("@")[2] in self._domains
            return bool(failed) and own and failed != comparable(recipient)
        except AddressError:
            return False

    async def _unnamed(self, arrival: Arrival, whole: bool) -> list[Finding]:
        """By the ids that it gives back, which anybody can write, unless somebody vouches for the report."""
        report, judged = arrival.report, arrival.judged
        ids = [report.original_message_id.strip("<> ")] if report.original_message_id else []
        if report.nature not in REPORTS:
            ids += answered_by(arrival.data)
        to = (judged[0].recipient or "") if report.nature in REPORTS else arrival.sender
        sent = self._known.answered(ids, to)
        own = self._own_id.search(report.original_message_id) if sent is None else None
        message = sent.id if sent is not None else own[1] if own else ""
        findings = [
            Finding(recipient, message, each, reported.action, "", sent)
            for recipient, each, reported in zip(
                self._recipients(arrival, sent), judged, report.recipients, strict=True
            )
        ]
        if report.forwarded or report.truncated:
            return findings
        if whole and sent is not None and len(findings) == 1 and findings[0].recipient.lower() in spellings(sent):
            trusted = arrival.row.trusted
            if report.nature in REPORTS and await vouched_for(reframe(arrival.data), trusted, self._dns):
                return [findings[0]._replace(proof="dkim")]
        return findings

    def _recipients(self, arrival: Arrival, sent: Sent | None) -> Sequence[str]:
        """Of each of `judged`. Where none is named: who answers, if it went to him, or the only one it went to."""
        names, report = spellings(sent), arrival.report
        only = self._known.only_recipient(sent)
        other = names.get(arrival.sender.lower(), "") or only
        found = [_named(each, names) or other for each in arrival.judged]
        # A provider redacts the address of who complains; what is left, the header's To, may say anything.
        if report.presumed and only and found[0].lower() not in names:
            return [only]
        return found

    def _without_us(self, finding: Finding) -> Finding:
        judged, sent = finding.judged, finding.sent
        if judged.kind != "hard":
            return finding
        words = judged.reply or judged.reason
        if judged.recipient:
            words = words.replace(judged.recipient, " ")
        if not self._ours.are_in(words, sent.sender if sent is not None else "", finding.recipient):
            return finding
        return finding._replace(judged=judged._replace(kind="config"))


def _named(judged: Judged, names: Mapping[str, str]) -> str:
    """The recipient that a report names, in the case he was sent to."""
    return names.get((judged.recipient or "").lower(), judged.recipient or "")


def _is_the_systems_own(arrival: Arrival) -> bool:
    """A system said it, of what it has seen itself, in the form for that, and all of it was read."""
    report = arrival.report
    if report.nature in _FEEDBACK and not (report.feedback and arrival.row.kind in _FOR_COMPLAINTS):
        return False
    return not (arrival.is_quoted or report.forwarded or report.truncated)
