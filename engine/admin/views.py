"""What an operator can see: status, queues, lists, one message, and why it has not gone out."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from engine.admin.figures import gather
from engine.admin.parts import Parts
from engine.base.errors import EngineError, StorageError
from engine.base.units import counted, format_duration, format_rate
from engine.message.address import destination_of
from engine.message.channels import CHANNEL, channel_of
from engine.message.content import LargeContent, head_of
from engine.message.envelope import MessageClass
from engine.message.ids import is_id
from engine.message.number import NotANumber, normalise
from engine.message.sms import decode_sms
from engine.queue.ready import ReadyQueue
from engine.queue.scope import Scope
from engine.queue.stock import oldest_arrival
from engine.routing.plan import NoRoute, Plan
from engine.storage.spool.entry import Delivery, State
from engine.storage.tables.queue_state import ALL

Row = dict[str, Any]
#: What people call ready: due, and waiting for its turn.
_READY = (State.READY, State.RESOLVING, State.DUE, State.LOADING)
#: The part of it that they need not tell from what is in memory.
_ON_DISK = (State.DUE, State.LOADING)
#: Destinations that `status` names to a supervisor: the longest fit into a row, and all take 0.1 s.
_MOST_NAMES = 250_000
_NOT_QUEUED = "{0} is not queued; what became of it: `postrider events list --message {0}`"
_NO_TARGET = "{}: neither the id of a message nor an address, nor the number of a phone"
#: A line of a header that goes on the one before begins so; it is shown with one space.
_CONTINUED = re.compile(r"^[ \t]+", re.MULTILINE)
#: Messages that `why ADDRESS` reads, oldest first.
_LOOK_INTO = 1000


async def status(parts: Parts, names: bool = False) -> AsyncIterator[Row]:
    """One row: what was accepted since the start, what became of it, and what is queued (Q2).

    names: those of the destinations in place of their number, for who has several workers, unless there are too many.
    """
    manager, spool = parts.manager, parts.spool
    now = parts.clock.time()
    oldest = await oldest_arrival(spool)
    journal_files, backlog_files = spool.files
    live = [destination for destination in manager.destinations.values() if destination.live > 0]
    yield {
        "node": parts.settings.node.name,
        "uptime_s": round(now - parts.started_at, 1),
        "accepting": spool.refusal() is None,
        "trouble": spool.failure,
        "damaged": spool.damaged,
        "loading": spool.loading,
        **manager.tally.as_row(manager.queued()),
        "deliveries": sum(manager.counts()),
        "destinations": list(map(str, live)) if names and len(live) <= _MOST_NAMES else len(live),
        "oldest_s": None if oldest is None else round(now - oldest, 1),
        "connections": parts.courier.connections(),
        "orphans": parts.sweeper.orphans,
        "orders": len(parts.state.orders),
        **manager.standing.in_force(),
        "spool_bytes": spool.size,
        "journal_files": journal_files,
        "backlog_files": backlog_files,
    }


async def queues(parts: Parts) -> AsyncIterator[Row]:
    """One row a destination: how many deliveries in which state, how old, and what limits them now."""
    await parts.spool.all_there()
    now = parts.clock.time()
    for (name, via), figures in (await gather(parts.spool)).items():
        counts = figures.counts
        plan = parts.router.cached(name, via)
        yield {
            "destination": name,
            "via": via or None,
            "queued": sum(counts.values()),
            "ready": sum(counts.get(state, 0) for state in _READY),
            "attempt": counts.get(State.ATTEMPT, 0),
            "waiting": counts.get(State.WAITING, 0),
            "held": counts.get(State.HELD, 0),
            "oldest_s": round(now - figures.oldest, 1),
            "next_s": None if figures.due is None else round(max(figures.due - now, 0.0), 1),
            "site": plan.site if isinstance(plan, Plan) else None,
            "limit": _queue_limit(parts, counts, plan),
        }


async def listing(parts: Parts, target: str | None = None, limit: int = 100) -> AsyncIterator[Row]:
    """One row a queued delivery of a scope, oldest first."""
    await parts.spool.all_there()
    for delivery in await _deliveries(parts, Scope.parse(target or ALL, parts.spool), limit):
        yield _delivery_row(parts, delivery)


async def show(parts: Parts, message_id: str) -> AsyncIterator[Row]:
    """One message: envelope, deliveries that are not final, header of the content."""
    deliveries = await _deliveries(parts, Scope("message", message_id), _LOOK_INTO)
    if not deliveries:
        raise EngineError(_NOT_QUEUED.format(message_id))
    # What is stored by itself knows its own recipients only.
    found = [await parts.spool.reader.envelope(delivery) for delivery in deliveries]
    envelope = found[0]
    head, error = await _head(parts, deliveries[0])
    header = head[: head.find(b"\r\n\r\n") + 2 or None][:65536].decode(errors="replace").replace("\r\n", "\n")
    if envelope.channel == CHANNEL:
        header = "" if error else _sms_header(head)
    yield {
        "id": envelope.id,
        "sender": envelope.sender,
        "class": MessageClass(envelope.message_class).name.lower(),
        "client": envelope.client,
        "user": envelope.user,
        "tenant": envelope.owner,
        "stream": envelope.stream,
        "track": envelope.track or "none",
        "batch": envelope.batch,
        "received_at": envelope.received_at,
        "expires_at": envelope.expires_at,
        "bytes": envelope.content_bytes,
        "content_error": error,
        "deliveries": [
            {
                **_delivery_row(parts, delivery),
                "recipients": [own.recipients[index].address for index in delivery.indexes],
            }
            for delivery, own in zip(deliveries, found, strict=True)
        ],
        "header": _CONTINUED.sub(" ", header),
    }


def _sms_header(content: bytes) -> str:
    """What can be said of an SMS without telling what it says."""
    try:
        sms = decode_sms(content)
    except ValueError as exc:
        return f"damaged: {exc}"
    octets = len(sms.udh) + len(sms.body)
    what = f"octets: {octets}, data_coding {sms.data_coding}" if sms.text is None else f"characters: {len(sms.text)}"
    return f"kind: {sms.kind.name.lower()}\nsource: {sms.source}, TON {sms.source_ton}, NPI {sms.source_npi}\n{what}"


async def _head(parts: Parts, delivery: Delivery) -> tuple[bytes, str | None]:
    """What begins with the header, and why the content cannot be sent, if it cannot."""
    head = b""
    try:
        _, content = await parts.spool.reader.load(delivery)
        head = head_of(content)
        if isinstance(content, LargeContent):  # only a look at its end: it is read, and checked, when it is sent
            await asyncio.to_thread(content.read, content.file.length - 1, 1)
    except StorageError as exc:
        return head, str(exc)
    return head, None


async def why(parts: Parts, what: str) -> AsyncIterator[Row]:
    """Why a message, or the mail for an address, is not out yet: a row for each delivery that waits."""
    found = await _deliveries(parts, Scope("message", what), _LOOK_INTO)
    if found:
        for delivery in found:
            yield _why_row(parts, delivery)
        return
    address, destinations = _of_recipient(parts, what)
    for destination in destinations:
        for delivery in await _deliveries(parts, Scope("destination", destination), _LOOK_INTO):
            try:
                envelope = await parts.spool.reader.envelope(delivery)
            except StorageError:
                continue
            if any(envelope.recipients[index].address.lower() == address for index in delivery.indexes):
                yield _why_row(parts, delivery)


def _of_recipient(parts: Parts, what: str) -> tuple[str, Sequence[str]]:
    """An address in lower case, or a number, and the destinations where messages for it may be."""
    if "@" in what:
        return what.lower(), (destination_of(what),)
    if is_id(what):
        raise EngineError(_NOT_QUEUED.format(what))
    try:
        number = normalise(what, country=parts.settings.sms.country)
    except NotANumber:
        raise EngineError(_NO_TARGET.format(what)) from None
    queued = {key[0] for key in parts.manager.destinations}
    return number, sorted(name for name in queued if channel_of(name)[0] == "carrier")


def _why_row(parts: Parts, delivery: Delivery) -> Row:
    row = _delivery_row(parts, delivery)
    return {
        "id": row["id"],
        "queue": row["destination"],
        "state": row["state"],
        "attempts": row["attempts"],
        "next_attempt_s": row["next_s"],
        "last_reply": delivery.last or None,
        "limit": _explain(parts, delivery),
    }


def _delivery_row(parts: Parts, delivery: Delivery) -> Row:
    now = parts.clock.time()
    return {
        "id": delivery.message.id,
        "destination": delivery.destination,
        "class": MessageClass(delivery.message.message_class).name.lower(),
        "state": "ready" if delivery.state in _ON_DISK else delivery.state.name.lower(),
        "recipients": len(delivery.indexes),
        "attempts": delivery.attempts,
        "age_s": round(now - delivery.message.received_at, 1),
        "next_s": round(max(delivery.due_at - now, 0.0), 1) if delivery.state is State.WAITING else None,
        "last": delivery.last or None,
    }


def _explain(parts: Parts, delivery: Delivery) -> str:
    """What stands between this delivery and its next attempt, in one sentence."""
    match delivery.state:
        case State.HELD:
            hold = parts.manager.standing.held_by(delivery)
            return f"held by an operator ({'this message' if hold is None or hold.kind == 'message' else hold})"
        case State.WAITING:
            return f"the retry schedule, after {counted(delivery.attempts, 'attempt')}"
        case State.RESOLVING:
            return "the MX lookup is not answered yet"
        case State.ATTEMPT:
            return "none: an attempt is under way"
        case State.SEIZED:
            return "none: an operator's order is being carried out"
        case State.DUE | State.LOADING:
            plan = parts.router.cached(delivery.destination, delivery.via)
            limit = _site_limit(parts, plan) if isinstance(plan, Plan) else "the MX lookup is not answered yet"
            return limit or "others that came before it"
        case State.READY if isinstance(delivery.owner, ReadyQueue):
            return _site_limit(parts, delivery.owner.plan) or "none: it is next"
    return "none"


def _queue_limit(parts: Parts, counts: Mapping[int, int], plan: Plan | NoRoute | None) -> str | None:
    """What keeps that which could go; of a queue with nothing of that kind and held mail, the hold."""
    if counts.get(State.HELD) and not any(counts.get(state) for state in _READY):
        return "held by an operator"
    return _site_limit(parts, plan) if isinstance(plan, Plan) else None


def _site_limit(parts: Parts, plan: Plan) -> str | None:
    """The limit that binds a site at this moment; None when there is none."""
    throttle, now = parts.manager.sites.throttle(plan), parts.clock.time()
    limits, used = plan.limits, parts.budget.used(plan.limits.key)
    if throttle is None:
        return None
    if now < throttle.closed_until:
        return f"site closed for {format_duration(throttle.closed_until - now)} more: {throttle.reason}"
    if (rate := throttle.rate) is not None:
        # Before connections: who waits for a permit holds one.
        if rate != throttle.cap:
            return f"slowed down to {format_rate(rate)}: {throttle.reason}"
        if not parts.budget.permits_at_once(limits.key, rate, parts.clock.monotonic()):
            return f"rate of {format_rate(rate)}"
    if parts.budget.connections >= parts.budget.max_connections:
        return f"all {parts.budget.max_connections} connections of the node are in use"
    if used >= limits.connections:
        return f"{used} of {limits.connections} connections to {_in_words(limits.key)} in use"
    if throttle.in_use >= throttle.window(now):
        return f"window of {throttle.window(now)} connections in use" + (f": {throttle.reason}" * bool(throttle.reason))
    return None


def _in_words(key: str) -> str:
    """Whose limits these are, by their key: a site, a relay, a provider; behind it may be a route's figures."""
    kind, colon, name = key.partition(" ")[0].partition(":")
    words = {"relay": "relay", "provider": "provider", "sms": "carrier", "account": "application"}
    return f"the {words[kind]} {name}" if colon and kind in words else kind + colon + name


async def _deliveries(parts: Parts, scope: Scope, most: int) -> list[Delivery]:
    """The oldest deliveries of a scope, read from disk where they are not in hand."""
    spool = parts.spool
    await spool.all_there()
    rows = np.zeros(0, dtype=np.uint32)
    ids = np.zeros(0, dtype=np.uint64)
    for found in scope.rows(spool):
        rows = np.concatenate([rows, found])
        ids = np.concatenate([ids, spool.table.columns(found, ("id",))["id"]])
        if len(rows) > most:
            first = np.argsort(ids, kind="stable")[:most]
            rows, ids = rows[first], ids[first]
        await asyncio.sleep(0)
    # One that passes from hand to disk or back while the disk is read must not be missed: whoever saw it last has it.
    in_hand = scope.in_hand(spool)
    seen = in_hand + await spool.reader.peek(rows) + scope.in_hand(spool)
    deliveries = {(delivery.message.id, delivery.number): delivery for delivery in seen}
    return [one for _, one in sorted(deliveries.items()) if one.state is not State.FINAL][:most]
