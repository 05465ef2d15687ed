"""The outbox: what all connections write in one turn of the event loop is sent at its end.

The first write to a peer that sleeps costs the wake-up of another processor, ten times the rest of the call; those
that follow at once find it awake. With many connections to the same peer, or through the same machine, this halves
the cost of a turn. Nobody waits longer for it: the loop does not sleep before the outbox is empty.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)


class Sender(Protocol):
    """A connection with something to write."""

    def send(self) -> None:
        """Write it now. Must not raise."""


class Outbox:
    """One per event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._senders: dict[Sender, None] = {}

    def add(self, sender: Sender) -> None:
        """Have `sender.send()` called at the end of this turn; once, however often it is added."""
        self._senders[sender] = None
        if len(self._senders) == 1:
            self._loop.call_soon(self._empty)

    def _empty(self) -> None:
        senders, self._senders = self._senders, {}
        for sender in senders:
            try:
                sender.send()
            except Exception:  # one connection's fault is not that of those behind it
                log.exception("sending")
