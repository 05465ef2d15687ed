"""What an operator can do: retry, hold, resume, bounce, purge, move; to a scope (queue/scope.py).

Each answers one row: how many deliveries it touched, and how many it had to leave because they were in an attempt.
None reads a message first: what it is about is found in the table, a slab at a time.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from engine.admin.parts import Parts
from engine.base.errors import EngineError
from engine.base.hostport import parse_host_port
from engine.message.channels import channel_of
from engine.message.ids import is_id
from engine.queue.scope import Scope
from engine.routing.plan import Plan
from engine.storage.spool.entry import State
from engine.storage.tables.queue_state import ALL

Row = dict[str, Any]


async def retry(parts: Parts, target: str) -> AsyncIterator[Row]:
    """Try now what waits, by routes looked up anew; sites that were closed are opened. held: deliveries that stay."""
    scope, manager, spool = await _known(parts, target), parts.manager, parts.spool
    in_hand = scope.in_hand(spool)
    done = sum(delivery.state in (State.READY, State.RESOLVING, State.DUE) for delivery in in_hand)
    left = sum(delivery.state is State.ATTEMPT for delivery in in_hand)
    done += sum(len(rows) for state in (State.DUE, State.LOADING) for rows in scope.rows(spool, state=state))
    for name, via in _destinations(parts, scope):
        plan = parts.router.cached(name, via)
        parts.router.forget(name, via)
        if isinstance(plan, Plan):
            manager.sites.reopen(plan)
    for rows in scope.rows(spool, state=State.WAITING):
        done += len(rows)
        manager.release(rows, now=True)
        await asyncio.sleep(0)
    await manager.reroute()
    held = sum(len(rows) for rows in scope.rows(spool, state=State.HELD))
    held += sum(delivery.state is State.HELD for delivery in scope.in_hand(spool))
    yield {"deliveries": done, "in_attempt": left, "held": held}


async def hold(parts: Parts, target: str) -> AsyncIterator[Row]:
    """Keep what is queued, and what arrives, until `resume`. Survives a restart. A bounce or purge of it ends."""
    scope, manager, spool = await _parsed(parts, target), parts.manager, parts.spool
    if scope.kind == "destination" and not _is_likely(parts, scope.name) and not _destinations(parts, scope):
        raise EngineError(_UNKNOWN.format(target))
    await parts.orders.hold(scope)
    manager.standing.holds_changed()
    done = left = 0
    for delivery in scope.in_hand(spool):
        if manager.hold(delivery):
            done += 1
        elif delivery.state is State.ATTEMPT and delivery.owner not in (manager, manager.errands):
            left += 1
    for state in (State.WAITING, State.DUE):
        for rows in scope.rows(spool, state=state):
            done += len(rows)
            spool.table.move_many(rows, State.HELD)
            await asyncio.sleep(0)
    yield {"deliveries": done, "in_attempt": left}


async def resume(parts: Parts, target: str) -> AsyncIterator[Row]:
    """End a hold; of everything: all holds. held: deliveries of it that another hold keeps."""
    scope, manager, spool = await _parsed(parts, target), parts.manager, parts.spool
    names = parts.state.holds() if target == ALL else [str(scope)]
    known = [name for name in names if parts.state.resume(name)]
    if not known and target != ALL:
        raise EngineError(f"{target} is not held")
    manager.standing.holds_changed()
    # In hand are those whose senders are just being told of the delay: they go on after that.
    in_hand = [delivery for delivery in scope.in_hand(spool) if delivery.state is State.HELD]
    held = sum(manager.standing.held_by(delivery) is not None for delivery in in_hand)
    done = len(in_hand) - held
    for rows in scope.rows(spool, state=State.HELD):
        free = rows[~manager.standing.held(rows)]
        done += len(free)
        held += len(rows) - len(free)
        manager.release(free, now=False)
        await asyncio.sleep(0)
    yield {"deliveries": done, "in_attempt": 0, "held": held}


async def bounce(parts: Parts, target: str, reason: str = "") -> AsyncIterator[Row]:
    """Fail what is queued, with a notification to the sender."""
    yield await _ordered(parts, "bounce", target, reason)


async def purge(parts: Parts, target: str) -> AsyncIterator[Row]:
    """Remove what is queued; nobody is told but the event journal."""
    yield await _ordered(parts, "purge", target, "")


async def move(parts: Parts, target: str, relay: str) -> AsyncIterator[Row]:
    """Send what is queued by another relay, "host:port", or carrier, "sms:NAME", instead of its route; "" ends that.

    Of many kinds of messages at once, those that cannot go that way stay on their own.
    """
    if relay:
        _check_way(parts, target, relay)
    yield await _ordered(parts, "move", target, relay)


async def _ordered(parts: Parts, action: str, target: str, argument: str) -> Row:
    """An order given while the spool is being read is kept at once, and answered when all of it is read."""
    scope = await _parsed(parts, target)
    if not parts.spool.loading:
        _check(parts, scope, target)
    done, left = await parts.orders.give(action, scope, argument)
    if not done + left:
        _check(parts, scope, target)
    return {"deliveries": done, "in_attempt": left}


def _check_way(parts: Parts, target: str, relay: str) -> None:
    """Raises EngineError: no relay and no carrier, or none for this destination."""
    way, name = channel_of(relay)
    what = channel_of(target)[0]
    if what == "account":
        raise EngineError(f"{target}: what is for an application goes to its own binds only")
    if way == "account" or (way == "carrier" and not isinstance(parts.router.cached(relay), Plan)):
        raise EngineError(f"relay: there is no [[carrier]] {name}" if way == "carrier" else f"relay: {relay} is no way")
    if way == "mail":
        try:
            parse_host_port(relay)
        except ValueError as exc:
            raise EngineError(f"relay: {exc}") from exc
        if what == "carrier":
            raise EngineError(f"relay: {relay} takes no SMS; sms:NAME, a carrier, does")
    elif "." in target and what == "mail" and ":" not in target:
        raise EngineError(f"relay: {relay} takes no mail; host:port does")


def _is_likely(parts: Parts, destination: str) -> bool:
    """It can be a destination, though nothing is queued for it: a domain, or a carrier or account that there is."""
    if channel_of(destination)[0] == "mail":
        return "." in destination
    return isinstance(parts.router.cached(destination), Plan)


_NOTHING = "{}: nothing of it is queued"
_UNKNOWN = "{}: no queued message and no destination of that name; see `postrider queues`"


async def _parsed(parts: Parts, target: str) -> Scope:
    """A hold does not wait for a spool that is still being read, unless it is of one message."""
    if is_id(target):
        await parts.spool.all_there()
    return Scope.parse(target, parts.spool)


async def _known(parts: Parts, target: str) -> Scope:
    """A scope with something in it. Raises EngineError when there is nothing."""
    scope = await _parsed(parts, target)
    if scope.kind != "all" and not _holds_something(parts, scope):
        await parts.spool.all_there()
        _check(parts, scope, target)
    return scope


def _check(parts: Parts, scope: Scope, target: str) -> None:
    """Raises EngineError: there is nothing in a scope."""
    if scope.kind != "all" and not _holds_something(parts, scope):
        raise EngineError((_UNKNOWN if scope.kind in ("destination", "message") else _NOTHING).format(target))


def _holds_something(parts: Parts, scope: Scope) -> bool:
    return any(True for _ in scope.rows(parts.spool)) or bool(scope.in_hand(parts.spool))


def _destinations(parts: Parts, scope: Scope) -> set[tuple[str, str]]:
    """The queues that have something of it."""
    spool = parts.spool
    found = {(delivery.destination, delivery.via) for delivery in scope.in_hand(spool)}
    names, vias = spool.texts["destination"], spool.texts["via"]
    for rows in scope.rows(spool):
        columns = spool.table.columns(rows, ("destination", "via"))
        pairs = columns["destination"].astype("u8") << np.uint64(16) | columns["via"]
        found.update((names.text(pair >> 16), vias.text(pair & 0xFFFF)) for pair in np.unique(pairs).tolist())
    return found
