"""One session of the load generator over SMPP: bytes in, bytes out. No I/O.

Deliberately not the engine's own session (`smpp_session`): a fault there must not hide in the tool that measures it.
"""

import math
from typing import Final

from mypy_extensions import mypyc_attr

from engine.base.errors import NetworkError
from engine.protocol.receipt import claims_receipt, parse_receipt
from engine.protocol.smpp_codec import AnyPdu, encode
from engine.protocol.smpp_frames import FrameError, PduParser
from engine.protocol.smpp_pdu import (
    BindTransceiver,
    BindTransceiverResp,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from engine.protocol.smpp_tables import (
    ESME_RINVCMDID,
    ESME_RMSGQFUL,
    ESME_ROK,
    ESME_RTHROTTLED,
    RESPONSE,
    STATUSES,
    status_name,
)
from engine.tools.smpp_load_ledger import Ledger
from engine.tools.smpp_load_message import SubmitMaker
from engine.tools.smpp_load_options import SmppLoadOptions

_FOR_NOW: Final = frozenset((ESME_RTHROTTLED, ESME_RMSGQFUL))
_ANSWERS: Final = (SubmitSmResp.command_id, GenericNack.command_id)
#: After such an answer; it doubles while nothing is accepted.
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_BIND_NUMBER: Final = 1
#: Nobody will let us in later.
_HOPELESS: Final = frozenset((STATUSES["ESME_RINVPASWD"], STATUSES["ESME_RINVSYSID"]))


@mypyc_attr(native_class=False)
class BindRefused(NetworkError):
    """The server does not let this system_id in."""


class LoadLink:
    """One bind. `out`: bytes to send. `ended`: why it is over, "" while it is not; then `in_flight` has no answers."""

    def __init__(self, options: SmppLoadOptions, maker: SubmitMaker, ledger: Ledger) -> None:
        self.out: list[bytes] = []
        self.ended = ""
        self.hopeless = False
        self.in_flight: dict[int, int] = {}
        self._maker = maker
        self._ledger = ledger
        self._window = options.window
        self._parser = PduParser()
        self._number = _BIND_NUMBER
        self._bound = False
        self._leaving = False
        self._pause_s = _FIRST_PAUSE_S
        self._paused_until = 0.0
        bind = BindTransceiver(system_id=options.system_id.encode(), password=options.password.encode())
        self.out.append(encode(bind, _BIND_NUMBER))

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the server; what there is to send after them is sent."""
        self._parser.feed(data)
        try:
            while not self.ended and (pdu := self._parser.next_pdu()) is not None:
                self._take(pdu, now)
        except FrameError as fault:
            self.end(str(fault))
        self.fill(now)

    def fill(self, now: float) -> None:
        """Send what window, rate and pause allow."""
        if not self._bound or self._leaving or self.ended or now < self._paused_until:
            return
        while len(self.in_flight) < self._window and (submit := self._ledger.take(now)) is not None:
            self._number = self._number % 0x7FFFFFFF + 1
            self.in_flight[self._number] = submit
            self.out.append(self._maker.wire(submit, self._number))

    @property
    def due_at(self) -> float:
        """When `fill` may have something to do without anything received."""
        if not self._bound or self._leaving or self.ended or len(self.in_flight) >= self._window:
            return math.inf
        return max(self._paused_until, self._ledger.due_at)

    def unbind(self) -> None:
        """Nothing more will be sent."""
        if self._bound and not self._leaving:
            self._leaving = True
            self._number = self._number % 0x7FFFFFFF + 1
            self.out.append(encode(Unbind(self._number)))
        elif not self._bound:
            self.end("not bound")

    def end(self, why: str) -> None:
        """The connection is lost, or the server broke the protocol."""
        self.ended = self.ended or why

    def _take(self, pdu: AnyPdu, now: float) -> None:
        if pdu.command_id & RESPONSE:
            self._response(pdu, now)
        elif isinstance(pdu, DeliverSm | DataSm):
            answer = DeliverSmResp if isinstance(pdu, DeliverSm) else DataSmResp
            self.out.append(encode(answer(pdu.sequence_number)))
            self._delivery(pdu, now)
        elif isinstance(pdu, EnquireLink):
            self.out.append(encode(EnquireLinkResp(pdu.sequence_number)))
        elif isinstance(pdu, Unbind):
            self.out.append(encode(UnbindResp(pdu.sequence_number)))
            self.end("unbound by the server")
        else:
            self.out.append(encode(GenericNack(pdu.sequence_number, ESME_RINVCMDID)))

    def _response(self, pdu: AnyPdu, now: float) -> None:
        if pdu.sequence_number == _BIND_NUMBER and not self._bound:
            self._bind_answered(pdu)
        elif pdu.command_id == UnbindResp.command_id and self._leaving:
            self.end("unbound")
        elif pdu.command_id not in _ANSWERS or (submit := self.in_flight.pop(pdu.sequence_number, None)) is None:
            self._ledger.report.unsolicited += 1
        elif pdu.command_status in _FOR_NOW:
            self._ledger.throttled(submit, pdu.command_status, now)
            if now >= self._paused_until:  # not again for the rest of the window
                self._paused_until = now + self._pause_s
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        else:
            # A generic_nack never accepts, whatever its status.
            status = pdu.command_status or (ESME_RINVCMDID if isinstance(pdu, GenericNack) else ESME_ROK)
            id = pdu.message_id.decode("latin-1") if isinstance(pdu, SubmitSmResp) else ""
            self._ledger.answered(submit, status, id, now)
            self._pause_s = _FIRST_PAUSE_S

    def _bind_answered(self, pdu: AnyPdu) -> None:
        if isinstance(pdu, BindTransceiverResp) and pdu.command_status == ESME_ROK:
            self._bound = True
            self._ledger.report.connections += 1
        else:
            self.hopeless = pdu.command_status in _HOPELESS
            self.end(f"bind refused: {status_name(pdu.command_status)}")

    def _delivery(self, pdu: DeliverSm | DataSm, now: float) -> None:
        body = pdu.short_message if isinstance(pdu, DeliverSm) else b""
        if not claims_receipt(pdu.esm_class):
            self._ledger.report.received += 1
            return
        receipt = parse_receipt(body, data_coding=pdu.data_coding, esm_class=pdu.esm_class, tlvs=dict(pdu.tlvs))
        if receipt is None:
            self._ledger.report.unreadable_receipts += 1
        else:
            self._ledger.received(pdu.source_addr, receipt, now)
