"""Admission: the step between a client's message and the spool, the same for every kind of intake.

It gives the message its id, completes its header, splits it by destination (one content, one delivery per
destination; those who are suppressed in deliveries of their own) and hands it to the store. S1: `submit` returns only
after the store said durable.

Nothing here knows SMTP but the shape of the replies, which other intakes translate.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from engine.base.clock import Clock
from engine.base.errors import EngineError, StorageError
from engine.base.log import escape
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.intake.large import Incoming, LargeWriter
from engine.message.content import Content
from engine.message.envelope import Envelope, MessageClass, Recipient, Track
from engine.message.headers import HeaderError, admit_header, reframe
from engine.message.ids import IdSource

_log = logging.getLogger(__name__)
_LABELS: Final = {MessageClass.TRANSACTIONAL: "transactional", MessageClass.BULK: "bulk"}

NOT_STORED: Final = "451 4.3.0 The message could not be stored, try again later"

Splits = Sequence[tuple[str, tuple[int, ...]]]  #: destination -> indexes into Envelope.recipients


class Unwanted(Protocol):
    """Who must not be sent to."""

    def mail(self, address: str, tenant: str = "", stream: str = "") -> bool:
        """Whether no mail may be sent there. Raises StorageError."""


class MessageStore(Protocol):
    """What admission needs of the spool."""

    def accept(self, envelope: Envelope, content: Content, splits: Splits, *, unwanted: int = 0) -> Awaitable[None]:
        """Keep the message; the awaitable is done when it is durable (S1). Raises StorageError.

        unwanted: the last so many of `splits` must not be sent to, and are settled at once.
        """

    def large(self) -> LargeWriter:
        """Where a content goes that arrives in pieces, before it is accepted."""

    def refusal(self) -> str | None:
        """The reply for new messages while the disk guard is on, as "452 4.3.1 ..."; else None."""


@mypyc_attr(native_class=False)
class Refused(EngineError):
    """A message that is not taken. `reply`: "554 5.4.6 ...", for the client; `reason`: a word for the metric."""

    def __init__(self, reason: str, reply: str) -> None:
        super().__init__(reply)
        self.reason = reason
        self.reply = reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where messages come from; the same for all of a session.

    client: "name[address]", for log and envelope. user: authenticated login or "". trace: what goes between
    "Received: " and the id, as "from a.example (unknown [192.0.2.1])\\r\\n\\tby mx.example with ESMTP id ".
    """

    client: str
    trace: bytes
    user: str = ""
    default_class: MessageClass = MessageClass.BULK


class Submission:
    """What a client asks for, as it comes together. sender: None until it is known, "" for the null sender."""

    __slots__ = ("destinations", "envid", "recipients", "ret", "sender", "smtputf8")

    def __init__(self) -> None:
        self.sender: str | None = None
        self.recipients: list[Recipient] = []
        self.destinations: list[str] = []  #: of each recipient
        self.ret = ""
        self.envid = ""
        self.smtputf8 = False


class Admits(Protocol):
    """What a session hands its messages to: Admission, or feedback.inbound.Inbound for what comes back."""

    def refusal(self) -> str | None: ...

    def large(self) -> LargeWriter: ...

    async def submit(
        self, submission: Submission, content: bytes | Incoming, origin: Origin, framed: bool = False
    ) -> str: ...

    def refused(self, submission: Submission, reason: str, reply: str, origin: Origin, recipient: str = "") -> None:
        """A session told its client that a message is not taken, whether it or `submit` refused it; of a client that
        may submit, also that a recipient is not. reason, reply: as of `Refused`. recipient: as the client wrote him."""


class Tells(Protocol):
    """Who writes down what was refused (untaken.py)."""

    def tell(self, submission: Submission, reply: str, origin: Origin, recipient: str) -> None: ...


