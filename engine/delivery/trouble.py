"""What every reply and every fault means: the one place where an `Outcome` is decided.

Followed: Postfix for what is deferred and tried at the next host, KumoMTA for nothing being permanent before MAIL.

    connect, banner, EHLO, TLS, AUTH   always DEFERRED, a 5xx too: it is about us, the host or a setting, never about
                                       the address (Postfix: smtp_skip_5xx_greeting; KumoMTA: transient). SITE, but
                                       SESSION where another connection may do: a 421, a lost or confused connection
    MAIL       5xx FAILED, 4xx DEFERRED, scope MESSAGE        DATA and end of data: the same
    RCPT       5xx FAILED, 4xx DEFERRED, scope RECIPIENT; 552 without a reason in its enhanced code is a 452
               (RFC 5321 4.5.3.1.10: that many recipients are too many now)
    421        DEFERRED, scope SESSION, for everyone not yet answered for
    4.7.x      DEFERRED, scope SITE: policy about us; but greylisting is about the one recipient or message
    no reply   before the end of data was sent: DEFERRED, SESSION; after: UNKNOWN (D3)
    250        DELIVERED, whatever happens to the connection next (D1)
    else       DEFERRED, SESSION (Q3)
"""

from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError, ProtocolError
from engine.delivery.verdicts import MAX_WORDS, everyone
from engine.message.outcome import Outcome, Scope, Status
from engine.net.stream import TlsFailed
from engine.protocol.smtp_client import Transaction
from engine.protocol.smtp_reply import Reply

# For every recipient: names of the module are quicker than members of a class.
_DELIVERED: Final = Status.DELIVERED
_RECIPIENT: Final = Scope.RECIPIENT

# Enhanced codes for replies that carry none (RFC 3463). Only where the code leaves no doubt: a 550 or 554 may be
# about the address or about us, and a guess of 5.1.1 would let a block look like a dead address.
_DEFAULT_CODES: Final = {
    421: "4.3.2", 450: "4.2.0", 451: "4.3.0", 452: "4.3.1", 454: "4.7.0", 455: "4.5.4", 500: "5.5.2", 501: "5.5.4",
    502: "5.5.1", 503: "5.5.1", 504: "5.5.4", 521: "5.3.2", 530: "5.7.0", 534: "5.7.9", 535: "5.7.8", 551: "5.1.6",
    553: "5.1.3", 555: "5.5.4", 556: "5.1.10",
}  # fmt: skip
_WAITING_FOR: Final = {
    "banner": "waiting for the greeting",
    "ehlo": "performing the EHLO handshake",
    "starttls": "performing the STARTTLS handshake",
    "auth": "authenticating",
    "mail": "sending MAIL FROM",
    "rcpt": "sending RCPT TO",
    "data": "sending DATA",
    "content": "sending message content",
    "end-of-data": "sending end of data -- the message may have been delivered",
}


@mypyc_attr(native_class=False)
class SessionFailed(EngineError):
    """No session: connect, greeting, EHLO, STARTTLS or AUTH did not work. `session_failed` says what it means.

    phase: as in message.outcome.PHASES. Either reply (what the server said) or fault is set, or only `words`.
    """

    def __init__(
        self,
        remote: str,
        phase: str,
        *,
        reply: Reply | None = None,
        fault: EngineError | None = None,
        words: str = "",
        status_code: str = "",
    ) -> None:
        super().__init__(f"{remote}: {phase}: {reply or fault or words}")
        self.remote = remote
        self.phase = phase
        self.reply = reply
        self.fault = fault
        self.words = words
        self.status_code = status_code


@mypyc_attr(native_class=False)
class StaleConnection(EngineError):
    """A connection used before turned out to be closed, and nothing of this transaction was taken: use another one.

    No failure of the message or the site, no attempt: servers close idle connections when they like.
    """


