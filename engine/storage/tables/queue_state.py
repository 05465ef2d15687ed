"""What operators and throttles have decided and a restart must not forget: holds, orders, what sites have taught us."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.base.errors import StorageError

#: The name under which everything is held, and an operator's target that means every queue.
ALL = "*"

_TABLES = """
create table if not exists holds (name text primary key, since real not null);
create table if not exists orders (
    worker integer not null, number integer not null, action text not null, scope text not null,
    argument text not null, newest integer not null, primary key (worker, number)
);
create table if not exists throttles (
    worker integer not null, site text not null, learned text not null, primary key (worker, site)
);
"""
#: Before and behind `_TABLES`: what was learned when throttles had no worker was learned by worker 0.
_MOVE_AWAY = "begin immediate; alter table throttles rename to throttles_of_one;"
_MOVE_BACK = """
insert into throttles select 0, site, learned from throttles_of_one;
drop table throttles_of_one;
commit;
"""
_END_ORDER = "delete from orders where worker = ? and number = ?"


class Order(NamedTuple):
    """An operator's word about what is in a scope: bounce or purge, until it is carried out; move, while it lasts.

    scope: as queue/scope.py writes it. argument: a reason, a relay. newest: packed id of the last message it is about.
    """

    number: int
    action: str
    scope: str
    argument: str
    newest: int


class QueueState:
    """Read whole at start, written rarely. A hold's name is a scope, as queue/scope.py writes it."""

    def __init__(self, path: Path, worker: int = 0) -> None:
        """worker: whose orders and throttles these are; each carries out its own, and learns by itself.

        One without throttles of its own begins with those of worker 0. Raises StorageError.
        """
        self._worker = worker
        if path.is_symlink():  # SQLite would follow it
            raise StorageError(f"cannot use {path}: it is a symbolic link")
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode=wal")
            columns = [name for _, name, *_ in self._db.execute("pragma table_info(throttles)")]
            old = bool(columns) and "worker" not in columns
            self._db.executescript("".join((_MOVE_AWAY, _TABLES, _MOVE_BACK)) if old else _TABLES)
            self._holds = {name for (name,) in self._db.execute("select name from holds")}
            orders = "select number, action, scope, argument, newest from orders where worker = ? order by number"
            self.orders = [Order(*row) for row in self._db.execute(orders, (worker,))]
            self._last_number = max((order.number for order in self.orders), default=0)
            self._saved = self._throttles_of(worker)
            self._learned = self._saved or self._throttles_of(0)
        except sqlite3.Error as exc:
            raise StorageError(f"cannot use {path}: {exc}") from exc

    def hold(self, name: str, since: float, ended: Sequence[Order] = ()) -> None:
        """ended: orders that are over with it."""
        self._change("insert or ignore into holds values (?, ?)", (name, since), ended)
        self._holds.add(name)

    def resume(self, name: str) -> bool:
        """End a hold; False if there was none."""
        self._change("delete from holds where name = ?", (name,))
        held = name in self._holds
        self._holds.discard(name)
        return held

    def give(self, action: str, scope: str, argument: str, newest: int, ended: Sequence[Order] = ()) -> Order:
        """Write down an order. ended: those that are over with it."""
        # No number is given twice: who carries out an order that has ended may still hold on to it.
        order = Order(self._last_number + 1, action, scope, argument, newest)
        self._change("insert into orders values (?, ?, ?, ?, ?, ?)", (self._worker, *order), ended)
        self._last_number = order.number
        self.orders.append(order)
        return order

    def carried_out(self, order: Order) -> None:
        """Nothing is left of what it is about."""
        self._change(_END_ORDER, (self._worker, order.number))
        self.orders = [other for other in self.orders if other != order]

    def holds(self) -> list[str]:
        return sorted(self._holds)

    def learned(self, site: str) -> dict[str, Any] | None:
        """What `Throttle.learned` said of a site before the restart."""
        text = self._learned.get(site)
        return json.loads(text) if text is not None else None

    def save_throttles(self, learned: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Keep exactly this, in one transaction. None: nothing was learned of the site."""
        texts = {site: json.dumps(what) for site, what in learned.items() if what is not None}
        if texts == self._saved:
            return
        changed = [(self._worker, site, text) for site, text in texts.items() if self._saved.get(site) != text]
        gone = [(self._worker, site) for site in self._saved if site not in texts]
        try:
            self._db.execute("begin")
            self._db.executemany("insert or replace into throttles values (?, ?, ?)", changed)
            self._db.executemany("delete from throttles where worker = ? and site = ?", gone)
            self._db.execute("commit")
        except sqlite3.Error as exc:
            raise StorageError(f"cannot write the queue's table: {exc}") from exc
        self._saved = self._learned = texts

    def close(self) -> None:
        self._db.close()

    def _throttles_of(self, worker: int) -> dict[str, str]:
        return dict(self._db.execute("select site, learned from throttles where worker = ?", (worker,)).fetchall())

    def _change(self, statement: str, values: tuple[Any, ...], ended: Sequence[Order] = ()) -> None:
        """All of it or nothing. Raises StorageError."""
        try:
            self._db.execute("begin immediate")
            try:
                self._db.execute(statement, values)
                self._db.executemany(_END_ORDER, [(self._worker, order.number) for order in ended])
                self._db.execute("commit")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise
        except sqlite3.Error as exc:
            raise StorageError(f"cannot write the queue's table: {exc}") from exc
        self.orders = [order for order in self.orders if order not in ended]
