"""Failures of one message at several destinations that come close together: its sender gets one notification of them.

An outcome that is gathered is not on disk yet; a crash has the recipient tried again, and told of then. So nothing is
lost, and nobody is told twice. An outcome that cannot be had again, or should not, is not gathered: a delivery, or what
is final because a second attempt ended without a reply (D3).

What waits here is bounded: by time, by recipients of one notification, by the bytes of contents that are kept for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from engine.message.content import Content, head_of
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome
from engine.storage.spool.entry import Delivery

#: Recipients of one notification: settled in one turn of the loop, 10 ms.
_MOST_RECIPIENTS: Final = 200
#: Of all contents that are kept to be returned.
_MOST_BYTES: Final = 16 << 20

#: Of an attempt: before it, until the message was ready, until there was a connection, until its end.
Delays = tuple[float, float, float, float]


class Failed(NamedTuple):
    """Outcomes of a delivery that are not recorded yet. at: unix seconds."""

    delivery: Delivery
    envelope: Envelope
    outcomes: Sequence[Outcome]
    provider: str
    delays: Delays
    at: float


@dataclass(slots=True)
class _Group:
    content: Content
    timer: asyncio.TimerHandle
    failed: list[Failed] = field(default_factory=list)
    recipients: int = 0


class Gathering:
    """By message. settle: records failures, in order, and tells of them; called for each group once, on the loop."""

    def __init__(self, settle: Callable[[Sequence[Failed], Content], None]) -> None:
        self._settle = settle
        self._groups: dict[str, _Group] = {}
        self._bytes = 0

    def add(self, failed: Failed, content: Content, within_s: float) -> None:
        """Keep these for others of their message, for so long at most."""
        message_id = failed.envelope.id
        group = self._groups.get(message_id)
        if group is None:
            timer = asyncio.get_running_loop().call_later(within_s, self._end, message_id)
            group = self._groups[message_id] = _Group(content, timer)
            self._bytes += len(head_of(content))
        group.failed.append(failed)
        group.recipients += len(failed.outcomes)
        if group.recipients >= _MOST_RECIPIENTS:
            self._end(message_id)
        if self._bytes > _MOST_BYTES:
            self.end()

    def end(self) -> None:
        """Settle everything now."""
        for message_id in list(self._groups):
            self._end(message_id)

    def _end(self, message_id: str) -> None:
        group = self._groups.pop(message_id)
        group.timer.cancel()
        self._bytes -= len(head_of(group.content))
        self._settle(group.failed, group.content)


def as_one(failed: Sequence[Failed]) -> tuple[Envelope, Sequence[Outcome]]:
    """The message as if it had no other recipients, and their outcomes."""
    pairs = [(one.envelope.recipients[outcome.index], outcome) for one in failed for outcome in one.outcomes]
    envelope = replace(failed[0].envelope, recipients=tuple(recipient for recipient, _ in pairs))
    return envelope, [replace(outcome, index=index) for index, (_, outcome) in enumerate(pairs)]
