"""Messages from phones: read, joined, heard for a stop, and passed on to whoever is to have them.

    person -> part of a longer one? -> on disk, answered; the last one brings the whole message
           -> whole message -> tied to the last message to that phone -> wish -> application or URL -> event -> answered

S1  a carrier is answered ESME_ROK once what it brought is durable: as a part, or with everything that follows from it.
    Anything else is answered with a status that makes it come again: nothing is lost.
F2  a stop suppresses before anything else, for the number it was sent to and the sender of the message it answers.

A crash between passing on and noting that, or before the answer is out, passes a message on twice, never not at all.
"""

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from engine.base.clock import Clock
from engine.base.errors import EngineError, StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.feedback.answer import Answer, for_account, joined, read_pdu, text_of, udh_of
from engine.feedback.answer_routes import AnswerRoutes, Way
from engine.feedback.own import OwnMessages
from engine.feedback.ports import LastSent, Noted, Notes
from engine.feedback.poster import Poster, url_key
from engine.feedback.replies import Replies
from engine.message.channels import CHANNEL, account_key
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.ids import IdSource
from engine.message.sms import Sms, encode_sms
from engine.message.sms_words import Heard, Wish
from engine.net.resolver import Lookup
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.protocol.smpp_tables import ESME_RMSGQFUL, ESME_ROK, ESME_RX_T_APPN
from engine.protocol.sms_data_coding import Charset
from engine.protocol.sms_reassembly import Assembled, Key, Piece, Reassembly
from engine.protocol.sms_udh import Segment
from engine.storage.spool.spool import Spool
from engine.storage.tables.answer_parts import AnswerParts
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.posts import Post, Posts
from engine.storage.tables.suppression import SMS, Cause, Suppression, sms_key
from engine.storage.tables.suppressions import Suppressions

log = logging.getLogger(__name__)

_AGAIN_S = 10.0