class Admission:
    """Turns submissions into messages in the store. log_line: takes one line per accepted message.

    provider_of: the receiver's name for the metrics, by destination; cheap. level_of: the most that links of a batch
    may tell.
    """

    def __init__(
        self,
        store: MessageStore,
        ids: IdSource,
        clock: Clock,
        metrics: Metrics,
        settings: Settings,
        log_line: Callable[[str], None],
        provider_of: Callable[[str], str],
        suppressions: Unwanted | None = None,
        level_of: Callable[[str], Track] | None = None,
        rejections: Tells | None = None,
    ) -> None:
        self._store = store
        self._rejections = rejections
        self._ids = ids
        self._clock = clock
        self._log_line = log_line
        self.refusal = store.refusal
        self.large = store.large
        self._accepted = [metrics.accepted.labels(_LABELS[c]).inc for c in MessageClass]
        self._accepted_recipients = metrics.accepted_recipients
        self._provider_of = provider_of
        self._suppressions = suppressions
        self._level_of = level_of
        self._counters: dict[tuple[str, MessageClass], Callable[[float], None]] = {}
        self._second = -1
        self._date = b""
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use other settings from the next message on."""
        self._max_header_bytes = settings.intake.max_header_bytes
        self._max_received = settings.intake.max_received
        self._node = settings.node.name.encode()
        # What is off for all is on for none; a word of the settings is not asked for with each message.
        links = settings.tracking.base_url or settings.click_domain
        self._most_track = Track[settings.tracking.level.upper()] if links else Track.NONE
        self._track = self._most_track.word
        # By MessageClass.
        self._expire_after = (float(settings.retry.transactional.expire_after), float(settings.retry.expire_after))

    async def submit(
        self, submission: Submission, content: bytes | Incoming, origin: Origin, framed: bool = False
    ) -> str:
        """Accept a message: its id, once it is durable. Raises Refused.

        submission: with sender and recipients, no longer changed. content: an Incoming for a large one, all of it fed.
        framed: the content has CRLF and nothing else; not looked at for a large one, which has.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise Refused("storage", refusal)
        now = self._clock.time()
        message_id = self._ids.next()
        recipients, splits = _split(submission)
        single = recipients[0].address.encode() if len(recipients) == 1 else b""
        date = self._date_at(int(now))
        id_bytes = message_id.encode()
        if isinstance(content, bytes):
            head = content if framed else reframe(content)
        else:
            content.end()
            head = content.head
        try:
            admitted = admit_header(
                head,
                b"Received: %b%b%b;\r\n\t%b\r\n"
                % (origin.trace, id_bytes, b"\r\n\tfor <%b>" % single if single else b"", date),
                b"Date: %b\r\n" % date,
                b"Message-ID: <%b@%b>\r\n" % (id_bytes, self._node),
                self._max_header_bytes,
                self._max_received,
            )
        except HeaderError as exc:
            raise Refused(exc.reason, exc.reply) from exc
        admitted_head, header_from, utf8_header, seven_bit, asked = admitted
        chosen, batch, tenant, stream, track = asked
        if batch and self._level_of is not None:
            level = self._level_of(batch)
            track = level if track is None else min(track, level)
        unwanted = 0
        if self._suppressions is not None:
            try:
                splits, unwanted = _apart(self._suppressions, recipients, splits, tenant or origin.user, stream)
            except StorageError as exc:
                raise _not_stored(message_id, exc) from exc
        whole: Content = admitted_head
        if not isinstance(content, bytes):
            seven_bit = seven_bit and content.seven_bit
            try:
                whole = await content.finish(admitted_head)
            except StorageError as exc:
                raise _not_stored(message_id, exc) from exc
        message_class = origin.default_class if chosen is None else chosen
        sender = submission.sender or ""
        envelope = Envelope(
            id=message_id,
            sender=sender,
            recipients=recipients,
            received_at=now,
            expires_at=now + self._expire_after[message_class],
            content_bytes=len(whole),
            message_class=message_class,
            body="7BIT" if seven_bit else "8BITMIME",
            # Asked for and needed: a receiver without SMTPUTF8 may have what is plain ASCII.
            smtputf8=submission.smtputf8 and (utf8_header or not _is_ascii(sender, recipients)),
            ret=submission.ret,
            envid=submission.envid,
            client=origin.client,
            user=origin.user,
            header_from=header_from,
            batch=batch,
            tenant=tenant,
            stream=stream,
            track=self._track if track is None else min(track, self._most_track).word,
        )
        try:
            await self._store.accept(envelope, whole, splits, unwanted=unwanted)
        except StorageError as exc:
            raise _not_stored(message_id, exc) from exc
        self._accepted[message_class]()
        for destination, indexes in splits:
            self._count(self._provider_of(destination), message_class, len(indexes))
        self._log(envelope)
        return message_id

    def refused(self, submission: Submission, reason: str, reply: str, origin: Origin, recipient: str = "") -> None:
        """The client was told, and it is the client's message; whoever reads the events may be somebody else."""
        if self._rejections is not None:
            self._rejections.tell(submission, reply, origin, recipient)

    def _count(self, provider: str, message_class: MessageClass, recipients: int) -> None:
        count = self._counters.get((provider, message_class))
        if count is None:
            count = self._accepted_recipients.labels(provider, _LABELS[message_class]).inc
            self._counters[provider, message_class] = count
        count(recipients)

    def _date_at(self, second: int) -> bytes:
        """The date of RFC 5322 3.3, made once a second."""
        if second != self._second:
            self._second = second
            self._date = f"{formatdate(second)[:-5]}+0000".encode()
        return self._date

    def _log(self, envelope: Envelope) -> None:
        text = (
            f"{envelope.id}: client={envelope.client}, from=<{envelope.sender}>, size={envelope.content_bytes}, "
            f"nrcpt={len(envelope.recipients)}, class={_LABELS[MessageClass(envelope.message_class)]}"
        )
        if envelope.batch:
            text += f", batch={envelope.batch}"
        if envelope.tenant:
            text += f", tenant={envelope.tenant}"
        if envelope.stream:
            text += f", stream={envelope.stream}"
        if envelope.user:
            text += f", sasl_username={envelope.user}"
        self._log_line(text if text.isprintable() else escape(text))


