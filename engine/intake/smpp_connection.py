"""One connection of an application: its beginning, its bind, its end. What it may ask for then is in smpp.py.

    connection -> (TLS) -> bind -> requests, receipts -> unbind

At a stop nothing more is read, what came is answered, then unbind is sent; what the client sent before it heard of that
is told to come again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.settings import Account as Row
from engine.intake.guesses import Guesses
from engine.intake.hooks import Verifier
from engine.intake.policy import Address
from engine.intake.smpp_binds import Account, Binds, describe
from engine.intake.smpp_opening import Doorkeeper, Opening
from engine.intake.sms_admission import SmsAdmission
from engine.net.outbox import Outbox
from engine.protocol.smpp_events import ENDINGS, Closed, Event, LateAnswer, Received, Refused
from engine.protocol.smpp_pdu import (
    BindReceiver,
    BindTransceiver,
    BindTransmitter,
    CancelSm,
    Outbind,
    Pdu,
    QuerySm,
    ReplaceSm,
    Unbind,
    response_type,
)
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import BOUND, Role, State, Timers
from engine.protocol.smpp_tables import (
    ESME_ROK,
    ESME_RSYSERR,
    STATUSES,
    TAGS,
    VERSION_34,
    VERSION_50,
)

_log = logging.getLogger(__name__)
#: What we send on a bind without an answer: receipts and answers.
_WINDOW: Final = 50
#: How long a client may take to agree to our unbind, and to answer what it was sent before.
_UNBIND_S: Final = 5.0
#: What we call ourselves.
SYSTEM_ID: Final = b"postrider"

BindPdu = BindTransceiver | BindTransmitter | BindReceiver
Order = QuerySm | CancelSm | ReplaceSm


class Orders(Protocol):
    """What clients want to know or change about what is queued (smpp_orders.py)."""

    async def carry_out(self, pdu: Order, account: Row) -> Pdu:
        """The response to it. Raises EngineError."""


#: Asked by who has connected to us and said outbind, with its system_id and password, to bind there: the name of the
#: carrier that it is; "": of none, and nothing was done.
Called = Callable[[bytes, bytes, asyncio.Transport], str]


class Gate(Doorkeeper, Protocol):
    """What a connection asks its listener."""

    admission: SmsAdmission
    orders: Orders
    binds: Binds
    clock: Clock
    outbox: Outbox
    guesses: Guesses
    credentials: Verifier | None
    auth_delay_s: float
    draining: bool
    called: Called | None

    def may_come_from(self, address: Address | None) -> bool:
        """None: nobody knows where it comes from."""

    def answered(self, command: type[Pdu], status: int) -> None:
        """A request was answered."""


class SmppConnection(Opening):
    """See above."""

    def __init__(self, gate: Gate, called: str = "") -> None:
        """called: we made the connection, to the account of this system_id."""
        sms = gate.settings.sms
        timers = Timers(session_init=sms.bind_timeout, enquire_link=sms.enquire_link)
        session = Session(Role.SMSC, timers, asyncio.get_running_loop().time(), window=_WINDOW)
        super().__init__(session, self._happened, gate.outbox)
        self._gate = self._door = gate
        self._account: Account | None = None
        self._guesses = 0
        self.called = called
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---- its end

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.over.done():
            self.over.set_result(None)

    def shut_down(self) -> None:
        self._leaving = True
        if self.session.state in BOUND:
            self._unbind_when_done()
        elif self.session.state is not State.LEAVING:
            self.abort()

    def _unbind_when_done(self) -> None:
        transport = self.transport
        if transport is None or transport.is_closing() or self.session.state not in BOUND:
            return
        if self.session.owed:
            transport.pause_reading()
        else:
            self.request(Unbind())
            transport.resume_reading()
            asyncio.get_running_loop().call_later(_UNBIND_S, self.abort)

    def _over(self, event: Closed) -> None:
        account, self._account = self._account, None
        if account is not None:
            self._gate.binds.leave(account, self)
            _log.info(
                "intake: client=%s, account=%s: unbound (%s)", self.client, account.row.system_id,
                event.text or event.end.value,
            )  # fmt: skip

    # ---- what happens

    def _happened(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Received):
                self._serve(event.pdu)
            elif isinstance(event, ENDINGS):
                told = event.request.context
                if callable(told):
                    told(event)
            elif isinstance(event, Refused):
                self._gate.answered(type(event.pdu), event.status)  # type: ignore[arg-type]  # or what is no PDU
                if isinstance(event.pdu, Outbind):
                    asyncio.get_running_loop().call_soon(self._outbind, event.pdu)
            elif isinstance(event, LateAnswer):
                _log.warning("intake: client=%s: a late answer, counted as none", self.client)
            elif isinstance(event, Closed):
                self._over(event)

    def _serve(self, pdu: Pdu) -> None:
        try:
            if self._account is not None:
                self.serve(pdu, self._account)
            else:
                assert isinstance(pdu, BindPdu)
                self._bind(pdu)
        except Exception:  # top of what a client can set off: its session goes on
            self._broken(pdu)

    def serve(self, pdu: Pdu, account: Account) -> None:
        """Answer a request of a client that is bound; now or later."""
        raise NotImplementedError

    def _broken(self, pdu: Pdu) -> None:
        self._gate.metrics.internal_errors.labels("smpp").inc()
        _log.exception("intake: client=%s: a %s", self.client, type(pdu).__name__)
        self.answer(pdu, ESME_RSYSERR)

    def answer(self, pdu: Pdu, status: int, response: Pdu | None = None) -> None:
        """Answer a request: with a response, or none but a status."""
        if response is None:
            kind = response_type(type(pdu))
            if kind is None:
                return
            response = kind(command_status=status)
        self.respond(pdu, response)
        self._gate.answered(type(pdu), status)
        if self._leaving:
            self._unbind_when_done()

    # ---- an SMSC has connected, and asks us to bind

    def _outbind(self, pdu: Outbind) -> None:
        gate, transport = self._gate, self.transport
        if transport is None or transport.is_closing() or self.session.state is not State.OPEN or self._leaving:
            return
        may = gate.may_come_from(self.origin) and not gate.guesses.blocked(str(self.address), gate.settings.intake)
        if gate.called is not None and may and self._hand_over(gate.called, pdu):
            return
        gate.guesses.failed(str(self.address), gate.settings.intake)
        _log.warning("intake: client=%s: outbind refused: no carrier, or a wrong password", self.client)
        transport.close()

    def _hand_over(self, called: Called, pdu: Outbind) -> bool:
        """The connection to a carrier's link; False: there is none for it."""
        client, transport = self.client, self.transport
        assert transport is not None
        name = called(pdu.system_id, pdu.password, transport)
        if name:
            self.detach()
            _log.info("intake: client=%s: outbind of carrier %s", client, name)
        return bool(name)

    # ---- bind

    def _bind(self, pdu: BindPdu) -> None:
        gate = self._gate
        account = gate.binds.account(pdu.system_id.decode("ascii", "replace"))
        if gate.draining:
            self._refuse_bind(pdu, "ESME_RBINDFAIL", "going down")
        elif gate.guesses.blocked(str(self.address), gate.settings.intake):
            self._refuse_bind(pdu, "ESME_RBINDFAIL", "too many failed logins from this address")
        elif account is None:
            self._wrong(pdu, "ESME_RINVSYSID", "no such account")
        elif self.called:
            if account.row.system_id == self.called:
                self._check_password(pdu, account)
            else:
                self._wrong(pdu, "ESME_RINVSYSID", f"the call was for {self.called}")
        elif not gate.may_come_from(self.origin) or not account.may_come_from(self.origin):
            self._refuse_bind(pdu, "ESME_RBINDFAIL", "not from this address")
        else:
            self._check_password(pdu, account)

    def _check_password(self, pdu: BindPdu, account: Account) -> None:
        gate = self._gate
        if account.row.credential:
            gate.spawn(self._verify(pdu, account))
        elif account.has_password(pdu.password):
            self._bound(pdu, account)
        else:
            self._wrong(pdu, "ESME_RINVPASWD", "wrong password")

    async def _verify(self, pdu: BindPdu, account: Account) -> None:
        """By the credential table, which takes its time."""
        gate = self._gate
        try:
            password = pdu.password.decode()
            right = gate.credentials is not None and await gate.credentials.verify(account.row.credential, password)
        except UnicodeDecodeError:
            right = False
        except StorageError as exc:
            _log.error("intake: the credential table cannot be read: %s", exc)
            self._refuse_bind(pdu, "ESME_RSYSERR", "the credential table cannot be read")
            return
        if right:
            self._bound(pdu, account)
        else:
            self._wrong(pdu, "ESME_RINVPASWD", "wrong password")

    def _bound(self, pdu: BindPdu, account: Account) -> None:
        gate = self._gate
        if self.session.closed:
            return
        if gate.draining or not gate.binds.has_room(account):
            # RALYBND is for a second bind in one session (SMPP 5.0 4.7.6); this is a matter of provisioning.
            self._refuse_bind(pdu, "ESME_RBINDFAIL", "going down" if gate.draining else "too many binds")
            return
        version = min(pdu.interface_version, VERSION_50)
        # 3.4 4.1.2: one of 3.3 cannot read a TLV.
        tlvs = ((TAGS["sc_interface_version"], bytes([version])),) if version >= VERSION_34 else ()
        kind = response_type(type(pdu))
        assert kind is not None
        self.session.peer_window = account.row.window
        self.answer(pdu, ESME_ROK, kind(tlvs=tlvs, system_id=SYSTEM_ID))  # type: ignore[call-arg]  # a bind_resp's
        if self.session.state not in BOUND:  # it has sent unbind, too
            return
        self._account = account
        gate.binds.enter(account, self)
        _log.info(
            "intake: client=%s, account=%s: bound as %s, version %x.%x%s", self.client, account.row.system_id,
            describe(self.session.state), version >> 4, version & 15, " with TLS" if self.secure else "",
        )  # fmt: skip

    def _wrong(self, pdu: BindPdu, status: str, why: str) -> None:
        """Answered late, so that guessing takes its time."""
        gate = self._gate
        gate.metrics.rejected.labels("auth").inc()
        gate.guesses.failed(str(self.address), gate.settings.intake)
        self._guesses += 1
        asyncio.get_running_loop().call_later(gate.auth_delay_s, self._refuse_bind, pdu, status, why)

    def _refuse_bind(self, pdu: BindPdu, status: str, why: str) -> None:
        _log.warning(
            "intake: client=%s, account=%s: bind refused: %s (%s)", self.client,
            pdu.system_id.decode("ascii", "replace"), why, status,
        )  # fmt: skip
        self.answer(pdu, STATUSES[status])
        if self._guesses >= self._gate.settings.intake.max_failed_logins:
            self.send()
            if self.transport is not None:
                self.transport.close()