class Answers:
    """Make it inside the loop, `start` it before carriers are bound, `close` it before the spool and the database."""

    def __init__(
        self,
        settings: Settings,
        db: Grouped,
        suppressions: Suppressions,
        spool: Spool,
        sent: LastSent,
        notes: Notes,
        dns: Lookup,
        ids: IdSource,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Raises StorageError."""
        self._suppressions = suppressions
        self._spool = spool
        self._sent = sent
        self._notes = notes
        self._ids = ids
        self._clock = clock
        self._metrics = metrics
        self._own = OwnMessages(metrics)
        self._loop = asyncio.get_running_loop()
        self._reassembly = Reassembly(timeout_s=float(settings.sms.reassembly))
        self._table = AnswerParts(db, self._reassembly.repeat_s)
        self._parts: dict[str, Sms] = {}  #: those that wait for others, by the id of their row
        self._posts = Posts(db)
        self._poster = Poster(settings, self._posts, notes, dns, clock)
        self._replies = Replies(settings, spool, ids, clock, self._own)
        self._references = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsafe: set[Key] = set()  #: a part of it is not on disk; its carrier has it, too
        self._closing = asyncio.Event()
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use these settings from now on."""
        self._settings = settings
        self._routes = AnswerRoutes(settings)
        self._charsets = {carrier.name: Charset(carrier.alphabet) for carrier in settings.carrier}
        self._reassembly.timeout_s = float(settings.sms.reassembly)
        self._replies.reload(settings)
        self._poster.reload(settings)

    def start(self) -> None:
        """Go on where the last process ended. Raises StorageError."""
        for part in self._table.load():
            if self._reassembly.known(part.key, part.number, _piece(part.sms), part.at) is not None:
                self._table.forget(part.id)
                continue
            given_out = self._add(part.id, part.key, part.number, part.sms, part.at)
            if part.done:
                for assembled in given_out:
                    self._take_parts(assembled)
            else:
                self._pass_on(given_out, part.id)
        self._poster.start()
        self._set_timer()

    def person(self, carrier: str, pdu: DeliverSm | DataSm, answer: Callable[[int], None]) -> None:
        """A message that is no receipt. answer: called once, with a command_status."""
        try:
            if self._spool.refusal() is not None:
                answer(ESME_RMSGQFUL)
                return
            sms, to, segment = read_pdu(pdu, self._settings.sms.country)
            if segment is None:
                whole = self._answer(carrier, sms, to, text_of(sms, self._charset(carrier)), self._clock.time())
                self._begin(self._single(whole, answer))
            else:
                self._part(Key(carrier, sms.source, to, segment.reference, segment.total), segment, sms, answer)
        except Exception:  # top of what a peer's octets set off
            self._metrics.internal_errors.labels("answers").inc()
            log.exception("carrier %s: a message from a phone", carrier)
            answer(ESME_RX_T_APPN)

    async def close(self) -> None:
        """What is being passed on is, as far as the disk allows; parts wait there."""
        self._closing.set()
        if self._timer is not None:
            self._timer.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._poster.close()

    # ---- parts

    def _part(self, key: Key, segment: Segment, sms: Sms, answer: Callable[[int], None]) -> None:
        """On disk, and with the others of its message."""
        now = self._clock.time()
        known = self._reassembly.known(key, segment.number, _piece(sms), now)
        if known is not None and not known.id and key in self._unsafe:
            answer(ESME_RX_T_APPN)  # until it is passed on the whole message is nowhere but here
            return
        part_id = int(known.id or 0) if known is not None else self._table.new_id()
        # One that repeats another is written again, since the other may not have been: with its number that is no harm.
        stored = self._table.add(part_id, key, segment.number, now, sms) if part_id else self._table.durable()
        self._answer_when(stored, key, answer)
        if known is None:
            self._pass_on(self._add(part_id, key, segment.number, sms, now), part_id)
            self._set_timer()

    def _add(self, part_id: int, key: Key, number: int, sms: Sms, at: float) -> list[Assembled]:
        self._parts[str(part_id)] = sms
        return self._reassembly.add(key, number, _piece(sms, str(part_id)), at)

    def _answer_when(self, stored: asyncio.Future[None], key: Key, answer: Callable[[int], None]) -> None:
        def done(stored: asyncio.Future[None]) -> None:
            error = stored.exception()
            if error is not None:
                self._unsafe.add(key)
                log.error("carrier %s: a part of a message from a phone: %s", key.carrier, error)
            answer(ESME_ROK if error is None else ESME_RX_T_APPN)

        stored.add_done_callback(done)

    def _pass_on(self, done: Sequence[Assembled], last_id: int) -> None:
        """What the part with this id, or its time, has brought to an end."""
        for assembled in done:
            ids = [int(piece.id) for piece in assembled.pieces if piece]
            # Given out for a part that did not fit, it is older than that part, which stays.
            upto = last_id if last_id in ids else max(ids)
            self._begin(self._assembled(assembled, self._take_parts(assembled), upto))

    def _take_parts(self, assembled: Assembled) -> list[Sms]:
        return [self._parts.pop(piece.id) for piece in assembled.pieces if piece]

    async def _assembled(self, assembled: Assembled, parts: Sequence[Sms], last_id: int) -> None:
        """Its parts are on disk, or will be: it is tried until it is passed on."""
        key = assembled.key
        text = assembled.decode(self._charset(key.carrier)).text
        while not self._closing.is_set():
            try:
                # With an id of its own each time: some of what follows from it may be in the spool already.
                await self._whole(self._answer(key.carrier, joined(parts), key.destination, text, assembled.first_at))
                await self._table.passed_on(key, last_id, self._clock.time(), complete=not assembled.missing)
                self._unsafe.discard(key)
                return
            except EngineError as exc:
                log.error("carrier %s: a message from a phone waits: %s", key.carrier, exc)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _AGAIN_S)

    def _set_timer(self) -> None:
        due_at = self._reassembly.due_at()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_at is not None:
            self._timer = self._loop.call_later(max(0.0, due_at - self._clock.time()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for assembled in self._reassembly.expire(self._clock.time()):
            self._pass_on([assembled], 0)
        self._set_timer()

    # ---- whole messages

    async def _single(self, whole: Answer, answer: Callable[[int], None]) -> None:
        status = ESME_RX_T_APPN
        try:
            await self._whole(whole)
            status = ESME_ROK
        except EngineError as exc:
            log.error("%s: from=<%s>, carrier=%s: %s", whole.id, whole.number, whole.carrier, exc)
        finally:
            answer(status)

    async def _whole(self, answer: Answer) -> None:
        """Everything that follows from it, durable. Raises EngineError."""
        last = self._sent.last_to(answer.number) if answer.number else None
        way = self._routes.way(answer.to, answer.text, last)
        heard = self._routes.heard(way.concerned, answer.text) if answer.text else None
        stored: list[Awaitable[None]] = []
        if heard is not None and answer.number:
            stored += self._obey(answer, way, heard)
        destination, passed = self._hand_over(answer, way)
        stored += passed
        event = "answered" if destination else "answer-unrouted"
        stored.append(self._note(answer, way, event, destination))
        for failure in await asyncio.gather(*stored, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure
        self._metrics.answers.labels(event.removeprefix("answer-")).inc()
        log.info(
            "%s: from=<%s>, to=<%s>, carrier=%s, answered=%s, status=%s (%s)",
            answer.id, answer.number, answer.to, answer.carrier, way.answered.message if way.answered else "-",
            event, destination or "nobody has it",
        )  # fmt: skip
        if way.url:
            self._poster.wake(way.url)

    def _obey(self, answer: Answer, way: Way, heard: Heard) -> list[Awaitable[None]]:
        """Do what a word asks for; nothing of what is so already is done or confirmed again."""
        senders = {sms_key(sender) for sender in self._senders(answer, way)}
        if heard.wish is Wish.HELP:
            return self._replies.help(answer, way.concerned)
        stopping = heard.wish is Wish.STOP
        known = self._suppressions
        change = known.add if stopping else known.lift
        rows = [self._row(answer, sender) for sender in sorted(senders)]
        stored: list[Awaitable[None]] = [change(row) for row in rows if known.holds(row) is not stopping]
        if stored:
            event = "opted-out" if stopping else "opted-in"
            self._metrics.answers.labels(event).inc()
            stored.append(self._note(answer, way, event, ""))
            stored += self._replies.confirm(answer, heard, way.concerned)
        return stored

    def _senders(self, answer: Answer, way: Way) -> list[str]:
        """Whom the phone means: the number it wrote to, and who wrote to it under another name."""
        return [answer.to, *([way.answered.sender] if way.answered else [])]

    def _row(self, answer: Answer, sender: str) -> Suppression:
        return Suppression(
            channel=SMS, address=sms_key(answer.number), stream=sender, cause=Cause.STOP, since=answer.at,
            evidence=answer.text or "", message=answer.id, who="phone",
        )  # fmt: skip

    def _hand_over(self, answer: Answer, way: Way) -> tuple[str, list[Awaitable[None]]]:
        """Where it goes, "" if nobody has it; and when it is safe there."""
        if way.url:
            post = Post(answer.id, way.url, _json(answer, way), answer.to, answer.number)
            return url_key(way.url), [self._posts.add(post, self._clock.time())]
        if way.account is None:
            return "", []
        destination = account_key(way.account.system_id)
        messages = for_account(answer, way.account, next(self._references))
        ids = [answer.id, *(self._ids.next() for _ in messages[1:])]
        return destination, [
            self._accept(answer, message_id, sms, destination) for message_id, sms in zip(ids, messages, strict=True)
        ]

    def _accept(self, answer: Answer, message_id: str, sms: Sms, destination: str) -> Awaitable[None]:
        content = encode_sms(sms)
        now = self._clock.time()
        envelope = Envelope(
            id=message_id,
            sender=answer.number,
            recipients=(Recipient(answer.to),),
            received_at=now,
            expires_at=now + self._settings.sms.keep_receipts,
            content_bytes=len(content),
            message_class=int(MessageClass.TRANSACTIONAL),
            client=answer.carrier,
            channel=CHANNEL,
        )
        stored = self._spool.accept(envelope, content, [(destination, (0,))])
        return self._own.when_stored(stored, envelope.message_class)

    def _note(self, answer: Answer, way: Way, event: str, destination: str) -> Awaitable[None]:
        return self._notes.note(
            Noted(
                type=event,
                at=answer.at,
                message=way.answered.message if way.answered else answer.id,
                answer=answer.id,
                sender=answer.to,
                recipient=answer.number,
                destination=destination,
                remote=answer.carrier,
                text=answer.text or "",
            )
        )

    def _answer(self, carrier: str, sms: Sms, to: str, text: str | None, at: float) -> Answer:
        return Answer(id=self._ids.next(), carrier=carrier, number=sms.source, to=to, at=at, text=text, sms=sms)

    def _charset(self, carrier: str) -> Charset:
        return self._charsets.get(carrier, Charset.GSM)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(self._top(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _top(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StorageError as exc:
            log.error("a message from a phone: %s", exc)
        except Exception:  # top of a task; the parts are on disk, and the carrier was not told that we have it
            self._metrics.internal_errors.labels("answers").inc()
            log.exception("a message from a phone")


def _piece(sms: Sms, part_id: str = "") -> Piece:
    return Piece(sms.body, sms.data_coding, udh_of(sms).tables, part_id)


def _json(answer: Answer, way: Way) -> bytes:
    """What a URL is sent. octets: hexadecimal, of a message that is no text."""
    return json.dumps(
        {
            "id": answer.id,
            "from": answer.number,
            "to": answer.to,
            "text": answer.text,
            "octets": (answer.sms.udh + answer.sms.body).hex() if answer.text is None else None,
            "data_coding": answer.sms.data_coding,
            "keyword": way.keyword,
            "message": way.answered.message if way.answered else None,
            "carrier": answer.carrier,
            "received_at": answer.at,
        }
    ).encode()
