"""What the answer to a submit_sm, or to our deliver_sm, means: the one place where an `Outcome` of SMS is decided.

Sources: SMPP 3.4 5.1.3, 5.0 4.7.6; Kannel, which takes few statuses for permanent, for what is deferred.

    ESME_ROK                DELIVERED: the carrier took responsibility
    throttled, queue full   no outcome: the same message is tried again, first, at half the rate (sms_pace.py)
    congestion_state        whatever else the answer says, half the rate
    about the number        FAILED, RECIPIENT     about the sender or the content    FAILED, MESSAGE
    about us or itself      DEFERRED, SITE: another carrier may do
    no answer               UNKNOWN (D3): another carrier may do
    else                    DEFERRED, MESSAGE (Q3): another carrier may do, too
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from engine.message.outcome import Outcome, Scope, Status
from engine.message.sms import SentPart, price_of
from engine.protocol.smpp_codec import AnyPdu
from engine.protocol.smpp_pdu import GenericNack, Pdu
from engine.protocol.smpp_tables import (
    ESME_RMSGQFUL,
    ESME_ROK,
    ESME_RTHROTTLED,
    STATUSES,
    TAGS,
    status_name,
    status_text,
)

#: Try again, later: nothing else.
THROTTLED: Final = frozenset((ESME_RTHROTTLED, ESME_RMSGQFUL))

#: Of what a carrier may have had before a kill, or a fault of ours.
TWICE: Final = "; may have been sent before: what became of it was not recorded"

_CONGESTION_STATE: Final = TAGS["congestion_state"]
_NEARLY_CONGESTED: Final = 90

_Meaning = tuple[Status, Scope, str]
_NUMBER: Final[_Meaning] = (Status.FAILED, Scope.RECIPIENT, "5.1.1")
_SENDER: Final[_Meaning] = (Status.FAILED, Scope.MESSAGE, "5.1.8")
_CONTENT: Final[_Meaning] = (Status.FAILED, Scope.MESSAGE, "5.6.0")
_POLICY: Final[_Meaning] = (Status.FAILED, Scope.MESSAGE, "5.7.1")
_CARRIER: Final[_Meaning] = (Status.DEFERRED, Scope.SITE, "4.3.0")
_OTHER: Final[_Meaning] = (Status.DEFERRED, Scope.MESSAGE, "4.0.0")
_MEANINGS: Final[Mapping[int, _Meaning]] = {
    STATUSES[name]: meaning
    for meaning, names in (
        (_NUMBER, ("ESME_RINVDSTADR", "ESME_RINVDSTTON", "ESME_RINVDSTNPI", "ESME_RINVDSTADDRSUBUNIT")),
        (_SENDER, ("ESME_RINVSRCADR", "ESME_RINVSRCTON", "ESME_RINVSRCNPI", "ESME_RINVSRCADDRSUBUNIT")),
        (
            _CONTENT,
            (
                "ESME_RINVMSGLEN", "ESME_RINVCMDLEN", "ESME_RINVESMCLASS", "ESME_RINVREGDLVFLG", "ESME_RINVSERTYP",
                "ESME_RINVREPFLAG", "ESME_RINVSCHED", "ESME_RINVEXPIRY", "ESME_RINVDFTMSGID", "ESME_RINVDCS",
                "ESME_RINVOPTPARSTREAM", "ESME_ROPTPARNOTALLWD", "ESME_RINVPARLEN", "ESME_RMISSINGOPTPARAM",
                "ESME_RINVOPTPARAMVAL", "ESME_RINVPRTFLG",
            ),
        ),
        (_POLICY, ("ESME_RX_R_APPN", "ESME_RX_P_APPN", "ESME_RPROHIBITED", "ESME_RSERTYPDENIED", "ESME_RSERTYPUNAUTH")),
        (_CARRIER, ("ESME_RSYSERR", "ESME_RINVBNDSTS", "ESME_RINVSYSID", "ESME_RINVPASWD", "ESME_RX_T_APPN")),
    )
    for name in names
}  # fmt: skip


def message_id(response: AnyPdu) -> str:
    """What the peer calls the message; "": it gives no id."""
    written: bytes = getattr(response, "message_id", b"")
    return written.decode("utf-8", "backslashreplace")


def congested(response: AnyPdu) -> bool:
    """Whether its congestion_state says that no more should come for now (SMPP 5.0 4.8.4.18)."""
    if not isinstance(response, Pdu) or not response.tlvs:
        return False
    state = response.tlv(_CONGESTION_STATE)
    return bool(state and state[0] >= _NEARLY_CONGESTED)


def taken(index: int, carrier_id: str, remote: str) -> Outcome:
    """The peer took responsibility."""
    words = f"ESME_ROK id={carrier_id}" if carrier_id else "ESME_ROK, without an id"
    return Outcome(
        index=index, status=Status.DELIVERED, scope=Scope.RECIPIENT, status_code="2.0.0", reply=words, remote=remote,
        phase="submit",
    )  # fmt: skip


def priced(outcome: Outcome, price: str, parts: int) -> Outcome:
    """The same, with what its parts cost if they were taken. price: of each; "0": they cost nothing."""
    if price == "0" or outcome.status is not Status.DELIVERED:
        return outcome
    return replace(outcome, price=price_of(price, parts))


def marked(outcome: Outcome, mark: str) -> Outcome:
    """The same, and its reply says so; once."""
    return outcome if outcome.reply.endswith(mark) else replace(outcome, reply=outcome.reply + mark)


def after_a_kill(
    outcomes: Sequence[Outcome], taken_by: Callable[[int], Sequence[SentPart]], again: bool
) -> list[Outcome]:
    """What was decided of recipients without an attempt, who may have been sent to when the engine was killed.

    taken_by: the parts that a carrier took for a recipient before that. Nobody can take those back. again: it may have
    taken them twice.
    """
    truth = []
    for outcome in outcomes:
        parts = taken_by(outcome.index)
        if parts:
            first = parts[0]
            outcome = priced(taken(outcome.index, first.carrier_id, first.carrier), first.price, len(parts))
        truth.append(outcome if parts and not again else marked(outcome, TWICE))
    return truth


def judged(index: int, response: AnyPdu, carrier_id: str, remote: str) -> Outcome:
    """The outcome of an answer that is not in THROTTLED."""
    status = response.command_status
    if status == ESME_ROK and not isinstance(response, GenericNack):
        return taken(index, carrier_id, remote)
    fate, scope, code = _MEANINGS.get(status, _OTHER)
    words = f"{status_name(status)} {status_text(status)}"
    if isinstance(response, GenericNack):
        fate, scope, code = _OTHER
        words = f"generic_nack {words}"
    return Outcome(
        index=index, status=fate, scope=scope, status_code=code, reply=words, remote=remote, phase="submit"
    )  # fmt: skip


def unanswered(index: int, remote: str) -> Outcome:
    """D3: it was sent, and nobody knows what became of it."""
    return Outcome(
        index=index, status=Status.UNKNOWN, scope=Scope.SESSION, status_code="4.4.2",
        reply="no answer to the submit; the message may have been taken", remote=remote, phase="submit",
    )  # fmt: skip


def slowed_down(index: int, remote: str) -> Outcome:
    """It was told to slow down, and not sent again before the bind was lost."""
    return Outcome(
        index=index, status=Status.DEFERRED, scope=Scope.SESSION, status_code="4.3.2", reply="told to slow down",
        remote=remote, phase="queue",
    )  # fmt: skip


def malformed(index: int, why: object) -> Outcome:
    """It cannot be said in SMPP, or not to this carrier."""
    return Outcome(
        index=index, status=Status.FAILED, scope=Scope.MESSAGE, status_code="5.6.0", reply=str(why), phase="queue"
    )
