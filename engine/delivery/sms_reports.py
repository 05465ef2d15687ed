"""What an application is owed about its messages: receipts in the words of SMPP, each a message of its own.

A message that a carrier took is told of by receipts of the carrier (feedback/receipts.py); one that none ever took, by
the settlement: refused, expired, removed, suppressed. Either way there is one receipt, with our id, for each number,
if registered_delivery asked for it: 1 always, 2 of failures, 3 of successes, and 0x10 for intermediate states.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.delivery import verdicts
from engine.delivery.report import Report
from engine.message.channels import CHANNEL, account_key
from engine.message.content import Content, head_of
from engine.message.envelope import Envelope, Recipient
from engine.message.ids import IdSource
from engine.message.outcome import Outcome, Status
from engine.message.sms import Kind, SentPart, Sms, decode_sms, encode_sms
from engine.protocol.dsn import Action
from engine.protocol.receipt import INTERMEDIATE, RECEIPT
from engine.protocol.receipt_states import Heard, State, heard_at
from engine.protocol.receipt_write import write_receipt
from engine.protocol.smpp_tables import STATUSES

_STATES: Final = {
    Status.FAILED: State.REJECTED,
    Status.EXPIRED: State.EXPIRED,
    Status.REMOVED: State.DELETED,
    Status.SUPPRESSED: State.REJECTED,
}
_ALWAYS: Final = 1
_FAILURE: Final = 2
_SUCCESS: Final = 3
_INTERMEDIATE: Final = 0x10
#: TON and NPI (SMPP 3.4 5.2.5, 5.2.6).
_INTERNATIONAL: Final = (1, 1)
_ALPHANUMERIC: Final = (5, 0)
_UNKNOWN: Final = (0, 1)


def is_asked(registered: int, state: State, interim: bool = False) -> bool:
    """Whether a registered_delivery asks for a receipt with this state. interim: more will follow."""
    if interim:
        return bool(registered & _INTERMEDIATE)
    asked = registered & 3
    if state is State.DELIVERED:
        return asked in (_ALWAYS, _SUCCESS)
    return asked == _ALWAYS or (asked == _FAILURE and state.final)


class Fates(Protocol):
    """Remembers what became of messages, for queries."""

    def ended(self, part: SentPart, heard: Heard) -> None:
        """A message to one number that no carrier has taken. part: of no carrier."""


class SmsReports:
    """The notifier of SMS for settlement, and the writer of receipts. Pure but for ids, the clock and a metric.

    fates: who is told of messages that ended here; to be set by whoever has one.
    """

    def __init__(self, settings: Settings, ids: IdSource, clock: Clock, metrics: Metrics) -> None:
        self.fates: Fates | None = None
        self._ids = ids
        self._clock = clock
        self._metrics = metrics
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self._keep_s = settings.sms.keep_receipts
        self._plain = {row.system_id for row in settings.account if row.receipts == "text"}

    # ---- for settlement

    def wants(self, envelope: Envelope, outcome: Outcome, action: Action) -> bool:
        """Nobody is told of a delay."""
        failed = action == "failed" and outcome.status_code != verdicts.REPLACED
        return failed and bool(envelope.user) and outcome.status in _STATES

    def reports(
        self, envelope: Envelope, content: Content, outcomes: Sequence[Outcome], action: Action
    ) -> Sequence[Report]:
        """A receipt for each number that no carrier has taken the message for."""
        told = [outcome for outcome in outcomes if self.wants(envelope, outcome, action)]
        if not told:
            return ()
        try:
            sms = decode_sms(head_of(content))
        except ValueError:
            return ()
        if sms.kind is not Kind.MESSAGE:
            return ()  # a receipt is never told of
        if self.fates is not None:
            self._remember(self.fates, envelope, sms, told)
        return [
            self._write(
                account=envelope.user, message=envelope.id, sender=envelope.sender,
                recipient=envelope.recipients[outcome.index].address, received_at=envelope.received_at,
                message_class=envelope.message_class, state=_STATES[outcome.status], error=_error(outcome.reply),
                text=sms.text or "", source=(sms.source_ton, sms.source_npi),
            )
            for outcome in told
            if is_asked(sms.registered, _STATES[outcome.status])
        ]  # fmt: skip

    def _remember(self, fates: Fates, envelope: Envelope, sms: Sms, outcomes: Sequence[Outcome]) -> None:
        now = self._clock.time()
        for outcome in outcomes:
            part = SentPart(
                carrier="", carrier_id="", message=envelope.id, index=outcome.index, part=1, parts=1, sent_at=now,
                deadline=now, sender=envelope.sender, recipient=envelope.recipients[outcome.index].address,
                account=envelope.user, registered=sms.registered, message_class=envelope.message_class,
                received_at=envelope.received_at,
            )  # fmt: skip
            fates.ended(part, heard_at(_STATES[outcome.status], now, _error(outcome.reply)))

    # ---- for receipts of carriers

    def receipt(
        self, part: SentPart, state: State, error: str = "000", done_at: float | None = None, *, interim: bool = False
    ) -> Report | None:
        """About the message of a part; None: nobody asked. interim: more will follow."""
        if not part.account or not is_asked(part.registered, state, interim):
            return None
        return self._write(
            account=part.account, message=part.message, sender=part.sender, recipient=part.recipient,
            received_at=part.received_at, message_class=part.message_class, state=state, error=error, done_at=done_at,
            interim=interim,
        )  # fmt: skip

    def _write(
        self, *, account: str, message: str, sender: str, recipient: str, received_at: float, message_class: int,
        state: State, error: str, done_at: float | None = None, text: str = "", source: tuple[int, int] | None = None,
        interim: bool = False,
    ) -> Report:  # fmt: skip
        now = self._clock.time()
        done_at = now if done_at is None else done_at
        try:
            written = write_receipt(message, state, submitted_at=received_at, done_at=done_at, error=error, text=text)
        except ValueError:  # an error of the carrier's that is none
            written = write_receipt(message, state, submitted_at=received_at, done_at=done_at, text=text)
        source_ton, source_npi = _kind_of(recipient)
        dest_ton, dest_npi = source or _kind_of(sender)
        sms = Sms(
            kind=Kind.RECEIPT, source=recipient, source_ton=source_ton, source_npi=source_npi, dest_ton=dest_ton,
            dest_npi=dest_npi, body=written.short_message, esm_class=INTERMEDIATE if interim else RECEIPT,
            tlvs=() if account in self._plain else written.tlvs,
        )  # fmt: skip
        content = encode_sms(sms)
        envelope = Envelope(
            id=self._ids.next(), sender=recipient, recipients=(Recipient(sender),), received_at=now,
            expires_at=now + self._keep_s, content_bytes=len(content), message_class=message_class, envid=message,
            user=account, channel=CHANNEL,
        )  # fmt: skip
        self._metrics.sms_owed.labels(state.word).inc()
        return Report(envelope, content, account_key(account), sms)


def _kind_of(address: str) -> tuple[int, int]:
    """TON and NPI of an address as an envelope has it."""
    if address.startswith("+"):
        return _INTERNATIONAL
    return _UNKNOWN if address.isdecimal() else _ALPHANUMERIC


def _error(reply: str) -> str:
    """The status in a carrier's refusal, as err: has it: "ESME_RINVDSTADR ..." is 011; also in what it was last."""
    status = next((STATUSES[word] for word in reply.split() if word in STATUSES), 0)
    return f"{status:03}"
