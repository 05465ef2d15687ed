"""What a phone is told in return: that it gets no more messages, that it does again, or who this is.

To the carrier the word came from, from the number it was sent to, and through the block (Kind.REPLY). Nobody else is
written to: without a number of both there is no reply.
"""

from collections.abc import Awaitable

from engine.base.clock import Clock
from engine.base.settings import Account, Settings
from engine.feedback.answer import Answer
from engine.feedback.own import OwnMessages
from engine.message.channels import CHANNEL, carrier_key
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.ids import IdSource
from engine.message.sms import Kind, Sms, encode_sms
from engine.message.sms_words import Heard, Wish
from engine.storage.spool.spool import Spool

#: A phone that asks again so soon is another machine, or its owner has the text already.
HELP_EVERY_S = 60.0
_HELP_ENTRIES = 10_000


class Replies:
    """See above. What is awaited is done when a reply is in the spool."""

    def __init__(self, settings: Settings, spool: Spool, ids: IdSource, clock: Clock, own: OwnMessages) -> None:
        self._spool = spool
        self._ids = ids
        self._clock = clock
        self._own = own
        self._helped: dict[tuple[str, str], float] = {}  #: (number of ours, phone): until when; the oldest first
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        self._sms = settings.sms
        self._expire_s = float(settings.retry.transactional.expire_after)

    def confirm(self, answer: Answer, heard: Heard, account: Account | None) -> list[Awaitable[None]]:
        """A stop, or that it was lifted, in the language of the word. account: whose messages it is about."""
        sms = self._sms
        if heard.wish is Wish.STOP:
            return self._send(answer, sms.stop_text_ru if heard.russian else sms.stop_text, account)
        return self._send(answer, sms.start_text_ru if heard.russian else sms.start_text, account)

    def help(self, answer: Answer, account: Account | None) -> list[Awaitable[None]]:
        """The account's text, if it has one."""
        if account is None or not account.help:
            return []
        pair, now = (answer.to, answer.number), self._clock.monotonic()
        if self._helped.pop(pair, 0.0) > now:
            self._helped[pair] = now + HELP_EVERY_S
            return []
        self._helped[pair] = now + HELP_EVERY_S
        if len(self._helped) > _HELP_ENTRIES:
            del self._helped[next(iter(self._helped))]
        return self._send(answer, account.help, account)

    def _send(self, answer: Answer, text: str, account: Account | None) -> list[Awaitable[None]]:
        if not text or answer.number == answer.to or not (_is_number(answer.number) and _is_number(answer.to)):
            return []
        to, now = answer.sms, self._clock.time()
        content = encode_sms(
            Sms(
                kind=Kind.REPLY,
                source=answer.to,
                source_ton=to.dest_ton,
                source_npi=to.dest_npi,
                dest_ton=to.source_ton,
                dest_npi=to.source_npi,
                text=text,
            )
        )
        envelope = Envelope(
            id=self._ids.next(),
            sender=answer.to,
            recipients=(Recipient(answer.number),),
            received_at=now,
            expires_at=now + self._expire_s,
            content_bytes=len(content),
            message_class=int(MessageClass.TRANSACTIONAL),
            user=account.system_id if account is not None else "",  # what the phone says to this is for the same one
            channel=CHANNEL,
        )
        stored = self._spool.accept(envelope, content, [(carrier_key(answer.carrier), (0,))])
        return [self._own.when_stored(stored, envelope.message_class)]


def _is_number(address: str) -> bool:
    digits = address.removeprefix("+")
    return digits.isascii() and digits.isdecimal()
