"""Standing words of operators: what is held, and what goes by another relay, also of what comes to wait later."""

import logging
from typing import Any

import numpy as np

from engine.base.errors import StorageError
from engine.message.channels import goes_by
from engine.message.ids import split_id
from engine.queue.scope import Scope
from engine.storage.spool.entry import Delivery, State
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Column, Rows
from engine.storage.tables.queue_state import QueueState

log = logging.getLogger(__name__)


class Standing:
    """See above. holds: the scopes that are held."""

    def __init__(self, spool: Spool, state: QueueState) -> None:
        self._spool = spool
        self._state = state
        self.holds: list[Scope] = []
        self._moves: list[tuple[Scope, int, str]] = []  #: scope, packed id of the last message, relay
        self.holds_changed()
        self.moves_changed()

    def holds_changed(self) -> None:
        """The table of holds is another."""
        self.holds = [Scope.stored(name) for name in self._state.holds()]

    def moves_changed(self) -> None:
        """The orders to send something by another relay are others."""
        moves = [order for order in self._state.orders if order.action == "move"]
        self._moves = [(Scope.stored(order.scope), order.newest, order.argument) for order in moves]

    def in_force(self) -> dict[str, list[Any]]:
        """What operators have said of more than a message, for people: holds, and moves with their relays."""
        moves = [(str(scope), relay) for scope, _, relay in self._moves if scope.kind != "message"]
        return {
            "holds": [str(scope) for scope in self.holds if scope.kind != "message"],
            "moves": [{"scope": scope, "relay": relay} for scope, relay in dict.fromkeys(moves)],
        }

    def held_by(self, delivery: Delivery) -> Scope | None:
        """The hold that a delivery is under; None: none."""
        if not self.holds:
            return None
        return next((scope for scope in self.holds if scope.holds(delivery)), None)

    def held(self, rows: Rows) -> Column:
        """Which of these rows are under a hold, as a mask."""
        held = np.zeros(len(rows), dtype=bool)
        for scope in self.holds:
            if scope.kind == "all":
                held[:] = True
            for more in scope.rows(self._spool):
                held |= np.isin(rows, more)
        return held

    def via(self, delivery: Delivery) -> str:
        """The relay of a delivery, also if it was in an attempt when it was moved, or its row does not know."""
        if not self._moves:
            return delivery.via
        packed = split_id(delivery.message.id)[0]
        vias = [via for scope, newest, via in self._moves if packed <= newest and scope.holds(delivery)]
        return next((via for via in reversed(vias) if goes_by(delivery.destination, via)), delivery.via)

    def forget(self, delivery: Delivery) -> None:
        """A delivery is final: a hold of its message, if that was the last of it, holds nothing any more."""
        own = Scope("message", delivery.message.id)
        if own in self.holds and self._is_last(own):
            try:
                self._state.resume(str(own))
            except StorageError as exc:  # a row too many; the delivery is settled all the same
                log.error("%s: %s", delivery.message.id, exc)
            self.holds_changed()

    def _is_last(self, message: Scope) -> bool:
        """Nothing of a message lives any more, but for outcomes on their way to the disk."""
        lives = any(delivery.state is not State.FINAL for delivery in message.in_hand(self._spool))
        return not lives and not any(True for _ in message.rows(self._spool))
