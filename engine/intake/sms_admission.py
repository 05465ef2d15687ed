"""Admission of SMS: the step between an application's request and the spool, the same for SMPP and HTTP.

    may it, is there room -> who may have it -> parts and quota -> carriers -> the spool

It is all done in one turn of the loop, so that a listener needs no task for a message. S1: the client may be told of
`Admitted.message_id` once `Admitted.stored` is done.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from msgspec.structs import replace

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.log import escape
from engine.base.metrics import Metrics
from engine.base.settings import Account, Settings
from engine.base.stored import Stored
from engine.delivery.sms_render import CarrierRules
from engine.intake.sms_links import SmsLinks
from engine.intake.sms_refusal import REASONS, SmsRefused
from engine.message.channels import CHANNEL, carrier_key
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.ids import IdSource
from engine.message.number import INTERNATIONAL, sender_fields
from engine.message.sms import Sms, encode_sms
from engine.protocol.sms_text import TextTooLong

_log = logging.getLogger(__name__)
_LABELS: Final[dict[int, str]] = {MessageClass.TRANSACTIONAL: "transactional", MessageClass.BULK: "bulk"}

#: A queue has 32 bits for a time, and nobody plans further; a later validity is no promise that could be kept.
LONGEST_S: Final = 366 * 86400.0

#: SMPP 3.4 5.2.5: abbreviated. 5.2.6.
_HIGHEST_TON: Final = 6
_NPIS: Final = frozenset((0, 1, 3, 4, 6, 8, 9, 10, 13, 14, 18))  # 13: what some have for the internet, 14

Splits = Sequence[tuple[str, tuple[int, ...]]]  #: destination -> indexes into Envelope.recipients
Number = tuple[str, int, int]  #: as the client wrote it, TON, NPI


class SmsStore(Protocol):
    """What admission needs of the spool."""

    def accept(
        self, envelope: Envelope, content: bytes, splits: Splits, keep: bool = False, due_at: float | None = None
    ) -> Stored:
        """Keep the message; done when it is durable (S1). Fails with StorageError."""

    def refusal(self) -> str | None:
        """Why nothing is taken now; else None."""


class Routes(Protocol):
    """Which carriers may have a message (routing.sms_routes)."""

    def carriers(self, number: str, sender: str, message_class: int) -> Sequence[str]:
        """Their names, the one to prefer first; none: nobody may."""


class Quota(Protocol):
    """storage.tables.sms_quota."""

    def used(self, account: str, at: float) -> int: ...

    def add(self, account: str, parts: int, at: float) -> None: ...


#: The number as it is sent, "+447700900123" or a short code. Raises ValueError: it is none.
Normalise = Callable[[str, int, int], str]


@dataclass(slots=True, kw_only=True)
class SmsRequest:
    """What an application wants sent. sms: what is to be said; its source, validity and schedule are set from here.

    account: its row, None: a client that has none. sender: as the client wrote it, with its kind; 0: by how it looks.
    validity, schedule: unix seconds; 0: none. message_class: None: what the account's are. client: for the log.
    """

    numbers: Sequence[Number]
    sms: Sms
    sender: str = ""
    sender_ton: int = 0
    sender_npi: int = 0
    account: Account | None = None
    validity: float = 0.0
    schedule: float = 0.0
    message_class: MessageClass | None = None
    batch: str = ""
    client: str = ""


class Admitted:
    """stored: done when it is durable; fails with StorageError. refused: numbers, by their place in the request, that
    are not among the recipients. parts: of all recipients together."""

    __slots__ = ("message_id", "parts", "refused", "stored")

    def __init__(self, message_id: str, stored: Stored, refused: Sequence[tuple[int, SmsRefused]], parts: int) -> None:
        self.message_id = message_id
        self.stored = stored
        self.refused = refused
        self.parts = parts


class SmsAdmission:
    """See above. suppressed: whether (sender, number, tenant) must not be sent to; raises StorageError.

    log_line: takes one line per message.
    """

    def __init__(
        self,
        store: SmsStore,
        ids: IdSource,
        clock: Clock,
        metrics: Metrics,
        settings: Settings,
        log_line: Callable[[str], None],
        routes: Routes,
        normalise: Normalise,
        quota: Quota,
        suppressed: Callable[[str, str, str], bool] = lambda sender, number, tenant: False,
        links: SmsLinks | None = None,
    ) -> None:
        """links: None: those of texts stay as they are. Raises ConfigError: rules of a carrier that cannot be."""
        self._links = links
        self._store = store
        self._ids = ids
        self._clock = clock
        self._log_line = log_line
        self._routes = routes
        self._normalise = normalise
        self._quota = quota
        self._suppressed = suppressed
        self._accepted = [metrics.accepted.labels(_LABELS[c]).inc for c in MessageClass]
        self._accepted_recipients = metrics.accepted_recipients
        self._counters: dict[tuple[str, int], Callable[[float], None]] = {}
        self.refused = {reason: metrics.rejected.labels(f"sms-{reason}").inc for reason in REASONS}
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use other settings from the next message on. Raises ConfigError, and nothing changes."""
        self._rules = {row.name: CarrierRules(row) for row in settings.carrier}
        self._expire_after = (float(settings.retry.transactional.expire_after), float(settings.retry.expire_after))

    def submit(self, request: SmsRequest) -> Admitted:
        """Have a message stored. Raises SmsRefused: none of its numbers can have it; that is counted here."""
        try:
            return self._submit(request)
        except SmsRefused as exc:
            self.refused[exc.reason]()
            raise

    def parts(self, carrier: str, sms: Sms) -> int:
        """How many a carrier makes of it. Raises SmsRefused: more than it takes, or the carrier is gone."""
        rules = self._rules.get(carrier)
        if rules is None:
            raise SmsRefused("ESME_RINVDSTADR", "route", f"no carrier {carrier}")
        try:
            return rules.parts(sms if self._links is None else self._links.placed(sms, 0))
        except TextTooLong as exc:
            raise SmsRefused("ESME_RINVMSGLEN", "length", str(exc)) from exc

    def shortened(self, sms: Sms, account: Account | None, recipients: int, batch: str = "") -> Sms:
        """With numbers for its links, where they are to be short; they count once `note` is done. Raises SmsRefused."""
        if self._links is None:
            return sms
        try:
            return self._links.shortened(sms, account, recipients, batch)
        except StorageError as exc:
            raise SmsRefused("ESME_RMSGQFUL", "storage", str(exc)) from exc

    async def note_links(self, envelope: Envelope, sms: Sms) -> None:
        """Of a message that is stored elsewhere: on disk when done."""
        if self._links is not None and sms.short is not None:
            await self._links.note(envelope, sms)

    def expires_at(self, validity: float, start: float, message_class: int) -> float:
        """When what is due at `start` is given up. validity: unix seconds; 0: none. Raises SmsRefused."""
        if not validity:
            return start + self._expire_after[message_class]
        if validity <= start:
            raise SmsRefused("ESME_RINVEXPIRY", "syntax", "valid until before it would be sent")
        return min(validity, start + LONGEST_S)

    @staticmethod
    def check_schedule(due_at: float, now: float) -> None:
        """Raises SmsRefused."""
        if due_at > now + LONGEST_S:
            raise SmsRefused("ESME_RINVSCHED", "syntax", "scheduled for more than a year ahead")

    def _submit(self, request: SmsRequest) -> Admitted:
        refusal = self._store.refusal()
        if refusal is not None:
            raise SmsRefused("ESME_RMSGQFUL", "storage", refusal)
        now = self._clock.time()
        account = request.account
        message_class = request.message_class
        if message_class is None:
            message_class = MessageClass[account.message_class.upper()] if account is not None else MessageClass.BULK
        due_at, expires_at = self._times(request, now, message_class)
        sms, sender = _with_sender(request, self._normalise)
        found, refused = self._recipients(request, sender, message_class)
        sms = self.shortened(sms, account, len(found), request.batch)
        recipients, splits, parts = self._split(found, sms)
        self.charge(account, parts, now)
        if request.validity or due_at is not None:
            sms = replace(sms, validity=expires_at if request.validity else 0.0, schedule=due_at or 0.0)
        content = encode_sms(sms)
        envelope = Envelope(
            self._ids.next(), sender, recipients, now, expires_at, len(content), message_class,
            client=request.client, user=account.system_id if account is not None else "", batch=request.batch,
            channel=CHANNEL,
        )  # fmt: skip
        stored = self._store.accept(envelope, content, splits, due_at=due_at)
        if sms.short is not None and self._links is not None:
            stored = _with_links(stored, self._links.note(envelope, sms))
        stored.add_done_callback(partial(self._stored, envelope, splits, parts, account))
        for _, exc in refused:
            self.refused[exc.reason]()
        return Admitted(envelope.id, stored, refused, parts)

    # ---- steps

    def _times(self, request: SmsRequest, now: float, message_class: MessageClass) -> tuple[float | None, float]:
        """When it is due, if not now, and when it is given up."""
        due_at = request.schedule if request.schedule > now else None
        if due_at is not None:
            self.check_schedule(due_at, now)
        return due_at, self.expires_at(request.validity, due_at or now, message_class)

    def _recipients(
        self, request: SmsRequest, sender: str, message_class: MessageClass
    ) -> tuple[dict[str, str], list[tuple[int, SmsRefused]]]:
        """The carrier of each number, once, and the places of those that nobody may send to."""
        found: dict[str, str] = {}
        refused: list[tuple[int, SmsRefused]] = []
        for place, written in enumerate(request.numbers):
            try:
                number = self._number(*written)
                if number not in found:
                    self._check_wanted(number, sender, request.account)
                    found[number] = self._carrier(number, sender, message_class)
            except SmsRefused as exc:
                refused.append((place, exc))
        if not found:
            raise refused[0][1] if refused else SmsRefused("ESME_RINVDSTADR", "number", "no number")
        return found, refused

    def _number(self, text: str, ton: int, npi: int) -> str:
        _check_kind(ton, npi, "DST", "number")
        try:
            return self._normalise(text, ton, npi)
        except ValueError as exc:
            raise SmsRefused("ESME_RINVDSTADR", "number", f"{text}: {exc}") from exc

    def _check_wanted(self, number: str, sender: str, account: Account | None) -> None:
        try:
            if not self._suppressed(sender, number, account.system_id if account is not None else ""):
                return
        except StorageError as exc:
            raise SmsRefused("ESME_RMSGQFUL", "storage", str(exc)) from exc
        raise SmsRefused("ESME_RINVDSTADR", "suppressed", f"{number} wants nothing from {sender}")

    def _carrier(self, number: str, sender: str, message_class: MessageClass) -> str:
        for name in self._routes.carriers(number, sender, message_class):
            if name in self._rules:
                return name
        raise SmsRefused("ESME_RINVDSTADR", "route", f"no carrier for {number}")

    def _split(self, found: dict[str, str], sms: Sms) -> tuple[tuple[Recipient, ...], Splits, int]:
        """Recipients, their indexes by destination, and the parts of all together."""
        if len(found) == 1:
            ((number, name),) = found.items()
            return (Recipient(number),), ((carrier_key(name), (0,)),), self.parts(name, sms)
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(found.values()):
            groups.setdefault(name, []).append(index)
        parts = sum(self.parts(name, sms) * len(indexes) for name, indexes in groups.items())
        splits = [(carrier_key(name), tuple(indexes)) for name, indexes in groups.items()]
        return tuple(Recipient(number) for number in found), splits, parts

    def charge(self, account: Account | None, parts: int, now: float) -> None:
        """Count them; below 0: give them back. Raises SmsRefused: the quota is used up."""
        if account is None or not account.quota:
            return
        if parts > 0 and self._quota.used(account.system_id, now) + parts > account.quota:
            raise SmsRefused("ESME_RSUBMITFAIL", "quota", f"the quota of {account.quota} parts a day is used up")
        self._quota.add(account.system_id, parts, now)

    def _stored(
        self,
        envelope: Envelope,
        splits: Splits,
        parts: int,
        account: Account | None,
        stored: Stored,
    ) -> None:
        error = stored.exception()
        if error is not None:
            _log.error("%s: not accepted: %s", envelope.id, error)
            self.refused["storage"]()
            self.charge(account, -parts, envelope.received_at)
            return
        self._accepted[envelope.message_class]()
        for destination, indexes in splits:
            self._count(destination, envelope.message_class, len(indexes))
        self._log(envelope, parts)

    def _count(self, destination: str, message_class: int, recipients: int) -> None:
        count = self._counters.get((destination, message_class))
        if count is None:
            name = destination.partition(":")[2]
            count = self._accepted_recipients.labels(name, _LABELS[message_class]).inc
            self._counters[destination, message_class] = count
        count(recipients)

    def _log(self, envelope: Envelope, parts: int) -> None:
        text = (
            f"{envelope.id}: client={envelope.client}, from=<{envelope.sender}>, size={envelope.content_bytes}, "
            f"nrcpt={len(envelope.recipients)}, parts={parts}, class={_LABELS[envelope.message_class]}"
        )
        if envelope.batch:
            text += f", batch={envelope.batch}"
        if envelope.user:
            text += f", account={envelope.user}"
        self._log_line(text if text.isprintable() else escape(text))


