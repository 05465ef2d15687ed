"""Short links of SMS: numbered when a message is accepted, and put in its text when it is sent.

Their number, and with it every part that a text needs, is known before the application has its answer; where they lead
is in the ledger, on disk before that. The text stays as it was submitted: a recipient's links are put in at the last
moment, the same in every attempt, and at every carrier.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.settings import Account, Settings
from engine.base.settings_tracking import content_number_s
from engine.message.envelope import Envelope, Track
from engine.message.short_link import MAX_NUMBER, ShortCodes
from engine.message.sms import Shortened, Sms
from engine.message.sms_links import links_in, with_short_links
from engine.storage.ledger.sent import Sent, table_hash
from engine.storage.ledger.writer import Ledger
from engine.storage.numbers import Numbers

log = logging.getLogger(__name__)

#: Texts whose links tell how many and not who, so that all their recipients have one number.
_MOST_SHARED: Final = 10_000
_LEVELS: Final = {track.word: track for track in Track}


class SmsLinks:
    """See above. next_id: of messages, for what is counted without its recipients."""

    def __init__(
        self, settings: Settings, keys: Mapping[int, bytes], ledger: Ledger, numbers: Numbers,
        next_id: Callable[[], str], clock: Clock, level_of: Callable[[str], Track] = lambda batch: Track.FULL,
    ) -> None:  # fmt: skip
        """keys: of link tokens. level_of: the most that links of a batch may tell."""
        self._level_of_batch = level_of
        self._ledger, self._numbers, self._next_id, self._clock = ledger, numbers, next_id, clock
        self._shared: OrderedDict[tuple[str, str, bytes, str], tuple[int, float]] = OrderedDict()
        self.reload(settings, keys)

    def reload(self, settings: Settings, keys: Mapping[int, bytes]) -> None:
        """Use these from the next message on."""
        self._codes = ShortCodes(keys.values())
        tracking = settings.tracking
        self._expire_after = float(tracking.expire_after)
        self._level, self._url = _LEVELS[tracking.level], tracking.sms_url
        self._urls = {row.tenant: row.sms_url for row in settings.click_domain if row.sms_url}

    def shortened(self, sms: Sms, account: Account | None, recipients: int, batch: str = "") -> Sms:
        """With numbers for its links, if there are any and they are to be short. Raises StorageError."""
        owner = account.system_id if account is not None else ""
        url, level = self._urls.get(owner, self._url), self._level_of(account, batch)
        if not url or level is Track.NONE or sms.text is None:
            return sms
        spans, targets = links_in(sms.text, url)
        if not spans:
            return sms
        if level is Track.FULL:
            return replace(sms, short=Shortened(spans=spans, base_url=url, number=self._take(recipients)))
        return replace(
            sms, short=Shortened(spans=spans, base_url=url, number=self._of_all(owner, batch, targets, url), each=False)
        )

    def placed(self, sms: Sms, index: int) -> Sms:
        """What the recipient with this index is sent."""
        return with_short_links(sms, index, self._codes)

    async def note(self, envelope: Envelope, sms: Sms) -> None:
        """Whose links they are, and where they lead: on disk when done, or the log says why not yet."""
        short = sms.short
        if short is not None and short.each and sms.text is not None:
            links = links_in(sms.text, short.base_url)[1]
            to = tuple(recipient.address for recipient in envelope.recipients)
            self._ledger.note(
                Sent(
                    id=envelope.id, at=self._clock.time(), sender=envelope.sender, recipients=to, tenant=envelope.owner,
                    batch=envelope.batch, level=Track.FULL.word, table=table_hash(links), channel="sms",
                ),
                links,
            )  # fmt: skip
            for index in range(len(to)):
                self._ledger.short(short.number + index, envelope.id, index)
        try:
            await self._ledger.keep()
        except StorageError as exc:  # it is tried again; the message is accepted, or not, for itself
            log.error("%s: its short links lead nowhere until that is mended: %s", envelope.id, exc)

    def _level_of(self, account: Account | None, batch: str) -> Track:
        asked = account.track if account is not None else ""
        level = min(self._level, _LEVELS[asked]) if asked else self._level
        return min(level, self._level_of_batch(batch)) if batch else level

    def _take(self, count: int) -> int:
        first = self._numbers.take(count)
        if first + count > MAX_NUMBER:
            raise StorageError("there are no numbers for short links left")
        return first

    def _of_all(self, owner: str, batch: str, targets: tuple[str, ...], url: str) -> int:
        """The one number of a text in this process and day, told to the ledger without anybody's name."""
        table = table_hash(targets)
        key = owner, batch, table, url
        now = self._clock.time()
        number, made_at = self._shared.get(key, (-1, 0.0))
        if number < 0 or now >= made_at + content_number_s(self._expire_after):
            number = self._take(1)
            self._shared.pop(key, None)
            self._shared[key] = number, now
            content = self._next_id()
            self._ledger.note(
                Sent(
                    id=content, at=now, tenant=owner, batch=batch, level=Track.ANONYMOUS.word,
                    table=table, channel="sms",
                ),
                targets,
            )  # fmt: skip
            self._ledger.short(number, content, 0)
            if len(self._shared) > _MOST_SHARED:
                self._shared.popitem(last=False)
        return number
