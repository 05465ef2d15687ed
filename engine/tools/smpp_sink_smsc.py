"""The test SMSC behind all its connections: what becomes of each submit, query, cancel and replace. No I/O."""

import time
from collections.abc import Callable
from typing import NamedTuple

from engine.protocol.receipt_states import State
from engine.protocol.smpp_multi import SmeAddress, UnsuccessSme
from engine.protocol.smpp_pdu import (
    CancelSm,
    CancelSmResp,
    DataSm,
    DataSmResp,
    Pdu,
    QuerySm,
    QuerySmResp,
    ReplaceSm,
    ReplaceSmResp,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
)
from engine.protocol.smpp_tables import ESME_ROK, ESME_RTHROTTLED, STATUSES, status_name
from engine.protocol.sms_udh import MESSAGE_PAYLOAD, UDHI, read_user_data
from engine.tools.smpp_sink_messages import Address, Message, Messages
from engine.tools.smpp_sink_options import SmscOptions
from engine.tools.smpp_sink_post import Delivery, Post, Receiver
from engine.tools.smpp_sink_rules import Share
from engine.tools.smpp_sink_tally import SmppTally

_NO_SUCH_LIST = STATUSES["ESME_RINVDLNAME"]
_LONGEST_ADDRESS = 20  #: of those in a deliver_sm, which has to go the other way
_ASKED = 0x03  #: the bits of registered_delivery that ask for a receipt of the SMSC

_Submit = SubmitSm | DataSm | SubmitMulti


def _bad_address(source: bytes, destination: bytes) -> int:
    """The status for addresses to which nothing could be sent back; ESME_ROK."""
    if len(source) > _LONGEST_ADDRESS:
        return STATUSES["ESME_RINVSRCADR"]
    return ESME_ROK if 0 < len(destination) <= _LONGEST_ADDRESS else STATUSES["ESME_RINVDSTADR"]


class Verdict(NamedTuple):
    """On a submit to one destination. silent: it is taken, but nobody is told."""

    status: int
    message: Message | None = None
    silent: bool = False


