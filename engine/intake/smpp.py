"""What an application that is bound may ask for: submits here; what is about queued messages, in smpp_orders.py.

Serving a submit takes no task: what admission stores answers for itself when it is durable (S1).
"""

import logging
from functools import partial

from engine.base.errors import EngineError
from engine.base.stored import Stored
from engine.intake.smpp_binds import Account
from engine.intake.smpp_connection import Order, SmppConnection
from engine.intake.smpp_requests import Submit, messages_in, read_request, unsuccessful
from engine.intake.sms_admission import Admitted
from engine.intake.sms_refusal import SmsRefused
from engine.protocol.smpp_pdu import DataSm, DataSmResp, Pdu, SubmitMultiResp, SubmitSm, SubmitSmResp
from engine.protocol.smpp_tables import ESME_RINVCMDID, ESME_ROK, ESME_RSYSERR, ESME_RTHROTTLED

_log = logging.getLogger(__name__)


class SmppServer(SmppConnection):
    """See above."""

    def serve(self, pdu: Pdu, account: Account) -> None:
        if isinstance(pdu, Submit):
            self._admit(pdu, account)
        elif isinstance(pdu, Order):
            self._gate.spawn(self._carry_out(pdu, account))
        else:
            self.answer(pdu, ESME_RINVCMDID)

    def _admit(self, pdu: Submit, account: Account) -> None:
        admission = self._gate.admission
        try:
            if self._leaving or not account.may_submit(messages_in(pdu), self._gate.clock.monotonic()):
                raise SmsRefused("ESME_RTHROTTLED", "rate", "too fast, or going down")
            request = read_request(pdu, account.row, self.client, self._gate.clock.time())
        except SmsRefused as exc:
            admission.refused[exc.reason]()
            self._refuse(pdu, account, exc)
            return
        try:
            admitted = admission.submit(request)
        except SmsRefused as exc:
            self._refuse(pdu, account, exc)
            return
        admitted.stored.add_done_callback(partial(self._stored, pdu, admitted))

    def _refuse(self, pdu: Submit, account: Account, exc: SmsRefused) -> None:
        if exc.status != ESME_RTHROTTLED:  # of these a client may cause as many as it likes
            _log.info("intake: client=%s, account=%s: refused: %s", self.client, account.row.system_id, exc)
        self.answer(pdu, exc.status)

    def _stored(self, pdu: Submit, admitted: Admitted, stored: Stored) -> None:
        if stored.exception() is not None:
            self.answer(pdu, ESME_RSYSERR)
            return
        message_id = admitted.message_id.encode()
        response: Pdu
        if isinstance(pdu, SubmitSm):
            response = SubmitSmResp(message_id=message_id)
        elif isinstance(pdu, DataSm):
            response = DataSmResp(message_id=message_id)
        else:
            response = SubmitMultiResp(message_id=message_id, unsuccess_smes=unsuccessful(pdu, admitted.refused))
        self.answer(pdu, ESME_ROK, response)

    async def _carry_out(self, pdu: Order, account: Account) -> None:
        try:
            response = await self._gate.orders.carry_out(pdu, account.row)
            self.answer(pdu, response.command_status, response)
        except EngineError as exc:
            _log.error("intake: client=%s: %s: %s", self.client, type(pdu).__name__, exc)
            self.answer(pdu, ESME_RSYSERR)
        except Exception:  # top of a task
            self._broken(pdu)
