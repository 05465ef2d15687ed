"""What an SMPP session tells: requests of the peer, answers to ours, and its end."""

import enum

import msgspec

from engine.protocol.smpp_codec import AnyPdu
from engine.protocol.smpp_pdu import GenericNack, Pdu
from engine.protocol.smpp_tables import ESME_ROK


class Request(msgspec.Struct, frozen=True, eq=False):
    """A request of ours. sent_at, due_at: seconds of the caller's clock. context: the caller's, not looked at."""

    pdu: Pdu
    sequence_number: int
    sent_at: float
    due_at: float
    context: object


class Received(msgspec.Struct, frozen=True, gc=False):
    """The peer asks: to be answered with `respond`, unless it is an outbind or an alert_notification."""

    pdu: Pdu


class Answered(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request: its response, also one whose body cannot be read, or a generic_nack."""

    request: Request
    response: AnyPdu

    @property
    def accepted(self) -> bool:
        """It was done; the id may still be missing. A generic_nack never says that, whatever its status."""
        return self.response.command_status == ESME_ROK and not isinstance(self.response, GenericNack)


class Unanswered(msgspec.Struct, frozen=True, gc=False):
    """No answer in time, or none before the end: what became of the request is unknown (D3)."""

    request: Request


class LateAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request that was told as `Unanswered` before."""

    request: Request
    response: AnyPdu


class Unsolicited(msgspec.Struct, frozen=True, gc=False):
    """A response to nothing that is remembered. It was dropped."""

    response: AnyPdu


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A request that the session itself answered with this status."""

    pdu: AnyPdu
    status: int


class End(enum.Enum):
    """Why a session is over."""

    UNBOUND = "unbound"  #: one side asked, the other agreed or took too long
    SILENT = "enquire_link was not answered"
    NOT_BOUND = "no bind in time"
    GARBLED = "not SMPP"
    LOST = "connection lost"


class Closed(msgspec.Struct, frozen=True):
    """The last event. The connection is to be closed once what `data_to_send` gives has left. text: more, for a log."""

    end: End
    text: str = ""


#: How a request ends, for who made it.
ENDINGS = (Answered, Unanswered)

Event = Received | Answered | Unanswered | LateAnswer | Unsolicited | Refused | Closed
