"""The books of one worker, in recipients (Q2).

    recovered + accepted = delivered + failed + expired + suppressed + removed + still queued

`queued` is counted where deliveries are kept, not here: so that the two can be compared.
"""

from dataclasses import asdict, dataclass

from engine.message.outcome import Status


@dataclass(slots=True)
class Tally:
    """Recipients since the start. recovered: queued when we started. deferred, unknown: attempts, not fates."""

    recovered: int = 0
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    suppressed: int = 0
    removed: int = 0
    deferred: int = 0
    unknown: int = 0

    def count(self, status: Status) -> None:
        """One recipient's outcome."""
        match status:
            case Status.DELIVERED:
                self.delivered += 1
            case Status.DEFERRED:
                self.deferred += 1
            case Status.FAILED:
                self.failed += 1
            case Status.UNKNOWN:
                self.unknown += 1
            case Status.EXPIRED:
                self.expired += 1
            case Status.REMOVED:
                self.removed += 1
            case Status.SUPPRESSED:
                self.suppressed += 1

    def as_row(self, queued: int) -> dict[str, int | bool]:
        """All fields, the recipients queued, and whether the books balance."""
        final = self.delivered + self.failed + self.expired + self.suppressed + self.removed
        return {**asdict(self), "queued": queued, "balanced": self.recovered + self.accepted == final + queued}
