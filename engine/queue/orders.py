"""Orders: an operator's word about all that is queued in a scope, carried out in the background.

    bounce   fail it, with a notification to its sender        purge   remove it, only the event journal is told
    move     send it by another relay or carrier, as far as it can go that way

Giving one takes the time of a comparison over the table, whatever it is about: from then on nothing of it is sent.
The work itself, an outcome and an event for every recipient, goes on in slices beside everybody else's deliveries, and
after a restart from where it was. What is in an attempt just then is caught when the attempt is over. While the old
generation is loaded, an order is about what is not there yet, too, and takes it as it comes.

The last word holds: as soon as an order, or a hold, about all of its scope is given, what a bounce or purge has not
done yet waits as before, and is the later one's. A move lasts as long as something of it lives: a record on disk does
not say where it was moved to, the order does.

What another node's backlog brings has ids of old, as what an order is about: nothing is taken in while mail is being
removed or returned, and an order waits for the slice of an import that is on its way to the disk.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np

from engine.base.clock import Clock
from engine.base.errors import EngineError, StorageError
from engine.message.channels import goes_by
from engine.message.ids import least_id_at, split_id
from engine.queue.errands import SLICE_ROWS
from engine.queue.manager import Manager
from engine.queue.scope import Scope
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows
from engine.storage.tables.queue_state import ALL, Order, QueueState

log = logging.getLogger(__name__)
T = TypeVar("T")

#: States of rows that an order may take; what is being read comes out of it in one of these, or in hand.
_TAKEN = (State.WAITING, State.DUE, State.HELD)
_ALL = (*_TAKEN, State.LOADING, State.SEIZED)
#: Between two looks at an order that waits for attempts to end, and at a move whether something of it lives.
_LOOK_AGAIN_S, _LOOK_FOR_LEFT_S = 5.0, 60.0

#: Settles one delivery as the order says; the argument is the order's.
Settle = Callable[[Delivery, str], None]


class _Work:
    """An order that is being carried out. taken: deliveries; in_attempt: seen at the last look.

    rows: SEIZED for it, to be visited; others that are, are somebody else's. more: set when there are some.
    """

    __slots__ = ("in_attempt", "more", "order", "rows", "scope", "taken")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.scope = Scope.stored(order.scope)
        self.taken = self.in_attempt = 0
        self.rows: list[Rows] = []
        self.more = asyncio.Event()


class Orders:
    """See above. settle: how bounce and purge are done, by name."""

    def __init__(
        self, spool: Spool, manager: Manager, state: QueueState, settle: dict[str, Settle], clock: Clock
    ) -> None:
        self._spool = spool
        self._manager = manager
        self._state = state
        self._settle = settle
        self._clock = clock
        self._works: list[_Work] = []
        self._giving = asyncio.Lock()  #: by who gives an order, and while a slice of an import is stored

    def start(self) -> None:
        """Go on with what a stop interrupted. To be called when the journal is read, and again when the whole spool is
        loaded: then what was ordered in between is looked at, too.
        """
        begun = {work.order: work for work in self._works}
        for order in list(self._state.orders):  # oldest first: of several moves the last one holds
            if order in begun:
                self._look(begun[order])
            else:
                self._begin(order)

    async def give(self, action: str, scope: Scope, argument: str = "") -> tuple[int, int]:
        """Write an order down and begin. Once the whole spool is loaded: deliveries it is about, and how many more are
        in an attempt just now. Raises StorageError: it was not written down, or the spool cannot be loaded.
        """
        async with self._giving:
            ended = self._ended_by(action, scope, argument)
            newest = self._newest()
            order = await self._written(lambda: self._state.give(action, str(scope), argument, newest, ended))
            self._let_go(ended)
            work = self._begin(order)
        if self._spool.loading:
            try:
                await self._spool.all_there()
            except StorageError as exc:
                raise StorageError(f"{exc}; then the order goes on") from exc
            if work in self._works and work.order in self._state.orders:  # no later one took its place
                self._look(work)
        return work.taken, work.in_attempt

    def is_purging(self, scope: Scope, in_hand: Iterable[Delivery]) -> bool:
        """A purge of exactly this is under way, and nothing of it is in an attempt that may end in another way.

        in_hand: what is in hand of it.
        """
        if not any(order.action == "purge" and order.scope == str(scope) for order in self._state.orders):
            return False
        ours = (self._manager, self._manager.errands)
        return all(one.state is not State.ATTEMPT or one.owner in ours for one in in_hand)

    async def hold(self, scope: Scope) -> None:
        """Write down a hold. Raises StorageError."""
        async with self._giving:
            ended = self._ended_by("hold", scope)
            await self._written(lambda: self._state.hold(str(scope), self._clock.time(), ended))
            self._let_go(ended)

    def _ended_by(self, action: str, scope: Scope, argument: str = "") -> list[Order]:
        """The orders that are over once this is given: a move ends older ones of what goes its way, and each bounce and
        purge ends.
        """

        def ends(order: Order) -> bool:
            return order.action != "move" or (action == "move" and goes_by(order.argument, argument))

        return [order for order in self._state.orders if _covers(scope, order) and ends(order)]

    def _let_go(self, ended: Sequence[Order]) -> None:
        """What these have not done yet waits as before."""
        for work in self._works:
            if work.order in ended:
                for rows in work.rows:
                    self._manager.errands.let_go(rows)
                work.rows.clear()

    async def _written(self, write: Callable[[], T]) -> T:
        """An operator's word, written down; on a full disk, which it may be about to empty, in the room kept for it."""
        try:
            return write()
        except StorageError:
            await self._spool.make_room()
            return write()

    @asynccontextmanager
    async def taking_in(self) -> AsyncIterator[None]:
        """While deliveries of another spool are stored: no order is given. Raises EngineError as `check_import`."""
        async with self._giving:
            check_import(self._state.orders)
            yield

    def _begin(self, order: Order) -> _Work:
        work = _Work(order)
        self._works.append(work)
        self._manager.standing.moves_changed()
        self._look(work)
        if order.action == "move":
            self._manager.errands.run(self._keep(work), seizes=False)
        else:
            self._manager.errands.run(self._carry_out(work))
        return work

    def _look(self, work: _Work) -> None:
        """Take what it is about and nobody has."""
        order = work.order
        if order.action == "move":
            work.taken = 0  # what was moved before is looked at again
        work.in_attempt = 0
        # Rows first: what is in hand may become one.
        for rows in self._rows(work):
            work.taken += len(rows)
            self._take_rows(work, rows)
        for delivery in self._in_hand(work):
            if self._take(order, delivery):
                work.taken += 1
            elif delivery.state is State.ATTEMPT and delivery.owner not in (self._manager, self._manager.errands):
                work.in_attempt += 1
        if order.action == "move":
            self._manager.count_destinations()
            self._manager.look_for_due()

    def _take(self, order: Order, delivery: Delivery) -> bool:
        """A delivery in hand. False: it is in an attempt just now, or gone."""
        if order.action == "move":
            return delivery.via == order.argument or self._manager.divert(delivery, order.argument)
        if not self._manager.seize(delivery):
            return False
        self._settle[order.action](delivery, order.argument)
        return True

    def _take_rows(self, work: _Work, rows: Rows) -> None:
        table = self._spool.table
        if work.order.action != "move":
            table.move_many(rows, State.SEIZED)
            work.rows += (rows[start : start + SLICE_ROWS] for start in range(0, len(rows), SLICE_ROWS))
            work.more.set()
            return
        number = self._spool.texts["via"].number(work.order.argument)
        columns = table.columns(rows, ("via", "state"))
        others = columns["via"] != number
        table.set_many(rows[others], "via", number)
        # What was due is in the stock of its old queue, where it is no longer found.
        table.move_many(rows[others & (columns["state"] == State.DUE)], State.WAITING)

    async def _carry_out(self, work: _Work) -> None:
        order = work.order
        settle = self._settle[order.action]
        while True:
            while work.rows:
                rows = work.rows.pop(0)
                await self._manager.errands.visit(rows, lambda delivery: settle(delivery, order.argument), by_hand=True)
            if not self._spool.loading and not self._is_left(work):
                break
            work.more.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(work.more.wait(), _LOOK_AGAIN_S)  # or the rest of the spool is loaded
            if order not in self._state.orders:
                break  # called off
            self._look(work)
        self._works.remove(work)
        if order in self._state.orders:
            self._done(order)

    async def _keep(self, work: _Work) -> None:
        """A move, as long as it lasts: the manager looks at it when an attempt is over."""
        while self._spool.loading or self._is_left(work):  # noqa: ASYNC110  # no one event ends it
            await asyncio.sleep(_LOOK_FOR_LEFT_S)
        self._works.remove(work)
        if work.order in self._state.orders:  # else a later one took its place
            self._done(work.order)
            self._manager.standing.moves_changed()

    def _done(self, order: Order) -> None:
        try:
            self._state.carried_out(order)
        except StorageError as exc:
            log.error("order %d: %s", order.number, exc)  # it is given again at the next start, and finds nothing

    def _rows(self, work: _Work) -> Iterator[Rows]:
        """The rows it is about and has not taken yet. A move is about what is being read or was moved before, too."""
        states = _ALL if work.order.action == "move" else _TAKEN
        for state in states:
            for rows in work.scope.rows(self._spool, state=state):
                if len(found := self._wanted(work.order, rows)):
                    yield found

    def _in_hand(self, work: _Work) -> Iterator[Delivery]:
        """The deliveries in hand that it is about."""
        order = work.order
        for delivery in work.scope.in_hand(self._spool):
            goes = order.action != "move" or goes_by(delivery.destination, order.argument)
            if goes and _packed(delivery) <= order.newest:
                yield delivery

    def _wanted(self, order: Order, rows: Rows) -> Rows:
        """Those of these rows that it is about."""
        columns = self._spool.table.columns(rows, ("id", "destination"))
        wanted = columns["id"] <= order.newest
        if order.action == "move" and order.argument:
            names = self._spool.texts["destination"]
            numbers = np.unique(columns["destination"]).tolist()
            going = [number for number in numbers if goes_by(names.text(number), order.argument)]
            wanted &= np.isin(columns["destination"], going)
        return rows[wanted]

    def _is_left(self, work: _Work) -> bool:
        """Whether something it is about lives still; the order is not one that a later one replaced."""
        order = work.order
        if order not in self._state.orders:
            return False
        if any(delivery.state is not State.FINAL for delivery in self._in_hand(work)):
            return True
        return any(len(self._wanted(order, rows)) for rows in work.scope.rows(self._spool))

    def _newest(self) -> int:
        """The packed id of the last message that is queued, or a bound if that may not be loaded yet."""
        newest = max((_packed(delivery) for delivery in self._spool.in_hand), default=0)
        for slab in self._spool.table.slabs:
            live = slab["state"] != State.STORING
            if live.any():
                newest = max(newest, int(np.max(slab["id"][live])))
        if self._spool.loading:
            # Our own ids go on from the last one, also if the clock was set back; those of other nodes go by the clock.
            last = self._spool.last_id
            newest = max(newest, split_id(last)[0] if last else 0, least_id_at(self._clock.time()) - 1)
        return newest


def check_import(orders: Iterable[Order]) -> None:
    """Raises EngineError: one of these could take what is imported for what it is about, and remove it."""
    for order in orders:
        if order.action != "move":
            scope = "everything" if order.scope == ALL else order.scope
            raise EngineError(f"an order is being carried out: {order.action} {scope}; import again once that is done")


def _covers(scope: Scope, old: Order) -> bool:
    """Whether all that an older order is about is in a scope."""
    return scope.kind == "all" or old.scope == str(scope)


def _packed(delivery: Delivery) -> int:
    return split_id(delivery.message.id)[0]
