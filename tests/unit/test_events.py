"""The event journal: ids that stay, tails that tear, files that come and go (E1, S4, S5)."""

from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.events.lines import received_lines

ENVELOPE = Envelope(
    "0Hs7kQpf3Za2Wq",
    "sender@example.com",
    (Recipient("ada@example.org"), Recipient("bob@example.net"), Recipient("cy@example.org")),
    received_at=1000.0,
    expires_at=2000.0,
    content_bytes=10,
)
LARGE = 1 << 20


class StillClock:
    """A clock that the test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def received(seq: int) -> bytes:
    return received_lines(seq, ENVELOPE, [("example.org", (0, 2)), ("example.net", (1,))])


def outcome(index: int = 0, status: Status = Status.DEFERRED, reply: str = "451 4.2.1 busy") -> Outcome:
    return Outcome(
        index=index,
        status=status,
        scope=Scope.RECIPIENT,
        status_code="4.2.1",
        reply=reply,
        remote="mx1.example.org[192.0.2.7]:25",
        phase="rcpt",
    )
