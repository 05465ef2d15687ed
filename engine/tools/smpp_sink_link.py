"""One connection of the test SMSC: bytes in, bytes out. No I/O.

Deliberately not the engine's own session (`smpp_session`): a fault there must not hide in the tool that should show
it. Any bytes give answers or the end of the connection (P1), however they are cut (P2).
"""

from collections.abc import Mapping

from engine.protocol.smpp_codec import AnyPdu, encode
from engine.protocol.smpp_frames import FrameError, PduParser
from engine.protocol.smpp_pdu import (
    PDU_TYPES,
    BindReceiver,
    BindReceiverResp,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    BindTransmitterResp,
    CancelSm,
    DataSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    MalformedPdu,
    Pdu,
    QuerySm,
    ReplaceSm,
    SubmitMulti,
    SubmitSm,
    Unbind,
    UnbindResp,
    UnknownPdu,
)
from engine.protocol.smpp_tables import (
    ESME_RALYBND,
    ESME_RINVBNDSTS,
    ESME_RINVCMDID,
    ESME_RMSGQFUL,
    ESME_ROK,
    ESME_RTHROTTLED,
    ESME_RX_T_APPN,
    RESPONSE,
    STATUSES,
)
from engine.tools.smpp_sink_post import Delivery
from engine.tools.smpp_sink_smsc import Smsc

_Bind = BindTransmitter | BindReceiver | BindTransceiver
_BIND_RESP: Mapping[type[Pdu], type[BindTransmitterResp] | type[BindReceiverResp] | type[BindTransceiverResp]] = {
    BindTransmitter: BindTransmitterResp,
    BindReceiver: BindReceiverResp,
    BindTransceiver: BindTransceiverResp,
}
_SUBMITS = frozenset((SubmitSm, SubmitMulti, DataSm))
_SERVED = _SUBMITS | {QuerySm, CancelSm, ReplaceSm}
#: Of a delivery: it is to be sent again.
_FOR_NOW = frozenset((ESME_RX_T_APPN, ESME_RTHROTTLED, ESME_RMSGQFUL))
_SC_INTERFACE_VERSION = (0x0210, b"\x34")
_LAST_NUMBER = 0x7FFFFFFF