def session_failed(failure: SessionFailed, indexes: Sequence[int]) -> list[Outcome]:
    """Everyone deferred: there was no session."""
    if failure.reply is not None:
        scope = Scope.SESSION if failure.reply.code == 421 and not _is_block(failure.reply) else Scope.SITE
        code, words = _temporary(_status_code(failure.reply)), _words(failure.reply)
    elif failure.fault is not None and failure.phase == "connect":
        scope, code = Scope.SITE, "4.4.1"
        words = f"connect to {failure.remote}: {failure.fault}"
    elif failure.fault is not None:
        scope, code = Scope.SESSION, _fault_code(failure.fault)
        words = _fault_words(failure.fault, failure.remote, failure.phase)
    else:
        # A TLS need that was not met: of this destination, not of all that share the site.
        scope, code, words = Scope.SESSION, "4.7.0", failure.words
    return everyone(
        indexes,
        Status.DEFERRED,
        scope,
        failure.status_code or code,
        words,
        remote=failure.remote,
        phase=failure.phase,
    )


def settled(
    transaction: Transaction, indexes: Sequence[int], remote: str, fault: EngineError | None = None
) -> list[Outcome]:
    """What a transaction did to its recipients, which are in the order of its RCPT commands.

    fault: why the exchange ended early, or None. Replies that were read count, whatever came after them (D1).
    """
    mail, end = transaction.mail, transaction.end
    if mail is not None and mail.code >= 300:
        return [_refused(index, mail, "mail", Scope.MESSAGE, remote) for index in indexes]
    accepted: Reply | None = None
    if end is not None and transaction.data is None:
        accepted = end if end.code < 300 else None
    delivered: tuple[str, str] | None = None
    outcomes = []
    rcpts = transaction.rcpts
    for position, index in enumerate(indexes):
        rcpt = rcpts[position] if position < len(rcpts) else None
        if rcpt is not None and rcpt.code >= 300:
            outcomes.append(_refused(index, rcpt, "rcpt", Scope.RECIPIENT, remote))
        elif accepted is not None and rcpt is not None:
            if delivered is None:
                delivered = accepted.enhanced or "2.0.0", _words(accepted)
            outcomes.append(
                Outcome(
                    index=index,
                    status=_DELIVERED,
                    scope=_RECIPIENT,
                    status_code=delivered[0],
                    reply=delivered[1],
                    remote=remote,
                    phase="end-of-data",
                )
            )
        else:
            outcomes.append(_unsettled(index, rcpt, transaction, remote, fault))
    return outcomes


def _unsettled(
    index: int, rcpt: Reply | None, transaction: Transaction, remote: str, fault: EngineError | None
) -> Outcome:
    """A recipient that neither RCPT nor the final reply decided."""
    if transaction.data is not None and transaction.data.code >= 300:
        return _refused(index, transaction.data, "data", Scope.MESSAGE, remote)
    if transaction.end is not None and transaction.end.code >= 300:
        return _refused(index, transaction.end, "end-of-data", Scope.MESSAGE, remote)
    if transaction.closing is not None:
        return _refused(index, transaction.closing, _phase(transaction, rcpt), Scope.SESSION, remote)
    phase = _phase(transaction, rcpt)
    status = Status.UNKNOWN if transaction.end_sent else Status.DEFERRED
    words = _fault_words(fault, remote, "content" if phase == "end-of-data" and not transaction.end_sent else phase)
    code = _fault_code(fault)
    return Outcome(
        index=index, status=status, scope=Scope.SESSION, status_code=code, reply=words, remote=remote, phase=phase
    )


def _phase(transaction: Transaction, rcpt: Reply | None) -> str:
    """Where a transaction that broke off stood, for one recipient."""
    if transaction.end_sent or transaction.go_ahead:
        return "end-of-data"
    if transaction.mail is None:
        return "mail"
    return "rcpt" if rcpt is None else "data"


def is_stale(transaction: Transaction) -> bool:
    """A used connection had been closed before this transaction: nothing was heard of it but perhaps a goodbye.

    With the end of data sent and no word, the message may have been taken: that is D3, not a stale connection. A 421
    about policy is news of the site, and an outcome.
    """
    closing = transaction.closing
    if closing is not None:
        return transaction.mail in (None, closing) and not _is_block(closing)
    return not transaction.heard and not transaction.end_sent


