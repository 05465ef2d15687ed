"""query_sm, cancel_sm and replace_sm: what became of a message, and changing it while it is queued.

A message is the account's that submitted it; to others it does not exist. What is on the wire, or a carrier took, is
beyond recall, and known by the book of what was sent; so is what ended here. A cancel is a purge as an operator orders
it, and as safe; it also takes back what an agent has and has not sent.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec.structs import replace

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.settings import Account
from engine.delivery import sms_partial
from engine.intake.smpp_own import Named, OwnMessages, SentStates, own_id
from engine.intake.smpp_requests import parse_times, read_registered
from engine.intake.sms_admission import Normalise, SmsAdmission
from engine.intake.sms_content import with_content
from engine.intake.sms_refusal import SmsRefused
from engine.message.channels import channel_of
from engine.message.content import Content
from engine.message.envelope import Envelope
from engine.message.sms import Sms, decode_sms, encode_sms
from engine.protocol.smpp_lengths import wrong_length
from engine.protocol.smpp_pdu import CancelSm, CancelSmResp, Pdu, QuerySm, QuerySmResp, ReplaceSm, ReplaceSmResp
from engine.protocol.smpp_tables import STATUSES
from engine.protocol.smpp_time import format_time
from engine.queue.manager import Manager
from engine.queue.orders import Orders
from engine.queue.ready import Courier
from engine.queue.scope import Scope
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows

#: SMPP 3.4 5.2.28.
_ENROUTE, _DELETED = 1, 4
_UNKNOWN_ID = STATUSES["ESME_RINVMSGID"]
_NO_CANCEL, _NO_REPLACE = STATUSES["ESME_RCANCELFAIL"], STATUSES["ESME_RREPLACEFAIL"]
_WAITING = (State.WAITING, State.DUE, State.HELD)


class Remover(Courier, Protocol):
    """The courier."""

    def replace(self, delivery: Delivery, by: str) -> None:
        """Settle as replaced a delivery that was taken out of its queue. Returns at once."""

    def perhaps_sent(self, message_id: str, number: int) -> bool:
        """This delivery of it may have been sent before a kill."""

    def withdraw(self, delivery: Delivery, by: str) -> bool:
        """Remove one that is in an attempt and not on the wire; False: it is, or may have been."""

    def give_back(self, delivery: Delivery) -> bool:
        """Let go of one that is in an attempt and not on the wire, to be settled by who asks; False: as above."""


class SmppOrders:
    """See above."""

    def __init__(
        self,
        spool: Spool,
        manager: Manager,
        orders: Orders,
        courier: Remover,
        book: SentStates,
        admission: SmsAdmission,
        normalise: Normalise,
        clock: Clock,
    ) -> None:
        self._spool = spool
        self._manager = manager
        self._orders = orders
        self._courier = courier
        self._book = book
        self._own = OwnMessages(spool, book)
        self._admission = admission
        self._normalise = normalise
        self._clock = clock
        self._replacing = asyncio.Lock()

    async def carry_out(self, pdu: QuerySm | CancelSm | ReplaceSm, account: Account) -> Pdu:
        """The response. Raises EngineError: the spool or the disk does not let us."""
        if self._spool.loading:
            await self._spool.all_there()
        if isinstance(pdu, QuerySm):
            return await self._query(pdu, account.system_id)
        if isinstance(pdu, CancelSm):
            return CancelSmResp(command_status=await self._cancel(pdu, account.system_id))
        async with self._replacing:  # two at once would both be the one that comes after
            return ReplaceSmResp(command_status=await self._replace(pdu, account))

    # ---- query

    async def _query(self, pdu: QuerySm, user: str) -> Pdu:
        message_id = own_id(pdu.message_id)
        if status := await self._own.misfit(message_id, user, _named(pdu)):
            return QuerySmResp(command_status=status)
        if self._is_cancelled(message_id, user):
            now = format_time(self._clock.time())
            return QuerySmResp(message_id=pdu.message_id, final_date=now, message_state=_DELETED)
        if self._own.rows(message_id, user):
            return QuerySmResp(message_id=pdu.message_id, message_state=_ENROUTE)
        queued = [index for delivery in self._own.in_hand(message_id, user) for index in delivery.indexes]
        fate = self._book.state_of(message_id, user, queued) if message_id else None
        if fate is None:
            return QuerySmResp(command_status=_UNKNOWN_ID)
        state, final_at, error = fate
        final_date = format_time(final_at) if final_at else b""
        return QuerySmResp(
            message_id=pdu.message_id, final_date=final_date, message_state=state, error_code=min(error, 255)
        )  # fmt: skip

    # ---- cancel

    async def _cancel(self, pdu: CancelSm, user: str) -> int:
        """The status."""
        if not pdu.message_id:
            return await self._cancel_by_addresses(pdu, user)
        message_id = own_id(pdu.message_id)
        number = ""
        if pdu.destination_addr:
            try:
                number = self._number(pdu)
            except ValueError:
                return STATUSES["ESME_RINVDSTADR"]
        if status := await self._own.misfit(message_id, user, _named(pdu, number)):
            return status
        if not self._own.is_queued(message_id, user):
            return _NO_CANCEL if self._own.is_known(message_id, user) else _UNKNOWN_ID
        if self._is_cancelled(message_id, user):
            return _NO_CANCEL
        return 0 if await self._remove(message_id, user) else _NO_CANCEL

    def _is_cancelled(self, message_id: str, user: str) -> bool:
        """It is ordered to be removed, and on its way: nothing can bring it back, also if we crash."""
        in_hand = self._own.in_hand(message_id, user)
        if not in_hand and not self._own.rows(message_id, user):
            return False
        return self._orders.is_purging(Scope("message", message_id), in_hand)

    def _number(self, pdu: CancelSm) -> str:
        """Raises ValueError."""
        address = pdu.destination_addr.decode("ascii", "replace")
        return self._normalise(address, pdu.dest_addr_ton, pdu.dest_addr_npi)

    async def _remove(self, message_id: str, user: str) -> bool:
        """False: all of it is on the wire just now, or some was before a kill, and nobody knows how that ends. Raises
        StorageError."""
        by = f"account {user} (cancel_sm)"
        in_hand, rows = self._own.in_hand(message_id, user), self._own.rows(message_id, user)
        if self._perhaps_sent(message_id, in_hand, rows):
            return False
        attempts = [delivery for delivery in in_hand if delivery.state is State.ATTEMPT]
        withdrawn = [delivery for delivery in attempts if self._courier.withdraw(delivery, by)]
        if not rows and not withdrawn and len(attempts) == len(in_hand):
            return False
        # Also of what was withdrawn, so that it does not come back if we crash before that is written.
        taken, _ = await self._orders.give("purge", Scope("message", message_id), by)
        if withdrawn:  # the order may have found nothing to do, and be gone
            await self._spool.flush()
        return taken > 0 or bool(withdrawn)

    def _perhaps_sent(self, message_id: str, in_hand: Sequence[Delivery], rows: Sequence[Rows]) -> bool:
        """Something of it that is queued may have been sent before a kill."""
        numbers = {delivery.number for delivery in in_hand}
        for some in rows:
            numbers |= set(self._spool.table.columns(some, ("number",))["number"].tolist())
        return any(self._courier.perhaps_sent(message_id, number) for number in numbers)

    async def _cancel_by_addresses(self, pdu: CancelSm, user: str) -> int:
        """3.4 4.9.1: all messages from one address to one number, and of one service_type if one is given.

        Of a message to several numbers none can be taken out, so these stay.
        """
        source = pdu.source_addr.decode("ascii", "replace").removeprefix("+")
        try:
            number = self._number(pdu)
        except ValueError:
            return STATUSES["ESME_RINVDSTADR"]
        service_type = pdu.service_type.decode("ascii", "replace")
        found: dict[str, None] = {}
        async for envelope, content in self._own.queued_of(user):
            if envelope.sender.removeprefix("+") != source or [one.address for one in envelope.recipients] != [number]:
                continue
            if not service_type or decode_sms(_octets(content)).service_type == service_type:
                found[envelope.id] = None
        removed = [await self._remove(message_id, user) for message_id in found]
        return 0 if any(removed) else _NO_CANCEL

    # ---- replace

    async def _replace(self, pdu: ReplaceSm, account: Account) -> int:
        """The status. The new text is safe on disk before the old one is removed: a crash in between sends both."""
        if status := wrong_length(pdu):
            return status
        message_id, user = own_id(pdu.message_id), account.system_id
        if status := await self._own.misfit(message_id, user, _named(pdu)):
            return status
        if not self._own.is_queued(message_id, user):
            return _NO_REPLACE if self._own.is_known(message_id, user) else _UNKNOWN_ID
        if pdu.sm_default_msg_id:
            return STATUSES["ESME_RINVDFTMSGID"]
        delivery = await self._seized(message_id, user)
        if delivery is None:
            return _NO_REPLACE
        try:
            envelope, content = await self._spool.reader.load(delivery)
            if len(envelope.recipients) > 1:
                raise SmsRefused("ESME_RREPLACEFAIL", "syntax", "a message to several numbers")
            old = decode_sms(_octets(content))
            envelope, sms, due_at = self._replaced(pdu, account, delivery, envelope, old)
            await self._store(account, delivery, envelope, old, sms, due_at)
        except (SmsRefused, StorageError) as exc:
            self._courier.working.discard(delivery)
            self._manager.wait(delivery)
            if isinstance(exc, SmsRefused):
                return exc.status
            raise
        self._courier.replace(delivery, f"account {user} (replace_sm)")
        return 0

    async def _store(
        self, account: Account, delivery: Delivery, envelope: Envelope, old: Sms, sms: Sms, due_at: float
    ) -> None:
        """Beside the old one. Raises SmsRefused: in more parts than it may send today."""
        carrier, now = channel_of(delivery.destination)[1], self._clock.time()
        sms = self._admission.shortened(sms, account, 1, envelope.batch)
        parts = self._admission.parts(carrier, sms)
        try:
            more = max(0, parts - self._admission.parts(carrier, old))
        except SmsRefused:  # by rules that came later
            more = 0
        try:
            self._admission.charge(account, more, now)
        except SmsRefused as exc:
            raise SmsRefused("ESME_RREPLACEFAIL", exc.reason, exc.words) from exc
        snapshot = delivery.snapshot()
        snapshot[2] = due_at
        content = encode_sms(sms)
        envelope = replace(envelope, content_bytes=len(content))
        await self._admission.note_links(envelope, sms)
        try:
            await self._spool.take_in(envelope, content, {delivery.number + 1: snapshot})
        except StorageError:
            self._admission.charge(account, -more, now)
            raise

    async def _seized(self, message_id: str, user: str) -> Delivery | None:
        """The one delivery of a message, out of its queue, so that it cannot be sent; None: it cannot be had."""
        taken: list[Delivery] = []

        def take(delivery: Delivery) -> None:
            self._courier.working.add(delivery)  # Q4
            taken.append(delivery)

        in_hand, rows = self._own.in_hand(message_id, user), self._own.rows(message_id, user)
        if len(in_hand) + sum(map(len, rows)) != 1 or self._perhaps_sent(message_id, in_hand, rows):
            return None
        if in_hand:
            if self._manager.seize(in_hand[0]):
                take(in_hand[0])
            elif in_hand[0].state is State.ATTEMPT and self._courier.give_back(in_hand[0]):
                in_hand[0].owner = self._manager
                take(in_hand[0])
        elif self._spool.table.get(int(rows[0][0]), "state") in _WAITING:
            self._manager.errands.seize(rows[0])
            await self._manager.errands.run(self._manager.errands.visit(np.array(rows[0]), take))
        return taken[0] if taken else None

    def _replaced(
        self, pdu: ReplaceSm, account: Account, delivery: Delivery, envelope: Envelope, old: Sms
    ) -> tuple[Envelope, Sms, float]:
        """The message as it is to be, and when it is due. Raises SmsRefused."""
        carrier = channel_of(delivery.destination)[1]
        if old.udh or any(sms_partial.known(delivery.last, carrier, index) for index in delivery.indexes):
            raise SmsRefused("ESME_RREPLACEFAIL", "content", "a part of a message, or parts of it are sent")
        sms = replace(old, text=None, body=b"", short=None, registered=read_registered(pdu.registered_delivery))
        tlvs = (*old.tlvs, *pdu.tlvs)
        sms = with_content(sms, pdu.short_message, old.esm_class, old.data_coding, tlvs, account.alphabet)
        now = self._clock.time()
        due_at, validity = parse_times(pdu.schedule_delivery_time, pdu.validity_period, now)
        self._admission.check_schedule(due_at, now)
        schedule, validity = due_at or old.schedule, validity or old.validity
        start = max(due_at or delivery.due_at, now)
        expires_at = envelope.expires_at
        if due_at or validity:  # else it has as long as it had
            expires_at = self._admission.expires_at(validity, start, envelope.message_class)
        return replace(envelope, expires_at=expires_at), replace(sms, schedule=schedule, validity=validity), start


def _named(pdu: QuerySm | CancelSm | ReplaceSm, number: str = "") -> Named:
    return Named(pdu.source_addr.decode("ascii", "replace"), number)


def _octets(content: Content) -> bytes:
    assert isinstance(content, bytes), "no SMS is large"
    return content
