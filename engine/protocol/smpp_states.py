"""The states of an SMPP session: which requests may come in each, from which side (SMPP 3.4 2.2, 2.3; 5.0 2.3)."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from engine.protocol import smpp_pdu as pdu
from engine.protocol.smpp_tables import ESME_RALYBND, ESME_RINVBNDSTS, ESME_ROK


class Role(enum.Enum):
    """Which side of the session is ours."""

    ESME = "client"
    SMSC = "server"


class State(enum.IntEnum):
    """Where a session stands. An index into the table below, and in the order of a session's life."""

    OPEN = 0
    OUTBOUND = 1  #: the SMSC asks the ESME to bind
    BINDING = 2  #: a bind is not answered yet
    BOUND_TX = 3
    BOUND_RX = 4
    BOUND_TRX = 5
    UNBINDING = 6  #: we have sent unbind; what the peer sent before it heard of it is served
    LEAVING = 7  #: the peer has sent unbind; it is answered after what came before it
    CLOSED = 8


BOUND = frozenset((State.BOUND_TX, State.BOUND_RX, State.BOUND_TRX))
#: In which a side may begin a request that its row in the table allows.
SENDING = BOUND | {State.OPEN, State.OUTBOUND}

BOUND_BY: Mapping[type[pdu.Pdu], State] = {
    pdu.BindTransmitter: State.BOUND_TX,
    pdu.BindReceiver: State.BOUND_RX,
    pdu.BindTransceiver: State.BOUND_TRX,
}

#: By the sender and the request, then by State: "+" served, "-" ESME_RINVBNDSTS, "b" ESME_RALYBND.
#: deliver_sm before the bind_resp, and enquire_link before the bind, are against the specification and seen daily.
REQUESTS: Mapping[Role, Mapping[int, str]] = {
    #                                     open outbound binding tx rx trx unbinding leaving closed
    Role.ESME: {
        pdu.BindTransmitter.command_id:   "++bbbb---",
        pdu.BindReceiver.command_id:      "++bbbb---",
        pdu.BindTransceiver.command_id:   "++bbbb---",
        pdu.SubmitSm.command_id:          "---+-++--",
        pdu.SubmitMulti.command_id:       "---+-++--",
        pdu.DataSm.command_id:            "---+-++--",
        pdu.QuerySm.command_id:           "---+-++--",
        pdu.CancelSm.command_id:          "---+-++--",
        pdu.ReplaceSm.command_id:         "---+-++--",
        pdu.Unbind.command_id:            "--+++++--",
        pdu.EnquireLink.command_id:       "++++++++-",
    },
    Role.SMSC: {
        pdu.Outbind.command_id:           "+--------",
        pdu.DeliverSm.command_id:         "--+-+++--",
        pdu.DataSm.command_id:            "--+-+++--",
        pdu.AlertNotification.command_id: "--+-+++--",
        pdu.Unbind.command_id:            "--+++++--",
        pdu.EnquireLink.command_id:       "++++++++-",
    },
}  # fmt: skip

#: The status that each mark of the table stands for.
STATUS_OF: Mapping[str, int] = {"+": ESME_ROK, "-": ESME_RINVBNDSTS, "b": ESME_RALYBND}
NEVER = "-" * len(State)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """Seconds (SMPP 3.4 7.2).

    session_init: from the connection to the bind, and for its answer. response: to any other request.
    enquire_link: of silence, after which the peer is asked whether it lives. enquire_link_resp: for it to say so.
    """

    session_init: float = 30
    response: float = 60
    enquire_link: float = 30
    enquire_link_resp: float = 15
