"""A hit: somebody, or something, followed a link of ours; and the events that tell of it."""

from typing import Literal

import msgspec

from engine.storage.events.event import Event
from engine.storage.ledger.sent import Sent

Verdict = Literal["human", "machine", "unsure"]


class Hit(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """Tens of thousands are remembered, without cycles: the collector of garbage, which would stop the loop for all of
    them, does not look (gc=False).

    at: unix seconds. link, url: what was followed. index: of the recipient. target: the number of the first link that
    leads there, as two parts of a message, or two buttons, lead to the same; targets: how many there are.

    client, agent: who asked, for the judge; told only of messages that are tracked in full. prefetch: it says itself
    that nobody has clicked. gone: why it led nowhere, "withdrawn" or "expired"; that is told, and is no sign of
    anything. name: the id of its event, once it has one.
    """

    at: float
    type: Literal["clicked", "opened"]
    sent: Sent
    index: int
    link: int
    target: int
    targets: int
    url: str
    client: str
    agent: str
    head: bool = False
    prefetch: bool = False
    gone: str = ""
    name: str = ""
    delivered_at: float | None = None  #: when the 250 came, once it is known
    verdict: Verdict = "unsure"
    told: Verdict = "unsure"  #: what its events said last
    reasons: frozenset[str] = frozenset()

    def blame(self, reason: str) -> None:
        """One more sign of a machine."""
        self.reasons |= {reason}

    @property
    def full(self) -> bool:
        """Who it was may be told."""
        return self.sent.level == "full"

    def event(self) -> Event:
        """What is told at once; without an id."""
        sent, full = self.sent, self.full
        self.told = self.verdict
        return Event(
            "", int(self.at * 1000) / 1000, self.type, sent.id, "", sent.sender, recipient_of(sent, self.index), "",
            tenant=sent.tenant, stream=sent.stream, batch=sent.batch, link=self.link, url=self.url,
            verdict=self.verdict, reasons=self._told_reasons(),
            client=self.client if full else "", agent=self.agent if full else "",
        )  # fmt: skip

    def correction(self, at: float) -> Event:
        """What is known better by now; without an id."""
        sent = self.sent
        self.told = self.verdict
        return Event(
            "", int(at * 1000) / 1000, "verdict", sent.id, "", sent.sender, recipient_of(sent, self.index), "",
            tenant=sent.tenant, stream=sent.stream, batch=sent.batch, link=self.link, verdict=self.verdict,
            reasons=self._told_reasons(), hit=self.name,
        )  # fmt: skip

    def _told_reasons(self) -> tuple[str, ...]:
        if self.gone:
            return tuple(sorted((*self.reasons, self.gone)))
        return tuple(sorted(self.reasons)) if self.reasons else ()


def recipient_of(sent: Sent, index: int) -> str:
    """His address; "" where it is not told, or not known."""
    return sent.recipients[index] if sent.level == "full" and index < len(sent.recipients) else ""
