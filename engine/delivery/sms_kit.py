"""What agents of SMS work with, besides a Kit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.delivery.carriers import Carriers
from engine.delivery.sms_ports import Receivers, SentBook
from engine.delivery.underway import Underway
from engine.message.envelope import Envelope
from engine.message.sms import Sms
from engine.storage.inflight import Inflight
from engine.storage.spool.entry import Delivery


class Alternatives(Protocol):
    """Who else could carry a delivery (failover.py)."""

    def next_for(self, delivery: Delivery, envelope: Envelope, refused: bool = False) -> str | None:
        """Another destination for it, which can be sent to now; None: there is none. refused: by this one."""


@dataclass(slots=True, kw_only=True)
class SmsKit:
    """What agents of SMS work with, besides a Kit. suppressed: whether (sender, number, tenant) must not be
    sent to; raises StorageError. placed: a message as the recipient with this index is sent it."""

    carriers: Carriers
    receivers: Receivers
    book: SentBook
    inflight: Inflight
    underway: Underway
    alternatives: Alternatives
    suppressed: Callable[[str, str, str], bool]
    placed: Callable[[Sms, int], Sms] = lambda sms, index: sms
