"""Outcomes that no peer decided: a delivery is settled, or waits, without an attempt, or after one of no consequence.

Those of a mail server's replies and faults are in trouble.py.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from engine.message.channels import box_key
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Scope, Status

#: What of a reply goes into logs, events and notifications; RFC 5321 allows 512 bytes a line.
MAX_WORDS: Final = 1000
#: status_code of what was removed because another took its place.
REPLACED: Final = "2.0.0"


class Unroutable(Protocol):
    """routing.plan.NoRoute, as far as it matters here."""

    @property
    def status(self) -> Status: ...

    @property
    def status_code(self) -> str: ...

    @property
    def reply(self) -> str: ...


# ---- one attempt


def everyone(
    indexes: Sequence[int],
    status: Status,
    scope: Scope,
    status_code: str,
    reply: str,
    *,
    remote: str = "none",
    phase: str = "queue",
    retry_at: float | None = None,
) -> list[Outcome]:
    """The same for all of them."""
    return [
        Outcome(
            index=index,
            status=status,
            scope=scope,
            status_code=status_code,
            reply=reply,
            remote=remote,
            phase=phase,
            retry_at=retry_at,
        )
        for index in indexes
    ]


def no_route(reason: Unroutable, indexes: Sequence[int]) -> list[Outcome]:
    """Routing found nowhere to go: null MX, no such domain, only private targets, DNS in trouble, ..."""
    return everyone(indexes, reason.status, Scope.SITE, reason.status_code, reason.reply, phase="connect")


def expired(indexes: Sequence[int], last_reply: str = "") -> list[Outcome]:
    """`expire_after` is over. last_reply: why it had not gone out."""
    words = f"message expired; last: {last_reply}" if last_reply else "message expired"
    return everyone(indexes, Status.EXPIRED, Scope.MESSAGE, "4.4.7", words[:MAX_WORDS])


def waiting(indexes: Sequence[int], why: str, status_code: str = "4.4.0") -> list[Outcome]:
    """Not attempted for a long time: its site is closed, its destination held back, its name not to be resolved."""
    return everyone(indexes, Status.DEFERRED, Scope.SITE, status_code, why[:MAX_WORDS])


def purged(indexes: Sequence[int], by: str = "") -> list[Outcome]:
    """Removed; of mail nobody is told. by: who did it; "": an operator."""
    return everyone(indexes, Status.REMOVED, Scope.MESSAGE, "5.0.0", f"removed by {by or 'an operator'}"[:MAX_WORDS])


def replaced(indexes: Sequence[int], by: str) -> list[Outcome]:
    """Another took its place, under the same id: nobody is told that it was removed."""
    return everyone(indexes, Status.REMOVED, Scope.MESSAGE, REPLACED, f"replaced by {by}"[:MAX_WORDS])


def suppressed(indexes: Sequence[int], why: str = "the recipient has opted out") -> list[Outcome]:
    """Must not be sent to; not sent."""
    return everyone(indexes, Status.SUPPRESSED, Scope.RECIPIENT, "5.7.1", why)


def bounced(indexes: Sequence[int], reason: str = "") -> list[Outcome]:
    """Returned to the sender by an operator."""
    words = f"returned by an operator: {reason}" if reason else "returned by an operator"
    return everyone(indexes, Status.FAILED, Scope.MESSAGE, "5.7.1", words[:MAX_WORDS])


def damaged(indexes: Sequence[int]) -> list[Outcome]:
    """Its record on the disk is damaged, and was set aside (S5)."""
    return everyone(indexes, Status.FAILED, Scope.MESSAGE, "5.3.0", "its record in the spool is damaged")


def internal(indexes: Sequence[int], phase: str = "queue") -> list[Outcome]:
    """A fault of the engine itself, logged with its trace: deferred (Q3)."""
    return everyone(indexes, Status.DEFERRED, Scope.SESSION, "4.3.0", "internal error, see the log", phase=phase)


def stopped(outcome: Outcome, stop_for: Callable[[str], float | None], now: float) -> Outcome:
    """The outcome after the provider's stop rules (routing.plan.Plan.stop_for), which read a deferring reply.

    A rule that speaks of it makes it a matter of the site, not to be tried before `retry_at` (unix time).
    """
    if outcome.status is not Status.DEFERRED:
        return outcome
    seconds = stop_for(outcome.reply)
    return outcome if seconds is None else replace(outcome, scope=Scope.SITE, retry_at=now + seconds)


def unready(indexes: Sequence[int], why: str) -> list[Outcome]:
    """The engine could not prepare the message (a signature it must have): deferred, an operator must act."""
    return everyone(indexes, Status.DEFERRED, Scope.MESSAGE, "4.3.5", why[:MAX_WORDS])


def overdue(outcome: Outcome) -> Outcome:
    """A deferral after which there is no time left to try again."""
    words = f"message expired; last: {outcome.reply}"[:MAX_WORDS]
    return replace(outcome, status=Status.EXPIRED, status_code="4.4.7", reply=words)


#: D3, of mail and of SMS.
UNANSWERED: Final = "no reply to the end of data, twice; the message may have been delivered"
UNANSWERED_SMS: Final = "no answer to the submit, twice; the message may have been sent"


def unknown_again(outcome: Outcome, said: str = UNANSWERED) -> Outcome:
    """D3: retried once, and again no reply. The sender decides what to do; a third copy is worse. said: our words."""
    if outcome.status is not Status.UNKNOWN:
        return outcome
    words = f"{said}: {outcome.reply}"[:MAX_WORDS]
    return replace(outcome, status=Status.FAILED, scope=Scope.MESSAGE, status_code="5.4.2", reply=words)


#: Final, and the message is nowhere.
_LOST: Final = (Status.FAILED, Status.EXPIRED, Status.SUPPRESSED)


def kept(
    envelope: Envelope, destination: str, outcomes: Sequence[Outcome], now: float
) -> tuple[Sequence[Outcome], str | None]:
    """Outcomes of a forward (`Envelope.box`), and where it goes from there: what failed for good, or for half of its
    time, goes into the folder, and has the other half for that. destination: where it was to go.
    """
    box = box_key(envelope.box)
    late = now >= (envelope.received_at + envelope.expires_at) / 2
    if destination == box or not any(o.status in _LOST or (late and not o.status.final) for o in outcomes):
        return outcomes, None
    return [
        replace(
            outcome, status=Status.DEFERRED, retry_at=None, scope=Scope.MESSAGE,
            reply=f"{outcome.reply}; not forwarded, it goes into the folder"[-MAX_WORDS:],
        )
        if outcome.status in _LOST or not outcome.status.final
        else outcome
        for outcome in outcomes
    ], box  # fmt: skip