class Link:
    """One client. `out`: bytes to send, in order. `closing`: close once they have left.

    unacknowledged: deliveries by their sequence number.
    """

    def __init__(self, smsc: Smsc, touched: set["Link"]) -> None:
        """touched: where it is put whenever there is something to send."""
        self.out: list[bytes] = []
        self.closing = False
        self.system_id = b""
        self.unacknowledged: dict[int, Delivery] = {}
        self._smsc = smsc
        self._touched = touched
        self._parser = PduParser()
        self._bind: type[Pdu] | None = None
        self._dead = False
        self._submits = 0
        self._number = 0

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the client."""
        self._parser.feed(data)
        try:
            while not (self._dead or self.closing) and (pdu := self._parser.next_pdu()) is not None:
                self._take(pdu, now)
        except FrameError as fault:
            self._smsc.tally.protocol_errors += 1
            self._say(fault.nack)
            self._hang_up()

    def lost(self) -> None:
        """The connection is gone."""
        self._hang_up()

    # ---- what the post calls

    @property
    def receives(self) -> bool:
        """Whether it may get deliveries."""
        return self._bind in (BindReceiver, BindTransceiver) and not (self._dead or self.closing)

    @property
    def room(self) -> int:
        """Of the window of deliveries."""
        return self._smsc.options.window - len(self.unacknowledged)

    def deliver(self, delivery: Delivery) -> None:
        """Send a receipt or an answer."""
        self._number = self._number % _LAST_NUMBER + 1
        self.unacknowledged[self._number] = delivery
        self._send(encode(delivery.pdu, self._number))

    # ---- what comes

    def _take(self, pdu: AnyPdu, now: float) -> None:
        kind, number = type(pdu), pdu.sequence_number
        if pdu.command_id & RESPONSE:
            self._acknowledged(pdu, now)
        elif kind is EnquireLink:
            self._say(EnquireLinkResp(number))
        elif isinstance(pdu, UnknownPdu):
            self._wrong(GenericNack(number, ESME_RINVCMDID))
        elif isinstance(pdu, MalformedPdu):
            self._refuse(pdu, pdu.answer_status)
        elif isinstance(pdu, _Bind):
            self._take_bind(pdu)
        elif kind is Unbind and self._bind is not None:
            self._say(UnbindResp(number))
            self._hang_up()
        elif kind in _SERVED and self._bind in (BindTransmitter, BindTransceiver):
            self._serve(pdu, now)
        else:
            self._refuse(pdu, ESME_RINVBNDSTS)

    def _serve(self, pdu: Pdu, now: float) -> None:
        smsc, options = self._smsc, self._smsc.options
        by = self if self.receives else None
        response, told = smsc.serve(pdu, self.system_id, by, now)
        if response is not None:
            self._send(encode(response, pdu.sequence_number))
        if told:
            smsc.conclude(told, by, now)
        if type(pdu) in _SUBMITS:
            self._submits += 1
            if self._submits == options.dead_after:
                self._leave()
                self._dead = True
            elif self._submits == options.close_after:
                self._hang_up()

    def _take_bind(self, pdu: _Bind) -> None:
        response = _BIND_RESP[type(pdu)]
        if self._bind is not None:
            self._wrong(response(pdu.sequence_number, ESME_RALYBND))
            return
        status = self._wrong_login(pdu)
        if status != ESME_ROK:
            self._smsc.tally.refused_binds += 1
            self._say(response(pdu.sequence_number, status))
            return
        self._smsc.tally.binds += 1
        self._bind, self.system_id = type(pdu), pdu.system_id
        name = self._smsc.options.name.encode()[:15]
        self._say(response(pdu.sequence_number, tlvs=(_SC_INTERFACE_VERSION,), system_id=name))
        if self.receives:
            self._smsc.post.join(self)

    def _wrong_login(self, pdu: _Bind) -> int:
        if not self._smsc.options.login:
            return ESME_ROK
        system_id, _, password = self._smsc.options.login.encode().partition(b":")
        if pdu.system_id != system_id:
            return _BAD_SYSTEM_ID
        return ESME_ROK if pdu.password == password else _BAD_PASSWORD

    def _acknowledged(self, pdu: AnyPdu, now: float) -> None:
        delivery = self.unacknowledged.get(pdu.sequence_number)
        if delivery is None or pdu.command_id not in (DeliverSmResp.command_id, GenericNack.command_id):
            self._smsc.tally.protocol_errors += 1
            return
        del self.unacknowledged[pdu.sequence_number]
        tally = self._smsc.tally
        if pdu.command_status in _FOR_NOW:
            self._smsc.post.send_later(delivery, now)
        elif pdu.command_status or pdu.command_id == GenericNack.command_id:
            tally.receipts_refused += delivery.receipt
            tally.answers_refused += not delivery.receipt
        else:
            tally.receipts_acknowledged += delivery.receipt
            tally.answers_acknowledged += not delivery.receipt
        self._smsc.post.serve(self.system_id)

    # ---- common

    def _hang_up(self) -> None:
        self.closing = True
        if self._bind is not None:
            self._leave()

    def _leave(self) -> None:
        """No longer bound; what is not acknowledged is for another bind."""
        self._bind = None
        unacknowledged = list(self.unacknowledged.values())
        self.unacknowledged.clear()
        self._smsc.post.leave(self, unacknowledged)

    def _refuse(self, pdu: AnyPdu, status: int) -> None:
        response = PDU_TYPES.get(pdu.command_id | RESPONSE, GenericNack)
        self._wrong(response(pdu.sequence_number, status))

    def _wrong(self, response: Pdu) -> None:
        self._smsc.tally.protocol_errors += 1
        self._say(response)

    def _say(self, pdu: Pdu) -> None:
        self._send(encode(pdu))

    def _send(self, data: bytes) -> None:
        self.out.append(data)
        self._touched.add(self)


_BAD_SYSTEM_ID, _BAD_PASSWORD = STATUSES["ESME_RINVSYSID"], STATUSES["ESME_RINVPASWD"]