def _check_kind(ton: int, npi: int, whose: str, reason: str) -> None:
    """SMPP 3.4 5.2.5, 5.2.6. Raises SmsRefused."""
    if ton > _HIGHEST_TON:
        raise SmsRefused(f"ESME_RINV{whose}TON", reason, f"there is no type of number {ton}")
    if npi not in _NPIS:
        raise SmsRefused(f"ESME_RINV{whose}NPI", reason, f"there is no numbering plan {npi}")


def _with_links(stored: Stored, noted: Coroutine[object, object, None]) -> Stored:
    """A message with its links: done when both are."""
    both = Stored()

    def then(noting: "asyncio.Task[None]") -> None:
        fault = None if noting.cancelled() else noting.exception()
        if fault is not None:  # the message is accepted, or not, for itself
            _log.error("the links of an SMS are not known: %r", fault, exc_info=fault)
        stored.add_done_callback(lambda done: both.finish(done.exception()))

    asyncio.get_running_loop().create_task(noted).add_done_callback(then)
    return both


def _with_sender(request: SmsRequest, normalise: Normalise) -> tuple[Sms, str]:
    """The message with its sender id and the kind of it, and the id as envelopes and suppressions have it."""
    account, text = request.account, request.sender.strip()
    allowed = account.senders if account is not None else ()
    kind = request.sender_ton, request.sender_npi
    if not text and allowed:
        kind, text = (0, 0), allowed[0]  # SMPP 3.4 4.4.1: an empty one is that of the account
    _check_kind(*kind, "SRC", "sender")
    if kind[0] == INTERNATIONAL[0] and text.isdigit():
        text = f"+{text}"
    try:
        if text.startswith("+0"):  # "00" and a number, or none
            text = normalise(text[1:], *INTERNATIONAL)
        ton, npi, _ = sender_fields(text)
    except ValueError as exc:
        raise SmsRefused("ESME_RINVSRCADR", "sender", str(exc)) from exc
    if (ton, npi) == INTERNATIONAL and text[0] != "+":
        text = f"+{text}"  # as answers to it, and opt-outs, have it
    bare = text.removeprefix("+")
    if allowed and not any(bare == one.removeprefix("+") for one in allowed):
        raise SmsRefused("ESME_RINVSRCADR", "sender", f"{text} is no sender id of this account")
    if kind[0]:
        ton, npi = kind
    return replace(request.sms, source=text, source_ton=ton, source_npi=npi), text
