"""What an operator can do: retry, hold, resume, bounce, purge; on a message, a destination, or everything.

Each answers one row: how many deliveries it touched, and how many it had to leave because they were in an attempt.
Long lists are worked off in slices, so that nobody's mail waits for an operator's command.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from engine.admin.parts import Parts
from engine.base.errors import EngineError
from engine.delivery import trouble
from engine.delivery.courier import Verdict
from engine.message.address import AddressError, domain_to_ascii
from engine.routing.plan import Plan
from engine.storage.spool.entry import Delivery, State
from engine.storage.tables.queue_state import ALL

Row = dict[str, Any]
_SLICE = 500


async def retry(parts: Parts, target: str) -> AsyncIterator[Row]:
    """Try now what waits, by routes looked up anew; sites that were closed are opened."""
    deliveries = _select(parts, target)
    for name in {delivery.destination for delivery in deliveries}:
        plan = parts.router.cached(name)
        parts.router.forget(name)
        if isinstance(plan, Plan):
            parts.manager.reopen(plan)
    await parts.manager.reroute()
    yield await _each(deliveries, lambda delivery: _retry_one(parts, delivery))


async def hold(parts: Parts, target: str) -> AsyncIterator[Row]:
    """Keep what is queued, and what arrives for a destination, until `resume`. Survives a restart."""
    deliveries = _select(parts, target, unknown_destination=True)
    target = _named(parts, target)
    parts.state.hold(target, parts.clock.time())
    if target != ALL and target not in parts.spool.messages:
        parts.manager.destination(target).held = True
    yield await _each(deliveries, parts.manager.hold)


async def resume(parts: Parts, target: str) -> AsyncIterator[Row]:
    """End a hold."""
    names = parts.state.holds() if target == ALL else [_named(parts, target)]
    known = [name for name in names if parts.state.resume(name)]
    if not known and target != ALL:
        raise EngineError(f"{target} is not held")
    for name in known:
        if name in parts.manager.destinations:
            parts.manager.destinations[name].held = False
    deliveries = [delivery for delivery in _select(parts, target, unknown_destination=True)]
    yield await _each([d for d in deliveries if d.state is State.HELD], lambda d: _resume_one(parts, d))


async def bounce(parts: Parts, target: str, reason: str = "") -> AsyncIterator[Row]:
    """Fail what is queued, with a notification to the sender."""
    yield await _settle(parts, target, lambda indexes: trouble.bounced(indexes, reason))


async def purge(parts: Parts, target: str) -> AsyncIterator[Row]:
    """Remove what is queued; nobody is told but the event journal."""
    yield await _settle(parts, target, trouble.purged)


async def _settle(parts: Parts, target: str, verdict: Verdict) -> Row:
    def one(delivery: Delivery) -> bool:
        if not parts.manager.seize(delivery):
            return False
        parts.courier.settle_by_hand(delivery, verdict)
        return True

    return await _each(_select(parts, target), one)


def _retry_one(parts: Parts, delivery: Delivery) -> bool:
    return delivery.state in (State.READY, State.RESOLVING) or (
        delivery.state is State.WAITING and parts.manager.release(delivery, now=True)
    )


def _resume_one(parts: Parts, delivery: Delivery) -> bool:
    held = any(parts.state.is_held(name) for name in (ALL, delivery.message.id, delivery.destination))
    return not held and parts.manager.release(delivery)


def _named(parts: Parts, target: str) -> str:
    """A target as the engine writes it: a domain in lower case A-labels. Raises EngineError."""
    if target == ALL or target in parts.spool.messages:
        return target
    try:
        return domain_to_ascii(target)
    except AddressError as exc:
        raise EngineError(f"{target}: no queued message and no domain name") from exc


def _select(parts: Parts, target: str, unknown_destination: bool = False) -> list[Delivery]:
    """The live deliveries a target means. Raises EngineError when it means nothing."""
    name = _named(parts, target)
    if name == ALL:
        return [delivery for name in parts.manager.destinations.values() for delivery in name.deliveries]
    if name in parts.spool.messages:
        return [d for d in parts.spool.messages[name].deliveries if d.state is not State.FINAL]
    destination = parts.manager.destinations.get(name)
    if destination is not None:
        return list(destination.deliveries)
    if unknown_destination and "." in name:
        return []
    raise EngineError(f"{target}: no queued message and no destination of that name; see `postrider queues`")


async def _each(deliveries: list[Delivery], action: Callable[[Delivery], bool]) -> Row:
    done = left = 0
    for number, delivery in enumerate(deliveries, 1):
        if action(delivery):
            done += 1
        elif delivery.state is State.ATTEMPT:
            left += 1
        if number % _SLICE == 0:
            await asyncio.sleep(0)
    return {"deliveries": done, "in_attempt": left}