class Smsc:
    """What the connections of one test SMSC share. By `serve` they ask it; `post` sends to them."""

    def __init__(self, options: SmscOptions, tally: SmppTally) -> None:
        self.options = options
        self.tally = tally
        self.post = Post(options, tally)
        self._messages = Messages(options)
        self._throttle = Share(options.throttle)
        self._served: dict[type[Pdu], Callable[..., Pdu | None]] = {
            SubmitSm: self._submit,
            DataSm: self._data,
            SubmitMulti: self._multi,
            QuerySm: self._query,
            CancelSm: self._cancel,
            ReplaceSm: self._replace,
        }

    def serve(self, pdu: Pdu, system_id: bytes, by: Receiver | None, now: float) -> tuple[Pdu | None, list[Message]]:
        """The response to a request of a bound client, None if it gets none, and the messages to tell of after it.

        by: the bind itself, if it may receive. What the habits want early is sent on the way.
        """
        told: list[Message] = []
        return self._served[type(pdu)](pdu, system_id, by, now, told), told

    def conclude(self, messages: list[Message], by: Receiver | None, now: float) -> None:
        """The response has been given: receipts and answers follow."""
        for message in messages:
            self.post.announce(message, by, now)
            text = self.options.answers.find(message.destination.number)
            if text is not None:
                for pdu in message.answers(text):
                    self.post.send(Delivery(message.system_id, pdu, False))

    # ---- submits

    def _submit(
        self, pdu: SubmitSm, system_id: bytes, by: Receiver | None, now: float, told: list[Message]
    ) -> Pdu | None:
        to = Address(pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.destination_addr)
        verdict = self._judge(pdu, system_id, to, self._messages.next_ids, now)
        return self._answer(SubmitSmResp, verdict, by, now, told)

    def _data(self, pdu: DataSm, system_id: bytes, by: Receiver | None, now: float, told: list[Message]) -> Pdu | None:
        to = Address(pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.destination_addr)
        verdict = self._judge(pdu, system_id, to, self._messages.next_ids, now)
        return self._answer(DataSmResp, verdict, by, now, told)

    def _answer(
        self,
        response: type[SubmitSmResp] | type[DataSmResp],
        verdict: Verdict,
        by: Receiver | None,
        now: float,
        told: list[Message],
    ) -> Pdu | None:
        if verdict.message is None:
            return response(command_status=verdict.status)
        self._taken(verdict.message, by, now, told)
        return None if verdict.silent else response(message_id=verdict.message.id.encode())

    def _multi(
        self, pdu: SubmitMulti, system_id: bytes, by: Receiver | None, now: float, told: list[Message]
    ) -> Pdu | None:
        """One id for all destinations. It is silent about all if it is about one."""
        ids = self._messages.next_ids()
        refused, silent, taken = [], False, 0
        for destination in pdu.dest_addresses:
            if not isinstance(destination, SmeAddress):
                return SubmitMultiResp(command_status=_NO_SUCH_LIST)
        for destination in pdu.dest_addresses:
            assert isinstance(destination, SmeAddress)
            to = Address(destination.dest_addr_ton, destination.dest_addr_npi, destination.destination_addr)
            verdict = self._judge(pdu, system_id, to, lambda: ids, now)
            silent = silent or verdict.silent
            if verdict.message is None:
                refused.append(UnsuccessSme(to.ton, to.npi, to.number[:_LONGEST_ADDRESS], verdict.status))
            else:
                taken += 1
                self._taken(verdict.message, by, now, told)
        if silent:
            return None
        if not taken:
            return SubmitMultiResp(command_status=refused[0].error_status_code if refused else _NO_SUCH_LIST)
        return SubmitMultiResp(message_id=ids[0].encode(), unsuccess_smes=tuple(refused))

    def _taken(self, message: Message, by: Receiver | None, now: float, told: list[Message]) -> None:
        if self.options.receipts.early:
            self.post.announce(message, by, now)
        told.append(message)

    def _judge(
        self, pdu: _Submit, system_id: bytes, to: Address, ids: Callable[[], tuple[str, str]], now: float
    ) -> Verdict:
        """What becomes of it."""
        options, tally = self.options, self.tally
        tally.submitted()
        if (options.pace is not None and not options.pace.take(now)) or self._throttle.take():
            tally.throttled += 1
            return Verdict(ESME_RTHROTTLED)
        status = _bad_address(pdu.source_addr, to.number) or options.replies.find(to.number)
        if status:
            tally.refused[status_name(status)] += 1
            return Verdict(status)
        message = self._message(pdu, system_id, to, ids(), now)
        self._messages.keep(message)
        silent = bool(options.silent.find(to.number))
        tally.silent += silent
        return Verdict(ESME_ROK, message, silent)

    def _message(self, pdu: _Submit, system_id: bytes, to: Address, ids: tuple[str, str], now: float) -> Message:
        body = b"" if isinstance(pdu, DataSm) else pdu.short_message
        content, part = b"", False
        if pdu.tlvs or pdu.esm_class & UDHI:
            tlvs = dict(pdu.tlvs)
            body = body or tlvs.get(MESSAGE_PAYLOAD, b"")
            segment = read_user_data(body, pdu.esm_class, tlvs)[2]
            part = segment is not None
            content = repr(segment).encode()
        self.tally.took(ids[0], pdu.source_addr, to.number, body + content, part=part)
        return Message(
            id=ids[0],
            receipt_id=ids[1],
            system_id=system_id,
            source=Address(pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr),
            destination=to,
            body=body,
            data_coding=pdu.data_coding,
            esm_class=pdu.esm_class,
            asked=pdu.registered_delivery & _ASKED,
            final=self.options.states.find(to.number) or State.DELIVERED,
            done_at=now + self.options.receipts.delay_s,
            submitted_at=time.time(),
        )

    # ---- what is said about a message later

    def _query(self, pdu: QuerySm, system_id: bytes, by: Receiver | None, now: float, told: list[Message]) -> Pdu:
        self.tally.queried += 1
        message = self._messages.find(pdu.message_id, pdu.source_addr)
        if message is None:
            return QuerySmResp(command_status=STATUSES["ESME_RQUERYFAIL"])
        state = message.state(now)
        done = time.time() - (now - message.done_at)
        date = time.strftime("%y%m%d%H%M%S000+", time.gmtime(done)).encode() if state.final else b""
        return QuerySmResp(message_id=pdu.message_id, final_date=date, message_state=state)

    def _cancel(self, pdu: CancelSm, system_id: bytes, by: Receiver | None, now: float, told: list[Message]) -> Pdu:
        message = self._messages.find(pdu.message_id, pdu.source_addr)
        if message is None or now >= message.done_at:
            return CancelSmResp(command_status=STATUSES["ESME_RCANCELFAIL"])
        self.tally.cancelled += 1
        message.final, message.done_at = State.DELETED, now
        self.post.announce(message, by, now)
        return CancelSmResp()

    def _replace(self, pdu: ReplaceSm, system_id: bytes, by: Receiver | None, now: float, told: list[Message]) -> Pdu:
        message = self._messages.find(pdu.message_id, pdu.source_addr)
        if message is None or now >= message.done_at:
            return ReplaceSmResp(command_status=STATUSES["ESME_RREPLACEFAIL"])
        self.tally.replaced += 1
        message.body, message.asked = pdu.short_message, pdu.registered_delivery & _ASKED
        return ReplaceSmResp()
