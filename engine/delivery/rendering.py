"""A message on its way out: what each recipient is sent, made at the last moment.

    links, unsubscribe fields (tracker.py) -> signature of what is sent (signer.py) -> return path (return_paths.py)

What is the same for all recipients is made once; what is not goes to one of them at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.delivery.noting import sent_of
from engine.delivery.return_paths import SenderPaths
from engine.delivery.signer import Signer
from engine.delivery.tracker import Tracked, Tracker
from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Status
from engine.storage.ledger.writer import Ledger


class Made(NamedTuple):
    """One transaction: the envelope as the receiver is told, fields to put before the content, the content."""

    envelope: Envelope
    prefix: bytes
    content: Content


class Rendering:
    """See above. most: recipients in one transaction; 0: as many as the settings say."""

    __slots__ = (
        "_back_to",
        "_content",
        "_envelope",
        "_ledger",
        "_paths",
        "_signature",
        "_signer",
        "_tracked",
        "_tracker",
        "most",
    )

    def __init__(
        self, signer: Signer, paths: SenderPaths, ledger: Ledger | None, tracker: Tracker | None, envelope: Envelope,
        content: Content,
    ) -> None:  # fmt: skip
        """ledger, tracker: None: nothing is noted, nothing is tracked."""
        self._signer, self._paths, self._ledger, self._tracker = signer, paths, ledger, tracker
        self._envelope, self._content = envelope, content
        self._tracked: Tracked | None = None
        self._signature: bytes | None = None
        self._back_to = paths.domain_for(envelope)
        self.most = 1 if self._back_to else 0

    async def begin(self, at: float) -> None:
        """Before the first transaction. at: unix seconds. Raises StorageError: what is tracked cannot be noted."""
        envelope, content = self._envelope, self._content
        if self._tracker is not None:
            self._tracked = await self._tracker.tracked(envelope, content)
            if self._tracked is not None:
                if not self._tracked.common:
                    self.most = 1
                if self._tracked.noted:
                    return
        if self._ledger is not None and self._paths.notes(envelope):
            self._ledger.note(sent_of(envelope, content, at))

    async def made(self, indexes: Sequence[int]) -> Made:
        """For these recipients, no more than `most`. Raises EngineError: it cannot be signed; StorageError: or read."""
        content, prefix = self._content, self._signature
        if prefix is None:
            if self._tracked is not None:
                content = self._tracked.content(indexes[0])
            prefix = await self._signer.sign(self._envelope, content)
            if self._tracked is None or self._tracked.common:
                self._content, self._signature = content, prefix
        if not self._back_to:
            return Made(self._envelope, prefix, content)
        sent, line = self._paths.made(self._envelope, indexes[0], self._back_to)
        return Made(sent, prefix + line, content)

    def done(self, outcomes: Sequence[Outcome]) -> None:
        """What became of them."""
        if self._tracked is not None and self._tracker is not None:
            for outcome in outcomes:
                if outcome.status is Status.DELIVERED:
                    self._tracker.delivered(self._envelope, outcome.index)