def _not_stored(message_id: str, error: StorageError) -> Refused:
    _log.error("%s: not accepted: %s", message_id, error)
    return Refused("storage", NOT_STORED)


def _is_ascii(sender: str, recipients: Sequence[Recipient]) -> bool:
    return sender.isascii() and all(recipient.address.isascii() for recipient in recipients)


def _apart(
    suppressions: Unwanted, recipients: Sequence[Recipient], splits: Splits, tenant: str, stream: str
) -> tuple[Splits, int]:
    """Splits with those who must not be sent to in splits of their own, at the end; and how many these are.

    They are part of the message, as the client was told, and each has its events; nobody waits for a connection to
    settle them. Raises StorageError.
    """
    refused = {n for n, recipient in enumerate(recipients) if suppressions.mail(recipient.address, tenant, stream)}
    if not refused:
        return splits, 0
    wanted = [(name, rest) for name, indexes in splits if (rest := tuple(n for n in indexes if n not in refused))]
    others = [(name, rest) for name, indexes in splits if (rest := tuple(n for n in indexes if n in refused))]
    return wanted + others, len(others)


def _split(submission: Submission) -> tuple[tuple[Recipient, ...], Splits]:
    """The recipients, each address once (the first mention counts), and their indexes by destination."""
    if len(submission.recipients) == 1:
        return (submission.recipients[0],), ((submission.destinations[0], (0,)),)
    recipients: list[Recipient] = []
    groups: dict[str, list[int]] = {}
    seen: set[tuple[str, str]] = set()
    for recipient, destination in zip(submission.recipients, submission.destinations, strict=True):
        # The local part counts as it is written, the domain as what it means.
        key = (recipient.address.rpartition("@")[0], destination)
        if key in seen:
            continue
        seen.add(key)
        groups.setdefault(destination, []).append(len(recipients))
        recipients.append(recipient)
    return tuple(recipients), [(destination, tuple(indexes)) for destination, indexes in groups.items()]
