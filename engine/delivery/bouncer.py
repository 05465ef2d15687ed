"""Who is told what became of a message, and the notification itself as a message of our own.

A notification has the null sender, and a message from the null sender is never answered: there is no bounce of a
bounce. It goes through the spool and the queues like any other message, signed by the key of this node's domain.

Which recipients are in it (RFC 3461 4.1, 5.2): NEVER, none. SUCCESS, FAILURE, DELAY, those who asked for it. Without
NOTIFY: failures, and delays where the settings say so.
"""

from collections.abc import Sequence
from typing import Final

from engine.base.clock import Clock
from engine.base.settings import Settings
from engine.base.units import format_duration
from engine.delivery.report import Report
from engine.message.address import destination_of
from engine.message.content import Content, head_of
from engine.message.envelope import Envelope, MessageClass, Notify, Recipient
from engine.message.ids import IdSource
from engine.message.outcome import Outcome, Status
from engine.protocol.dsn import Action, Dsn, DsnRecipient, build_dsn

_REPORTED: Final[dict[Action, frozenset[Status]]] = {
    "failed": frozenset({Status.FAILED, Status.EXPIRED, Status.SUPPRESSED}),
    "delayed": frozenset({Status.DEFERRED, Status.UNKNOWN}),
    "delivered": frozenset({Status.DELIVERED}),
    "relayed": frozenset({Status.DELIVERED}),
    "expanded": frozenset({Status.DELIVERED}),
}
_ASKED: Final[dict[Action, Notify]] = {"failed": Notify.FAILURE, "delayed": Notify.DELAY}


class Bouncer:
    """Composes notifications. Pure but for ids and the clock; the caller hands them to the spool."""

    def __init__(self, settings: Settings, ids: IdSource, clock: Clock) -> None:
        self._ids = ids
        self._clock = clock
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self._settings = settings
        node = settings.node.name
        self._from = settings.dsn.postmaster or f"MAILER-DAEMON@{node}"
        self._from_domain = self._from.rpartition("@")[2].lower()

    def wants(self, envelope: Envelope, outcome: Outcome, action: Action) -> bool:
        """Whether the sender is told of this outcome. Cheap: to be asked before the content is loaded."""
        if not envelope.sender or outcome.status not in _REPORTED[action]:
            return False
        return self._is_asked(envelope.recipients[outcome.index], action)

    def tells_of_delay(self, envelope: Envelope, indexes: Sequence[int]) -> bool:
        """Whether its sender is to hear if one of these recipients has to wait."""
        if not envelope.sender or envelope.channel:
            return False
        return any(self._is_asked(envelope.recipients[n], "delayed") for n in indexes)

    def reports(
        self, envelope: Envelope, content: Content, outcomes: Sequence[Outcome], action: Action
    ) -> Sequence[Report]:
        """What is to be sent about these outcomes: one notification, or none."""
        made = self.compose(envelope, content, outcomes, action)
        return [] if made is None else [Report(*made, destination_of(envelope.sender))]

    def compose(
        self, envelope: Envelope, content: Content, outcomes: Sequence[Outcome], action: Action
    ) -> tuple[Envelope, bytes] | None:
        """One notification about all recipients of a delivery that the sender is to be told of; None if there is none.

        outcomes: those of one attempt, of any status; `action` picks those it fits.
        """
        reported = [outcome for outcome in outcomes if self.wants(envelope, outcome, action)]
        if not reported:
            return None
        now = self._clock.time()
        message_id = self._ids.next()
        settings = self._settings
        built = build_dsn(
            Dsn(
                action=action,
                message_id=f"<{message_id}@{settings.node.name}>",
                date=now,
                sender=(settings.dsn.sender_name, self._from),
                to=envelope.sender,
                reporting_mta=settings.node.name,
                arrived_at=envelope.received_at,
                recipients=[self._recipient(envelope, outcome, now) for outcome in reported],
                envelope_id=envelope.envid,
                return_content=self._returns_content(envelope, content, action),
            ),
            head_of(content),
        )
        notification = Envelope(
            id=message_id,
            sender="",
            recipients=(Recipient(envelope.sender, notify=int(Notify.NEVER)),),
            received_at=now,
            expires_at=now + settings.retry.transactional.expire_after,
            content_bytes=len(built.content),
            message_class=int(MessageClass.TRANSACTIONAL),
            body=built.body,
            smtputf8=built.smtputf8,
            header_from=self._from_domain,
        )
        return notification, built.content

    def _is_asked(self, recipient: Recipient, action: Action) -> bool:
        """For a report of this kind, by the client or by the settings."""
        notify = recipient.notify
        if notify == Notify.UNSET:
            return action == "failed" or (action == "delayed" and self._settings.dsn.delay_by_default)
        return bool(notify & _ASKED.get(action, Notify.SUCCESS)) and not notify & Notify.NEVER

    def _returns_content(self, envelope: Envelope, content: Content, action: Action) -> bool:
        """RFC 3461 4.3: RET is about failures, other reports carry headers only; and ours bounds what it sends back.

        Binary content is never returned: a notification could then only go to hosts that take BINARYMIME. Nor is a
        large one: a notification is made in memory.
        """
        small = isinstance(content, bytes) and len(content) <= self._settings.dsn.max_return_bytes
        return action == "failed" and envelope.ret != "HDRS" and small and envelope.body != "BINARYMIME"

    def _recipient(self, envelope: Envelope, outcome: Outcome, now: float) -> DsnRecipient:
        recipient = envelope.recipients[outcome.index]
        return DsnRecipient(
            address=recipient.address,
            original=recipient.orcpt,
            status=outcome.status_code,
            remote=outcome.remote,
            diagnostic=outcome.reply,
            explanation=_explanation(envelope, outcome),
            last_attempt_at=None if outcome.phase == "queue" else now,
            will_retry_until=envelope.expires_at,
        )


def _explanation(envelope: Envelope, outcome: Outcome) -> str:
    """The reason as a sentence for the sender."""
    if outcome.status is Status.EXPIRED:
        kept = format_duration(max(0.0, envelope.expires_at - envelope.received_at))
        last = outcome.reply.removeprefix("message expired").removeprefix("; last: ")
        what = "answer" if _is_answer(last) else "trouble"
        return f"Given up after {kept}." + (f" The last {what} was: {_said(outcome, last)}" if last else "")
    said = _said(outcome, outcome.reply)
    if outcome.status is Status.UNKNOWN:
        return f"The connection broke before the answer came, so it may have arrived: {said}"
    return said


def _said(outcome: Outcome, words: str) -> str:
    host = outcome.remote.partition("[")[0]
    return f"{host} answered: {words}" if host not in ("", "none") and _is_answer(words) else words


def _is_answer(words: str) -> bool:
    """A server said it, and not we."""
    return words[:3].isdecimal()