def lost(indexes: Sequence[int], remote: str, fault: EngineError) -> list[Outcome]:
    """The connection was gone before a transaction could begin."""
    return everyone(
        indexes,
        Status.DEFERRED,
        Scope.SESSION,
        _fault_code(fault),
        _fault_words(fault, remote, "mail"),
        remote=remote,
        phase="mail",
    )


def _refused(index: int, reply: Reply, phase: str, scope: Scope, remote: str) -> Outcome:
    """A negative reply to something this recipient needed."""
    code = _status_code(reply)
    status = Status.FAILED if reply.code >= 500 else Status.DEFERRED
    if phase == "rcpt" and reply.code == 552 and code in ("5.0.0", "5.5.3"):
        status, code = Status.DEFERRED, "4.5.3"
    elif status is Status.DEFERRED:
        if _is_block(reply):
            scope = Scope.SITE
        elif reply.code == 421:
            scope = Scope.SESSION
    return Outcome(
        index=index,
        status=status,
        scope=scope,
        status_code=code,
        reply=_words(reply),
        remote=remote,
        phase=phase,
    )


def _is_block(reply: Reply) -> bool:
    """Policy about us, for now: 4.7.x that is not greylisting, which many servers also say so (RFC 6647)."""
    if not reply.enhanced.startswith("4.7."):
        return False
    text = reply.text.lower()
    return "greylist" not in text and "graylist" not in text


def _status_code(reply: Reply) -> str:
    return reply.enhanced or _DEFAULT_CODES.get(reply.code, f"{reply.code // 100}.0.0")


def _temporary(code: str) -> str:
    """The same reason, as one that may pass."""
    return "4" + code[1:]


def _words(reply: Reply) -> str:
    return str(reply)[:MAX_WORDS]


def _fault_code(fault: EngineError | None) -> str:
    match fault:
        case ProtocolError():
            return "4.5.0"
        case TlsFailed():
            return "4.7.5"
        case _:
            return "4.4.2"


def _fault_words(fault: EngineError | None, remote: str, phase: str) -> str:
    doing = _WAITING_FOR.get(phase, phase)
    return f"{fault or 'lost connection'} ({remote}, while {doing})"[:MAX_WORDS]


# ---- without asking the server


def unsafe_address(index: int, remote: str, why: object) -> Outcome:
    """A recipient that cannot be written into a command."""
    return everyone((index,), Status.FAILED, Scope.RECIPIENT, "5.1.3", str(why), remote=remote, phase="rcpt")[0]


def unsafe_message(indexes: Sequence[int], remote: str, why: object) -> list[Outcome]:
    """A sender, or a parameter of MAIL, that cannot be written into a command."""
    return everyone(indexes, Status.FAILED, Scope.MESSAGE, "5.1.7", str(why), remote=remote, phase="mail")


def needs_smtputf8(indexes: Sequence[int], remote: str) -> list[Outcome]:
    """RFC 6531 3.2: the next host cannot take it and there is no way to downgrade."""
    words = f"SMTPUTF8 is required, but was not offered by {remote}"
    return everyone(indexes, Status.FAILED, Scope.MESSAGE, "5.6.7", words, remote=remote, phase="mail")


def too_large(indexes: Sequence[int], remote: str, size: int, limit: int) -> list[Outcome]:
    """RFC 1870 6.1: no need to send what the server said it will not take."""
    words = f"message size {size} exceeds the size limit {limit} of {remote}"
    return everyone(indexes, Status.FAILED, Scope.MESSAGE, "5.3.4", words, remote=remote, phase="mail")


def too_many_at_once(outcomes: Sequence[Outcome]) -> tuple[Sequence[Outcome], tuple[int, ...]]:
    """Outcomes to record, and the recipients for whom the transaction was full: they go in the next, at once.

    RFC 5321 4.5.3.1.10. Only where somebody was delivered: else the server takes nobody, and they wait like others.
    """
    full = {outcome.index for outcome in outcomes if outcome.status_code == "4.5.3" and outcome.phase == "rcpt"}
    if not full or not any(outcome.status is Status.DELIVERED for outcome in outcomes):
        return outcomes, ()
    return [outcome for outcome in outcomes if outcome.index not in full], tuple(sorted(full))
