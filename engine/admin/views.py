"""What an operator can see: status, queues, lists, one message, and why it has not gone out."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from engine.admin.parts import Parts
from engine.base.errors import EngineError, StorageError
from engine.base.units import format_duration, format_rate
from engine.message.address import destination_of
from engine.message.content import head_of
from engine.message.envelope import MessageClass
from engine.queue.ready import ReadyQueue
from engine.routing.plan import Plan
from engine.storage.spool.entry import Delivery, Message, State

Row = dict[str, Any]
#: Messages that `why ADDRESS` reads, oldest first.
_LOOK_INTO = 1000


async def status(parts: Parts) -> AsyncIterator[Row]:
    """One row: what was accepted since the start, what became of it, and what is queued (Q2)."""
    manager, spool = parts.manager, parts.spool
    oldest = next(iter(spool.messages.values()), None)
    now = parts.clock.time()
    yield {
        "node": parts.settings.node.name,
        "uptime_s": round(now - parts.started_at, 1),
        "accepting": spool.refusal() is None,
        "trouble": spool.failure,
        **manager.tally.as_row(manager.queued()),
        "messages": len(spool.messages),
        "destinations": len(manager.destinations),
        "oldest_s": round(now - oldest.received_at, 1) if oldest else None,
        "connections": parts.courier.connections(),
        "orphans": manager.orphans,
        "spool_bytes": spool.size,
    }


async def queues(parts: Parts) -> AsyncIterator[Row]:
    """One row a destination: how many deliveries in which state, how old, and what limits them now."""
    now = parts.clock.time()
    for destination in list(parts.manager.destinations.values()):
        counts = dict.fromkeys(State, 0)
        oldest = due = None
        for delivery in destination.deliveries:
            counts[delivery.state] += 1
            received = delivery.message.received_at
            oldest = received if oldest is None else min(oldest, received)
            if delivery.state is State.WAITING:
                due = delivery.due_at if due is None else min(due, delivery.due_at)
        plan = parts.router.cached(destination.name)
        yield {
            "destination": destination.name,
            "queued": len(destination.deliveries),
            "ready": counts[State.READY] + counts[State.RESOLVING],
            "attempt": counts[State.ATTEMPT],
            "waiting": counts[State.WAITING],
            "held": counts[State.HELD],
            "oldest_s": None if oldest is None else round(now - oldest, 1),
            "next_s": None if due is None else round(max(due - now, 0.0), 1),
            "site": plan.site if isinstance(plan, Plan) else None,
            "limit": _site_limit(parts, plan) if isinstance(plan, Plan) else None,
        }


async def listing(parts: Parts, target: str | None = None, limit: int = 100) -> AsyncIterator[Row]:
    """One row a queued delivery of a destination, a message or all, oldest first."""
    for delivery in _first(_deliveries(parts, target), limit):
        yield _delivery_row(parts, delivery)


async def show(parts: Parts, message_id: str) -> AsyncIterator[Row]:
    """One message: envelope, deliveries, header of the content."""
    message = _message(parts, message_id)
    envelope, content = await parts.spool.load(message)
    head = head_of(content)
    header = head[: head.find(b"\r\n\r\n") + 2 or None][:65536]
    yield {
        "id": message.id,
        "sender": envelope.sender,
        "class": MessageClass(envelope.message_class).name.lower(),
        "client": envelope.client,
        "user": envelope.user,
        "received_at": envelope.received_at,
        "expires_at": envelope.expires_at,
        "bytes": envelope.content_bytes,
        "deliveries": [
            {
                **_delivery_row(parts, delivery),
                "recipients": [envelope.recipients[index].address for index in delivery.indexes],
            }
            for delivery in message.deliveries
        ],
        "header": header.decode(errors="replace").replace("\r\n", "\n"),
    }


async def why(parts: Parts, what: str) -> AsyncIterator[Row]:
    """Why a message, or the mail for an address, is not out yet: a row for each delivery that waits."""
    if what in parts.spool.messages:
        for delivery in parts.spool.messages[what].deliveries:
            if delivery.state is not State.FINAL:
                yield _why_row(parts, delivery)
        return
    if "@" not in what:
        raise EngineError(f"{what}: neither the id of a queued message nor an address; see `postrider events list`")
    destination = parts.manager.destinations.get(destination_of(what))
    for delivery in _first(destination.deliveries if destination else (), _LOOK_INTO):
        try:
            envelope, _ = await parts.spool.load(delivery.message)
        except StorageError:
            continue
        if any(envelope.recipients[index].address.lower() == what.lower() for index in delivery.indexes):
            yield _why_row(parts, delivery)


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
        "state": delivery.state.name.lower(),
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
            by_destination = parts.state.is_held(delivery.destination)
            return f"held by an operator ({delivery.destination if by_destination else 'this message'})"
        case State.WAITING:
            return f"the retry schedule, after {delivery.attempts} attempts"
        case State.RESOLVING:
            return "the MX lookup is not answered yet"
        case State.ATTEMPT:
            return "none: an attempt is under way"
        case State.READY if isinstance(delivery.owner, ReadyQueue):
            return _site_limit(parts, delivery.owner.plan) or "none: it is next"
    return "none"


def _site_limit(parts: Parts, plan: Plan) -> str | None:
    """The limit that binds a site at this moment; None when there is none."""
    throttle, now = parts.manager.throttle(plan), parts.clock.time()
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
        return f"{used} of {limits.connections} connections to {limits.key} in use"
    if throttle.in_use >= throttle.window(now):
        return f"window of {throttle.window(now)} connections in use" + (f": {throttle.reason}" * bool(throttle.reason))
    return None


def _message(parts: Parts, message_id: str) -> Message:
    message = parts.spool.messages.get(message_id)
    if message is None:
        raise EngineError(f"{message_id} is not queued; what became of it: `postrider events list`")
    return message


def _deliveries(parts: Parts, target: str | None) -> Iterable[Delivery]:
    if target is None:
        return (d for m in list(parts.spool.messages.values()) for d in m.deliveries if d.state is not State.FINAL)
    if target in parts.spool.messages:
        return [d for d in parts.spool.messages[target].deliveries if d.state is not State.FINAL]
    destination = parts.manager.destinations.get(target)
    return list(destination.deliveries) if destination else []


def _first(deliveries: Iterable[Delivery], count: int) -> list[Delivery]:
    return [delivery for delivery, _ in zip(deliveries, range(count), strict=False)]
