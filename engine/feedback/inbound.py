"""What comes back by mail: read, made events, and handed on where a person, or nobody, understands it.

    message -> what it says (protocol/bounces.py) -> whom it is about (finder.py) -> what that means (bounces.toml)
            -> handed on -> suppression -> event -> 250

S1  what follows from a message is on disk before its 250.
F1  whom a token names is certain, whatever the report says; so is what a trusted domain has signed (vouched.py), of a
    message that the ledger knows and a recipient that it went to. Anything else is recorded, and suppresses nobody. A
    report about several recipients proves nothing of any of them, nor does one that was forwarded, or not read to its
    end.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.log import escape
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.feedback.arrival import Arrival, Finding, Reading
from engine.feedback.finder import Finder
from engine.feedback.handing import HandOn
from engine.feedback.known import Known
from engine.feedback.leaving import Leaving
from engine.feedback.suppressor import Suppressor
from engine.intake.admission import NOT_STORED, Origin, Refused, Submission
from engine.intake.large import Incoming
from engine.intake.untaken import UntakenMail
from engine.message.address import AddressError
from engine.message.bounce_rules import Classifier
from engine.message.bounce_verdict import judge_report
from engine.message.ids import IdSource
from engine.message.return_path import Named
from engine.net.resolver import Lookup
from engine.protocol.bounce_report import Action, Nature, Report
from engine.protocol.bounces import read_report
from engine.storage.events.event import Event
from engine.storage.events.lines import noted_lines
from engine.storage.spool.spool import Spool

_log = logging.getLogger(__name__)

#: A longer message is read in a thread: a report takes a millisecond, and what it gives back may be long.
_LONG_BYTES = 32 << 10
#: Of a large message; 10,000 recipients with words and fields are half of it. What is not read is said.
_READ_BYTES = 12 << 20
#: Of that, what is kept while its events are written: ids that it answers are in its header.
_KEPT_BYTES = 256 << 10
_TEXT_CHARS = 1000
#: Lines of the log after which others have their turn.
_TURN = 100

_TYPES: dict[Nature, str] = {
    Nature.BOUNCE: "bounced", Nature.COMPLAINT: "complained", Nature.AUTO_REPLY: "auto-replied",
    Nature.CHALLENGE: "challenged", Nature.FEEDBACK: "feedback", Nature.AUTH_REPORT: "auth-reported",
    Nature.OTHER: "replied",
}  # fmt: skip
#: Reports that nothing failed, or not yet.
_NO_FAILURE: frozenset[Action] = frozenset(("delayed", "delivered", "relayed", "expanded"))


class Inbound:
    """See above. The admission of listeners of kind inbound."""

    def __init__(
        self, settings: Settings, spool: Spool, keys: Mapping[int, bytes], links: Mapping[int, bytes],
        classifier: Classifier, suppressor: Suppressor, ids: IdSource, clock: Clock, metrics: Metrics,
        log_line: Callable[[str], None], known: Known, dns: Lookup,
    ) -> None:  # fmt: skip
        """keys: of return paths (storage/secrets.py). links: of link tokens. dns: for the keys of signatures."""
        self._spool = spool
        self._ids = ids
        self._clock = clock
        self._inbound = metrics.inbound
        self._log_line = log_line
        self._known = known
        self._finder = Finder(known, dns)
        self._hand_on = HandOn(spool, metrics)
        self._suppressor = suppressor
        self._refused = UntakenMail("refused", clock)
        self._leaving = Leaving(known, suppressor, metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        self._large_reads = asyncio.Lock()  #: one at a time, or many would take the memory of all
        self.refusal = spool.refusal
        self.large = spool.large
        self.reload(settings, keys, links, classifier)

    def reload(
        self, settings: Settings, keys: Mapping[int, bytes], links: Mapping[int, bytes], classifier: Classifier
    ) -> None:
        """Use these from the next message on."""
        self._classifier = classifier
        self._leaving.reload(links)
        self._finder.reload(settings, keys)
        self._hand_on.reload(settings)
        self._rows = {row.domain: row for row in settings.inbound}

    async def submit(
        self, submission: Submission, content: bytes | Incoming, origin: Origin, framed: bool = False
    ) -> str:
        """Take a message: its id, once everything that follows is durable. Raises Refused."""
        refusal = self.refusal()
        if refusal is not None:
            raise Refused("storage", refusal)
        try:
            reading = await self._read(content)
            arrival = self._arrival(submission, reading)
            await self._known.look()
            left = (
                await self._leaving.left(arrival.recipient, arrival.sender, arrival.at, arrival.id)
                if _wants_to_leave(arrival)
                else None
            )
            events = [left] if left is not None else await self._follow(arrival, content, origin, framed)
            await self._spool.note(lambda seq: noted_lines(seq, events))
        except StorageError as exc:
            _log.error("what came back from <%s>: not accepted: %s", escape(submission.sender or ""), exc)
            raise Refused("storage", NOT_STORED) from exc
        for number, event in enumerate(events, 1):
            self._tell(arrival, event, origin)
            if number % _TURN == 0:
                await asyncio.sleep(0)
        return arrival.id

    def refused(self, submission: Submission, reason: str, reply: str, origin: Origin, recipient: str = "") -> None:
        """An event, unless it will come again (`storage`)."""
        event = self._refused.event(submission, reply, origin.client) if reason != "storage" else None
        if event is None:
            return
        named = next(
            filter(None, (self._finder.named(r.address.rpartition("@")[0]) for r in submission.recipients)), None
        )
        task = asyncio.get_running_loop().create_task(self._note_refused(event, named))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Before the spool is: events of what was refused."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _note_refused(self, event: Event, named: Named | None) -> None:
        """With whom it would have been about, where a token says so: nobody else will ever tell."""
        try:
            if named is not None:
                await self._known.look()
                sent = self._known.message(named.message)
                event = replace(
                    event, message=named.message, recipient=await self._known.recipient(named, sent), proof="token",
                    tenant=sent.tenant if sent is not None else "", stream=sent.stream if sent is not None else "",
                    batch=sent.batch if sent is not None else "",
                )  # fmt: skip
            await self._spool.note(lambda seq: noted_lines(seq, [event]))
        except StorageError as exc:
            _log.error("mail that was refused: no event: %s", exc)

    async def _read(self, content: bytes | Incoming) -> Reading:
        """Raises StorageError."""
        if isinstance(content, bytes):
            if len(content) < _LONG_BYTES:
                return self._reading(content, True)
            return await asyncio.to_thread(self._reading, content, True)
        content.end()
        async with self._large_reads:
            reading = await asyncio.to_thread(self._reading, *await content.beginning(_READ_BYTES))
        return reading._replace(data=reading.data[:_KEPT_BYTES])

    def _reading(self, data: bytes, whole: bool) -> Reading:
        report = read_report(data, whole=whole)
        return Reading(report, judge_report(report, self._classifier), data)

    # ---- whom it is about

    def _arrival(self, submission: Submission, reading: Reading) -> Arrival:
        """Of several recipients of ours one with a token counts: it knows most."""
        pairs = list(zip(submission.recipients, submission.destinations, strict=True))
        named: Named | None = None
        recipient, domain = pairs[0]
        for one, destination in pairs:
            if found := self._finder.named(one.address.rpartition("@")[0]):
                named, recipient, domain = found, one, destination
                break
        if named is None:
            named = self._finder.given_back(reading.report, self._rows[domain])
        return Arrival(
            self._ids.next(), self._clock.time(), submission.sender or "", recipient.address, self._rows[domain], named,
            *reading,
        )  # fmt: skip

    # ---- what follows

    async def _follow(self, arrival: Arrival, content: bytes | Incoming, origin: Origin, framed: bool) -> list[Event]:
        """What follows of a report or an answer, but its events. Raises StorageError, Refused."""
        findings = await self._finder.findings(arrival, whole=isinstance(content, bytes))
        events = [self._event(arrival, finding) for finding in findings]
        if _needs_people(arrival, findings):
            await self._hand_on.whole(arrival, content, origin, framed)
        for finding, event in zip(findings, events, strict=True):
            await self._suppress(arrival, finding, event, len(findings))
        return events

    def _event(self, arrival: Arrival, finding: Finding) -> Event:
        report, judged, sent = arrival.report, finding.judged, finding.sent
        kind = _TYPES[report.nature]
        if report.nature is Nature.BOUNCE and finding.action in _NO_FAILURE:
            kind = "reported"
        elif report.nature is Nature.OTHER and arrival.row.kind == "feedback":
            kind = "unread"
        return Event(
            id="", at=int(arrival.at * 1000) / 1000, type=kind, message=finding.message, message_class="",
            sender=arrival.sender, recipient=finding.recipient, destination=arrival.recipient, status=judged.status,
            reply=(judged.reply or judged.reason)[:_TEXT_CHARS],
            kind=report.feedback_type or (judged.kind if kind != "replied" else ""), proof=finding.proof,
            answer=arrival.id, text=_words_of(report),
            tenant=sent.tenant if sent is not None else "", stream=sent.stream if sent is not None else "",
            batch=sent.batch if sent is not None else "", truncated=report.truncated,
        )  # fmt: skip

    async def _suppress(self, arrival: Arrival, finding: Finding, event: Event, recipients: int) -> None:
        if event.type not in ("bounced", "complained") or not finding.proof:
            return
        # Of a message that the ledger has not, or no more, nobody knows for which tenant it was.
        sent = finding.sent
        tenant = sent.tenant if sent is not None else None
        try:
            await self._suppressor.judge(
                finding.recipient, tenant, sent.stream if sent is not None else "", finding.judged.kind, event.reply,
                arrival.at, bool(finding.proof), message=finding.message, recipients=recipients,
            )  # fmt: skip
        except AddressError as exc:
            _log.error("%s: %s: not suppressed: %s", arrival.id, finding.recipient, exc)

    def _tell(self, arrival: Arrival, event: Event, origin: Origin) -> None:
        self._inbound.labels(event.type, event.kind).inc()
        proof = {"token": ", signed", "dkim": ", vouched for"}.get(event.proof, "")
        text = (
            f"{arrival.id}: client={origin.client}, from=<{arrival.sender}>, to=<{arrival.recipient}>, {event.type}"
            f"{f' ({event.kind})' if event.kind else ''}, message={event.message or 'unknown'}, "
            f"recipient=<{event.recipient}>{proof}{', truncated' if event.truncated else ''}: {event.reply}"
        )
        self._log_line(text if text.isprintable() else escape(text))


def _wants_to_leave(arrival: Arrival) -> bool:
    """A system that writes to the address of List-Unsubscribe wants nothing: a vacation note, a bounce."""
    return arrival.row.kind == "unsubscribe" and arrival.report.nature is Nature.OTHER and bool(arrival.sender)


def _needs_people(arrival: Arrival, findings: Sequence[Finding]) -> bool:
    """Somebody should see it: a person wrote it, or it could not be read, or nobody knows whom it is about."""
    if arrival.report.nature is Nature.OTHER or arrival.is_quoted:
        return True
    return not any(finding.recipient or finding.message for finding in findings)


def _words_of(report: Report) -> str:
    """What a person wrote; a system's words are in `reply`."""
    return report.words[:_TEXT_CHARS] if report.nature in (Nature.OTHER, Nature.AUTO_REPLY) else ""
