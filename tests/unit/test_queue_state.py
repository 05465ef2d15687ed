"""What operators and throttles have decided, on disk: each worker has its own throttles."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.storage.tables.queue_state import QueueState

SLOW: dict[str, Any] = {"rate": 2.5, "window": 3, "closed_until": 0.0, "reason": "450 slow down"}
FAST: dict[str, Any] = {**SLOW, "rate": 20.0, "window": 10}


@contextlib.contextmanager
def state(path: Path, worker: int = 0) -> Iterator[QueueState]:
    opened = QueueState(path / "tables.db", worker)
    yield opened
    opened.close()


def test_what_one_worker_learned_is_not_what_another_did(tmp_path: Path) -> None:
    with state(tmp_path) as first, state(tmp_path, 1) as second:
        first.save_throttles({"mx.one.test": SLOW, "mx.two.test": SLOW, "mx.three.test": None})
        second.save_throttles({"mx.one.test": FAST})
        first.save_throttles({"mx.one.test": SLOW})
    with state(tmp_path) as first, state(tmp_path, 1) as second:
        assert (first.learned("mx.one.test"), second.learned("mx.one.test")) == (SLOW, FAST)
        assert (first.learned("mx.two.test"), second.learned("mx.two.test")) == (None, None)
        second.save_throttles({})
        assert first.learned("mx.one.test") == SLOW
    with state(tmp_path) as first:
        assert first.learned("mx.one.test") == SLOW


def test_a_new_worker_begins_with_what_the_first_one_knows(tmp_path: Path) -> None:
    with state(tmp_path) as first:
        first.save_throttles({"mx.one.test": SLOW, "mx.two.test": SLOW})
    with state(tmp_path, 1) as new:
        assert new.learned("mx.one.test") == SLOW
        new.save_throttles({"mx.one.test": SLOW})
    with state(tmp_path, 1) as again:
        assert (again.learned("mx.one.test"), again.learned("mx.two.test")) == (SLOW, None)
    with state(tmp_path) as first:
        assert first.learned("mx.two.test") == SLOW


def test_what_was_learned_when_there_was_one_worker_is_that_of_the_first(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "tables.db")
    db.execute("create table throttles (site text primary key, learned text not null)")
    db.execute("""insert into throttles values ('mx.one.test', '{"rate": 2.5}')""")
    db.commit()
    db.close()
    for _ in range(2):
        with state(tmp_path) as first:
            assert first.learned("mx.one.test") == {"rate": 2.5}
            assert first.holds() == []
    with state(tmp_path, 1) as new:
        new.save_throttles({"mx.one.test": FAST})
    with state(tmp_path) as first:
        assert first.learned("mx.one.test") == {"rate": 2.5}
