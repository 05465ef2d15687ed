"""What came of a load over SMPP."""

from collections import Counter
from dataclasses import dataclass, field

from engine.tools.latency import Latency


@dataclass(slots=True, kw_only=True)
class SmppLoadReport:
    """Submits unless it says messages. seconds: from the beginning to the last response; receipt_seconds: to the last
    final receipt.

    submitted: sent, each time. refused: with a status other than those for now, which are throttled and sent again.
    statuses: all responses by name. receipts: final states by word. missing_receipts: of accepted ones, none final.
    unmatched_receipts: nothing that was sent has that id and that destination. repeated_receipts: of what was final.
    received: deliver_sm that are no receipts. response: from a submit to its response; receipt: to its final receipt.
    """

    messages: int = 0
    parts: int = 1
    submitted: int = 0
    accepted: int = 0
    refused: int = 0
    throttled: int = 0
    unanswered: int = 0
    sent_again: int = 0
    connections: int = 0
    lost_connections: int = 0
    unsolicited: int = 0
    seconds: float = 0.0
    receipt_seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    response: Latency = Latency()  # noqa: RUF009  a tuple
    receipts: Counter[str] = field(default_factory=Counter)
    intermediate_receipts: int = 0
    missing_receipts: int = 0
    unmatched_receipts: int = 0
    repeated_receipts: int = 0
    unreadable_receipts: int = 0
    receipt: Latency = Latency()  # noqa: RUF009  a tuple
    received: int = 0
    last_error: str = ""

    @property
    def rate(self) -> float:
        """Accepted submits a second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Everything was accepted, and no receipt that was waited for is missing."""
        return self.accepted == self.messages * self.parts and not self.missing_receipts

    def as_dict(self) -> dict[str, object]:
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in ("response", "receipt")}
        latencies = {**self.response._asdict(), **{f"receipt_{k}": v for k, v in self.receipt._asdict().items()}}
        return {
            "rate": round(self.rate, 1),
            **{k: round(v, 3) if isinstance(v, float) else v for k, v in {**fields, **latencies}.items()},
        }

    def as_text(self) -> str:
        lines = [
            f"{self.accepted} of {self.messages * self.parts} submits for {self.messages} messages accepted in "
            f"{self.seconds:.2f} s: {self.rate:,.0f}/s over {self.connections} connections",
            f"time to the response: {_text(self.response)}",
        ]
        if self.refused or self.throttled:
            lines.append(f"refused: {self.refused}, throttled and sent again: {self.throttled}; {dict(self.statuses)}")
        if self.receipts or self.missing_receipts:
            lines.append(f"receipts: {dict(self.receipts)}, missing: {self.missing_receipts}; {_text(self.receipt)}")
        if odd := self.unmatched_receipts + self.repeated_receipts + self.unreadable_receipts:
            lines.append(f"of receipts unmatched, repeated or unreadable: {odd}")
        if self.received:
            lines.append(f"messages received: {self.received}")
        if self.lost_connections:
            lines.append(f"connections lost: {self.lost_connections}, submits sent again: {self.sent_again}")
        if self.unanswered:
            lines.append(f"given up without an answer: {self.unanswered}")
        if self.last_error:
            lines.append(f"last error: {self.last_error}")
        return "\n".join(lines)


def _text(latency: Latency) -> str:
    return f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, longest {latency.max_ms:.1f} ms"
